//! What agents answer, read as far as this command needs it: an older or newer agent may leave out or add fields.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Status {
    pub node: String,
    #[serde(default)]
    pub version: String,
    pub ready: bool,
    #[serde(default)]
    pub draining: bool,
    pub snapshot: String,
    pub snapshot_applied: Option<Timestamp>,
    #[serde(default)]
    pub nacks: Vec<Nack>,
    #[serde(default)]
    pub pods: Vec<Pod>,
    #[serde(default)]
    pub observed: Vec<Observed>,
    #[serde(default)]
    pub controller: Controller,
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    #[serde(default)]
    pub workers: Vec<Worker>,
    #[serde(default)]
    pub kernel: Kernel,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Nack {
    pub resource: String,
    pub reason: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub enrolled: bool,
    pub reason: Option<String>,
    #[serde(default)]
    pub counters: serde_json::Map<String, Value>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Observed {
    pub name: String,
    #[serde(rename = "observed")]
    pub is_noted: bool,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Controller {
    pub connected: bool,
    #[serde(default)]
    pub address: String,
    pub since: Option<Timestamp>,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Certificate {
    pub uid: Option<String>,
    pub name: String,
    #[serde(default)]
    pub identity: String,
    pub not_after: Option<Timestamp>,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Worker {
    pub index: u32,
    pub alive: bool,
    #[serde(default)]
    pub heartbeat_age_milliseconds: u64,
    #[serde(default)]
    pub connections: u64,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Kernel {
    #[serde(default)]
    pub release: String,
    #[serde(default)]
    pub pin_directory: String,
    #[serde(default)]
    pub hooks: Vec<Hook>,
    #[serde(default)]
    pub foreign: Vec<Foreign>,
}

/// Somebody else's program at one of Weft's hooks.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Foreign {
    pub hook: String,
    pub program: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Hook {
    pub name: String,
    #[serde(default)]
    pub target: String,
    pub pinned: bool,
    pub attached: bool,
    pub detail: Option<String>,
}

/// One agent's answer to `/why?source=&destination=`.
#[derive(Debug, Clone, Deserialize)]
pub struct Answer {
    pub node: String,
    pub snapshot: String,
    pub source: Source,
    pub destination: Target,
    #[serde(default)]
    pub facts: Vec<Fact>,
    #[serde(default)]
    pub findings: Vec<Finding>,
    #[serde(default)]
    pub records: Vec<Record>,
    #[serde(default)]
    pub requests: Vec<RequestRecord>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    pub name: String,
    pub node: Option<String>,
    #[serde(default)]
    pub also: usize,
    pub here: bool,
    pub speaks: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Target {
    pub name: String,
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Endpoint {
    pub workload: Option<String>,
    pub node: Option<String>,
    #[serde(default)]
    pub strict: bool,
    pub here: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Source,
    Path,
    Destination,
}

/// How a finding bears on the question; the first outranks the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    Blocks,
    Happened,
    Weakens,
    Counted,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fact {
    pub end: End,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Finding {
    pub cause: String,
    pub weight: Weight,
    pub end: End,
    #[serde(default)]
    pub vague: bool,
    pub at: Option<Timestamp>,
    pub summary: String,
    #[serde(default)]
    pub evidence: Vec<String>,
    pub fix: String,
}

/// One agent's answer to `/why?id=`.
#[derive(Debug, Clone, Deserialize)]
pub struct Tales {
    pub node: String,
    pub records: Vec<Tale>,
    /// There where the id is a request's.
    #[serde(default)]
    pub requests: Vec<RequestTale>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct RequestTale {
    pub record: RequestRecord,
    pub sentences: Vec<String>,
    #[serde(default)]
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Tale {
    pub record: Record,
    pub sentences: Vec<String>,
    pub explanation: Option<Explanation>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Explanation {
    pub cause: String,
    pub evidence: String,
    pub fix: String,
}

/// A connection record: what is shown of it, and the whole of it for JSON.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    pub id: String,
    pub time: Timestamp,
    pub direction: String,
    pub verdict: String,
    pub reason: String,
    pub rule: Option<String>,
    pub detail: Option<String>,
    pub security: String,
    #[serde(default)]
    pub duration_seconds: f64,
    pub source: Party,
    pub destination: Party,
    pub service: Option<String>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// A request's record: what is shown of it, and the whole of it for JSON.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RequestRecord {
    pub request: String,
    pub time: Timestamp,
    pub direction: String,
    pub verdict: String,
    pub reason: String,
    pub method: String,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub path: String,
    pub status: Option<u16>,
    pub grpc_status: Option<u32>,
    pub route: Option<String>,
    pub backend: Option<String>,
    /// Of the destination's agent, where it answered in the place of its application.
    pub told: Option<String>,
    #[serde(default)]
    pub retries: u32,
    #[serde(default)]
    pub duration_seconds: f64,
    pub source: Party,
    pub destination: Party,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

impl RequestRecord {
    /// The status, with gRPC's own where there is one; `-` where nobody answered.
    pub fn answer(&self) -> String {
        match (self.status, self.grpc_status) {
            (_, Some(grpc)) => format!("gRPC {grpc}"),
            (Some(status), None) => status.to_string(),
            (None, None) => "-".to_owned(),
        }
    }

    /// What it came to, in one word, where that is more than its status says.
    pub fn outcome(&self) -> &str {
        let said = self.told.as_deref().unwrap_or(&self.reason);
        if said == "completed" { "" } else { said }
    }

    /// A request that nobody answered, or that met an error of a server.
    pub fn is_failure(&self) -> bool {
        let broken = self.status.is_none_or(|status| status >= 500) || matches!(self.grpc_status, Some(13..=15));
        broken || self.verdict != "allow"
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Party {
    pub workload: Option<String>,
    pub uid: Option<String>,
    pub application: Option<String>,
    pub namespace: Option<String>,
    pub node: Option<String>,
    pub identity: Option<String>,
    pub address: Option<String>,
}

impl Party {
    /// The pod, else the address.
    pub fn name(&self) -> &str {
        self.workload.as_deref().or(self.address.as_deref()).unwrap_or("?")
    }
}
