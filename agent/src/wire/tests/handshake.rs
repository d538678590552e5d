//! Who may meet whom.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::SanType;
use rustls::crypto::SupportedKxGroup;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, ServerConfig};

use super::{accept, meet, meet_as, pair, sockets};
use crate::error::{Reason, Side};
use crate::identity::Credential;
use crate::tls::fixtures::{Authority, DB, HOUR, Shape, WEB, credential, dns_name, identity, trust, uid, uri_name};
use crate::tls::{Resumption, Trust, provider};
use crate::wire::{ConnectionName, Preamble, Protocol, Status, client, server};

fn preamble() -> Preamble {
    Preamble {
        source: Some(uid("source")),
        service: Some("shop/db".parse().unwrap()),
        port: 5432,
        protocol: Protocol::Undeclared,
        connection: ConnectionName::new("c-1"),
        requires: vec!["opaque".to_owned()],
    }
}

#[tokio::test]
async fn two_workloads_prove_themselves_and_talk() {
    let authority = Authority::new();
    let (mut source, mut destination) = pair(&authority.credential(WEB), &authority.credential(DB)).await;
    {
        let (_, connection) = source.get_ref();
        assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(
            connection.negotiated_key_exchange_group().map(SupportedKxGroup::name),
            Some(NamedGroup::X25519MLKEM768),
            "recorded traffic must stay secret from a quantum computer"
        );
        assert!(!client::resumed(&source));
    }
    if cfg!(target_arch = "x86_64") && std::is_x86_feature_detected!("aes") {
        let suite = source.get_ref().1.negotiated_cipher_suite().map(|suite| suite.suite());
        assert_eq!(suite, Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
    }
    let asked = preamble();
    let answer = async {
        let heard = server::read_preamble(&mut destination).await.unwrap();
        server::send_status(&mut destination, &Status::OK).await.unwrap();
        heard
    };
    let (status, heard) = tokio::join!(client::ask(&mut source, &asked), answer);
    assert_eq!((status.unwrap(), heard), (Status::OK, asked));
}

/// Certificates that nobody may accept, and what is said about them.
fn bad_certificates() -> Vec<(&'static str, Shape, Reason)> {
    let now = SystemTime::now();
    vec![
        ("expired", Shape::uri(WEB).valid(now - 2 * HOUR, now - HOUR), Reason::CertificateExpired),
        ("not yet valid", Shape::uri(WEB).valid(now + HOUR, now + 2 * HOUR), Reason::CertificateExpired),
        ("two identities", Shape::uri(WEB).and(uri_name(DB)), Reason::CertificateMalformed),
        ("the same identity twice", Shape::uri(WEB).and(uri_name(WEB)), Reason::CertificateMalformed),
        ("a host name beside", Shape::uri(WEB).and(dns_name("db.shop")), Reason::CertificateMalformed),
        (
            "an address beside",
            Shape::uri(WEB).and(SanType::IpAddress("10.0.0.1".parse().unwrap())),
            Reason::CertificateMalformed,
        ),
        ("a node's", Shape::uri("spiffe://cluster.local/weft/node/a"), Reason::CertificateMalformed),
        ("a longer path", Shape::uri("spiffe://cluster.local/ns/shop/sa/web/x"), Reason::CertificateMalformed),
        ("no SPIFFE", Shape::uri("https://cluster.local/ns/shop/sa/web"), Reason::CertificateMalformed),
        ("no name", Shape { names: vec![], ..Shape::uri(WEB) }, Reason::CertificateMalformed),
        ("foreign trust domain", Shape::uri("spiffe://evil.local/ns/shop/sa/web"), Reason::CertificateUntrusted),
    ]
}

#[tokio::test]
async fn a_source_with_a_bad_certificate_is_refused_and_told_so() {
    let authority = Authority::new();
    let destination = authority.credential(DB);
    for (what, shape, reason) in bad_certificates() {
        let source = credential(&authority.material(&shape), &trust(&[&authority]), Resumption::On);
        let (client, server) = meet(&source, &destination).await;
        let error = server.map(|_| ()).expect_err(what);
        assert_eq!((error.side, error.reason), (Side::Downstream, reason), "{what}: {error}");
        let mut client = client.unwrap();
        let told = client::ask(&mut client, &preamble()).await.expect_err(what);
        let expected = if reason == Reason::CertificateExpired { reason } else { Reason::CertificateUntrusted };
        assert_eq!((told.side, told.reason), (Side::Upstream, expected), "{what}: {told}");
        assert!(told.to_string().contains("own certificate"), "{what}: {told}");
    }
}

#[tokio::test]
async fn a_destination_with_a_bad_certificate_is_refused() {
    let authority = Authority::new();
    let source = authority.credential(WEB);
    for (what, shape, reason) in bad_certificates() {
        let destination = credential(&authority.material(&shape), &trust(&[&authority]), Resumption::On);
        let (client, server) = meet_as(&source, &destination, WEB).await;
        let error = client.map(|_| ()).expect_err(what);
        assert_eq!((error.side, error.reason), (Side::Upstream, reason), "{what}: {error}");
        // That it has ended is found when the handshake is over.
        assert_eq!(server.is_err(), what != "expired", "{what}");
    }
}

#[tokio::test]
async fn another_root_is_no_root() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let stranger = credential(&theirs.material(&Shape::uri(WEB)), &trust(&[&ours]), Resumption::On);
    let (_, server) = meet(&stranger, &ours.credential(DB)).await;
    assert_eq!(server.map(|_| ()).unwrap_err().reason, Reason::CertificateUntrusted);
    let impostor = credential(&theirs.material(&Shape::uri(DB)), &trust(&[&ours]), Resumption::On);
    let (client, _) = meet(&ours.credential(WEB), &impostor).await;
    assert_eq!(client.map(|_| ()).unwrap_err().reason, Reason::CertificateUntrusted);
}

