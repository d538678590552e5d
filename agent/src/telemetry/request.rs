//! One request and its answer, as it is logged, counted and explained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::uri::Authority;
use http::{Method, StatusCode, Version};
use jiff::Timestamp;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use weft_proto::names::NamespacedName;

use super::record::{seconds, truncate};
use super::{ConnectionId, Direction, FailedAttempt, Party, Security, Verdict};
use crate::error::{ConnectionError, Reason, Side};
use crate::http::Request;
use crate::http::canonical::Canonical;
use crate::http::retry::Outcome;
use crate::http::session::Stay;
use crate::limits;
use crate::model::SnapshotVersion;

/// One end of an ended request.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// Names it in both agents' logs and in the header `weft-request-id`.
    pub id: ConnectionId,
    /// The connection that it came on.
    pub connection: ConnectionId,
    pub direction: Direction,
    pub started: Timestamp,
    /// From its head to the end of its answer.
    pub duration: Duration,
    /// From its head to the head of the answer; None when none came.
    pub first_byte: Option<Duration>,
    pub source: Party,
    /// The endpoint that answered, or the last one tried.
    pub destination: Party,
    /// What the client dialled, or where it arrived.
    pub original_destination: Option<SocketAddr>,
    /// The Service that was asked for.
    pub service: Option<NamespacedName>,
    /// The Service and port that the route led to, where a route decided.
    pub backend: Option<(NamespacedName, u16)>,
    /// The rule that decided, "`HTTPRoute` shop/web[0]".
    pub route: Option<Arc<str>>,
    pub method: Method,
    /// As it was judged, or as the client wrote it where it was refused before that; the same with the path.
    pub host: String,
    /// Without the query, which may hold secrets.
    pub path: String,
    /// "HTTP/1.1" and the like, as the client spoke it.
    pub version: &'static str,
    /// None when no answer was given.
    pub status: Option<u16>,
    pub grpc_status: Option<u32>,
    pub security: Security,
    pub reason: Reason,
    pub side: Option<Side>,
    /// The authorization rule that decided.
    pub rule: Option<String>,
    /// Audit and dry-run rules that matched.
    pub noted: Vec<String>,
    pub detail: Option<String>,
    /// Bytes of the request's body.
    pub bytes_sent: u64,
    /// Bytes of the answer's body.
    pub bytes_received: u64,
    /// Endpoints that were sent the request, or dialled for it.
    pub attempts: u32,
    /// Of these, ones that the retry budget paid for.
    pub retries: u32,
    /// Attempts that came to nothing, or to an answer that says so; the last of them may be what the client got.
    pub failed_attempts: Vec<FailedAttempt>,
    /// Endpoints that were passed over, because they have failed too often lately.
    pub ejected: Vec<SocketAddr>,
    /// Where the rule keeps sessions: whether this one decided the endpoint.
    pub session: Option<Stay>,
    /// Why the destination's agent answered in the place of its application, as it says.
    pub told: Option<Reason>,
    pub snapshot: SnapshotVersion,
}

impl RequestRecord {
    /// The beginning of a record: completed unless [`Self::fail`] says otherwise.
    #[must_use]
    pub fn begin(connection: ConnectionId, direction: Direction, snapshot: SnapshotVersion) -> Box<Self> {
        Box::new(Self {
            id: ConnectionId::random(),
            connection,
            direction,
            started: Timestamp::now(),
            duration: Duration::ZERO,
            first_byte: None,
            source: Party::default(),
            destination: Party::default(),
            original_destination: None,
            service: None,
            backend: None,
            route: None,
            method: Method::GET,
            host: String::new(),
            path: String::new(),
            version: "",
            status: None,
            grpc_status: None,
            security: Security::None,
            reason: Reason::Completed,
            side: None,
            rule: None,
            noted: Vec::new(),
            detail: None,
            bytes_sent: 0,
            bytes_received: 0,
            attempts: 0,
            retries: 0,
            failed_attempts: Vec::new(),
            ejected: Vec::new(),
            session: None,
            told: None,
            snapshot,
        })
    }

