//! What passes between a client and a server that speak the same version of HTTP, or two.

use bytes::Bytes;
use h2::{Reason, client, server};
use http::{HeaderMap, Request, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Body, Peer, Pipe, Protocol, Version, connection, hear, joined_by, local, open, rest, serve};
use crate::http::answer::REASON;
use crate::limits;

const EXPECTING: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";

/// A client of HTTP/2 on this connection.
async fn client(stream: TcpStream) -> client::SendRequest<Bytes> {
    let (requests, connection) = client::handshake(stream).await.unwrap();
    TaskTracker::new().spawn_local(connection);
    requests
}

fn expecting() -> Request<()> {
    Request::post("http://a/").header("expect", "100-continue").body(()).unwrap()
}

/// The statuses of the next 1xx answers.
async fn announced(answer: &mut client::ResponseFuture, count: usize) -> Vec<u16> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let head = std::future::poll_fn(|task| answer.poll_informational(task)).await.unwrap().unwrap();
        seen.push(head.status().as_u16());
    }
    seen
}

async fn body_of(mut body: h2::RecvStream) -> (String, Option<HeaderMap>) {
    let mut text = String::new();
    while let Some(piece) = body.data().await {
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    (text, body.trailers().await.unwrap())
}

/// Asks a client's body, once with hints before, and answers with trailers: HTTP/1 and HTTP/2.
async fn asking_server(mut stream: TcpStream) {
    hear(&mut stream, "\r\n\r\n").await;
    stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert!(hear(&mut stream, "x-sum: 1\r\n\r\n").await.starts_with("4\r\nbody\r\n"));
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    std::future::pending::<()>().await;
}

async fn asking_server2(stream: TcpStream) {
    let mut connection = server::handshake(stream).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    TaskTracker::new().spawn_local(async move {
        // 101 is none of HTTP/2's, and nobody is told it.
        for status in [101, 103, 100] {
            respond.send_informational(Response::builder().status(status).body(()).unwrap()).unwrap();
        }
        let (text, trailers) = body_of(request.into_body()).await;
        assert_eq!((text.as_str(), trailers.unwrap().len()), ("body", 1));
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from("ok"), false).unwrap();
        stream.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "2".parse().unwrap())])).unwrap();
    });
    assert!(connection.accept().await.is_none());
}

async fn asked(version: Version, mut stream: TcpStream) {
    if version == Version::Http1 {
        stream.write_all(EXPECTING).await.unwrap();
        let before = hear(&mut stream, "100 Continue\r\n\r\n").await;
        assert!(before.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{before}");
        stream.write_all(b"4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n").await.unwrap();
        assert!(hear(&mut stream, "x-sum: 2\r\n\r\n").await.contains("\r\n\r\n2\r\nok\r\n0\r\n"));
        return;
    }
    let (mut answer, mut body) = client(stream).await.send_request(expecting(), false).unwrap();
    assert_eq!(announced(&mut answer, 2).await, [103, 100]);
    body.send_data(Bytes::from("body"), false).unwrap();
    body.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())])).unwrap();
    let (text, trailers) = body_of(answer.await.unwrap().into_body()).await;
    assert_eq!((text.as_str(), trailers.unwrap()["x-sum"].as_bytes()), ("ok", b"2".as_slice()));
}

const BOTH: [Version; 2] = [Version::Http1, Version::Http2];

