//! The destination's side of a mesh connection.

use std::time::{Duration, SystemTime};

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use weft_proto::names::Identity;

use super::held::Held;
use super::message::{Preamble, ReadFailure, Status, read_message, write_message};
use super::prefixed::Prefixed;
use crate::error::{ConnectionError, Reason, Side};
use crate::identity::Credential;
use crate::node::socket::OverTcp;
use crate::tls::{self, ALPN};

pub type ServerTls = tokio_rustls::server::TlsStream<Held<Prefixed<TcpStream>>>;

impl OverTcp for Box<ServerTls> {
    fn reset_on_close(&self) {
        OverTcp::reset_on_close(&**self.get_ref().0);
    }

    fn acknowledge_within(&self, limit: Option<Duration>) {
        self.get_ref().0.acknowledge_within(limit);
    }
}

/// Proves this workload's identity to the source's agent and learns the source's. A certificate that has ended is shown as
/// well: it is the source that judges it, and knows by it what is wrong.
///
/// Unbounded in time (the caller's `limits::INBOUND_HANDSHAKE`). A source that is refused after the handshake is told so by
/// a status.
pub async fn handshake(
    stream: Prefixed<TcpStream>,
    credential: &Credential,
) -> Result<(ServerTls, Identity), ConnectionError> {
    handshake_at(stream, credential, SystemTime::now()).await
}

/// As `handshake`, by the clock `now`.
pub(super) async fn handshake_at(
    stream: Prefixed<TcpStream>,
    credential: &Credential,
    now: SystemTime,
) -> Result<(ServerTls, Identity), ConnectionError> {
    let acceptor = TlsAcceptor::from(std::sync::Arc::clone(&credential.server));
    // On the heap, so that the journey's task does not carry the handshake's state for its whole life.
    let accepting = Box::pin(
        acceptor
            .accept_with(Held::new(stream), |connection| {
                connection.set_buffer_limit(Some(crate::limits::TLS_BUFFER));
            })
            .into_fallible(),
    );
    let mut stream = match accepting.await {
        Ok(stream) => stream,
        Err((error, mut stream)) => {
            // The alert, where there is one.
            stream.send_rest().await;
            return Err(tls::server_failure(&error));
        }
    };
    match check_peer(&stream, credential, now) {
        Ok(identity) => Ok((stream, identity)),
        Err(error) => {
            // The peer learns the cause if it can; this connection is over either way.
            let _ = send_status(&mut stream, &Status::refusal(&error)).await;
            Err(error)
        }
    }
}

fn check_peer(stream: &ServerTls, credential: &Credential, now: SystemTime) -> Result<Identity, ConnectionError> {
    let (_, connection) = stream.get_ref();
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(ConnectionError::new(Side::Downstream, Reason::HandshakeFailed)
            .with_detail("the source did not offer the mesh's protocol"));
    }
    tls::identity_of(connection.peer_certificates(), &credential.domains, now)
        .map_err(|rejection| tls::rejected(Side::Downstream, &rejection))
}

/// Whether the handshake was a short one.
#[must_use]
pub fn resumed(stream: &ServerTls) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// Reads the source's first message. Unbounded in time (part of the caller's `limits::INBOUND_HANDSHAKE`).
///
/// `bad_preamble` or `unsupported`; to be answered by `Status::refusal`.
pub async fn read_preamble(stream: &mut ServerTls) -> Result<Preamble, ConnectionError> {
    let bad = |what: String| Err(ConnectionError::new(Side::Downstream, Reason::BadPreamble).with_detail(what));
    match read_message(stream).await {
        Ok(message) => Preamble::decode(&message),
        Err(ReadFailure::Absent) => Err(ConnectionError::new(Side::Downstream, Reason::DownstreamReset)
            .with_detail("the source left before its preamble")),
        Err(ReadFailure::Truncated) => bad("the preamble is cut short".to_owned()),
        Err(ReadFailure::TooLong(length)) => bad(format!("the preamble claims {length} bytes")),
        Err(ReadFailure::Stream(error)) => Err(tls::server_failure(&error)),
    }
}

/// Sends the one answer, together with the tickets that the handshake has left.
pub async fn send_status(stream: &mut ServerTls, status: &Status) -> Result<(), ConnectionError> {
    stream.get_mut().0.let_go();
    write_message(stream, &status.encode()).await.map_err(|error| tls::server_failure(&error))
}
