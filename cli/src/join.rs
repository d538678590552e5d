//! Joins what the agents of both sides say about one connection into one answer. Pure.
//!
//! Each side's own agent is believed over the other's; an agent that is dead is a finding itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::answers::{Answer, End, Fact, Finding, Record, RequestRecord, Weight};

/// An agent that cannot be asked.
#[derive(Debug, Clone)]
pub struct DeadAgent {
    pub node: String,
    pub problem: String,
    pub socket: String,
}

/// The whole story of a pair.
#[derive(Debug, Clone)]
pub struct Joined {
    pub source: String,
    pub destination: String,
    /// The likeliest cause first.
    pub findings: Vec<Finding>,
    pub facts: Vec<Fact>,
    /// Newest first, with the node whose agent kept it.
    pub records: Vec<Kept>,
    /// The same of requests.
    pub requests: Vec<KeptRequest>,
    /// What cannot be known from here.
    pub unknown: Vec<String>,
    /// Which snapshot each node's agent answered from.
    pub snapshots: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub struct Kept {
    pub node: String,
    pub record: Record,
}

#[derive(Debug, Clone, Serialize)]
pub struct KeptRequest {
    pub node: String,
    #[serde(flatten)]
    pub record: RequestRecord,
}

impl Joined {
    /// The one word for a program.
    pub fn cause(&self) -> Option<&str> {
        self.findings.first().map(|finding| finding.cause.as_str())
    }