#[tokio::test]
async fn what_is_said_before_an_answer_and_after_a_body_passes_in_every_version() {
    for (downstream, upstream) in BOTH.into_iter().flat_map(|version| BOTH.map(|other| (version, other))) {
        local(async {
            let (outside, server, between) = joined_by(downstream, upstream).await;
            let serving = async {
                if upstream == Version::Http1 { asking_server(server).await } else { asking_server2(server).await }
            };
            tokio::select! {
                () = asked(downstream, outside) => {}
                () = serving => panic!("the server ended first"),
                end = between => panic!("{end:?}"),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_wants_no_body_answers_without_one() {
    for downstream in BOTH {
        local(async {
            let (mut outside, mut server, between) = joined_by(downstream, Version::Http1).await;
            let serving = async {
                hear(&mut server, "\r\n\r\n").await;
                server.write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
                std::future::pending::<()>().await;
            };
            let asking = async {
                if downstream == Version::Http1 {
                    outside.write_all(EXPECTING).await.unwrap();
                    let answer = hear(&mut outside, "\r\n\r\nno").await;
                    // What the client may still send would be in the way of its next request.
                    assert!(answer.starts_with("HTTP/1.1 417") && answer.contains("connection: close"), "{answer}");
                } else {
                    let (answer, _body) = client(outside).await.send_request(expecting(), false).unwrap();
                    let answer = answer.await.unwrap();
                    assert_eq!(answer.status(), 417);
                    assert_eq!(body_of(answer.into_body()).await.0, "no");
                }
            };
            tokio::select! {
                () = asking => {}
                () = serving => {}
                end = between => assert_eq!(downstream, Version::Http1, "{end:?}"),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_upload_that_its_client_resets_is_never_whole() {
    for reason in [Reason::CANCEL, Reason::NO_ERROR] {
        local(async {
            let (outside, mut server, between) = joined_by(Version::Http2, Version::Http1).await;
            let asking = async {
                let request = Request::post("http://a/").body(()).unwrap();
                let (_answer, mut body) = client(outside).await.send_request(request, false).unwrap();
                body.send_data(Bytes::from("half"), false).unwrap();
                hear(&mut server, "half").await;
                body.send_reset(reason);
                rest(&mut server).await
            };
            let ended = tokio::select! {
                ended = asking => ended,
                end = between => panic!("{end:?}"),
            };
            assert!(ended.is_err(), "{reason:?}: {ended:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_head_of_64_kib_passes_and_too_much_is_answered_with_a_reason() {
    local(async {
        let (outside, downstream) = connection().await;
        let tasks = TaskTracker::new();
        let answer = |request: Request<Body>| async move {
            Response::new(Body::whole(request.headers()["x-long"].len().to_string()))
        };
        let serving = serve(Version::Http2, Peer::Stranger, downstream, &tasks, std::future::pending(), answer);
        let asking = async {
            let mut requests = client(outside).await;
            for (bytes, status) in [(64 << 10, 200), (limits::HTTP2_HEADER_LIST as usize, 431)] {
                let request = Request::head("http://a/").header("x-long", "x".repeat(bytes)).body(()).unwrap();
                let answer = requests.send_request(request, true).unwrap().0.await.unwrap();
                assert_eq!(answer.status(), status);
                let reason = answer.headers().get(REASON).map(|reason| reason.to_str().unwrap());
                assert_eq!(reason, (status == 431).then_some("head_too_long"));
                // Nothing follows the answer to a HEAD, whoever gives it.
                assert!(answer.body().is_end_stream());
            }
        };
        tokio::select! {
            () = asking => {}
            end = serving => panic!("{end:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn an_extended_connect_is_a_get_between_its_two_sides() {
    local(async {
        let (outside, downstream) = connection().await;
        let (server, upstream) = connection().await;
        let tasks = TaskTracker::new();
        let line = open(Version::Http2, upstream, &tasks, CancellationToken::new());
        let accepting = async {
            let mut builder = server::Builder::new();
            builder.enable_connect_protocol().handshake::<_, Bytes>(server).await.unwrap()
        };
        let (line, mut application) = tokio::join!(line, accepting);
        let line = std::rc::Rc::new(line.unwrap());
        let answer = move |request: Request<Body>| {
            let mut line = line.share().unwrap();
            async move {
                assert_eq!(request.method(), "GET");
                assert_eq!(&*request.extensions().get::<Protocol>().unwrap().0, "websocket");
                line.send(request).await.unwrap()
            }
        };
        let serving = serve(Version::Http2, Peer::Stranger, downstream, &tasks, std::future::pending(), answer);
        let echoing = async {
            while let Some(accepted) = application.accept().await {
                let (request, mut respond) = accepted.unwrap();
                assert_eq!((request.method().as_str(), request.uri().path()), ("CONNECT", "/chat"));
                TaskTracker::new().spawn_local(async move {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from(body_of(request.into_body()).await.0), true).unwrap();
                });
            }
        };
        let asking = async {
            let mut requests = client(outside).await;
            // The settings of the agent come first.
            std::future::poll_fn(|task| requests.poll_ready(task)).await.unwrap();
            while !requests.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
            let mut request = Request::builder().method("CONNECT").uri("http://a/chat").body(()).unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let (answer, mut body) = requests.send_request(request, false).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            body.send_data(Bytes::from("frames"), true).unwrap();
            assert_eq!(body_of(answer.into_body()).await.0, "frames");
        };
        tokio::select! {
            () = asking => {}
            () = echoing => panic!("the application ended first"),
            end = serving => panic!("{end:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_ends_with_the_answer_that_did_not_want_it() {
    local(async {
        let (mut outside, server, between) = joined_by(Version::Http1, Version::Http2).await;
        let serving = async {
            let mut connection = server::handshake(server).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            let refusal = Response::builder().status(417).body(()).unwrap();
            let mut stream: h2::SendStream<Bytes> = respond.send_response(refusal, false).unwrap();
            TaskTracker::new().spawn_local(async move { while connection.accept().await.is_some() {} });
            stream.send_data(Bytes::from("no"), true).unwrap();
            // Nothing of it is reset here: the agent does it.
            let mut body = request.into_body();
            body.data().await.unwrap().unwrap_err().reason()
        };
        let asking = async {
            outside.write_all(EXPECTING).await.unwrap();
            let answer = hear(&mut outside, "2\r\nno\r\n0\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 417") && answer.contains("connection: close"), "{answer}");
            // Its connection ends, though the body has never come.
            assert_eq!(rest(&mut outside).await.as_deref(), Ok(""));
            drop(outside);
        };
        let all = async { tokio::join!(between, serving, asking) };
        let (_, reason, ()) = tokio::time::timeout(std::time::Duration::from_secs(20), Box::pin(all)).await.unwrap();
        assert_eq!(reason, Some(Reason::CANCEL));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_on_whose_request_nobody_takes_any_more() {
    local(async {
        let (server, upstream) = tokio::io::duplex(1 << 20);
        let tasks = TaskTracker::new();
        let line = open(Version::Http2, Pipe(upstream), &tasks, CancellationToken::new());
        let serving = async {
            let mut builder = server::Builder::new();
            let mut connection = builder.initial_window_size(100).handshake::<_, Bytes>(server).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            TaskTracker::new().spawn_local(async move { while connection.accept().await.is_some() {} });
            tokio::time::sleep(2 * limits::HTTP2_STREAM_STALL).await;
            let _ = stream.send_data(Bytes::from("late"), true);
            std::future::pending::<()>().await;
            drop(request);
        };
        let asking = async {
            let request = Request::post("http://a/").body(Body::whole(vec![b'x'; 200])).unwrap();
            let answer = line.await.unwrap().send(request).await.unwrap();
            assert_eq!(answer.into_body().collected(10).await.unwrap(), "late");
        };
        tokio::select! {
            () = asking => {}
            () = serving => {}
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_extended_connect_is_found_out_once() {
    for silent in [false, true] {
        local(async {
            let (server, upstream) = tokio::io::duplex(1 << 20);
            let tasks = TaskTracker::new();
            let mut line = open(Version::Http2, Pipe(upstream), &tasks, CancellationToken::new()).await.unwrap();
            let serving = async {
                if !silent {
                    let mut connection = server::handshake(server).await.unwrap();
                    assert!(connection.accept().await.is_none(), "nothing is asked");
                }
                std::future::pending::<()>().await;
            };
            let asking = async {
                let began = tokio::time::Instant::now();
                for _ in 0..3 {
                    let mut request = Request::get("http://a/chat").body(Body::empty()).unwrap();
                    request.extensions_mut().insert(Protocol("websocket".into()));
                    let unsent = line.send(request).await.unwrap_err();
                    assert!(unsent.impossible && unsent.request.is_none() && !unsent.refused, "{unsent:?}");
                }
                let waited = if silent { limits::HTTP2_SETTINGS_WAIT } else { std::time::Duration::ZERO };
                assert!(
                    (waited..waited + limits::HTTP2_SETTINGS_WAIT).contains(&began.elapsed()),
                    "{:?}",
                    began.elapsed()
                );
            };
            tokio::select! {
                () = asking => {}
                () = serving => {}
            }
        })
        .await;
    }
}
