//! What each side of a connection sees of how the other one ends, and for how long it may keep everybody waiting.

mod smuggling;
mod versions;
mod wire;

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::limits;
use crate::node::socket::OverTcp;

/// A connection through the loopback interface: from the outside, and as this agent has it.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (outside, listener.accept().await.unwrap().0)
}

/// A client and a server, and what lies between them: a served connection whose first request leaves on a line.
async fn joined() -> (TcpStream, TcpStream, impl Future<Output = Served>) {
    joined_by(Version::Http1, Version::Http1).await
}

/// The same in these versions.
async fn joined_by(asked: Version, asks: Version) -> (TcpStream, TcpStream, impl Future<Output = Served>) {
    let (client, downstream) = connection().await;
    let (server, upstream) = connection().await;
    let tasks = TaskTracker::new();
    let line = open(asks, upstream, &tasks, CancellationToken::new()).await.unwrap();
    let line = Rc::new(Cell::new(Some(line)));
    let between = async move {
        let answer = |request: Request<Body>| {
            let line = Rc::clone(&line);
            async move {
                let mut taken = line.take().unwrap();
                let answer = taken.send(request).await;
                line.set(Some(taken));
                answer.unwrap_or_else(|_| Response::new(Body::whole("no answer")))
            }
        };
        serve(asked, Peer::Stranger, downstream, &tasks, std::future::pending(), answer).await
    };
    (client, server, between)
}

fn local<'a, T: 'a>(test: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(async { LocalSet::new().run_until(test).await })
}

/// Reads until this has come.
async fn hear(stream: &mut TcpStream, text: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(text) {
        heard.push(char::from(stream.read_u8().await.unwrap()));
    }
    heard
}

