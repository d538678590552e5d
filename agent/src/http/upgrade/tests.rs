//! A WebSocket between a client and a server of two versions of HTTP.

use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::http::answer::{Asker, refusal};
use crate::http::canonical;
use crate::http::engine::{Peer, open, serve};

const ASKED: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (outside, listener.accept().await.unwrap().0)
}

/// The steps of a journey that are about upgrades, on one line.
async fn carry(line: Rc<tokio::sync::Mutex<engine::Line>>, request: Request, to: Version) -> Response {
    let asker = Asker::of(&request);
    let carried = async {
        let (mut head, body) = request.into_parts();
        canonical::refuse_tunnel(&head)?;
        let canonical = canonical::canonical(&head).map_err(|why| refused(&why.to_string()))?;
        assert_eq!((canonical.method(), canonical.path()), (&Method::GET, "/chat"), "what rules judge");
        let mut upgrade = Upgrade::begin(&mut head);
        upgrade.ask(&mut head, &body, to);
        canonical.write(&mut head, to.into()).map_err(|why| refused(&why.to_string()))?;
        let mut request = Request::from_parts(head, body);
        let tunnel = upgrade.hold(&mut request);
        let mut response = line.lock().await.send(request).await.map_err(|unsent| refused(&unsent.why))?;
        if let Some(ends) = upgrade.finish(&mut response, tunnel)? {
            TaskTracker::new().spawn_local(ends.join(pending()));
        }
        Ok::<_, ConnectionError>(response)
    };
    carried.await.unwrap_or_else(|error| refusal(asker, &error))
}

/// A client and a server, and the agent between them.
async fn joined(from: Version, to: Version) -> (TcpStream, TcpStream, impl Future<Output = engine::Served>) {
    let (client, downstream) = connection().await;
    let (server, upstream) = connection().await;
    let between = async move {
        let tasks = TaskTracker::new();
        let line = open(to, upstream, &tasks, CancellationToken::new()).await.unwrap();
        let line = Rc::new(tokio::sync::Mutex::new(line));
        let answer = move |request: Request| -> Pin<Box<dyn Future<Output = Response>>> {
            Box::pin(carry(Rc::clone(&line), request, to))
        };
        let end = serve(from, Peer::Stranger, downstream, &tasks, pending(), answer).await;
        // The tunnel goes on after the connection has become one.
        if from == Version::Http1 { pending().await } else { end }
    };
    (client, server, between)
}

async fn heard(stream: &mut TcpStream, end: &str) -> String {
    let mut heard = String::new();
    while !heard.ends_with(end) {
        heard.push(char::from(stream.read_u8().await.unwrap()));
    }
    heard
}

/// An extended CONNECT, when the agent has said that it takes one.
async fn connect(stream: TcpStream, protocol: &'static str) -> (http::Response<h2::RecvStream>, h2::SendStream<Bytes>) {
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    TaskTracker::new().spawn_local(connection);
    while !requests.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = http::Request::builder().method("CONNECT").uri("http://a/chat").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
    let (answer, stream) = requests.send_request(request, false).unwrap();
    (answer.await.unwrap(), stream)
}

fn local<'a>(test: impl Future<Output = ()> + 'a) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async { LocalSet::new().run_until(test).await })
}

