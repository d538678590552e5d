//! Why a connection or a request was, or would be, carried, refused or not captured: `weft why SOURCE DESTINATION`.
//!
//! A pure function of the snapshot, the node's status and the kept records. An agent speaks of what it
//! knows: capture and the way to the destination for its own pods as sources, mTLS mode and policies for
//! its own pods as destinations. The CLI asks every agent and joins. Absent: IO, clocks, guesses.

mod destination;
mod history;
mod route;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use weft_proto::names::{Identity, NodeName, WorkloadUid};

use super::finding::{End, Finding, ranked};
use super::question::{self, Question, Source, Target, Unresolved};
use super::status::{CertificateStatus, NodeView, PodStatus};
use crate::limits;
use crate::model::{Endpoint, MtlsMode, Snapshot, SnapshotVersion, Workload};
use crate::telemetry::{ConnectionRecord, Ejected, RequestRecord, Security};

pub(super) use history::end as end_of;
pub(super) use route::no_endpoint;
pub(super) use source::span;

/// Everything that one agent's answer may be made of.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub node: &'a NodeName,
    pub snapshot: &'a Snapshot,
    pub view: &'a NodeView,
    /// Newest first.
    pub records: &'a [Arc<ConnectionRecord>],
    /// Newest first.
    pub requests: &'a [Arc<RequestRecord>],
    pub ejected: &'a [Ejected],
    pub now: Timestamp,
}

/// One agent's answer.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    pub node: NodeName,
    pub snapshot: SnapshotVersion,
    pub source: SourceSeen,
    pub destination: TargetSeen,
    /// What would be decided now, in sentences, in the order of the path.
    pub facts: Vec<Fact>,
    /// The likeliest cause first.
    pub findings: Vec<Finding>,
    /// The last connections of this pair that this agent carried, newest first.
    pub records: Vec<Arc<ConnectionRecord>>,
    /// The same of requests.
    pub requests: Vec<Arc<RequestRecord>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub end: End,
    pub text: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct SourceSeen {
    pub name: String,
    pub uid: Option<WorkloadUid>,
    pub node: Option<NodeName>,
    pub identity: Option<Identity>,
    /// Further pods that the words mean.
    pub also: usize,
    /// This agent is the one of the source's node: what it says of capture counts.
    pub here: bool,
    /// What the source's side would speak.
    pub speaks: Security,
}

#[derive(Debug, Clone, Serialize)]
pub struct TargetSeen {
    pub name: String,
    /// `service`, `unknown_port`, `pod` or `foreign`.
    pub kind: &'static str,
    pub endpoints: Vec<EndpointSeen>,
}

#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a row of independent facts for a table")]
pub struct EndpointSeen {
    pub address: std::net::SocketAddr,
    pub workload: Option<String>,
    pub node: Option<NodeName>,
    pub mesh_capable: bool,
    pub plaintext_permitted: bool,
    pub strict: bool,
    /// This agent is the one of the endpoint's node: what it says of mTLS and policies counts.
    pub here: bool,
}

/// Answers from what one agent knows.
///
/// # Errors
/// The words mean nothing in this agent's snapshot.
pub fn answer(question: &Question, known: &Known<'_>) -> Result<Answer, Unresolved> {
    let source = question::source(known.snapshot, &question.source)?;
    let target = question::target(known.snapshot, question)?;
    let mut told = Told::default();
    known.tell_node(&mut told);
    let capture = source::capture(known, &source, &target, &mut told);
    let way = route::choose(known, question, &source, &target, capture.is_captured());
    source::tell_target(known, &source, &target, &way, &mut told);
    way.tell(known, &mut told);
    let speaks = source::speaks(known, &source, capture, (&target, &way.endpoints), &mut told);
    let pair = history::of_pair(known, &source, &target, &way.endpoints);
    let speaks = question.security.unwrap_or(speaks);
    let speaks = if history::offered_mesh_tls(&pair.connections) { Security::Mtls } else { speaks };
    destination::tell(known, &source, &way, speaks, &mut told);
    history::tell(known, &pair, &mut told);
    Ok(Answer {
        node: known.node.clone(),
        snapshot: known.snapshot.version.clone(),
        source: known.source_seen(&source, speaks),
        destination: known.target_seen(&target, &way.endpoints),
        facts: told.facts,
        findings: ranked(told.findings),
        records: pair.connections.into_iter().take(limits::WHY_RECORDS).collect(),
        requests: pair.requests.into_iter().take(limits::WHY_RECORDS).collect(),
    })
}

