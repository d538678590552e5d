//! Who speaks first on a connection, and what.
//!
//! Where HTTP is declared the client's first bytes are awaited: it speaks first in every HTTP. Elsewhere the upstream was
//! dialled already and whichever side speaks first decides, so a server that greets waits for nobody. Invariant: every byte
//! that was read is replayed.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::Version;
use crate::http::detect::{Expected, Speech, client_speech};
use crate::limits;
use crate::node::pod::Pod;
use crate::wire::FirstBytes;
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

/// The first word of either side.
pub struct Said {
    pub speech: Speech,
    /// What the client said.
    pub client: Vec<u8>,
    /// What the server greeted with.
    pub greeting: Vec<u8>,
}

impl Said {
    /// Nobody was asked: what is carried is declared.
    pub const fn nothing() -> Self {
        Self { speech: Speech::Other, client: Vec::new(), greeting: Vec::new() }
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
    let mut greeting = [0; limits::GREETING_FIRST];
    tokio::select! {
        biased;
        speech = client_speech(&mut first, downstream, Expected::Anything) => {
            Ok(Said { speech: speech?, client: first.take(), greeting: Vec::new() })
        }
        greeted = read_greeting(upstream, &mut greeting) => {
            let count = greeted.map_err(|error| {
                ConnectionError::upstream_reset(&error)
            })?;
            Ok(Said { speech: Speech::Other, client: first.take(), greeting: greeting[..count].to_vec() })
        }
        () = tokio::time::sleep(limits::IDLE_TIMEOUT) => Err(ConnectionError::new(Side::Local, Reason::IdleTimeout)),
        reason = worker.cut(pod) => Err(ConnectionError::new(Side::Local, reason)),
    }
}

/// Zero bytes: it has ended its sending.
async fn read_greeting(upstream: &mut Upstream, greeting: &mut [u8]) -> std::io::Result<usize> {
    match upstream {
        Upstream::Plaintext(stream) => stream.read(greeting).await,
        Upstream::Mesh(stream, _) => stream.read(greeting).await,
    }
}
