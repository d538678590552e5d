//! One record in sentences.

use std::sync::Arc;

use serde::Serialize;
use weft_proto::names::NodeName;

use super::explain::{Explanation, explain};
use crate::telemetry::{ConnectionRecord, Direction, Party, Security, Verdict};

/// A record with what it means.
#[derive(Debug, Clone, Serialize)]
pub struct TaleOfRecord {
    pub record: Arc<ConnectionRecord>,
    pub sentences: Vec<String>,
    /// Absent where everything went well.
    pub explanation: Option<Explanation>,
}

impl TaleOfRecord {
    #[must_use]
    pub fn of(node: &NodeName, record: &Arc<ConnectionRecord>) -> Self {
        let explanation = (record.verdict() != Verdict::Allow).then(|| explain(record.reason));
        Self { record: Arc::clone(record), sentences: sentences(node, record), explanation }
    }
}

fn sentences(node: &NodeName, record: &ConnectionRecord) -> Vec<String> {
    let mut told = vec![beginning(node, record), route(record), choice(record), protection(record)];
    told.push(decision(record));
    told.extend(record.noted.iter().map(|rule| format!("Rule {rule} matched too, without effect (audit or dry run).")));
    told.push(end(record));
    told.retain(|sentence| !sentence.is_empty());
    told
}

fn beginning(node: &NodeName, record: &ConnectionRecord) -> String {
    let (verb, side) = match record.direction {
        Direction::Outbound => ("opened a connection to", "its agent"),
        Direction::Inbound => ("reached", "the destination's agent"),
    };
    let asked = record.original_destination.map_or_else(|| "an unknown address".to_owned(), |asked| asked.to_string());
    let service = record.service.as_ref().map(|service| format!(" (Service {service})")).unwrap_or_default();
    format!(
        "At {:.3}, {} {verb} {asked}{service}; {side} on node {node} took it.",
        record.started,
        party(&record.source)
    )
}

fn route(record: &ConnectionRecord) -> String {
    let Some(route) = &record.route else { return String::new() };
    match &record.backend {
        Some((service, port)) => format!("{route} took it and led to {service}:{port}."),
        None => format!("{route} took it."),
    }
}

fn choice(record: &ConnectionRecord) -> String {
    if record.direction == Direction::Inbound || record.attempts == 0 {
        return String::new();
    }
    let tried = if record.attempts == 1 { "the first one tried" } else { "the last one tried" };
    let count = if record.attempts == 1 { String::new() } else { format!(" of {}", record.attempts) };
    format!("The endpoint was {}, {tried}{count}.", party(&record.destination))
}

fn protection(record: &ConnectionRecord) -> String {
    match (record.security, record.direction) {
        (Security::Mtls, direction) => {
            let resumed = if record.resumed { ", in a resumed session" } else { "" };
            let peer = match direction {
                Direction::Outbound => &record.destination,
                Direction::Inbound => &record.source,
            };
            let proven =
                peer.identity.as_ref().map(|identity| format!(", the peer proven as {identity}")).unwrap_or_default();
            format!("Between the nodes it was mTLS{resumed}{proven}.")
        }
        (Security::Plaintext, _) => "It was plaintext, so nobody's identity was proven.".to_owned(),
        (Security::None, _) => String::new(),
    }
}

fn decision(record: &ConnectionRecord) -> String {
    let snapshot = &record.snapshot.0;
    match (record.verdict(), record.rule.as_deref()) {
        (Verdict::Allow, Some(rule)) => format!("It was allowed by {rule}, decided on snapshot {snapshot}."),
        (Verdict::Allow, None) => format!("Nothing forbade it, decided on snapshot {snapshot}."),
        (Verdict::Deny, Some(rule)) => format!("It was refused by {rule}, decided on snapshot {snapshot}."),
        (Verdict::Deny, None) => format!("It was refused, decided on snapshot {snapshot}."),
        (Verdict::Fail, _) => format!("It was routed on snapshot {snapshot}."),
    }
}

fn end(record: &ConnectionRecord) -> String {
    let duration = record.duration;
    let moved = format!("{} bytes were sent and {} received", record.bytes_sent, record.bytes_received);
    let detail = record.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    match record.verdict() {
        Verdict::Allow => format!("It ended as its applications wished after {duration:.1?}: {moved}."),
        Verdict::Deny | Verdict::Fail => {
            format!("It ended after {duration:.1?} with the reason {}{detail}: {moved}.", record.reason.code())
        }
    }
}

pub(super) fn party(party: &Party) -> String {
    let address = party.address.map(|address| address.to_string());
    match (party.workload.as_deref(), address) {
        (Some(row), Some(address)) => format!("{} ({address})", row.name),
        (Some(row), None) => row.name.to_string(),
        (None, Some(address)) => address,
        (None, None) => "somebody".to_owned(),
    }
}
