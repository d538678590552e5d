//! What each side of an agent sees of a message of HTTP/1, byte by byte.

use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Body, Peer, Pipe, Served, Version, hear, joined, local, reset, rest, serve};

/// What a client says, how that arrives, what the server answers, and how that arrives.
type Row = (&'static str, &'static str, &'static str, &'static str);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// As many bytes as this text has characters, each of which is one.
async fn as_long_as(text: &str, stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; text.chars().count()];
    let read = timeout(Duration::from_secs(20), stream.read_exact(&mut bytes)).await;
    let text = bytes.into_iter().map(char::from).collect();
    if let Ok(Ok(_)) = read { text } else { format!("too little: {text}") }
}

/// Serving does not end before the asking does.
fn while_served<'a>(
    serving: impl Future<Output = Served> + 'a,
    asking: impl Future<Output = ()> + 'a,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        tokio::select! {
            () = asking => {}
            end = serving => panic!("{end:?}"),
        }
    })
}

/// Carries a request, and the same one again where both connections go on: nothing may stand between the two.
async fn carried((asked, arrives, answered, comes): Row) {
    let last = [answered, comes].iter().any(|said| said.contains("HTTP/1.0") || said.contains("no answer"));
    local(async {
        let (mut client, mut server, between) = joined().await;
        let asking = async {
            for _ in 0..if last { 1 } else { 2 } {
                client.write_all(asked.as_bytes()).await.unwrap();
                assert_eq!(as_long_as(arrives, &mut server).await, arrives, "{asked:?}");
                server.write_all(answered.as_bytes()).await.unwrap();
                assert_eq!(as_long_as(comes, &mut client).await, comes, "{answered:?}");
            }
        };
        let serving = async {
            between.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = asking => {}
            () = serving => {}
        }
    })
    .await;
}

#[tokio::test]
async fn messages_arrive_as_they_were_written() {
    let rows: [Row; 11] = [
        // The case of names, repeated fields, other bytes and the server's own words for a status.
        (
            "GET /x?y HTTP/1.1\r\nhOST: a\r\nX-One: 1\r\nx-two: \u{e4}\r\nX-oNE: 2\r\n\r\n",
            "GET /x?y HTTP/1.1\r\nhOST: a\r\nX-One: 1\r\nX-oNE: 2\r\nx-two: \u{c3}\u{a4}\r\n\r\n",
            "HTTP/1.1 200 Fine\r\nX-A: b\r\nContent-LENGTH: 2\r\n\r\nok",
            "HTTP/1.1 200 Fine\r\nX-A: b\r\nContent-LENGTH: 2\r\n\r\nok",
        ),
        // Empty lines before a request belong to nothing, and a status needs no words.
        (
            "\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
            "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n",
        ),
        // Chunks and trailers.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;x\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\nHost: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n",
        ),
        // What is said before the answer goes on, but for what would speak of a body or of the connection.
        (
            GET,
            GET,
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: y\r\nContent-Length: 9\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: y\r\n\r\n\
             HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok",
        ),
        // Answers without a body, whatever they say of one.
        (
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        ),
        (
            GET,
            GET,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        ),
        (GET, GET, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
        // An application may be sloppy; its client gets what everybody reads alike.
        (
            GET,
            GET,
            "HTTP/1.1 200 OK\nContent-Length: 9\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        // HTTP/1.0 knows no chunks, and keeps its connection only when both say so.
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nconnection: keep-alive\r\n\r\nok",
        ),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nok",
        ),
    ];
    for row in rows {
        carried(row).await;
    }
}

