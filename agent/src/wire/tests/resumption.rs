//! Short handshakes prove as much as long ones.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::ClientSessionStore as _;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::{meet, meet_as, pair};
use crate::error::Reason;
use crate::identity::Credential;
use crate::limits;
use crate::tls::fixtures::{Authority, DB, HOUR, Shape, WEB, credential, identity, trust, uid};
use crate::tls::{Resumption, Trust, Turn};
use crate::wire::client::{self, ClientTls};
use crate::wire::server::{self, ServerTls};
use crate::wire::{Preamble, Prefixed, Protocol, Status};

/// One whole conversation, after which the source holds the destination's tickets.
fn converse<'a>(source: &'a Credential, destination: &'a Credential) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
    Box::pin(async {
        let (source, destination) = pair(source, destination).await;
        Box::pin(talk(source, destination)).await
    })
}

/// Preamble and status; whether the handshake before was a short one, as both sides say.
async fn talk(mut source: ClientTls, mut destination: ServerTls) -> bool {
    let preamble = Preamble {
        source: None,
        service: None,
        port: 80,
        protocol: Protocol::Opaque,
        connection: None,
        requires: vec![],
    };
    let answer = async {
        server::read_preamble(&mut destination).await.unwrap();
        server::send_status(&mut destination, &Status::OK).await.unwrap();
    };
    let (status, ()) = tokio::join!(client::ask(&mut source, &preamble), answer);
    assert_eq!(status.unwrap(), Status::OK);
    assert_eq!(client::resumed(&source), server::resumed(&destination));
    client::resumed(&source)
}

#[tokio::test]
async fn every_handshake_after_the_first_is_short() {
    let authority = Authority::new();
    let (source, destination) = (authority.credential(WEB), authority.credential(DB));
    let mut resumed = 0;
    for _ in 0..20 {
        resumed += u32::from(converse(&source, &destination).await);
    }
    assert_eq!(resumed, 19);
}

#[tokio::test]
async fn connections_side_by_side_resume_too() {
    let authority = Authority::new();
    let (source, destination) = (authority.credential(WEB), authority.credential(DB));
    assert!(!converse(&source, &destination).await);
    for _ in 0..5 {
        let one = || converse(&source, &destination);
        let resumed = tokio::join!(one(), one(), one(), one());
        assert_eq!(resumed, (true, true, true, true));
    }
}

/// Conversations that all begin at once; how many handshakes were full ones.
async fn storm(source: &Rc<Credential>, destination: &Rc<Credential>, connections: u32) -> u32 {
    LocalSet::new()
        .run_until(async {
            let mut talks = JoinSet::new();
            for _ in 0..connections {
                let (source, destination) = (Rc::clone(source), Rc::clone(destination));
                talks.spawn_local(async move { converse(&source, &destination).await });
            }
            talks.join_all().await.into_iter().map(|resumed| u32::from(!resumed)).sum()
        })
        .await
}

#[tokio::test]
async fn a_burst_to_an_unknown_peer_is_no_burst_of_full_handshakes() {
    let authority = Authority::new();
    let (source, destination) = (Rc::new(authority.credential(WEB)), Rc::new(authority.credential(DB)));
    let full = storm(&source, &destination, 32).await;
    assert!((1..=16).contains(&full), "{full} of 32 handshakes were full ones");
    assert_eq!(storm(&source, &destination, 8).await, 0, "a full handshake stocks up");
}

#[tokio::test]
async fn a_peer_that_gives_no_tickets_is_not_waited_for() {
    let authority = Authority::new();
    let off = credential(&authority.material(&Shape::uri(DB)), &trust(&[&authority]), Resumption::Off);
    let (source, destination) = (Rc::new(authority.credential(WEB)), Rc::new(off));
    let sessions = source.sessions.clone().unwrap();
    let peer = crate::tls::server_name(&uid("destination"));
    assert_eq!(storm(&source, &destination, 32).await, 32);
    let places = [sessions.turn(&peer).await, sessions.turn(&peer).await, sessions.turn(&peer).await];
    assert!(places.iter().all(|turn| matches!(turn, Turn::Unbounded)), "{places:?}");
}

