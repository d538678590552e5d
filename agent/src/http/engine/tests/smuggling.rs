//! Bytes that two servers could cut into requests in two ways: here there is one, and the next hop gets just that.
//!
//! Each row goes through both sides of the engine, as it goes through an agent: what arrives is read to its canonical form,
//! and what is forwarded is read again by another server.

use std::cell::RefCell;
use std::rc::Rc;

use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{Body, Peer, Version, open, serve};
use crate::http::canonical::{canonical, strip_hop_by_hop};

/// Method, path and body.
type Seen = (Method, String, String);
/// Requests as a server behind the agent sees them.
type Log = Rc<RefCell<Vec<Seen>>>;

const MAXIMUM: usize = 1 << 16;

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (outside, listener.accept().await.unwrap().0)
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Reads the whole body before it writes down what came.
async fn write_down(log: Log, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collected(MAXIMUM).await else { return status(StatusCode::BAD_REQUEST) };
    let body = String::from_utf8_lossy(&body).into_owned();
    log.borrow_mut().push((head.method, head.uri.path().to_owned(), body));
    status(StatusCode::OK)
}

/// What an agent does with a request: it judges the canonical form and forwards that.
async fn forward(log: Log, request: Request<Body>) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let Ok(judged) = canonical(&head) else { return status(StatusCode::BAD_REQUEST) };
    strip_hop_by_hop(&mut head.headers);
    judged.write(&mut head, http::Version::HTTP_11).unwrap();
    let (near, far) = connection().await;
    let tasks = TaskTracker::new();
    let mut line = open(Version::Http1, near, &tasks, CancellationToken::new()).await.unwrap();
    let others = TaskTracker::new();
    tasks.spawn_local(async move {
        let answer = |request| write_down(Rc::clone(&log), request);
        serve(Version::Http1, Peer::Stranger, far, &others, std::future::pending(), answer).await;
    });
    let answered = line.send(Request::from_parts(head, body)).await;
    answered.map_or_else(|_| status(StatusCode::BAD_REQUEST), |answer| status(answer.status()))
}

/// The requests that come of these bytes, and the statuses that the client gets.
async fn through(bytes: &[u8]) -> (Vec<Seen>, Vec<String>) {
    let log = Log::default();
    let (mut client, downstream) = connection().await;
    let tasks = TaskTracker::new();
    let answer = |request| forward(Rc::clone(&log), request);
    let agent = Box::pin(serve(Version::Http1, Peer::Stranger, downstream, &tasks, std::future::pending(), answer));
    let client = async move {
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        String::from_utf8_lossy(&answers).into_owned()
    };
    let (_, answers) = LocalSet::new().run_until(async { tokio::join!(agent, client) }).await;
    let statuses = answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect();
    let seen = log.borrow().clone();
    (seen, statuses)
}

#[tokio::test]
async fn bytes_that_could_be_cut_in_two_ways_are_cut_in_one() {
    // The bytes after "POST /a HTTP/1.1, Host: web", the body that arrives with it if it does, and the statuses.
    let rows: [(&str, Option<&str>, &[&str]); 17] = [
        ("Content-Length: 2\r\n\r\nhi", Some("hi"), &["200"]),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", Some("hi"), &["200"]),
        // One length counts, and nothing that follows the body is a request.
        ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n", Some(""), &["200"]),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n", Some(""), &["200"]),
        ("Transfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n2\r\nhi\r\n0\r\n\r\n", Some("hi"), &["200"]),
        ("Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", Some("hi"), &["200"]),
        ("Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", None, &["400"]),
        ("Content-Length: 2, 2\r\n\r\nhi", None, &["400"]),
        ("Content-Length: +2\r\n\r\nhi", None, &["400"]),
        ("Content-Length : 2\r\n\r\nhi", None, &["400"]),
        ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", None, &["400"]),
        ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", None, &["400"]),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", None, &["400"]),
        ("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", None, &["400"]),
        ("X-A: \0\r\n\r\n", None, &["400"]),
        // A bare LF ends a line, and is forwarded as what everybody takes for one.
        ("X-A: 1\nContent-Length: 2\r\n\r\nhi", Some("hi"), &["200"]),
        ("Transfer-Encoding: chunked\r\n\r\n2;\nhi\r\n0\r\n\r\n", None, &["400"]),
    ];
    for (rest, body, expected) in rows {
        let (seen, statuses) = through(format!("POST /a HTTP/1.1\r\nHost: web\r\n{rest}").as_bytes()).await;
        let arrived: Vec<Seen> =
            body.map(|body| (Method::POST, "/a".to_owned(), body.to_owned())).into_iter().collect();
        assert_eq!((seen, statuses), (arrived, expected.iter().map(ToString::to_string).collect()), "{rest:?}");
    }
}

#[tokio::test]
async fn requests_that_follow_each_other_are_judged_one_by_one() {
    let two = "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhiGET /x/../b HTTP/1.1\r\nHost: web\r\n\r\n";
    let (seen, statuses) = through(two.as_bytes()).await;
    let paths: Vec<&str> = seen.iter().map(|(_, path, _)| path.as_str()).collect();
    assert_eq!((paths, statuses), (vec!["/a", "/b"], vec!["200".to_owned(), "200".to_owned()]));
}