#[tokio::test]
async fn a_chain_without_a_ca_right_is_no_chain() {
    let authority = Authority::new();
    // A workload signs a certificate by its own: leaf, then its issuer that may not sign.
    let workload = authority.material(&Shape::uri(WEB));
    let key = rcgen::KeyPair::try_from(workload.key.secret_pkcs8_der()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&workload.chain[0], key).unwrap();
    let forged_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![uri_name(DB)];
    let forged = params.signed_by(&forged_key, &issuer).unwrap().der().clone();
    let material =
        crate::tls::Material { key: forged_key.serialize_der().into(), chain: vec![forged, workload.chain[0].clone()] };
    let impostor = credential(&material, &trust(&[&authority]), Resumption::On);
    let (client, _) = meet(&authority.credential(WEB), &impostor).await;
    assert_eq!(client.map(|_| ()).unwrap_err().reason, Reason::CertificateUntrusted);
}

#[tokio::test]
async fn another_workload_than_the_expected_one_is_refused() {
    let authority = Authority::new();
    let (client, server) =
        meet_as(&authority.credential(WEB), &authority.credential(DB), "spiffe://cluster.local/ns/shop/sa/cart").await;
    let error = client.map(|_| ()).unwrap_err();
    assert_eq!((error.side, error.reason), (Side::Upstream, Reason::IdentityMismatch));
    // The destination hears nothing from a source that has given it up.
    let (mut server, _) = server.unwrap();
    assert_eq!(server::read_preamble(&mut server).await.unwrap_err().reason, Reason::DownstreamReset);
}

#[tokio::test]
async fn workloads_of_two_roots_meet_while_both_are_trusted() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = trust(&[&old, &new]);
    let source = credential(&old.material(&Shape::uri(WEB)), &both, Resumption::On);
    let destination = credential(&new.material(&Shape::uri(DB)), &both, Resumption::On);
    pair(&source, &destination).await;
    let source = credential(&new.material(&Shape::uri(WEB)), &both, Resumption::On);
    let destination = credential(&old.material(&Shape::uri(DB)), &both, Resumption::On);
    pair(&source, &destination).await;
}

