//! Who speaks first on a connection, and what.
//!
//! Where HTTP is declared the client's first bytes are awaited: it speaks first in every HTTP. Elsewhere the upstream was
//! dialled already and whichever side speaks first decides, so a server that greets waits for nobody; but for what HTTP/2
//! servers greet with, which may come before a client's first bytes and says nothing of them. Where routes go by the name in the
//! client's TLS, that is awaited. Invariant: every byte that was
//! read is replayed.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::Version;
use crate::http::detect::{self, Expected, Speech, client_speech};
use crate::limits;
use crate::node::pod::Pod;
use crate::wire::{self, FirstBytes, Greeting};
use crate::worker::Worker;

use super::dial::Upstream;

/// The version of HTTP that the client of a declared port speaks.
pub async fn declared_http(
    worker: &Worker,
    pod: &Pod,
    downstream: &TcpStream,
) -> Result<Option<(Version, Vec<u8>)>, ConnectionError> {
    let mut first = FirstBytes::default();
    let said = client_speech(&mut first, downstream, Expected::Requests);
    let speech = tokio::select! {
        speech = timeout(limits::IDLE_TIMEOUT, said) => {
            speech.map_err(|_| ConnectionError::new(Side::Local, Reason::IdleTimeout))??
        }
        reason = worker.cut(pod) => return Err(ConnectionError::new(Side::Local, reason)),
    };
    match speech {
        Speech::Http(version) => Ok(Some((version, first.take()))),
        // It has ended without a word: nothing was refused.
        Speech::Other if first.seen().is_empty() => Ok(None),
        Speech::Other => Err(ConnectionError::new(Side::Downstream, Reason::ProtocolRefused)
            .with_detail("the client's first bytes are no HTTP, and the port is declared to be HTTP")),
    }
}

/// The server that the client's TLS asks for, by its name in lower case, and all that was read to know it. None: the client has
/// ended without a word.
pub async fn server_name(
    worker: &Worker,
    pod: &Pod,
    downstream: &TcpStream,
) -> Result<Option<(String, Vec<u8>)>, ConnectionError> {
    let mut first = FirstBytes::up_to(limits::CLIENT_HELLO_MAXIMUM);
    let refused = |reason, why: &str| {
        let detail = format!("{why}, and the routes of the port go by the name of the server in it");
        ConnectionError::new(Side::Downstream, reason).with_detail(detail)
    };
    let greeting = tokio::select! {
        greeting = timeout(limits::CLIENT_HELLO, greeted(&mut first, downstream)) => greeting,
        reason = worker.cut(pod) => return Err(ConnectionError::new(Side::Local, reason)),
    };
    match greeting
        .map_err(|_| refused(Reason::TooSlow, "the client did not begin with a whole ClientHello in time"))??
    {
        Greeting::To(name) => Ok(Some((name, first.take()))),
        // It has ended without a word: nothing was refused.
        Greeting::Undecided if first.seen().is_empty() => Ok(None),
        Greeting::Nameless => Err(refused(Reason::NoRoute, "the client's TLS names no server")),
        Greeting::NotTls | Greeting::Undecided => {
            Err(refused(Reason::ProtocolRefused, "the client's first bytes are no TLS"))
        }
    }
}

/// Undecided where the client has ended before it said enough. Cancel-safe.
async fn greeted(first: &mut FirstBytes, downstream: &TcpStream) -> Result<Greeting, ConnectionError> {
    let mut greeting = Greeting::Undecided;
    while greeting == Greeting::Undecided && first.more(downstream).await? {
        greeting = wire::greeting(first.seen());
    }
    Ok(greeting)
}

/// The first word of either side.
pub struct Said {
    pub speech: Speech,
    /// What the client said.
    pub client: Vec<u8>,
    /// What the server greeted with.
    pub greeting: Vec<u8>,
}

impl Said {
    /// Nobody was asked: what is carried is declared, or a route's, for which the client's first bytes were read.
    pub const fn opaque(client: Vec<u8>) -> Self {
        Self { speech: Speech::Other, client, greeting: Vec::new() }
    }
}

