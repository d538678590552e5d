//! Preambles and statuses from peers that cut short, exaggerate and lie.

use std::time::Duration;

use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use weft_proto::v1;

use super::pair;
use crate::error::{ConnectionError, Reason, Side};
use crate::limits;
use crate::tls::fixtures::{Authority, DB, WEB};
use crate::wire::{ConnectionName, Outcome, Preamble, Protocol, Status, client, server};

fn prefixed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn valid() -> v1::Preamble {
    v1::Preamble {
        version: 1,
        source_workload: "a".to_owned(),
        service: "shop/db".to_owned(),
        port: 5432,
        protocol: v1::ApplicationProtocol::Opaque.into(),
        connection: "c-1".to_owned(),
        requires: vec![],
    }
}

/// What the destination makes of `bytes`, after which the source closes if `then_close`.
async fn heard(bytes: &[u8], then_close: bool) -> Result<Preamble, ConnectionError> {
    let authority = Authority::new();
    let (mut source, mut destination) = pair(&authority.credential(WEB), &authority.credential(DB)).await;
    source.write_all(bytes).await.unwrap();
    source.flush().await.unwrap();
    if then_close {
        source.shutdown().await.unwrap();
    }
    // The verdict must not wait for bytes that never come.
    let verdict = server::read_preamble(&mut destination);
    tokio::time::timeout(Duration::from_secs(10), verdict).await.expect("the destination waits for more")
}