#[tokio::test]
async fn handshakes_that_are_stuck_hold_others_up_for_a_bounded_time() {
    let sessions = Authority::new().credential(WEB).sessions.unwrap();
    let (peer, other) = (crate::tls::server_name(&uid("silent")), crate::tls::server_name(&uid("other")));
    let begun = Instant::now();
    let mut stuck = Vec::new();
    for _ in 0..limits::FULL_HANDSHAKES_AT_ONCE {
        stuck.push(sessions.turn(&peer).await);
    }
    assert!(matches!(sessions.turn(&other).await, Turn::Full { .. }), "peers do not wait for each other");
    assert!(begun.elapsed() < limits::TICKET_WAIT);
    assert!(matches!(sessions.turn(&peer).await, Turn::Unbounded));
    assert!(begun.elapsed() >= limits::TICKET_WAIT);
    stuck.pop();
    assert!(matches!(sessions.turn(&peer).await, Turn::Full { .. }), "one that has ended makes room");
}

#[tokio::test]
async fn the_tickets_of_one_peer_are_bounded() {
    let authority = Authority::new();
    let (source, destination) = (authority.credential(WEB), authority.credential(DB));
    let peer = crate::tls::server_name(&uid("destination"));
    let sessions = source.sessions.clone().unwrap();
    // Each full handshake leaves more than it used up.
    for _ in 0..=limits::SESSIONS_PER_PEER / usize::from(limits::TICKETS_AFTER_FULL_HANDSHAKE) {
        let mut claimed = Vec::new();
        while let Some(ticket) = sessions.take_tls13_ticket(&peer) {
            claimed.push(ticket);
        }
        assert!(!converse(&source, &destination).await);
        for ticket in claimed {
            sessions.insert_tls13_ticket(peer.clone(), ticket);
        }
    }
    let kept = std::iter::from_fn(|| sessions.take_tls13_ticket(&peer)).count();
    assert_eq!(kept, limits::SESSIONS_PER_PEER);
    assert!(
        matches!(sessions.turn(&peer).await, Turn::Full { .. }),
        "a ticket that was taken is claimed by nobody else"
    );
}

#[tokio::test]
async fn it_can_be_switched_off_on_either_side() {
    let authority = Authority::new();
    let off = |uri| credential(&authority.material(&Shape::uri(uri)), &trust(&[&authority]), Resumption::Off);
    for (source, destination) in
        [(off(WEB), off(DB)), (off(WEB), authority.credential(DB)), (authority.credential(WEB), off(DB))]
    {
        for _ in 0..3 {
            assert!(!converse(&source, &destination).await);
        }
    }
}

#[tokio::test]
async fn no_session_outlives_the_certificate_under_which_it_began() {
    let authority = Authority::new();
    let (source, destination) = (authority.credential(WEB), authority.credential(DB));
    assert!(!converse(&source, &destination).await);
    assert!(converse(&source, &destination).await, "there is a session to lose");
    assert!(!converse(&source, &authority.credential(DB)).await, "the destination's certificate is new");
    assert!(!converse(&authority.credential(WEB), &destination).await, "the source's certificate is new");
}

#[tokio::test]
async fn no_session_outlives_the_roots_under_which_it_began() {
    let (old, new) = (Authority::new(), Authority::new());
    let (web, db) = (old.material(&Shape::uri(WEB)), old.material(&Shape::uri(DB)));
    let made = |material, trust: &Trust| credential(material, trust, Resumption::On);
    let source = made(&web, &trust(&[&old]));
    assert!(!converse(&source, &made(&db, &trust(&[&old]))).await);
    // The same certificate and key, but the old root is trusted no more: the ticket must not open the door.
    let (_, server) = meet(&source, &made(&db, &trust(&[&new]))).await;
    assert_eq!(server.map(|_| ()).unwrap_err().reason, Reason::CertificateUntrusted);
}