    /// What was judged of it and is forwarded, in place of what the client wrote.
    pub fn judged(&mut self, canonical: &Canonical) {
        self.host = canonical.authority().to_string();
        canonical.path().clone_into(&mut self.path);
    }

    /// What the client's request says of itself, before anybody has judged it.
    pub fn read(&mut self, request: &Request) {
        self.method = request.method().clone();
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        request.uri().authority().map(Authority::as_str).or(host).unwrap_or_default().clone_into(&mut self.host);
        request.uri().path().clone_into(&mut self.path);
        self.version = match request.version() {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        };
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

    /// Of many attempts the first ones are told, and the last.
    pub fn failed_attempt(&mut self, attempt: FailedAttempt) {
        self.failed_attempts.truncate(limits::RECORD_ATTEMPTS - 1);
        self.failed_attempts.push(attempt);
    }

    /// Nobody answered, Weft answered in somebody's place, or what was answered says that the server is broken.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        let status = self.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default();
        self.verdict() != Verdict::Allow || Outcome::Answered(status, self.grpc_status).is_failure()
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

    /// Cuts the texts that a peer has a part in.
    pub(super) fn bounded(&mut self) {
        for text in [&mut self.detail, &mut self.rule].into_iter().flatten() {
            truncate(text, limits::RECORD_DETAIL_MAXIMUM);
        }
        self.noted.truncate(limits::RECORD_NOTED_MAXIMUM);
        self.ejected.truncate(limits::RECORD_ATTEMPTS);
        if self.method.as_str().len() > limits::RECORD_METHOD_MAXIMUM {
            let cut = self.method.as_str().as_bytes().get(..limits::RECORD_METHOD_MAXIMUM);
            self.method = cut.and_then(|cut| Method::from_bytes(cut).ok()).unwrap_or_default();
        }
        truncate(&mut self.path, limits::RECORD_PATH_MAXIMUM);
        truncate(&mut self.host, limits::RECORD_PATH_MAXIMUM);
    }
}

/// The line of the access log: field names are stable, and those of connections where they mean the same.
impl Serialize for RequestRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("RequestRecord", 34)?;
        fields.serialize_field("time", &self.started)?;
        fields.serialize_field("request", &self.id)?;
        fields.serialize_field("id", &self.connection)?;
        fields.serialize_field("direction", &self.direction)?;
        fields.serialize_field("verdict", &self.verdict())?;
        fields.serialize_field("reason", &self.reason)?;
        fields.serialize_field("side", &self.side)?;
        fields.serialize_field("rule", &self.rule)?;
        fields.serialize_field("noted", &self.noted)?;
        fields.serialize_field("detail", &self.detail)?;
        fields.serialize_field("security", &self.security)?;
        fields.serialize_field("source", &self.source)?;
        fields.serialize_field("destination", &self.destination)?;
        fields.serialize_field("original_destination", &self.original_destination)?;
        fields.serialize_field("service", &self.service)?;
        fields.serialize_field("backend", &self.backend.as_ref().map(|(name, port)| format!("{name}:{port}")))?;
        fields.serialize_field("route", &self.route)?;
        fields.serialize_field("method", self.method.as_str())?;
        fields.serialize_field("host", &self.host)?;
        fields.serialize_field("path", &self.path)?;
        fields.serialize_field("version", self.version)?;
        fields.serialize_field("status", &self.status)?;
        fields.serialize_field("grpc_status", &self.grpc_status)?;
        fields.serialize_field("bytes_sent", &self.bytes_sent)?;
        fields.serialize_field("bytes_received", &self.bytes_received)?;
        fields.serialize_field("duration_seconds", &seconds(self.duration))?;
        fields.serialize_field("first_byte_seconds", &self.first_byte.map(seconds))?;
        fields.serialize_field("attempts", &self.attempts)?;
        fields.serialize_field("retries", &self.retries)?;
        fields.serialize_field("failed_attempts", &self.failed_attempts)?;
        fields.serialize_field("ejected", &self.ejected)?;
        fields.serialize_field("session", &self.session)?;
        fields.serialize_field("told", &self.told)?;
        fields.serialize_field("snapshot", &self.snapshot)?;
        fields.end()
    }
}
