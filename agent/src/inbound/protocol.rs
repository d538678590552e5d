//! What a connection brings: requests, or other bytes.
//!
//! A server that greets waits for nobody: what it says first is no answer to a request. Invariant: every byte that was read
//! is replayed.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::Version;
use crate::http::detect::{self, Expected, Speech};
use crate::limits;
use crate::node::pod::Pod;
use crate::relay::FirstByte;
use crate::wire::server::ServerTls;
use crate::wire::{FirstBytes, Protocol};
use crate::worker::Worker;

pub enum Brought {
    Requests(Version),
    /// What the relay still has to do with the first byte.
    Other(FirstByte),
    /// The client has ended without a word.
    Nothing,
}

/// What a peer's agent says that comes. `greeter`: an application that may speak first; HTTP/2 servers do so too, which
/// tells nothing.
pub async fn from_peer(
    worker: &Worker,
    pod: &Pod,
    protocol: Protocol,
    downstream: &mut ServerTls,
    greeter: Option<&TcpStream>,
) -> Result<Brought, ConnectionError> {
    let said = match protocol {
        Protocol::Undeclared => {
            let mut tag = [0];
            tokio::select! {
                biased;
                read = downstream.read(&mut tag) => match read {
                    // What an application answers to silence is an answer too, where it may greet.
                    Ok(0) if greeter.is_some() => return Ok(Brought::Other(FirstByte::AsIs)),
                    Ok(0) => return Ok(Brought::Nothing),
                    Ok(_) => Protocol::of_tag(tag[0]),
                    Err(error) => {
                        return Err(ConnectionError::new(Side::Downstream, Reason::DownstreamReset)
                            .with_detail(error.to_string()));
                    }
                },
                () = greeting(greeter) => return Ok(Brought::Other(FirstByte::TakeTag)),
                () = sleep(limits::IDLE_TIMEOUT) => {
                    return Err(ConnectionError::new(Side::Local, Reason::IdleTimeout));
                }
                reason = worker.cut(pod) => return Err(ConnectionError::new(Side::Local, reason)),
            }
        }
        declared @ (Protocol::Opaque | Protocol::Http1 | Protocol::Http2) => Some(declared),
    };
    match said {
        Some(Protocol::Http1) => Ok(Brought::Requests(Version::Http1)),
        Some(Protocol::Http2) => Ok(Brought::Requests(Version::Http2)),
        Some(Protocol::Opaque) => Ok(Brought::Other(FirstByte::AsIs)),
        Some(Protocol::Undeclared) | None => Err(ConnectionError::new(Side::Downstream, Reason::BadPreamble)
            .with_detail("the peer's agent does not say what it brings")),
    }
}

/// What a client says without one. `application` is there when it was dialled already.
pub async fn from_client(
    worker: &Worker,
    pod: &Pod,
    (first, downstream): (&mut FirstBytes, &TcpStream),
    expected: Expected,
    application: Option<&TcpStream>,
) -> Result<Brought, ConnectionError> {
    tokio::select! {
        biased;
        speech = detect::client_speech(first, downstream, expected) => Ok(match speech? {
            Speech::Http(version) => Brought::Requests(version),
            Speech::Other if first.seen().is_empty() && application.is_none() => Brought::Nothing,
            Speech::Other => Brought::Other(FirstByte::AsIs),
        }),
        () = greeting(application) => Ok(Brought::Other(FirstByte::AsIs)),
        () = sleep(limits::IDLE_TIMEOUT) => Err(ConnectionError::new(Side::Local, Reason::IdleTimeout)),
        reason = worker.cut(pod) => Err(ConnectionError::new(Side::Local, reason)),
    }
}

/// Also ready when the application has ended already; the relay finds out.
async fn greeting(application: Option<&TcpStream>) {
    match application {
        Some(application) => drop(application.readable().await),
        None => std::future::pending().await,
    }
}
