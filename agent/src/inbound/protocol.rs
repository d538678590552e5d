//! What a connection brings: requests, or other bytes.
//!
//! A server that greets waits for nobody: what it says first is no answer to a request, unless it is of HTTP/2. Invariant: every byte that was read
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

/// What a peer's agent says that comes. `greeter`: an application that may speak first.
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

/// What a client says without one.
pub async fn from_client(
    worker: &Worker,
    pod: &Pod,
    (first, downstream): (&mut FirstBytes, &TcpStream),
    expected: Expected,
    greeter: Option<&TcpStream>,
) -> Result<Brought, ConnectionError> {
    tokio::select! {
        biased;
        speech = detect::client_speech(first, downstream, expected) => Ok(match speech? {
            Speech::Http(version) => Brought::Requests(version),
            Speech::Other if first.seen().is_empty() && greeter.is_none() => Brought::Nothing,
            Speech::Other => Brought::Other(FirstByte::AsIs),
        }),
        () = greeting(greeter) => Ok(Brought::Other(FirstByte::AsIs)),
        () = sleep(limits::IDLE_TIMEOUT) => Err(ConnectionError::new(Side::Local, Reason::IdleTimeout)),
        reason = worker.cut(pod) => Err(ConnectionError::new(Side::Local, reason)),
    }
}

/// Also ready when the application has ended already; the relay finds out. What an HTTP/2 server greets with says nothing of
/// its client, which is given time to speak.
async fn greeting(application: Option<&TcpStream>) {
    let Some(application) = application else { return std::future::pending().await };
    let mut first = [0; detect::SETTINGS_HEAD];
    let greeted = application.peek(&mut first).await;
    if greeted.is_ok_and(|count| detect::may_be_settings(&first[..count])) {
        sleep(limits::SETTINGS_HOLD).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn settings_give_a_client_time_and_other_greetings_none() {
        for (said, expected) in
            [(&b"\0\0\0\x04\0\0\0\0\0"[..], limits::SETTINGS_HOLD), (b"220 mail\r\n", Duration::ZERO)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            listener.accept().await.unwrap().0.write_all(said).await.unwrap();
            dialled.readable().await.unwrap();
            let began = Instant::now();
            greeting(Some(&dialled)).await;
            assert!((expected..expected + Duration::from_secs(1)).contains(&began.elapsed()), "{said:?}");
        }
    }
}