    /// Whether a connection would fail, or the last one did.
    pub fn is_broken(&self) -> bool {
        self.findings.iter().any(|finding| finding.weight <= Weight::Weakens)
    }
}

/// Joins at least one answer. `nodes` are those whose agents answered, whether they know the names or not.
pub fn join(answers: &[Answer], dead: &[DeadAgent], nodes: &[String]) -> Option<Joined> {
    let first = answers.iter().find(|answer| answer.source.here).or_else(|| answers.first())?;
    let mut records: Vec<_> = answers
        .iter()
        .flat_map(|answer| {
            answer.records.iter().map(|record| Kept { node: answer.node.clone(), record: record.clone() })
        })
        .collect();
    records.sort_by_key(|kept| std::cmp::Reverse(kept.record.time));
    let kept =
        |answer: &Answer, record: &RequestRecord| KeptRequest { node: answer.node.clone(), record: record.clone() };
    let requests = answers.iter().flat_map(|answer| answer.requests.iter().map(move |record| kept(answer, record)));
    let mut requests: Vec<_> = requests.collect();
    requests.sort_by_key(|kept| std::cmp::Reverse(kept.record.time));
    let mut findings = Vec::new();
    let mut unknown = Vec::new();
    for (node, end, whose) in nodes_of(first) {
        if let Some(agent) = dead.iter().find(|agent| agent.node == node) {
            findings.push(agent_down(agent, end, &whose, first));
        } else if !nodes.contains(&node) {
            unknown.push(format!(
                "The agent of node {node} is not on this machine: what it knows of {whose} is missing here. Ask there: weft why {} {}",
                first.source.name, first.destination.name
            ));
        }
    }
    findings.extend(answers.iter().flat_map(|answer| believed(answer, answers, |answer| &answer.findings, authority)));
    if first.source.also > 0 {
        unknown.push(format!(
            "{} more pods have that name: this speaks of {} alone.",
            first.source.also, first.source.name
        ));
    }
    Some(Joined {
        snapshots: answers.iter().map(|answer| (answer.node.clone(), answer.snapshot.clone())).collect(),
        source: first.source.name.clone(),
        destination: first.destination.name.clone(),
        findings: ranked(findings, newest_success(&records, &requests)),
        facts: facts(answers),
        records,
        requests,
        unknown,
    })
}

/// The nodes on the path: the source's, then the endpoints'.
fn nodes_of(answer: &Answer) -> Vec<(String, End, String)> {
    let mut nodes = Vec::new();
    if let Some(node) = &answer.source.node {
        nodes.push((node.clone(), End::Source, answer.source.name.clone()));
    }
    for endpoint in &answer.destination.endpoints {
        let Some(node) = &endpoint.node else { continue };
        let known = nodes.iter().any(|(other, end, _)| other == node && *end == End::Destination);
        if !known {
            let whose = endpoint.workload.clone().unwrap_or_else(|| answer.destination.name.clone());
            nodes.push((node.clone(), End::Destination, whose));
        }
    }
    nodes
}

fn agent_down(agent: &DeadAgent, end: End, whose: &str, answer: &Answer) -> Finding {
    let strict = answer
        .destination
        .endpoints
        .iter()
        .any(|endpoint| endpoint.node.as_deref() == Some(&agent.node) && endpoint.strict);
    let effect = match (end, strict) {
        (End::Destination, true) => {
            "its ports are strict: the kernel refuses every connection to it until the agent is back"
        }
        (End::Source, _) => {
            "its new connections go direct, in plaintext, if its namespace fails open, and are refused if it fails closed"
        }
        (End::Destination | End::Path, _) => {
            "plaintext still reaches its permissive ports if its namespace fails open; mTLS and all else is refused"
        }
    };
    Finding {
        // The word that the source's records and metrics have for it too.
        cause: if end == End::Destination { "peer_agent_down" } else { "agent_down" }.to_owned(),
        weight: Weight::Blocks,
        end,
        vague: false,
        at: None,
        summary: format!("The agent of node {}, which carries {whose}, is down; {effect}.", agent.node),
        evidence: vec![format!("{}: {}.", agent.socket, agent.problem)],
        fix: "Start the agent on that node (weft-agent run), and look into its log for why it ended.".to_owned(),
    }
}

/// The end whose agent knows better. What an agent has itself recorded nobody knows better: of a client that is not
/// captured, the source's agent has no record at all.
fn authority(finding: &Finding) -> Option<End> {
    (finding.weight != Weight::Happened).then_some(finding.end)
}

/// What `answer` says about each end, unless the end's own agent has answered too.
fn believed<'a, T: Clone + 'a>(
    answer: &'a Answer,
    answers: &[Answer],
    of: impl Fn(&'a Answer) -> &'a [T],
    authority: impl Fn(&T) -> Option<End>,
) -> Vec<T> {
    let source_here = answers.iter().any(|answer| answer.source.here);
    let destination_here = answers.iter().any(is_destination_here);
    of(answer)
        .iter()
        .filter(|said| match authority(said) {
            None => true,
            Some(End::Source | End::Path) => answer.source.here || !source_here,
            Some(End::Destination) => is_destination_here(answer) || !destination_here,
        })
        .cloned()
        .collect()
}

fn is_destination_here(answer: &Answer) -> bool {
    answer.destination.endpoints.iter().any(|endpoint| endpoint.here)
}

fn facts(answers: &[Answer]) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    for answer in answers {
        for fact in believed(answer, answers, |answer| &answer.facts, |fact| Some(fact.end)) {
            if !facts.contains(&fact) {
                facts.push(fact);
            }
        }
    }
    facts.sort_by_key(|fact| fact.end);
    facts
}

/// A request that was answered well proves more than the connection that carried it: that began before.
fn newest_success(records: &[Kept], requests: &[KeptRequest]) -> Option<Timestamp> {
    let connections = records.iter().filter(|kept| kept.record.verdict == "allow").map(|kept| kept.record.time);
    let answered = |kept: &&KeptRequest| !kept.record.is_failure() && kept.record.outcome().is_empty();
    connections.chain(requests.iter().filter(answered).map(|kept| kept.record.time)).max()
}

/// One finding for each cause and end, without failures that a later success has answered; the likeliest cause first.
/// A record of the same cause, wherever it was made, is evidence and not a finding more.
fn ranked(findings: Vec<Finding>, success: Option<Timestamp>) -> Vec<Finding> {
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        let answered =
            finding.weight == Weight::Happened && finding.at.is_some_and(|at| success.is_some_and(|then| then > at));
        if answered {
            continue;
        }
        let same = |other: &&mut Finding| {
            let happened = [other.weight, finding.weight].contains(&Weight::Happened);
            other.cause == finding.cause && (other.end == finding.end || happened)
        };
        match kept.iter_mut().find(same) {
            Some(other) => {
                let (mut first, second) =
                    if finding.weight < other.weight { (finding, other.clone()) } else { (other.clone(), finding) };
                first.at = first.at.max(second.at);
                let more: Vec<_> =
                    second.evidence.into_iter().filter(|evidence| !first.evidence.contains(evidence)).collect();
                first.evidence.extend(more);
                *other = first;
            }
            None => kept.push(finding),
        }
    }
    kept.sort_by_key(|finding| (finding.weight, finding.vague, finding.end));
    kept
}

/// What a program reads.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    pub source: &'a str,
    pub destination: &'a str,
    /// The first finding's cause; null when nothing stands in the way.
    pub cause: Option<&'a str>,
    pub findings: &'a [Finding],
    pub facts: &'a [Fact],
    pub records: Vec<serde_json::Value>,
    pub requests: &'a [KeptRequest],
    pub unknown: &'a [String],
    /// Which snapshot each agent answered from.
    pub snapshots: &'a BTreeMap<String, String>,
}
