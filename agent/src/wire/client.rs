//! The source's side of a mesh connection.

use std::time::{Duration, SystemTime};

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weft_proto::names::{Identity, WorkloadUid};

use super::held::Held;
use super::message::{Preamble, ReadFailure, Status, read_message, write_message};
use crate::error::{ConnectionError, Reason, Side};
use crate::identity::Credential;
use crate::node::socket::OverTcp;
use crate::tls::{self, ALPN, Turn};

pub type ClientTls = tokio_rustls::client::TlsStream<Held<TcpStream>>;

impl OverTcp for Box<ClientTls> {
    fn reset_on_close(&self) {
        OverTcp::reset_on_close(&**self.get_ref().0);
    }

    fn acknowledge_within(&self, limit: Option<Duration>) {
        self.get_ref().0.acknowledge_within(limit);
    }
}

/// A handshake that failed.
#[derive(Debug)]
pub struct Failure {
    pub error: ConnectionError,
    /// It was the expected peer, which has proven that, and its certificate has ended.
    pub peer_has_ended: bool,
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self { error, peer_has_ended: false }
    }
}

/// Proves this workload's identity to the destination's agent and demands the proof of `expected` from it.
///
/// Unbounded in time (the caller's `limits::PEER_ATTEMPT`). `peer_agent_down` when no mesh agent answers there. The last
/// flight leaves together with the preamble (`ask`), so the destination has not finished before that.
pub async fn handshake(
    stream: TcpStream,
    credential: &Credential,
    expected: &Identity,
    destination: &WorkloadUid,
) -> Result<ClientTls, Failure> {
    handshake_at(stream, credential, expected, destination, SystemTime::now()).await
}

/// As `handshake`, by the clock `now`.
pub(super) async fn handshake_at(
    stream: TcpStream,
    credential: &Credential,
    expected: &Identity,
    destination: &WorkloadUid,
    now: SystemTime,
) -> Result<ClientTls, Failure> {
    credential.check_time(now)?;
    let name = tls::server_name(destination);
    let turn = match &credential.sessions {
        Some(sessions) => sessions.turn(&name).await,
        None => Turn::Unbounded,
    };
    let connector = TlsConnector::from(std::sync::Arc::clone(&credential.client));
    // On the heap, so that the journey's task does not carry the handshake's state for its whole life.
    let connecting = Box::pin(
        connector
            .connect_with(name.clone(), Held::new(stream), |connection| {
                connection.set_buffer_limit(Some(crate::limits::TLS_BUFFER));
            })
            .into_fallible(),
    );
    let mut stream = match connecting.await {
        Ok(stream) => stream,
        Err((error, mut stream)) => {
            // The alert, where there is one.
            stream.send_rest().await;
            return Err(tls::client_failure(&error).into());
        }
    };
    if let Err(failure) = check_peer(&stream, credential, expected, now) {
        stream.get_mut().0.send_rest().await;
        return Err(failure);
    }
    drop(turn);
    if let Some(sessions) = &credential.sessions
        && !resumed(&stream)
    {
        sessions.expect_ticket(&name);
    }
    Ok(stream)
}

fn check_peer(
    stream: &ClientTls,
    credential: &Credential,
    expected: &Identity,
    now: SystemTime,
) -> Result<(), Failure> {
    let (_, connection) = stream.get_ref();
    if connection.alpn_protocol() != Some(ALPN) {
        let error = ConnectionError::new(Side::Upstream, Reason::PeerAgentDown)
            .with_detail("a TLS server that is no mesh agent answers there");
        return Err(error.into());
    }
    let (chain, domains) = (connection.peer_certificates(), &credential.domains);
    let wanted = domains.canonical(expected.clone());
    let proved = tls::identity_of(chain, domains, now).map_err(|rejection| {
        let ended = tls::ended_identity_of(chain, domains, now);
        Failure { error: tls::rejected(Side::Upstream, &rejection), peer_has_ended: ended.is_some() && ended == wanted }
    })?;
    if wanted.as_ref() != Some(&proved) {
        let error = ConnectionError::new(Side::Upstream, Reason::IdentityMismatch)
            .with_detail(format!("expected {expected}, the peer proved {proved}"));
        return Err(error.into());
    }
    Ok(())
}

/// Whether the handshake was a short one.
#[must_use]
pub fn resumed(stream: &ClientTls) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// Sends the preamble and waits for its one answer. Unbounded in time (the caller's `limits::STATUS_TIMEOUT`).
///
/// A refusal is an answer (`Status::into_error`); an error says that there was none. TLS 1.3 lets the client finish first,
/// so the destination's verdict on this workload's certificate arrives here.
pub async fn ask(stream: &mut ClientTls, preamble: &Preamble) -> Result<Status, ConnectionError> {
    stream.get_mut().0.let_go();
    let written = write_message(stream, &preamble.encode()).await;
    // A peer that refuses may close before it has read: its alert says more than the failed write, so it is read first.
    match read_message(stream).await {
        Ok(message) => Status::decode(&message),
        Err(ReadFailure::Absent) => Err(ConnectionError::new(Side::Upstream, Reason::PeerAgentDown)
            .with_detail("the destination's agent ended the connection instead of answering")),
        Err(ReadFailure::Truncated) => Err(bad_status("the status is cut short")),
        Err(ReadFailure::TooLong(length)) => Err(bad_status(&format!("the status claims {length} bytes"))),
        Err(ReadFailure::Stream(error)) => {
            let said_by_tls = error.get_ref().is_some();
            Err(tls::client_failure(&written.err().filter(|_| !said_by_tls).unwrap_or(error)))
        }
    }
}

fn bad_status(what: &str) -> ConnectionError {
    ConnectionError::new(Side::Upstream, Reason::BadPreamble).with_detail(what)
}