#[tokio::test]
async fn one_root_that_cannot_be_read_disturbs_no_other() {
    let authority = Authority::new();
    let trust = Trust { roots: vec![b"no certificate".to_vec(), authority.root()].into(), ..trust(&[]) };
    let made = |uri| credential(&authority.material(&Shape::uri(uri)), &trust, Resumption::On);
    pair(&made(WEB), &made(DB)).await;
}

#[tokio::test]
async fn an_alias_of_the_trust_domain_is_the_same_mesh() {
    let authority = Authority::new();
    let made = |uri| credential(&authority.material(&Shape::uri(uri)), &trust(&[&authority]), Resumption::On);
    let (source, destination) = (made("spiffe://old.local/ns/shop/sa/web"), made("spiffe://old.local/ns/shop/sa/db"));
    // `pair` expects the identities under the mesh's own name.
    pair(&source, &destination).await;
    let (client, _) = meet_as(&made(WEB), &made(DB), "spiffe://old.local/ns/shop/sa/db").await;
    assert!(client.is_ok(), "an expectation under the old name still holds");
}

#[tokio::test]
async fn a_clock_that_is_a_little_ahead_is_forgiven() {
    let authority = Authority::new();
    let now = SystemTime::now();
    let made = |uri| {
        let shape = Shape::uri(uri).valid(now + Duration::from_secs(40), now + HOUR);
        credential(&authority.material(&shape), &trust(&[&authority]), Resumption::On)
    };
    pair(&made(WEB), &made(DB)).await;
}

#[tokio::test]
async fn an_own_certificate_that_has_ended_begins_nothing() {
    let authority = Authority::new();
    let ended = Credential { not_after: SystemTime::now() - HOUR, ..authority.credential(WEB) };
    let (dialled, _accepted) = sockets().await;
    let error = client::handshake(dialled, &ended, &identity(DB), &uid("b")).await.map(|_| ()).unwrap_err().error;
    assert_eq!((error.side, error.reason), (Side::Local, Reason::NoCertificate));
}

#[tokio::test]
async fn only_who_holds_the_key_is_believed_to_have_ended() {
    let authority = Authority::new();
    let now = SystemTime::now();
    let ended = authority.material(&Shape::uri(DB).valid(now - 2 * HOUR, now - HOUR));
    let trust = trust(&[&authority]);
    let check = async |destination: &Credential, expected: &str, (reason, peer_has_ended)| {
        let (dialled, accepted) = sockets().await;
        let (source, expected, workload) = (authority.credential(WEB), identity(expected), uid("b"));
        let handshake = Box::pin(client::handshake(dialled, &source, &expected, &workload));
        let failure = tokio::join!(handshake, Box::pin(accept(accepted, destination))).0.map(|_| ()).unwrap_err();
        assert_eq!((failure.error.reason, failure.peer_has_ended), (reason, peer_has_ended), "{}", failure.error);
    };
    let own = credential(&ended, &trust, Resumption::On);
    check(&own, DB, (Reason::CertificateExpired, true)).await;
    check(&own, WEB, (Reason::CertificateExpired, false)).await;
    // Somebody who has seen the certificate shows it, with a key of its own.
    let key = provider().key_provider.load_private_key(authority.material(&Shape::uri(DB)).key.into()).unwrap();
    let replayed = CertifiedKey::new(ended.chain.clone(), key);
    let mut server = ServerConfig::clone(&own.server);
    server.cert_resolver = Arc::new(SingleCertAndKey::from(replayed));
    check(&Credential { server: Arc::new(server), ..own }, DB, (Reason::CertificateUntrusted, false)).await;
}