#[tokio::test]
async fn what_comes_byte_by_byte_is_the_same_request() {
    // One byte has room on the way: the next one comes when it has been read.
    let (mut client, downstream) = duplex(1);
    let said = "\r\n\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n0\r\nX: 1\r\n\r\n";
    let answer = |request: Request<Body>| async move {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collected(100).await.unwrap();
        Response::new(Body::whole(format!("{path} {}", String::from_utf8_lossy(&body))))
    };
    let tasks = TaskTracker::new();
    let serving = serve(Version::Http1, Peer::Stranger, Pipe(downstream), &tasks, std::future::pending(), answer);
    let asking = async {
        for _ in 0..2 {
            client.write_all(said.as_bytes()).await.unwrap();
            let mut answer = vec![0; "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n/a hi".len()];
            client.read_exact(&mut answer).await.unwrap();
            assert!(answer.ends_with(b"/a hi"));
        }
    };
    while_served(local(serving), asking).await;
}

#[tokio::test]
async fn a_reset_is_no_end_of_an_answer_without_a_length_while_its_request_leaves() {
    local(async {
        let (mut client, mut server, between) = joined().await;
        let asking = async {
            client
                .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
                .await
                .unwrap();
            hear(&mut server, "1\r\na\r\n").await;
            server.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
            hear(&mut client, "half").await;
            reset(server);
            while client.write_all(b"1\r\na\r\n").await.is_ok() {
                tokio::task::yield_now().await;
            }
            rest(&mut client).await
        };
        let (end, outcome) = tokio::join!(asking, between);
        // Writing may have been told of the reset, and then reading is not.
        assert!(!end.as_ref().is_ok_and(|rest| rest.contains("0\r\n\r\n")), "{end:?}");
        assert!(matches!(outcome, Served::Truncated(_) | Served::Failed(_)), "{outcome:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    local(async {
        let (mut client, mut server, between) = joined().await;
        let asking = async {
            client
                .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
                .await
                .unwrap();
            hear(&mut server, "100-continue\r\n\r\n").await;
            // The server decides, and says so once.
            server.write_all(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2)).await.unwrap();
            hear(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
            client.write_all(b"body").await.unwrap();
            hear(&mut server, "body").await;
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            let answer = hear(&mut client, "\r\n\r\nok").await;
            assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("close"), "{answer}");
        };
        while_served(between, asking).await;
    })
    .await;
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_order_on_one_connection() {
    local(async {
        let (mut client, mut server, between) = joined().await;
        let asking = async {
            client
                .write_all([GET, "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"].concat().as_bytes())
                .await
                .unwrap();
            assert_eq!(hear(&mut server, "\r\n\r\n").await, GET);
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst").await.unwrap();
            hear(&mut server, "\r\n\r\nx").await;
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond").await.unwrap();
            assert!(hear(&mut client, "second").await.contains("first"));
        };
        while_served(between, asking).await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_flows_while_its_request_still_does() {
    local(async {
        let (mut client, mut server, between) = joined().await;
        let asking = async {
            client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\none").await.unwrap();
            hear(&mut server, "one").await;
            server.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await.unwrap();
            hear(&mut client, "1\r\na\r\n").await;
            client.write_all(b"two").await.unwrap();
            hear(&mut server, "two").await;
            server.write_all(b"1\r\nb\r\n0\r\n\r\n").await.unwrap();
            hear(&mut client, "1\r\nb\r\n0\r\n\r\n").await;
            // Both connections go on.
            client.write_all(GET.as_bytes()).await.unwrap();
            assert_eq!(hear(&mut server, "\r\n\r\n").await, GET);
        };
        while_served(between, asking).await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_does_not_wait_for_its_request_arrives_whole() {
    local(async {
        let (mut client, mut server, between) = joined().await;
        let asking = async {
            client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhalf").await.unwrap();
            hear(&mut server, "half").await;
            server.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            drop(server);
            let _ = client.write_all(b"more").await;
            let answer = hear(&mut client, "\r\n\r\nno").await;
            (answer, rest(&mut client).await)
        };
        let ((answer, left), _) = tokio::join!(asking, between);
        assert!(answer.starts_with("HTTP/1.1 413") && left.as_deref() == Ok(""), "{answer:?} {left:?}");
    })
    .await;
}

#[tokio::test]
async fn answers_that_could_be_read_in_two_ways_go_no_further() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ];
    for answered in answers {
        carried((GET, GET, answered, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nno answer")).await;
    }
}