/// Everything that comes until the end, and how that was said.
async fn rest(stream: &mut TcpStream) -> Result<String, ErrorKind> {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.map(|_| text).map_err(|error| error.kind())
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_whole() {
    let heads = ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"];
    for head in heads {
        local(async {
            let (mut client, mut server, between) = joined().await;
            let cut = async {
                client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
                hear(&mut server, "\r\n\r\n").await;
                server.write_all(format!("{head}half").as_bytes()).await.unwrap();
                hear(&mut client, "half").await;
                reset(server);
                rest(&mut client).await
            };
            let (ended, outcome) = tokio::join!(cut, between);
            assert_eq!(ended, Err(ErrorKind::ConnectionReset), "{head:?}");
            assert!(matches!(outcome, Served::Truncated(_)), "{outcome:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    local(async {
        let (mut client, mut server, between) = joined().await;
        let end = async {
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            hear(&mut server, "\r\n\r\n").await;
            server.write_all(b"HTTP/1.0 200 OK\r\n\r\nwhole").await.unwrap();
            drop(server);
            rest(&mut client).await
        };
        let (ended, outcome) = tokio::join!(end, between);
        assert!(ended.unwrap().ends_with("\r\n\r\nwhole"));
        assert!(matches!(outcome, Served::Ended), "{outcome:?}");
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_that_nobody_grants_leaves_an_orderly_end() {
    local(async {
        let (mut client, mut server, between) = joined().await;
        let end = async {
            client.write_all(b"GET / HTTP/1.1\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n").await.unwrap();
            hear(&mut server, "\r\n\r\n").await;
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            rest(&mut client).await
        };
        let (ended, outcome) = tokio::join!(end, between);
        assert!(ended.is_ok_and(|answer| answer.ends_with("ok")));
        assert!(matches!(outcome, Served::Ended), "{outcome:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_resets_is_a_reset_to_the_server_too() {
    let requests = ["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"];
    for request in requests {
        local(async {
            let (mut client, mut server, between) = joined().await;
            let asking = async {
                client.write_all(request.as_bytes()).await.unwrap();
                hear(&mut server, &request[request.len() - 4..]).await;
                reset(client);
                rest(&mut server).await
            };
            let (ended, outcome) = tokio::join!(asking, between);
            assert_eq!(ended, Err(ErrorKind::ConnectionReset), "{request:?}");
            assert!(matches!(outcome, Served::Failed(_)), "{outcome:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_ends_its_sending_still_gets_its_answer() {
    let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ];
    for request in requests {
        local(async {
            let (mut client, mut server, between) = joined().await;
            let asking = async {
                client.write_all(request.as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                hear(&mut server, &request[request.len() - 4..]).await;
                tokio::task::yield_now().await;
                server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
                rest(&mut client).await
            };
            let (answer, outcome) = tokio::join!(asking, between);
            assert!(answer.as_ref().is_ok_and(|answer| answer.ends_with("done")), "{request:?}: {answer:?}");
            assert!(matches!(outcome, Served::Ended), "{outcome:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_upload_that_ends_too_early_is_reset() {
    local(async {
        let (mut client, mut server, between) = joined().await;
        let asking = async {
            client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
            hear(&mut server, "half").await;
            client.shutdown().await.unwrap();
            rest(&mut server).await
        };
        assert_eq!(tokio::join!(asking, between).0, Err(ErrorKind::ConnectionReset));
    })
    .await;
}

#[tokio::test]
async fn the_refusal_of_a_head_that_is_too_long_arrives() {
    local(async {
        let (mut client, _server, between) = joined().await;
        let shouting = async {
            let head = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &vec![b'x'; 3 * limits::HTTP_HEAD_MAXIMUM]].concat();
            client.write_all(&head).await.unwrap();
            rest(&mut client).await
        };
        let (answer, _) = tokio::join!(shouting, between);
        assert!(answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 431")), "{answer:?}");
    })
    .await;
}

/// A pipe in memory, where the clock stands still until everybody waits.
struct Pipe(DuplexStream);

impl OverTcp for Pipe {
    fn reset_on_close(&self) {}
    fn acknowledge_within(&self, _: Option<Duration>) {}
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(task, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(task)
    }
}

/// How a client that sends this and then nothing more ends, and after how long. Bodies are read and answered with 64 KiB.
async fn waited_for(said: &str, pipe: usize) -> (Served, Duration) {
    let (mut client, downstream) = duplex(pipe);
    let began = Instant::now();
    let answer = |request: Request<Body>| async move {
        let _ = request.into_body().collected(1 << 20).await;
        Response::new(Body::whole(vec![b'x'; 1 << 16]))
    };
    client.write_all(said.as_bytes()).await.unwrap();
    let tasks = TaskTracker::new();
    let served =
        local(serve(Version::Http1, Peer::Stranger, Pipe(downstream), &tasks, std::future::pending(), answer)).await;
    (served, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn who_begins_and_does_not_go_on_is_cut_and_who_rests_is_not() {
    let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases = [
        (whole[..9].to_owned(), limits::HTTP1_HEAD),
        (format!("{whole}G"), limits::HTTP1_HEAD),
        (format!("{whole}{whole}\r\n\r\n"), limits::IDLE_TIMEOUT),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf".to_owned(), limits::HTTP1_BODY_STALL),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n".to_owned(), limits::IDLE_TIMEOUT),
    ];
    for (said, limit) in cases {
        let (served, after) = waited_for(&said, 1 << 20).await;
        assert!((limit..=2 * limit + limits::LINGER).contains(&after), "{said:?}: {served:?} after {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_is_cut() {
    let (served, after) = waited_for("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1024).await;
    assert!(matches!(served, Served::TooSlow(_)), "{served:?}");
    assert!((limits::WRITE_STALL..2 * limits::WRITE_STALL).contains(&after), "{after:?}");
}

/// What a client that asks once, so long after the agent began to leave, is answered, and how long the connection stayed.
async fn asked_after(leave: Leave, pause: Duration) -> (String, Duration) {
    let (mut client, downstream) = duplex(1 << 10);
    let began = Instant::now();
    let asking = async {
        tokio::time::sleep(pause).await;
        let mut answer = String::new();
        let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let _ = client.read_to_string(&mut answer).await;
        answer
    };
    let answer = |_: Request<Body>| async { Response::new(Body::whole("here")) };
    let tasks = TaskTracker::new();
    let serving = async {
        let served =
            serve(Version::Http1, Peer::Stranger, Pipe(downstream), &tasks, std::future::ready(leave), answer).await;
        assert!(matches!(served, Served::Ended), "{served:?}");
        began.elapsed()
    };
    local(async { tokio::join!(asking, serving) }).await
}

#[tokio::test(start_paused = true)]
async fn who_asks_while_the_agent_leaves_is_answered_and_told() {
    let soon = limits::DRAIN_REST / 2;
    let (answer, stayed) = asked_after(Leave::WithNextAnswer, soon).await;
    assert!(answer.ends_with("here") && answer.to_lowercase().contains("connection: close"), "{answer}");
    assert!((soon..limits::DRAIN_REST).contains(&stayed), "{stayed:?}");
    let (answer, stayed) = asked_after(Leave::WithNextAnswer, 2 * limits::DRAIN_REST).await;
    assert_eq!(answer, "");
    assert!((limits::DRAIN_REST..limits::DRAIN_REST * 2).contains(&stayed), "{stayed:?}");
    let (answer, stayed) = asked_after(Leave::AtOnce, soon).await;
    assert_eq!(answer, "");
    assert!(stayed < soon, "{stayed:?}");
}

/// A line to a server that answers for ever.
async fn endless() -> Line {
    let (mut server, upstream) = duplex(1024);
    let line = open(Version::Http1, Pipe(upstream), &TaskTracker::new(), CancellationToken::new()).await.unwrap();
    TaskTracker::new().spawn_local(async move {
        let mut said: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
        while server.write_all(said).await.is_ok() {
            said = &[b'x'; 1024];
        }
    });
    line
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_window_is_ended_and_its_connection_is_not() {
    let (client, downstream) = duplex(1 << 20);
    local(async {
        let tasks = TaskTracker::new();
        let answer = |request| async { endless().await.send(request).await.unwrap() };
        let serving = serve(Version::Http2, Peer::Stranger, Pipe(downstream), &tasks, std::future::pending(), answer);
        let asking = async {
            let (mut requests, connection) =
                h2::client::Builder::new().initial_window_size(100).handshake::<_, bytes::Bytes>(client).await.unwrap();
            TaskTracker::new().spawn_local(connection);
            let ask = || Request::get("http://a/").body(()).unwrap();
            let began = Instant::now();
            let (stuck, _) = requests.send_request(ask(), true).unwrap();
            let mut body = stuck.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap().len(), 100);
            let error = body.data().await.unwrap().unwrap_err();
            assert!(error.is_reset() && began.elapsed() >= limits::HTTP2_STREAM_STALL, "{error}");
            // Another request of the same connection is answered.
            let (another, _) = requests.send_request(ask(), true).unwrap();
            assert!(another.await.unwrap().status().is_success());
        };
        tokio::select! {
            served = serving => panic!("{served:?}"),
            () = asking => {}
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_without_a_window_may_rest_afterwards() {
    let (client, downstream) = duplex(1 << 20);
    local(async {
        let tasks = TaskTracker::new();
        let (speaker, body) = spoken();
        let said = Cell::new(Some(body));
        let answer = |_: Request<Body>| std::future::ready(Response::new(said.take().unwrap()));
        let serving = serve(Version::Http2, Peer::Stranger, Pipe(downstream), &tasks, std::future::pending(), answer);
        let asking = async {
            let mut speaker = Duplex::new(Body::empty(), speaker);
            let (mut requests, connection) =
                h2::client::Builder::new().initial_window_size(100).handshake::<_, bytes::Bytes>(client).await.unwrap();
            TaskTracker::new().spawn_local(connection);
            let (answer, _) = requests.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            // It takes all that there is, to the end of its window, and much later something else comes.
            speaker.write_all(&[b'x'; 200]).await.unwrap();
            taken(&mut body, 100, 100).await;
            taken(&mut body, 100, 0).await;
            tokio::time::sleep(2 * limits::HTTP2_STREAM_STALL).await;
            speaker.write_all(&[b'x'; 100]).await.unwrap();
            tokio::time::sleep(limits::HTTP2_STREAM_STALL / 2).await;
            body.flow_control().release_capacity(100).unwrap();
            taken(&mut body, 100, 0).await;
        };
        tokio::select! {
            served = serving => panic!("{served:?}"),
            () = asking => {}
        }
    })
    .await;
}

/// Reads so many bytes, and then gives so large a window.
async fn taken(body: &mut h2::RecvStream, bytes: usize, window: usize) {
    let mut left = bytes;
    while left > 0 {
        left -= body.data().await.unwrap().unwrap().len();
    }
    body.flow_control().release_capacity(window).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_has_begun_with_a_body_that_it_asked_for_owes_the_rest() {
    let (mut client, downstream) = duplex(1 << 10);
    let (_server, upstream) = duplex(1 << 10);
    let began = Instant::now();
    let served = local(async {
        let tasks = TaskTracker::new();
        let line = open(Version::Http1, Pipe(upstream), &tasks, CancellationToken::new()).await.unwrap();
        let line = Rc::new(Cell::new(Some(line)));
        let answer = |request: Request<Body>| {
            let mut line = line.take().unwrap();
            async move { line.send(request).await.unwrap_or_else(|_| Response::new(Body::empty())) }
        };
        let said = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\nhalf";
        client.write_all(said).await.unwrap();
        serve(Version::Http1, Peer::Stranger, Pipe(downstream), &tasks, std::future::pending(), answer).await
    })
    .await;
    let bound = limits::HTTP1_BODY_STALL..=2 * limits::HTTP1_BODY_STALL + limits::LINGER;
    assert!(bound.contains(&began.elapsed()), "{served:?} after {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_of_an_answer_behind_the_reset_of_its_stream() {
    const HEADERS: u8 = 1;
    let (mut client, downstream) = duplex(1 << 10);
    let answer = |request: Request<Body>| {
        let mut begun = false;
        std::future::poll_fn(move |_| {
            // Nobody wakes it but the reset, and then there is something to say.
            if std::mem::replace(&mut begun, true) {
                let hints = Response::builder().status(103).body(()).unwrap();
                interim::Interim::leave(request.extensions(), hints.into_parts().0);
            }
            Poll::Pending
        })
    };
    let asking = async {
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        client.write_all(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.write_all(b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.shutdown().await.unwrap();
        let mut frames = Vec::new();
        client.read_to_end(&mut frames).await.unwrap();
        frames
    };
    let tasks = TaskTracker::new();
    let serving = serve(Version::Http2, Peer::Stranger, Pipe(downstream), &tasks, std::future::pending(), answer);
    let (_, frames) = local(async { tokio::join!(serving, asking) }).await;
    let mut left = frames.as_slice();
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = left {
        assert_ne!(*kind, HEADERS, "{frames:?}");
        left = &rest[usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low)..];
    }
}