#[tokio::test]
async fn a_session_of_one_workload_opens_no_other() {
    let authority = Authority::new();
    let (source, db, other) = (authority.credential(WEB), authority.credential(DB), authority.credential(DB));
    assert!(!converse(&source, &db).await);
    // The address now belongs to another pod of the same service account: its ticket key is another.
    assert!(!converse(&source, &other).await);
    assert!(converse(&source, &other).await);
}

#[tokio::test]
async fn a_store_of_another_identity_is_of_no_use() {
    let authority = Authority::new();
    let (web, db) = (authority.credential(WEB), authority.credential(DB));
    assert!(!converse(&web, &db).await);
    assert!(converse(&web, &db).await);
    let mut thief = authority.credential("spiffe://cluster.local/ns/shop/sa/thief");
    let mut parameters = (*thief.client).clone();
    parameters.resumption = web.client.resumption.clone();
    thief.client = Arc::new(parameters);
    let (client, server) = meet(&thief, &db).await;
    assert!(!client::resumed(&client.unwrap()));
    assert_eq!(server.unwrap().1, identity("spiffe://cluster.local/ns/shop/sa/thief"), "the thief is itself");
}

#[tokio::test]
async fn a_short_handshake_still_expects_the_right_identity() {
    let authority = Authority::new();
    let (source, destination) = (authority.credential(WEB), authority.credential(DB));
    assert!(!converse(&source, &destination).await);
    let (client, server) = meet_as(&source, &destination, "spiffe://cluster.local/ns/shop/sa/cart").await;
    assert!(server::resumed(&server.unwrap().0), "the case is about a resumed handshake");
    assert_eq!(client.map(|_| ()).unwrap_err().reason, Reason::IdentityMismatch);
}

#[tokio::test]
async fn a_session_ends_with_the_certificates_of_its_beginning() {
    let authority = Authority::new();
    let (source, destination) = (authority.credential(WEB), authority.credential(DB));
    assert!(!converse(&source, &destination).await);
    let later = SystemTime::now() + 2 * HOUR;
    let patient = |credential: Credential| Credential { not_after: later + HOUR, ..credential };
    let (source, destination) = (patient(source), patient(destination));

    // Two hours later by the destination's clock: the certificate of the session's beginning has ended.
    let (dialled, accepted) = super::sockets().await;
    let (expected, workload) = (identity(DB), uid("destination"));
    let (client, server) = tokio::join!(
        super::finished(client::handshake(dialled, &source, &expected, &workload)),
        server::handshake_at(Prefixed::new(Vec::new(), accepted), &destination, later)
    );
    assert_eq!(server.map(|_| ()).unwrap_err().reason, Reason::CertificateExpired);
    let mut client = client.unwrap();
    assert!(client::resumed(&client), "the case is about a resumed handshake");
    let preamble = Preamble {
        source: None,
        service: None,
        port: 80,
        protocol: Protocol::Opaque,
        connection: None,
        requires: vec![],
    };
    let told = client::ask(&mut client, &preamble).await.unwrap().into_error().unwrap();
    assert_eq!(told.reason, Reason::CertificateExpired);

    // And by the source's clock.
    let (dialled, accepted) = super::sockets().await;
    let (client, server) = tokio::join!(
        client::handshake_at(dialled, &source, &expected, &workload, later + Duration::from_secs(1)),
        server::handshake(Prefixed::new(Vec::new(), accepted), &destination)
    );
    assert!(server::resumed(&server.unwrap().0), "the case is about a resumed handshake");
    assert_eq!(client.map(|_| ()).unwrap_err().error.reason, Reason::CertificateExpired);
}
