//! The preamble and its answer, in validated types and in bytes.
//!
//! Invariant: a message is at most `limits::WIRE_MESSAGE_MAXIMUM` bytes, read exactly, so that no byte of the application
//! is taken with it. Names in a preamble are hints for telemetry: nothing is permitted because of them.

use std::io;
use std::sync::Arc;

use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use weft_proto::names::{NamespacedName, WorkloadUid};
use weft_proto::{FEATURES, PROTOCOL_VERSION, v1};

use crate::error::{ConnectionError, Reason, Side};
use crate::http::Version;
use crate::limits;

/// Names a connection in both agents' logs: printable ASCII, at most `limits::CONNECTION_NAME_MAXIMUM` characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionName(Arc<str>);

impl ConnectionName {
    /// Nothing when `name` is empty, too long, or could forge a log line.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty()
            && name.len() <= limits::CONNECTION_NAME_MAXIMUM
            && name.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(Arc::from(name)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Whoever speaks first decides; one tag byte precedes the source's first payload.
    Undeclared,
    Opaque,
    Http1,
    Http2,
}

impl Protocol {
    /// The byte that goes before the first payload where the protocol was undeclared (`wire.proto`). None: there is no such
    /// byte for it.
    #[must_use]
    pub const fn tag(self) -> Option<u8> {
        match self {
            Self::Undeclared => None,
            Self::Opaque => Some(0),
            Self::Http1 => Some(1),
            Self::Http2 => Some(2),
        }
    }

    #[must_use]
    pub const fn of_tag(tag: u8) -> Option<Self> {
        match tag {
            0 => Some(Self::Opaque),
            1 => Some(Self::Http1),
            2 => Some(Self::Http2),
            _ => None,
        }
    }
}

impl From<Version> for Protocol {
    fn from(version: Version) -> Self {
        match version {
            Version::Http1 => Self::Http1,
            Version::Http2 => Self::Http2,
        }
    }
}

/// The source agent's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preamble {
    pub source: Option<WorkloadUid>,
    pub service: Option<NamespacedName>,
    /// The port that the application asked for.
    pub port: u16,
    pub protocol: Protocol,
    pub connection: Option<ConnectionName>,
    /// Features that the receiver must have.
    pub requires: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Denied,
    AppRefused,
    Draining,
    Unsupported,
    Overloaded,
}

/// The destination agent's one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub outcome: Outcome,
    /// The peer's reason; nothing when it is OK or a word that this agent does not know.
    pub reason: Option<Reason>,
    /// `namespace/name[rule]` where a policy decided.
    pub rule: Option<String>,
}

impl Status {
    pub const OK: Self = Self { outcome: Outcome::Ok, reason: None, rule: None };

    /// How `error` is told to the source's agent: what it may hope from another endpoint, and the cause.
    #[must_use]
    pub fn refusal(error: &ConnectionError) -> Self {
        let outcome = match error.reason {
            Reason::UpstreamRefused
            | Reason::UpstreamTimeout
            | Reason::UpstreamUnreachable
            | Reason::UpstreamReset
            | Reason::NoEndpoint
            | Reason::UnknownWorkload
            | Reason::WorkloadGone => Outcome::AppRefused,
            Reason::Draining => Outcome::Draining,
            Reason::Unsupported | Reason::BadPreamble => Outcome::Unsupported,
            Reason::Overloaded | Reason::ResourceExhausted => Outcome::Overloaded,
            Reason::Completed
            | Reason::NoOriginalDestination
            | Reason::DownstreamReset
            | Reason::PeerAgentDown
            | Reason::HandshakeFailed
            | Reason::HandshakeTimeout
            | Reason::IdentityMismatch
            | Reason::CertificateExpired
            | Reason::CertificateUntrusted
            | Reason::CertificateMalformed
            | Reason::CertificateMissing
            | Reason::NoCertificate
            | Reason::PlaintextRefused
            | Reason::MeshTlsRequired
            | Reason::DeniedByRule
            | Reason::NoAllowMatched
            | Reason::NoClientRecord
            // Of requests, which no connection is refused for.
            | Reason::BadRequest
            | Reason::ProtocolRefused
            | Reason::NoRoute
            | Reason::BrokenRoute
            | Reason::Redirected
            | Reason::Preflight
            | Reason::RequestTimeout
            | Reason::RetryBudgetSpent
            | Reason::IdleTimeout
            | Reason::TooSlow
            | Reason::Flooded
            | Reason::HeadTooLong
            | Reason::TunnelRefused => Outcome::Denied,
        };
        Self { outcome, reason: Some(error.reason), rule: error.rule.clone() }
    }

