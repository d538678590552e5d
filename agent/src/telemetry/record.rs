//! One end of one connection, as it is logged, counted and explained.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use weft_proto::names::{Identity, NamespacedName};

use crate::error::{ConnectionError, Reason, Side};
use crate::limits;
use crate::model::{SnapshotVersion, Workload};

/// Names one connection in the records of both agents: the source's agent chooses it, the preamble carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// A fresh one. Random rather than counted, so that no two agents choose the same.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    pub(super) const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// Not the sixteen hexadecimal digits of a connection id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a connection id has 16 hexadecimal digits")]
pub struct NotAConnectionId;

impl FromStr for ConnectionId {
    type Err = NotAConnectionId;

    fn from_str(text: &str) -> Result<Self, NotAConnectionId> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits {
            return Err(NotAConnectionId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotAConnectionId)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which of a connection's two ends this agent carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A connection that a pod of this node opened.
    Outbound,
    /// A connection that reached a pod of this node.
    Inbound,
}

impl Direction {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// What protected the bytes between the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    Mtls,
    Plaintext,
    /// It ended before that was settled.
    None,
}

impl Security {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Plaintext => "plaintext",
            Self::None => "none",
        }
    }
}

/// What became of a connection, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was carried.
    Allow,
    /// A policy or a failed proof of identity ended it.
    Deny,
    /// Nobody forbade it, and it could not be carried or was cut.
    Fail,
}

impl Verdict {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Fail => "fail",
        }
    }

    /// The verdict that a reason stands for.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        match reason {
            Reason::Completed | Reason::Redirected | Reason::Preflight => Self::Allow,
            Reason::IdentityMismatch
            | Reason::CertificateExpired
            | Reason::CertificateUntrusted
            | Reason::CertificateMalformed
            | Reason::CertificateMissing
            | Reason::PlaintextRefused
            | Reason::MeshTlsRequired
            | Reason::DeniedByRule
            | Reason::NoAllowMatched
            | Reason::ProtocolRefused
            | Reason::TunnelRefused
            | Reason::NoClientRecord => Self::Deny,
            Reason::NoOriginalDestination
            | Reason::UnknownWorkload
            | Reason::NoEndpoint
            | Reason::UpstreamRefused
            | Reason::UpstreamTimeout
            | Reason::UpstreamUnreachable
            | Reason::UpstreamReset
            | Reason::DownstreamReset
            | Reason::PeerAgentDown
            | Reason::HandshakeFailed
            | Reason::HandshakeTimeout
            | Reason::NoCertificate
            | Reason::BadPreamble
            | Reason::Unsupported
            | Reason::Draining
            | Reason::Overloaded
            | Reason::WorkloadGone
            | Reason::HeadTooLong
            | Reason::IdleTimeout
            | Reason::TooSlow
            | Reason::Flooded
            | Reason::BadRequest
            | Reason::NoRoute
            | Reason::BrokenRoute
            | Reason::RequestTimeout
            | Reason::RetryBudgetSpent
            | Reason::ResourceExhausted => Self::Fail,
        }
    }
}

/// One of a connection's two applications.
#[derive(Debug, Clone, Default)]
pub struct Party {
    /// The pod's address and port; for a destination the endpoint that was chosen (the last one tried).
    pub address: Option<SocketAddr>,
    /// Its row in the snapshot. For a source this is known by the namespace that accepted (outbound), by
    /// the proven identity's preamble hint or by the address (inbound): for people, never for permission.
    pub workload: Option<Arc<Workload>>,
    /// Proven by a certificate; None in plaintext.
    pub identity: Option<Identity>,
}

/// One end of an ended connection.
#[derive(Debug, Clone)]
pub struct ConnectionRecord {
    pub id: ConnectionId,
    pub direction: Direction,
    pub started: Timestamp,
    /// From accept to end.
    pub duration: Duration,
    /// From accept until bytes could flow to the other application; None when that never came.
    pub connect: Option<Duration>,
    pub source: Party,
    pub destination: Party,
    /// What the application asked for, before any choice.
    pub original_destination: Option<SocketAddr>,
    /// The service it asked for; inbound this is the preamble's hint.
    pub service: Option<NamespacedName>,
    /// The `TCPRoute` or `TLSRoute` that decided where it goes, "`TLSRoute` shop/web", and the Service and port that it led to.
    pub route: Option<Arc<str>>,
    pub backend: Option<(NamespacedName, u16)>,
    pub security: Security,
    /// The TLS session was resumed.
    pub resumed: bool,
    pub reason: Reason,
    /// Whose side ended it; None when it completed.
    pub side: Option<Side>,
    /// The policy rule that decided, `namespace/name[rule]`.
    pub rule: Option<String>,
    /// Audit and dry-run rules that matched, `namespace/name[rule]`.
    pub noted: Vec<String>,
    /// What was seen, for a person.
    pub detail: Option<String>,
    /// The snapshot that it was decided on.
    pub snapshot: SnapshotVersion,
    /// Bytes from the source's application to the destination's, as this agent relayed them.
    pub bytes_sent: u64,
    /// Bytes from the destination's application to the source's.
    pub bytes_received: u64,
    /// Endpoints tried.
    pub attempts: u32,
}