/// What has been said until now.
#[derive(Debug, Default)]
struct Told {
    facts: Vec<Fact>,
    findings: Vec<Finding>,
}

impl Told {
    fn fact(&mut self, end: End, text: impl Into<String>) {
        let fact = Fact { end, text: text.into() };
        if !self.facts.contains(&fact) {
            self.facts.push(fact);
        }
    }

    fn finding(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

impl Known<'_> {
    fn is_here(&self, row: &Workload) -> bool {
        row.node.as_ref() == Some(self.node) || self.snapshot.enrolments.contains_key(&row.uid)
    }

    fn pod(&self, uid: &WorkloadUid) -> Option<&PodStatus> {
        self.view.status.pods.iter().find(|pod| pod.uid == *uid)
    }

    fn has_certificate(&self, uid: &WorkloadUid) -> bool {
        self.certificate(uid).and_then(|held| held.not_after).is_some_and(|end| end > self.now)
    }

    fn certificate(&self, uid: &WorkloadUid) -> Option<&CertificateStatus> {
        self.view.certificates.iter().find(|certificate| certificate.uid.as_ref() == Some(uid))
    }

    fn workers_alive(&self) -> usize {
        self.view.status.workers.iter().filter(|worker| worker.alive).count()
    }

    fn row(&self, endpoint: &Endpoint) -> Option<&Arc<Workload>> {
        self.snapshot.workload_of(endpoint)
    }

    /// What is wrong with this agent itself, whatever the question.
    fn tell_node(&self, told: &mut Told) {
        if !self.view.status.controller.connected {
            let error = self.view.status.controller.last_error.as_deref().unwrap_or("no error was seen");
            told.fact(
                End::Path,
                format!(
                    "The agent of {} has no connection to the controller ({error}): it decides on what it heard last, snapshot {}.",
                    self.node, self.snapshot.version.0
                ),
            );
        }
        for nack in &self.view.nacks {
            told.fact(
                End::Path,
                format!(
                    "The agent of {} could not read {} ({}): its safe reading is in force.",
                    self.node, nack.resource, nack.reason
                ),
            );
        }
    }

    fn source_seen(&self, source: &Source, speaks: Security) -> SourceSeen {
        let row = source.row();
        SourceSeen {
            name: source.name(),
            uid: row.map(|row| row.uid.clone()),
            node: row.and_then(|row| row.node.clone()),
            identity: row.and_then(|row| row.identity.clone()),
            also: match source {
                Source::Workload { also, .. } => *also,
                Source::Stranger(_) => 0,
            },
            here: row.is_some_and(|row| self.is_here(row)),
            speaks,
        }
    }

    fn target_seen(&self, target: &Target, endpoints: &[Endpoint]) -> TargetSeen {
        let seen = |endpoint: &Endpoint| {
            let row = self.row(endpoint);
            EndpointSeen {
                address: endpoint.address,
                workload: row.map(|row| row.name.to_string()),
                node: row.and_then(|row| row.node.clone()),
                mesh_capable: row.is_some_and(|row| row.mesh_capable),
                plaintext_permitted: row.is_some_and(|row| row.plaintext_permitted),
                strict: row.is_some_and(|row| row.mtls == MtlsMode::Strict),
                here: row.is_some_and(|row| self.is_here(row)),
            }
        };
        TargetSeen {
            name: target.name(),
            kind: match target {
                Target::Service { .. } => "service",
                Target::UnknownPort { .. } => "unknown_port",
                Target::Workload { .. } => "pod",
                Target::Foreign(_) => "foreign",
            },
            endpoints: endpoints.iter().take(limits::WHY_ENDPOINTS).map(seen).collect(),
        }
    }
}