/// Waits for the first word of either side. Small, and without memory of its own until somebody speaks: connections may
/// rest here for long.
pub async fn first(
    worker: &Worker,
    pod: &Pod,
    downstream: &TcpStream,
    upstream: &mut Upstream,
) -> Result<Said, ConnectionError> {
    let mut first = FirstBytes::default();
    let spoken = tokio::select! {
        biased;
        spoken = spoken(&mut first, downstream, upstream) => spoken,
        () = tokio::time::sleep(limits::IDLE_TIMEOUT) => Err(ConnectionError::new(Side::Local, Reason::IdleTimeout)),
        reason = worker.cut(pod) => Err(ConnectionError::new(Side::Local, reason)),
    };
    spoken.map(|(speech, greeting)| Said { speech, client: first.take(), greeting })
}

/// What is spoken, and what the server greeted with.
async fn spoken(
    first: &mut FirstBytes,
    downstream: &TcpStream,
    upstream: &mut Upstream,
) -> Result<(Speech, Vec<u8>), ConnectionError> {
    let mut greeting = [0; limits::GREETING_FIRST];
    let greeted = tokio::select! {
        biased;
        speech = client_speech(first, downstream, Expected::Anything) => return Ok((speech?, Vec::new())),
        greeted = read_greeting(upstream, &mut greeting) => greeted,
    };
    let count = greeted.map_err(|error| ConnectionError::upstream_reset(&error))?;
    let greeting = greeting[..count].to_vec();
    if !detect::may_be_settings(&greeting) {
        return Ok((Speech::Other, greeting));
    }
    let said = client_speech(first, downstream, Expected::Anything);
    let speech = match timeout(limits::SETTINGS_HOLD, said).await {
        Ok(speech) => speech?,
        Err(_) => Speech::Other,
    };
    // To whoever says something else it was no greeting of HTTP/2.
    let is_http2 = speech == Speech::Http(Version::Http2);
    Ok((if is_http2 { speech } else { Speech::Other }, greeting))
}

/// Zero bytes: it has ended its sending.
async fn read_greeting(upstream: &mut Upstream, greeting: &mut [u8]) -> std::io::Result<usize> {
    match upstream {
        Upstream::Plaintext(stream) => stream.read(greeting).await,
        Upstream::Mesh(stream, _) => stream.read(greeting).await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::wire::Prefixed;

    const SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d";
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (dialled, listener.accept().await.unwrap().0)
    }

    /// The server greets, and the client speaks when that has been read.
    async fn check(greeting: &[u8], client: &[u8], expected: Speech) {
        let (mut application, downstream) = connected().await;
        let (dialled, mut server) = connected().await;
        server.write_all(greeting).await.unwrap();
        dialled.readable().await.unwrap();
        let (mut first, mut upstream) =
            (FirstBytes::default(), Upstream::Plaintext(Prefixed::new(Vec::new(), dialled)));
        let (speech, greeted) = {
            let mut spoken = std::pin::pin!(spoken(&mut first, &downstream, &mut upstream));
            // Once, so that the greeting is there and no word of the client.
            if let Some(spoken) = polled_once(spoken.as_mut()).await {
                spoken.unwrap()
            } else {
                application.write_all(client).await.unwrap();
                spoken.await.unwrap()
            }
        };
        assert_eq!((speech, greeted.as_slice()), (expected, greeting), "{greeting:?} {client:?}");
        assert!(client.starts_with(first.seen()));
    }

    /// What it gives at its first poll.
    async fn polled_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|task| match future.as_mut().poll(task) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn settings_that_come_before_a_slow_client_are_no_greeting_of_another_protocol() {
        check(SETTINGS, PREFACE, Speech::Http(Version::Http2)).await;
        check(SETTINGS, b"GET / HTTP/1.1\r\n", Speech::Other).await;
        check(SETTINGS, b"\x01 bytes", Speech::Other).await;
        check(b"220 mail\r\n", PREFACE, Speech::Other).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_something_like_settings_gets_it() {
        let (_application, downstream) = connected().await;
        let (dialled, mut server) = connected().await;
        server.write_all(SETTINGS).await.unwrap();
        let (mut first, mut upstream) =
            (FirstBytes::default(), Upstream::Plaintext(Prefixed::new(Vec::new(), dialled)));
        let (speech, greeting) = spoken(&mut first, &downstream, &mut upstream).await.unwrap();
        assert_eq!((speech, greeting.as_slice()), (Speech::Other, SETTINGS));
    }
}