#[tokio::test]
async fn a_stream_becomes_a_connection() {
    local(async {
        let (client, mut server, between) = joined(Version::Http2, Version::Http1).await;
        let serving = async {
            let head = heard(&mut server, "\r\n\r\n").await.to_lowercase();
            assert!(
                head.starts_with("get /chat http/1.1\r\n") && head.contains("\r\nupgrade: websocket\r\n"),
                "{head}"
            );
            assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
            let (_, key) = head.split_once("sec-websocket-key: ").unwrap();
            assert_eq!(key.split("\r\n").next().unwrap().len(), 24);
        };
        let asking = async {
            let (answer, _stream) = connect(client, "websocket").await;
            answer.status()
        };
        tokio::select! {
            () = serving => {}
            status = asking => panic!("{status}"),
            end = between => panic!("{end:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn frames_pass_from_a_stream_to_a_connection_and_back_to_their_ends() {
    local(async {
        let (client, mut server, between) = joined(Version::Http2, Version::Http1).await;
        let serving = async {
            let head = heard(&mut server, "\r\n\r\n").await;
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
            let mut headers = HeaderMap::new();
            websocket::accept(&mut headers, Some(&HeaderValue::from_str(key).unwrap()));
            let accept = headers[SEC_WEBSOCKET_ACCEPT].to_str().unwrap();
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n";
            server.write_all(format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\nhello").as_bytes()).await.unwrap();
            let mut text = String::new();
            server.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "frames");
            server.shutdown().await.unwrap();
            pending::<()>().await;
        };
        let asking = async {
            let (answer, mut stream) = connect(client, "websocket").await;
            assert_eq!(answer.status(), 200);
            assert!(!answer.headers().contains_key(SEC_WEBSOCKET_ACCEPT) && !answer.headers().contains_key(UPGRADE));
            let mut body = answer.into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "hello");
            stream.send_data(Bytes::from("frames"), true).unwrap();
            // Its end is said in a piece of its own.
            assert!(body.data().await.is_none_or(|last| last.unwrap().is_empty()) && body.is_end_stream());
        };
        tokio::select! {
            () = asking => {}
            () = serving => {}
            end = between => panic!("{end:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_grant_is_no_success_to_a_stream() {
    let grant = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ";
    let rows = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage".to_owned(), 502),
        (format!("{grant}websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"), 502),
        (format!("{grant}other\r\n\r\n"), 502),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), 404),
    ];
    for (said, status) in rows {
        local(async {
            let (client, mut server, between) = joined(Version::Http2, Version::Http1).await;
            let serving = async {
                heard(&mut server, "\r\n\r\n").await;
                server.write_all(said.as_bytes()).await.unwrap();
                pending::<()>().await;
            };
            tokio::select! {
                (answer, _) = connect(client, "websocket") => assert_eq!(answer.status(), status, "{said:?}"),
                () = serving => {}
                end = between => panic!("{end:?}"),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn other_protocols_than_websocket_are_no_streams() {
    local(async {
        let (client, _server, between) = joined(Version::Http2, Version::Http1).await;
        tokio::select! {
            (answer, _) = connect(client, "connect-udp") => assert_eq!(answer.status(), 501),
            end = between => panic!("{end:?}"),
        }
    })
    .await;
}

/// Serves one extended CONNECT with `status`, and says its protocol and what it heard.
async fn serve_stream(server: TcpStream, status: u16) -> (String, String) {
    let mut builder = h2::server::Builder::new();
    let mut connection = builder.enable_connect_protocol().handshake::<_, Bytes>(server).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    TaskTracker::new().spawn_local(async move { while connection.accept().await.is_some() {} });
    let protocol = request.extensions().get::<h2::ext::Protocol>().map(|protocol| protocol.as_str().to_owned());
    assert!(!request.headers().contains_key(SEC_WEBSOCKET_KEY));
    let mut stream = respond.send_response(http::Response::builder().status(status).body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from("hello"), false).unwrap();
    let (mut body, mut heard) = (request.into_body(), String::new());
    while let Some(Ok(piece)) = body.data().await {
        heard.push_str(std::str::from_utf8(&piece).unwrap());
    }
    stream.send_data(Bytes::new(), true).unwrap();
    (protocol.unwrap_or_default(), heard)
}

#[tokio::test]
async fn a_connection_becomes_a_stream() {
    becomes_a_stream(ASKED).await;
    // Some clients say of an opening that it has no body, which is not true of the stream.
    becomes_a_stream(&ASKED.replacen("\r\n", "\r\nContent-Length: 0\r\nExpect: 100-continue\r\n", 1)).await;
}

async fn becomes_a_stream(asked: &str) {
    local(async {
        let (mut client, server, between) = joined(Version::Http1, Version::Http2).await;
        let asking = async {
            client.write_all(asked.as_bytes()).await.unwrap();
            let head = heard(&mut client, "\r\n\r\nhello").await.to_lowercase();
            assert!(head.starts_with("http/1.1 101 "), "{head}");
            assert!(
                head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=")
                    && head.contains("upgrade: websocket")
            );
            client.write_all(b"frames").await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "");
        };
        let both = async { tokio::join!(asking, serve_stream(server, 200)).1 };
        tokio::select! {
            said = both => assert_eq!(said, ("websocket".to_owned(), "frames".to_owned())),
            end = between => panic!("{end:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_whose_stream_is_refused_gets_that_answer() {
    local(async {
        let (mut client, server, between) = joined(Version::Http1, Version::Http2).await;
        let asking = async {
            client.write_all(ASKED.as_bytes()).await.unwrap();
            // To the end of its body.
            heard(&mut client, "hello\r\n0\r\n\r\n").await
        };
        let both = async { tokio::join!(asking, serve_stream(server, 403)).0 };
        tokio::select! {
            heard = both => assert!(heard.starts_with("HTTP/1.1 403 "), "{heard}"),
            end = between => panic!("{end:?}"),
        }
    })
    .await;
}