    /// What a refusal means for the source's connection; nothing when it is OK.
    #[must_use]
    pub fn into_error(self) -> Option<ConnectionError> {
        let by_outcome = match self.outcome {
            Outcome::Ok => return None,
            Outcome::Denied => Reason::DeniedByRule,
            Outcome::AppRefused => Reason::UpstreamRefused,
            Outcome::Draining => Reason::Draining,
            Outcome::Unsupported => Reason::Unsupported,
            Outcome::Overloaded => Reason::Overloaded,
        };
        let mut error = ConnectionError::new(
            Side::Upstream,
            self.reason.filter(|said| *said != Reason::Completed).unwrap_or(by_outcome),
        )
        .with_detail("said by the destination's agent");
        error.rule = self.rule;
        Some(error)
    }

    pub(super) fn encode(&self) -> v1::Status {
        let outcome = match self.outcome {
            Outcome::Ok => v1::Outcome::Ok,
            Outcome::Denied => v1::Outcome::Denied,
            Outcome::AppRefused => v1::Outcome::AppRefused,
            Outcome::Draining => v1::Outcome::Draining,
            Outcome::Unsupported => v1::Outcome::Unsupported,
            Outcome::Overloaded => v1::Outcome::Overloaded,
        };
        v1::Status {
            outcome: outcome.into(),
            reason: self.reason.map_or_else(String::new, |reason| reason.code().to_owned()),
            rule: self.rule.clone().unwrap_or_default(),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ConnectionError> {
        let bad = |what: String| ConnectionError::new(Side::Upstream, Reason::BadPreamble).with_detail(what);
        let status = v1::Status::decode(bytes).map_err(|error| bad(format!("the status cannot be read: {error}")))?;
        let outcome = match v1::Outcome::try_from(status.outcome) {
            Ok(v1::Outcome::Ok) => Outcome::Ok,
            Ok(v1::Outcome::Denied) => Outcome::Denied,
            Ok(v1::Outcome::AppRefused) => Outcome::AppRefused,
            Ok(v1::Outcome::Draining) => Outcome::Draining,
            Ok(v1::Outcome::Unsupported) => Outcome::Unsupported,
            Ok(v1::Outcome::Overloaded) => Outcome::Overloaded,
            Ok(v1::Outcome::Unspecified) | Err(_) => {
                return Err(bad(format!("the status has the unknown outcome {}", status.outcome)));
            }
        };
        let rule = (!status.rule.is_empty()).then_some(status.rule);
        Ok(Self { outcome, reason: Reason::from_code(&status.reason), rule })
    }
}

impl Preamble {
    pub(super) fn encode(&self) -> v1::Preamble {
        let protocol = match self.protocol {
            Protocol::Undeclared => v1::ApplicationProtocol::Undeclared,
            Protocol::Opaque => v1::ApplicationProtocol::Opaque,
            Protocol::Http1 => v1::ApplicationProtocol::Http1,
            Protocol::Http2 => v1::ApplicationProtocol::Http2,
        };
        v1::Preamble {
            version: PROTOCOL_VERSION,
            source_workload: self.source.as_ref().map_or_else(String::new, ToString::to_string),
            service: self.service.as_ref().map_or_else(String::new, ToString::to_string),
            port: u32::from(self.port),
            protocol: protocol.into(),
            connection: self.connection.as_ref().map_or_else(String::new, |name| name.as_str().to_owned()),
            requires: self.requires.clone(),
        }
    }

    /// Reads and validates. `unsupported` when it asks for what this agent does not know, else `bad_preamble`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ConnectionError> {
        let preamble = v1::Preamble::decode(bytes).map_err(|error| bad(&format!("it cannot be read: {error}")))?;
        if preamble.version == 0 {
            return Err(bad("it names no version"));
        }
        if preamble.version > PROTOCOL_VERSION {
            return Err(unsupported(&format!("wire version {}", preamble.version)));
        }
        if let Some(feature) = preamble.requires.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
            return Err(unsupported(&format!("the feature {feature:?}")));
        }
        let protocol = match v1::ApplicationProtocol::try_from(preamble.protocol) {
            Ok(v1::ApplicationProtocol::Undeclared) => Protocol::Undeclared,
            Ok(v1::ApplicationProtocol::Opaque) => Protocol::Opaque,
            Ok(v1::ApplicationProtocol::Http1) => Protocol::Http1,
            Ok(v1::ApplicationProtocol::Http2) => Protocol::Http2,
            Ok(v1::ApplicationProtocol::Unspecified) => return Err(bad("it names no protocol")),
            Err(_) => return Err(unsupported(&format!("application protocol {}", preamble.protocol))),
        };
        Ok(Self {
            source: optional(&preamble.source_workload)?,
            service: optional(&preamble.service)?,
            port: u16::try_from(preamble.port).map_err(|_| bad(&format!("port {} does not exist", preamble.port)))?,
            protocol,
            connection: ConnectionName::new(&preamble.connection),
            requires: preamble.requires,
        })
    }
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Option<T>, ConnectionError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|error| bad(&format!("{error}"))) }
}

