//! Peers that are no mesh agents.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{accept, sockets};
use crate::error::{ConnectionError, Reason, Side};
use crate::tls::fixtures::{Authority, DB, Shape, WEB, identity, uid};
use crate::tls::{ALPN, provider, server_name};
use crate::wire::{Prefixed, client, server};

/// What a source learns about a destination that does `what` with the accepted socket.
async fn met<F: Future<Output = ()>>(what: impl FnOnce(tokio::net::TcpStream) -> F) -> ConnectionError {
    let credential = Authority::new().credential(WEB);
    let (dialled, accepted) = sockets().await;
    let (expected, workload) = (identity(DB), uid("b"));
    let (result, ()) = tokio::join!(client::handshake(dialled, &credential, &expected, &workload), what(accepted));
    result.map(|_| ()).unwrap_err().error
}

#[tokio::test]
async fn who_closes_resets_or_speaks_otherwise_is_no_agent() {
    let closes = met(|accepted| async { drop(accepted) }).await;
    let resets = met(|accepted| async move {
        socket2::SockRef::from(&accepted).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    })
    .await;
    let ends = met(|mut accepted| async move {
        accepted.shutdown().await.unwrap();
        accepted.read_to_end(&mut Vec::new()).await.ok();
    })
    .await;
    let speaks = met(|mut accepted| async move {
        accepted.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        accepted.read_to_end(&mut Vec::new()).await.ok();
    })
    .await;
    let greets = met(|mut accepted| async move {
        accepted.write_all(b"\x4a\x00\x00\x00\x0a8.0.36\x00").await.unwrap();
        accepted.read_to_end(&mut Vec::new()).await.ok();
    })
    .await;
    for error in [closes, resets, ends, speaks, greets] {
        assert_eq!((error.side, error.reason), (Side::Upstream, Reason::PeerAgentDown), "{error}");
    }
}

fn foreign_server(authority: &Authority, alpn: &[&[u8]]) -> TlsAcceptor {
    let material = authority.material(&Shape::uri(DB));
    let mut parameters = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(material.chain, material.key.into())
        .unwrap();
    parameters.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(parameters))
}

#[tokio::test]
async fn a_tls_server_that_is_no_agent_is_recognised() {
    let authority = Authority::new();
    // Even with the right certificate: without the mesh's protocol nobody there reads a preamble.
    for alpn in [&[][..], &[&b"h2"[..]]] {
        let credential = authority.credential(WEB);
        let (dialled, accepted) = sockets().await;
        let acceptor = foreign_server(&authority, alpn);
        let (expected, workload) = (identity(DB), uid("b"));
        let (result, _) =
            tokio::join!(client::handshake(dialled, &credential, &expected, &workload), acceptor.accept(accepted));
        let error = result.map(|_| ()).unwrap_err().error;
        assert_eq!((error.side, error.reason), (Side::Upstream, Reason::PeerAgentDown), "{error}");
    }
}

/// A client that trusts anybody the mesh's own parameters trust, with or without a certificate and a protocol.
fn foreign_client(parameters: &ClientConfig, change: impl FnOnce(&mut ClientConfig)) -> TlsConnector {
    let mut parameters = parameters.clone();
    change(&mut parameters);
    TlsConnector::from(Arc::new(parameters))
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_source_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let destination = authority.credential(DB);
    let connector = foreign_client(&authority.credential(WEB).client, |parameters| {
        parameters.client_auth_cert_resolver = Arc::new(NoCertificate);
    });
    let (dialled, accepted) = sockets().await;
    let (client, server) =
        tokio::join!(connector.connect(server_name(&uid("b")), dialled), accept(accepted, &destination));
    let error = server.map(|_| ()).unwrap_err();
    assert_eq!((error.side, error.reason), (Side::Downstream, Reason::CertificateMissing));
    let told = client.unwrap().read(&mut [0]).await.unwrap_err();
    assert_eq!(crate::tls::client_failure(&told).reason, Reason::CertificateMissing);
}

#[tokio::test]
async fn a_source_that_does_not_offer_the_mesh_is_refused_even_past_the_sniffer() {
    let authority = Authority::new();
    let destination = authority.credential(DB);
    for alpn in [vec![], vec![b"h2".to_vec()]] {
        let connector =
            foreign_client(&authority.credential(WEB).client, |parameters| parameters.alpn_protocols = alpn);
        let (dialled, accepted) = sockets().await;
        let (_, server) = tokio::join!(
            connector.connect(server_name(&uid("b")), dialled),
            server::handshake(Prefixed::new(Vec::new(), accepted), &destination)
        );
        assert_eq!(server.map(|_| ()).unwrap_err().reason, Reason::HandshakeFailed);
    }
}

#[tokio::test]
async fn a_source_that_breaks_off_is_not_a_mystery() {
    let authority = Authority::new();
    let destination = authority.credential(DB);
    let hello = crate::wire::hello::fixtures::client_hello(&[ALPN.to_vec()], 0);
    for reset in [false, true] {
        let (mut dialled, accepted) = sockets().await;
        dialled.write_all(&hello).await.unwrap();
        let leaves = async move {
            // The destination has answered: it is in the middle of the handshake.
            dialled.readable().await.unwrap();
            if reset {
                socket2::SockRef::from(&dialled).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            }
        };
        let (server, ()) = tokio::join!(accept(accepted, &destination), leaves);
        assert_eq!(server.map(|_| ()).unwrap_err().reason, Reason::DownstreamReset);
    }
}
