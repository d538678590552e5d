//! Telling mesh TLS from everything else, without losing a byte.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{accept, sockets};
use crate::limits;
use crate::tls::fixtures::{Authority, DB, WEB, identity, uid};
use crate::wire::hello::fixtures::{client_hello, records};
use crate::wire::{Prefixed, Sniffed, Sniffer, client};

async fn sniff(stream: &TcpStream) -> Sniffed {
    Sniffer::default().sniff(stream).await.unwrap()
}

#[tokio::test]
async fn a_hello_in_single_bytes_is_still_a_hello() {
    let authority = Authority::new();
    let (source, destination) = (authority.credential(WEB), authority.credential(DB));
    // A slow path between the two: what the source sends arrives byte by byte, each in a segment of its own.
    let (dialled, mut near) = sockets().await;
    let (mut far, accepted) = sockets().await;
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let slow = async {
        let (mut near_read, mut near_write) = near.split();
        let (mut far_read, mut far_write) = far.split();
        let forward = async {
            let mut byte = [0];
            while near_read.read_exact(&mut byte).await.is_ok() && far_write.write_all(&byte).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(forward, tokio::io::copy(&mut far_read, &mut near_write)).1.ok();
    };
    let (expected, workload) = (identity(DB), uid("b"));
    let meeting = async {
        let handshake = super::finished(client::handshake(dialled, &source, &expected, &workload));
        let (client, server) = tokio::join!(handshake, accept(accepted, &destination));
        assert_eq!(server.unwrap().1, identity(WEB));
        client.unwrap();
    };
    tokio::select! {
        () = slow => panic!("the path ended first"),
        () = meeting => {}
    }
}

#[tokio::test]
async fn plaintext_is_known_by_its_first_byte() {
    for greeting in [&b"G"[..], b"PRI * HTTP/2.0", b"\x00", b"\x15\x03\x01", b"\x80\x2e\x01", b"\x16G", b"\x16\x03\x09"]
    {
        let (mut dialled, accepted) = sockets().await;
        dialled.write_all(greeting).await.unwrap();
        // The source keeps the connection open and says no more: a verdict must not wait for it.
        assert_eq!(sniff(&accepted).await, Sniffed::Plaintext(greeting.to_vec()));
    }
}

#[tokio::test]
async fn the_applications_own_tls_is_plaintext() {
    for alpn in [&[][..], &[b"h2".to_vec(), b"http/1.1".to_vec()], &[b"weft/2".to_vec()], &[b"weft/1x".to_vec()]] {
        let (mut dialled, accepted) = sockets().await;
        let hello = client_hello(alpn, 0);
        dialled.write_all(&hello).await.unwrap();
        assert_eq!(sniff(&accepted).await, Sniffed::Plaintext(hello));
    }
}

#[tokio::test]
async fn the_mesh_may_be_offered_among_others_and_in_many_records() {
    let hello = client_hello(&[b"h2".to_vec(), b"weft/1".to_vec()], 0);
    for hello in [hello.clone(), records(&hello, 100)] {
        let (mut dialled, accepted) = sockets().await;
        dialled.write_all(&hello).await.unwrap();
        assert_eq!(sniff(&accepted).await, Sniffed::MeshTls(hello));
    }
}

#[tokio::test]
async fn a_hello_that_is_too_long_is_given_to_the_application_at_once() {
    let hello = client_hello(&[b"weft/1".to_vec()], limits::SNIFF_MAXIMUM);
    assert!(hello.len() > limits::SNIFF_MAXIMUM);
    for sent in [hello.len(), 100] {
        let (mut dialled, accepted) = sockets().await;
        dialled.write_all(&hello[..sent]).await.unwrap();
        let Sniffed::Plaintext(seen) = sniff(&accepted).await else { panic!("it was taken for something else") };
        assert!(seen.len() <= limits::SNIFF_MAXIMUM);
        assert_eq!(seen, hello[..seen.len()]);
    }
}

#[tokio::test]
async fn many_tiny_records_do_not_hold_a_connection_for_ever() {
    let hello = records(&client_hello(&[b"weft/1".to_vec()], 0), 1);
    assert!(hello.len() > limits::SNIFF_MAXIMUM);
    let (mut dialled, accepted) = sockets().await;
    dialled.write_all(&hello).await.unwrap();
    let Sniffed::Plaintext(seen) = sniff(&accepted).await else { panic!("it was taken for something else") };
    assert_eq!(seen, hello[..limits::SNIFF_MAXIMUM]);
}

#[tokio::test]
async fn an_end_decides() {
    let (dialled, accepted) = sockets().await;
    drop(dialled);
    assert_eq!(sniff(&accepted).await, Sniffed::Closed);
    let (mut dialled, accepted) = sockets().await;
    dialled.write_all(b"\x16\x03\x01").await.unwrap();
    dialled.shutdown().await.unwrap();
    assert_eq!(sniff(&accepted).await, Sniffed::Plaintext(b"\x16\x03\x01".to_vec()));
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() {
    let (mut dialled, accepted) = sockets().await;
    let hello = client_hello(&[b"weft/1".to_vec()], 0);
    let mut sniffer = Sniffer::default();
    dialled.write_all(&hello[..10]).await.unwrap();
    accepted.readable().await.unwrap();
    {
        let mut waiting = pin!(sniffer.sniff(&accepted));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    dialled.write_all(&hello[10..]).await.unwrap();
    assert_eq!(sniffer.sniff(&accepted).await.unwrap(), Sniffed::MeshTls(hello.clone()));

    let mut sniffer = Sniffer::default();
    dialled.write_all(&hello[..10]).await.unwrap();
    accepted.readable().await.unwrap();
    {
        let mut waiting = pin!(sniffer.sniff(&accepted));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(sniffer.into_seen(), hello[..10]);
}

#[tokio::test]
async fn replayed_bytes_come_first_and_once() {
    let (mut dialled, accepted) = sockets().await;
    dialled.write_all(b"GET / and more").await.unwrap();
    let Sniffed::Plaintext(seen) = sniff(&accepted).await else { panic!("it was taken for something else") };
    let mut stream = Prefixed::new(seen, accepted);
    let mut first = [0; 3];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"GET");
    dialled.write_all(b", later").await.unwrap();
    dialled.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, " / and more, later");
    assert_eq!(stream.into_parts().0, b"");
}

/// What an application would have read, whatever was sniffed and however it arrived.
async fn replayed(sent: &[u8], cuts: &[usize]) -> (Sniffed, Vec<u8>) {
    let (mut dialled, accepted) = sockets().await;
    dialled.set_nodelay(true).unwrap();
    let sending = async {
        let mut rest = sent;
        for cut in cuts {
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            dialled.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
            rest = later;
        }
        dialled.write_all(rest).await.unwrap();
        dialled.shutdown().await.unwrap();
    };
    let receive = async {
        let sniffed = sniff(&accepted).await;
        let bytes = match &sniffed {
            Sniffed::MeshTls(bytes) | Sniffed::Plaintext(bytes) => bytes.clone(),
            Sniffed::Closed => Vec::new(),
        };
        let mut read = Vec::new();
        Prefixed::new(bytes, accepted).read_to_end(&mut read).await.unwrap();
        (sniffed, read)
    };
    tokio::join!(sending, receive).1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_reaches_the_application(
        sent in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..9000),
            prop::collection::vec(any::<u8>(), 0..3000).prop_map(|bytes| [&[0x16, 3, 1, 0x20][..], &bytes[..]].concat()),
            (0_usize..2000).prop_map(|length| client_hello(&[b"h2".to_vec()], 0).into_iter().cycle().take(length).collect()),
        ],
        cuts in prop::collection::vec(1_usize..600, 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sniffed, read) = runtime.block_on(replayed(&sent, &cuts));
        prop_assert!(!matches!(sniffed, Sniffed::MeshTls(_)), "no one offered weft/1");
        prop_assert_eq!(read, sent);
    }
}