fn bad(what: &str) -> ConnectionError {
    ConnectionError::new(Side::Downstream, Reason::BadPreamble)
        .with_detail(format!("the preamble is not valid: {what}"))
}

fn unsupported(what: &str) -> ConnectionError {
    ConnectionError::new(Side::Downstream, Reason::Unsupported).with_detail(format!("the peer asks for {what}"))
}

/// Why a message could not be read.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// The peer ended before the message's first byte.
    Absent,
    /// The peer ended within the message.
    Truncated,
    TooLong(usize),
    Stream(io::Error),
}

/// Reads one length-prefixed message, and not a byte more.
pub(super) async fn read_message<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, ReadFailure> {
    let mut length = [0_u8; 2];
    match stream.read(&mut length[..1]).await {
        Ok(0) => return Err(ReadFailure::Absent),
        Ok(_) => {}
        Err(error) if is_end(&error) => return Err(ReadFailure::Absent),
        Err(error) => return Err(ReadFailure::Stream(error)),
    }
    stream.read_exact(&mut length[1..]).await.map_err(within)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > limits::WIRE_MESSAGE_MAXIMUM {
        return Err(ReadFailure::TooLong(length));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.map_err(within)?;
    Ok(message)
}

fn within(error: io::Error) -> ReadFailure {
    if is_end(&error) { ReadFailure::Truncated } else { ReadFailure::Stream(error) }
}

/// The end of the stream, with or without `close_notify`.
fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// Writes one length-prefixed message in one piece.
pub(super) async fn write_message<S, M>(stream: &mut S, message: &M) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
    M: prost::Message,
{
    let length = message.encoded_len();
    let prefix = u16::try_from(length)
        .ok()
        .filter(|_| length <= limits::WIRE_MESSAGE_MAXIMUM)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the message is longer than the wire allows"))?;
    let mut bytes = Vec::with_capacity(2 + length);
    bytes.extend_from_slice(&prefix.to_be_bytes());
    message.encode(&mut bytes).map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}