impl ConnectionRecord {
    /// The beginning of a record, at accept: completed unless [`Self::fail`] says otherwise.
    #[must_use]
    pub fn begin(direction: Direction, snapshot: SnapshotVersion) -> Self {
        Self {
            id: ConnectionId::random(),
            direction,
            started: Timestamp::now(),
            duration: Duration::ZERO,
            connect: None,
            source: Party::default(),
            destination: Party::default(),
            original_destination: None,
            service: None,
            route: None,
            backend: None,
            security: Security::None,
            resumed: false,
            reason: Reason::Completed,
            side: None,
            rule: None,
            noted: Vec::new(),
            detail: None,
            snapshot,
            bytes_sent: 0,
            bytes_received: 0,
            attempts: 0,
        }
    }

    /// Takes over what an error says.
    pub fn fail(&mut self, error: &ConnectionError) {
        self.reason = error.reason;
        self.side = Some(error.side);
        self.detail.clone_from(&error.detail);
        if error.rule.is_some() {
            self.rule.clone_from(&error.rule);
        }
    }

    /// The moment of its end, as exact as the clock was steady.
    #[must_use]
    pub fn ended(&self) -> Timestamp {
        self.started.saturating_add(self.duration).unwrap_or(self.started)
    }

    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        Verdict::of(self.reason)
    }

    /// Cuts the texts that a peer may have a part in.
    pub(super) fn bounded(&mut self) {
        for text in [&mut self.detail, &mut self.rule].into_iter().flatten() {
            truncate(text, limits::RECORD_DETAIL_MAXIMUM);
        }
        self.noted.truncate(limits::RECORD_NOTED_MAXIMUM);
    }
}

pub(super) fn truncate(text: &mut String, maximum: usize) {
    if text.len() > maximum {
        let end = (0..=maximum).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.truncate(end);
    }
}

impl Serialize for Party {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let workload = self.workload.as_deref();
        let mut fields = serializer.serialize_struct("Party", 7)?;
        fields.serialize_field("workload", &workload.map(|row| &*row.name))?;
        fields.serialize_field("uid", &workload.map(|row| &row.uid))?;
        fields.serialize_field("application", &workload.map(|row| &*row.application))?;
        fields.serialize_field("namespace", &workload.map(namespace_of))?;
        fields.serialize_field("node", &workload.and_then(|row| row.node.as_ref()))?;
        fields.serialize_field("identity", &self.identity)?;
        fields.serialize_field("address", &self.address)?;
        fields.end()
    }
}

/// The namespace of a workload, from its `namespace/name`.
#[must_use]
pub(crate) fn namespace_of(workload: &Workload) -> &str {
    workload.name.split_once('/').map_or("", |(namespace, _)| namespace)
}

/// The line of the access log and of `/records`: field names are stable.
impl Serialize for ConnectionRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ConnectionRecord", 23)?;
        fields.serialize_field("time", &self.started)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("direction", &self.direction)?;
        fields.serialize_field("verdict", &self.verdict())?;
        fields.serialize_field("reason", &self.reason)?;
        fields.serialize_field("side", &self.side)?;
        fields.serialize_field("rule", &self.rule)?;
        fields.serialize_field("noted", &self.noted)?;
        fields.serialize_field("detail", &self.detail)?;
        fields.serialize_field("security", &self.security)?;
        fields.serialize_field("resumed", &self.resumed)?;
        fields.serialize_field("source", &self.source)?;
        fields.serialize_field("destination", &self.destination)?;
        fields.serialize_field("original_destination", &self.original_destination)?;
        fields.serialize_field("service", &self.service)?;
        fields.serialize_field("route", &self.route)?;
        fields.serialize_field("backend", &self.backend.as_ref().map(|(service, port)| format!("{service}:{port}")))?;
        fields.serialize_field("bytes_sent", &self.bytes_sent)?;
        fields.serialize_field("bytes_received", &self.bytes_received)?;
        fields.serialize_field("duration_seconds", &seconds(self.duration))?;
        fields.serialize_field("connect_seconds", &self.connect.map(seconds))?;
        fields.serialize_field("attempts", &self.attempts)?;
        fields.serialize_field("snapshot", &self.snapshot)?;
        fields.end()
    }
}

/// Seconds with microseconds: more digits are noise in a log.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ConnectionRecord {
        ConnectionRecord::begin(Direction::Outbound, SnapshotVersion("v1".into()))
    }

    #[test]
    fn an_id_survives_the_wire_and_nothing_else_is_one() {
        let id = ConnectionId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "12", "zzzzzzzzzzzzzzzz", "+123456789abcdef", "00000000000000000"] {
            assert_eq!(text.parse::<ConnectionId>(), Err(NotAConnectionId), "{text}");
        }
    }

    #[test]
    fn a_line_has_one_field_for_each_fact_whatever_was_known() {
        let line = serde_json::to_value(record()).unwrap();
        let names: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
        for name in ["time", "id", "verdict", "reason", "security", "source", "bytes_sent", "snapshot"] {
            assert!(names.iter().any(|have| have == name), "{name} is missing in {names:?}");
        }
        assert_eq!(line["verdict"], "allow");
        assert_eq!(line["source"]["workload"], serde_json::Value::Null);
    }

    #[test]
    fn a_peer_cannot_make_a_line_long() {
        let mut long = record();
        long.fail(
            &ConnectionError::new(Side::Upstream, Reason::BadPreamble)
                .with_detail("é".repeat(10_000))
                .with_rule("x".repeat(10_000)),
        );
        long.noted = vec![String::from("a"); 1000];
        long.bounded();
        assert!(serde_json::to_string(&long).unwrap().len() < 4096);
    }
}
