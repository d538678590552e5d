//! `weft why REQUEST`: the cause first, then both agents' story of one request.

use serde::Serialize;

use crate::Outcome;
use crate::agents::Agent;
use crate::answers::{Finding, RequestTale, Weight};
use crate::arguments::{Arguments, Output};
use crate::join::KeptRequest;
use crate::paint::{Mood, Paint, ago, print, print_json, print_table};
use crate::why::show_findings;
use crate::why_record::agents_down;

/// A tale with the node that told it.
pub struct ToldRequest {
    pub node: String,
    pub tale: RequestTale,
}

pub fn show(
    arguments: &Arguments,
    agents: &[Agent],
    mut told: Vec<ToldRequest>,
    paint: Paint,
) -> anyhow::Result<Outcome> {
    told.sort_by_key(|told| told.tale.record.direction != "outbound");
    let findings = findings(agents, &told);
    let missing = missing(agents, &told);
    let broken = findings.iter().any(|finding| finding.weight <= Weight::Happened);
    let outcome = if broken { Outcome::ProblemFound } else { Outcome::Fine };
    if arguments.output == Output::Json {
        print_json(&Shown {
            request: told.first().map_or("", |told| &told.tale.record.request),
            cause: findings.first().map(|finding| finding.cause.as_str()),
            findings: &findings,
            records: told.iter().map(ToldRequest::kept).collect(),
            told: told.iter().map(|told| told.tale.sentences.as_slice()).collect(),
            unknown: &missing,
        })?;
        return Ok(outcome);
    }
    headline(&told, paint)?;
    if findings.is_empty() {
        print(paint.text(Mood::Good, "✓ It was answered well."))?;
        print("")?;
    } else {
        show_findings(&findings, paint)?;
    }
    for told in &told {
        let side = if told.tale.record.direction == "outbound" { "Source's side" } else { "Destination's side" };
        print(paint.heading(format!("{side}, node {}", told.node)))?;
        let mut table = paint.columns();
        for sentence in &told.tale.sentences {
            table.add_row(vec![paint.cell(Mood::Plain, "  "), paint.cell(Mood::Plain, sentence)]);
        }
        print_table(table)?;
    }
    for missing in &missing {
        print(paint.text(Mood::Doubtful, format!("? {missing}")))?;
    }
    Ok(outcome)
}

/// `Request 00c0… shop/client → shop/web-1  GET web.shop/cart  503`
fn headline(told: &[ToldRequest], paint: Paint) -> anyhow::Result<()> {
    let Some(first) = told.first() else { return Ok(()) };
    let record = &first.tale.record;
    let mood = if record.is_failure() { Mood::Bad } else { Mood::Plain };
    print(format!(
        "{}  {}  {}",
        paint.heading(format!("{} → {}", record.source.name(), record.destination.name())),
        paint.text(mood, format!("{} {}{} {}", record.method, record.host, record.path, record.answer())),
        paint.text(Mood::Faint, format!("request {}", record.request)),
    ))?;
    print("")
}

/// Each cause once: as the destination's agent tells it, where both do, for it has seen more.
fn findings(agents: &[Agent], told: &[ToldRequest]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for finding in told.iter().rev().flat_map(|told| &told.tale.findings) {
        match findings.iter_mut().find(|other| other.cause == finding.cause) {
            Some(other) => {
                let more = finding.evidence.iter().filter(|evidence| !other.evidence.contains(evidence));
                let more: Vec<_> = more.cloned().collect();
                other.evidence.extend(more);
            }
            None => findings.push(finding.clone()),
        }
    }
    if !findings.is_empty() {
        let parties = told.iter().flat_map(|told| [&told.tale.record.source, &told.tale.record.destination]);
        let known: Vec<_> = told.iter().map(|told| told.node.as_str()).collect();
        findings.extend(agents_down(agents, &parties.collect::<Vec<_>>(), &known));
    }
    findings.sort_by_key(|finding| (finding.vague, finding.weight, finding.end));
    findings
}

/// Where the other side's record may be, if no agent of this machine has it.
fn missing(agents: &[Agent], told: &[ToldRequest]) -> Vec<String> {
    let [only] = told else { return Vec::new() };
    let record = &only.tale.record;
    let other = if record.direction == "outbound" { &record.destination } else { &record.source };
    let node = other.node.as_deref().filter(|node| agents.iter().all(|agent| agent.node != **node));
    let ask = |node: &str| {
        let id = &record.request;
        format!("The agent of node {node} is not on this machine: its record is missing here. Ask there: weft why {id}")
    };
    node.map(ask).into_iter().collect()
}

pub fn table<'a>(requests: impl Iterator<Item = &'a KeptRequest>, paint: Paint) -> comfy_table::Table {
    let now = jiff::Timestamp::now();
    let mut table = paint.table(&["REQUEST", "WHEN", "NODE", "SIDE", "WHAT", "ANSWER", "REASON", "ROUTE", "TO"]);
    for KeptRequest { node, record } in requests {
        let mood = if record.is_failure() { Mood::Bad } else { Mood::Good };
        table.add_row(vec![
            paint.cell(Mood::Plain, &record.request),
            paint.cell(Mood::Plain, ago(record.time, now)),
            paint.cell(Mood::Plain, node),
            paint.cell(Mood::Plain, &record.direction),
            paint.cell(Mood::Plain, format!("{} {}", record.method, record.path)),
            paint.cell(mood, record.answer()),
            paint.cell(mood, if record.outcome().is_empty() { "-" } else { record.outcome() }),
            paint.cell(Mood::Plain, record.route.as_deref().unwrap_or("-")),
            paint.cell(Mood::Plain, record.destination.name()),
        ]);
    }
    table
}

impl ToldRequest {
    fn kept(&self) -> KeptRequest {
        KeptRequest { node: self.node.clone(), record: self.tale.record.clone() }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    request: &'a str,
    cause: Option<&'a str>,
    findings: &'a [Finding],
    records: Vec<KeptRequest>,
    /// For each record its sentences.
    told: Vec<&'a [String]>,
    unknown: &'a [String],
}