#[tokio::test]
async fn hostile_preambles_are_refused() {
    let oversized = u16::try_from(limits::WIRE_MESSAGE_MAXIMUM + 1).unwrap().to_be_bytes();
    let of = |change: fn(&mut v1::Preamble)| {
        let mut preamble = valid();
        change(&mut preamble);
        prefixed(&preamble.encode_to_vec())
    };
    let whole = of(|_| {});
    let cases: Vec<(&str, Vec<u8>, bool, Reason)> = vec![
        ("half a length", vec![0], true, Reason::BadPreamble),
        ("half a message", whole[..whole.len() / 2].to_vec(), true, Reason::BadPreamble),
        ("too long, refused before its bytes come", oversized.to_vec(), false, Reason::BadPreamble),
        ("garbage", prefixed(&[0xff; 40]), false, Reason::BadPreamble),
        ("empty", prefixed(&[]), false, Reason::BadPreamble),
        ("no version", of(|preamble| preamble.version = 0), false, Reason::BadPreamble),
        ("a later version", of(|preamble| preamble.version = 99), false, Reason::Unsupported),
        ("no protocol", of(|preamble| preamble.protocol = 0), false, Reason::BadPreamble),
        ("a later protocol", of(|preamble| preamble.protocol = 77), false, Reason::Unsupported),
        ("a later feature", of(|preamble| preamble.requires.push("teleport".to_owned())), false, Reason::Unsupported),
        ("no such port", of(|preamble| preamble.port = 70_000), false, Reason::BadPreamble),
        ("no name", of(|preamble| preamble.source_workload = "../x".to_owned()), false, Reason::BadPreamble),
        ("no service name", of(|preamble| preamble.service = "db".to_owned()), false, Reason::BadPreamble),
        ("nothing at all", vec![], true, Reason::DownstreamReset),
    ];
    for (what, bytes, then_close, reason) in cases {
        let error = Box::pin(heard(&bytes, then_close)).await.expect_err(what);
        assert_eq!((error.side, error.reason), (Side::Downstream, reason), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_preamble_takes_no_byte_of_the_application() {
    let authority = Authority::new();
    let (mut source, mut destination) = pair(&authority.credential(WEB), &authority.credential(DB)).await;
    let bytes = [&prefixed(&valid().encode_to_vec())[..], b"hello"].concat();
    source.write_all(&bytes).await.unwrap();
    source.flush().await.unwrap();
    let preamble = server::read_preamble(&mut destination).await.unwrap();
    assert_eq!((preamble.port, preamble.protocol), (5432, Protocol::Opaque));
    let mut payload = [0; 5];
    tokio::io::AsyncReadExt::read_exact(&mut destination, &mut payload).await.unwrap();
    assert_eq!(&payload, b"hello");
}

#[tokio::test]
async fn a_name_that_could_forge_a_log_line_is_dropped() {
    let forged = v1::Preamble { connection: "c-1\n{\"reason\":\"completed\"}".to_owned(), ..valid() };
    assert_eq!(Box::pin(heard(&prefixed(&forged.encode_to_vec()), false)).await.unwrap().connection, None);
    assert_eq!(ConnectionName::new(&"x".repeat(limits::CONNECTION_NAME_MAXIMUM + 1)), None);
}

/// What the source makes of an answer of `bytes`, after which the destination closes (with `close_notify` or without).
async fn answered(bytes: &[u8], politely: bool) -> Result<Status, ConnectionError> {
    let authority = Authority::new();
    let (mut source, mut destination) = pair(&authority.credential(WEB), &authority.credential(DB)).await;
    let preamble = Preamble {
        source: None,
        service: None,
        port: 1,
        protocol: Protocol::Opaque,
        connection: None,
        requires: vec![],
    };
    let answer = async {
        server::read_preamble(&mut destination).await.unwrap();
        destination.get_mut().0.let_go();
        destination.write_all(bytes).await.unwrap();
        destination.flush().await.unwrap();
        if politely {
            destination.shutdown().await.unwrap();
        }
        drop(destination);
    };
    let verdict = async { tokio::join!(client::ask(&mut source, &preamble), answer).0 };
    tokio::time::timeout(Duration::from_secs(10), verdict).await.expect("the source waits for more")
}

#[tokio::test]
async fn hostile_answers_are_refused() {
    let oversized = u16::try_from(limits::WIRE_MESSAGE_MAXIMUM + 1).unwrap().to_be_bytes();
    let unknown = v1::Status { outcome: 99, ..v1::Status::default() }.encode_to_vec();
    let unspecified = v1::Status { reason: "completed".to_owned(), ..v1::Status::default() }.encode_to_vec();
    let cases: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("garbage", prefixed(&[0xff; 9]), Reason::BadPreamble),
        ("empty", prefixed(&[]), Reason::BadPreamble),
        ("too long", oversized.to_vec(), Reason::BadPreamble),
        ("cut short", vec![0, 9, 1], Reason::BadPreamble),
        ("an unknown outcome", prefixed(&unknown), Reason::BadPreamble),
        ("no outcome", prefixed(&unspecified), Reason::BadPreamble),
        ("none", vec![], Reason::PeerAgentDown),
    ];
    for (what, bytes, reason) in cases {
        for politely in [true, false] {
            let error = Box::pin(answered(&bytes, politely)).await.expect_err(what);
            assert_eq!((error.side, error.reason), (Side::Upstream, reason), "{what}: {error}");
        }
    }
}

#[tokio::test]
async fn a_reason_of_a_newer_peer_is_read_by_its_outcome() {
    let status =
        v1::Status { outcome: v1::Outcome::Denied.into(), reason: "moonphase".to_owned(), rule: String::new() };
    let status = Box::pin(answered(&prefixed(&status.encode_to_vec()), true)).await.unwrap();
    assert_eq!(status, Status { outcome: Outcome::Denied, reason: None, rule: None });
    assert_eq!(status.into_error().map(|error| error.reason), Some(Reason::DeniedByRule));
}

#[test]
fn every_reason_reaches_the_other_agent_with_its_rule() {
    for reason in Reason::ALL {
        let error = ConnectionError::new(Side::Local, *reason).with_rule("shop/only-web[0]");
        let sent = Status::refusal(&error).encode().encode_to_vec();
        let told = Status::decode(&sent).unwrap().into_error().unwrap();
        // A refusal that says that all went well is still a refusal.
        let expected = if *reason == Reason::Completed { Reason::DeniedByRule } else { *reason };
        assert_eq!((told.reason, told.rule.as_deref()), (expected, Some("shop/only-web[0]")));
    }
    assert!(Status::decode(&Status::OK.encode().encode_to_vec()).unwrap().into_error().is_none());
}
