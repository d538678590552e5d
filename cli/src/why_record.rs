//! `weft why ID`: both agents' story of one connection; that of a request is told by `why_request`.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Outcome;
use crate::agents::Agent;
use crate::answers::{End, Finding, Party, Record, Tale, Tales, Weight};
use crate::arguments::{Arguments, Output};
use crate::ask::AskError;
use crate::join::{DeadAgent, Kept};
use crate::paint::{Mood, Paint, complain, print, print_json, print_table};
use crate::why::{dead, show_findings};
use crate::why_request::{self, ToldRequest};

/// The other side's record of a connection that never got to telling its id begins within this time, in seconds.
const PARTNER_WINDOW: i64 = 10;

/// A record is kept a moment after its answer has ended, and people ask faster than that: so often it is looked for ...
const LOOKS: usize = 5;
/// ... and with such a pause.
const PAUSE: Duration = Duration::from_millis(100);

/// A tale with the node that told it.
struct Told {
    node: String,
    tale: Tale,
    /// Found by its pods and its time, not by its id.
    probable: bool,
}

pub async fn run(arguments: &Arguments, agents: &[Agent], id: &str, paint: Paint) -> anyhow::Result<Outcome> {
    let Some((mut told, mut requests)) = ask(agents, id).await else { return Ok(Outcome::Usage) };
    for _ in 0..LOOKS {
        if !told.is_empty() || !requests.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        let Some(found) = ask(agents, id).await else { return Ok(Outcome::Usage) };
        (told, requests) = found;
    }
    if !requests.is_empty() {
        return why_request::show(arguments, agents, requests, paint);
    }
    if told.is_empty() {
        return none(arguments, agents, id, paint);
    }
    if let Some(partner) = partner(agents, &told).await {
        told.push(partner);
    }
    told.sort_by_key(|told| told.tale.record.direction != "outbound");
    show(arguments, agents, &told, paint)
}

/// None: the question means nothing.
async fn ask(agents: &[Agent], id: &str) -> Option<(Vec<Told>, Vec<ToldRequest>)> {
    let (mut told, mut requests) = (Vec::new(), Vec::new());
    for agent in agents.iter().filter(|agent| agent.status().is_some()) {
        match agent.ask::<Tales>("/why", &[("id", id)]).await {
            Ok(tales) => {
                let node = || tales.node.clone();
                requests.extend(tales.requests.into_iter().map(|tale| ToldRequest { node: node(), tale }));
                told.extend(tales.records.into_iter().map(|tale| Told { node: node(), tale, probable: false }));
            }
            Err(AskError::Declined(problem)) => {
                complain(format!("{problem}; for a pair of pods say: weft why SOURCE DESTINATION:PORT"));
                return None;
            }
            Err(error) => complain(format!("the agent of {}: {error}", agent.node)),
        }
    }
    Some((told, requests))
}

/// A handshake that failed never told the other side its id: the same pods at the same time are the same connection.
async fn partner(agents: &[Agent], told: &[Told]) -> Option<Told> {
    let [only] = told else { return None };
    let record = &only.tale.record;
    let wanted = if record.direction == "outbound" { "inbound" } else { "outbound" };
    let parameters = [("source", record.source.name()), ("destination", record.destination.name()), ("limit", "200")];
    for agent in agents.iter().filter(|agent| agent.status().is_some()) {
        let Ok(others) = agent.ask::<Vec<Record>>("/records", &parameters).await else { continue };
        let near = others
            .into_iter()
            .filter(|other| other.direction == wanted && other.id != record.id)
            .min_by_key(|other| distance(other.time, record.time))
            .filter(|other| distance(other.time, record.time) <= PARTNER_WINDOW && other.verdict != "allow");
        if let Some(near) = near {
            let tales: Tales = agent.ask("/why", &[("id", &near.id)]).await.ok()?;
            let tale = tales.records.into_iter().next()?;
            return Some(Told { node: tales.node, tale, probable: true });
        }
    }
    None
}

fn distance(one: Timestamp, other: Timestamp) -> i64 {
    one.duration_since(other).as_secs().abs()
}

fn none(arguments: &Arguments, agents: &[Agent], id: &str, paint: Paint) -> anyhow::Result<Outcome> {
    let dead = dead(agents);
    if arguments.output == Output::Json {
        let dead: Vec<_> = dead.iter().map(|agent| json!({ "node": agent.node, "problem": agent.problem })).collect();
        print_json(&json!({ "id": id, "cause": null, "records": [], "dead_agents": dead }))?;
        return Ok(Outcome::ProblemFound);
    }
    print(paint.text(
        Mood::Bad,
        format!("✗ No agent of this machine has a record of {id}, as a request or as a connection."),
    ))?;
    print(
        "    Each keeps the last thousand of each kind in memory, until it ends; older ones are in the access logs.",
    )?;
    for agent in &dead {
        print(format!("    The agent of {} is down: {} ({})", agent.node, agent.problem, agent.socket))?;
    }
    Ok(Outcome::ProblemFound)
}

fn show(arguments: &Arguments, agents: &[Agent], told: &[Told], paint: Paint) -> anyhow::Result<Outcome> {
    let findings = findings(agents, told);
    let outcome = if findings.is_empty() { Outcome::Fine } else { Outcome::ProblemFound };
    if arguments.output == Output::Json {
        print_json(&Shown {
            connection: &told.first().map(|told| told.tale.record.id.clone()).unwrap_or_default(),
            cause: findings.first().map(|finding| finding.cause.as_str()),
            findings: &findings,
            records: told
                .iter()
                .map(|told| as_json(&Kept { node: told.node.clone(), record: told.tale.record.clone() }))
                .collect(),
            told: told.iter().map(|told| told.tale.sentences.clone()).collect(),
        })?;
        return Ok(outcome);
    }
    for told in told {
        let record = &told.tale.record;
        let probable =
            if told.probable { " (by pods and time: the handshake did not get to telling the id)" } else { "" };
        print(
            paint.heading(format!("Connection {}, {} side, node {}{probable}", record.id, record.direction, told.node)),
        )?;
        let mut table = paint.columns();
        for sentence in &told.tale.sentences {
            table.add_row(vec![paint.cell(Mood::Plain, "  "), paint.cell(Mood::Plain, sentence)]);
        }
        print_table(table)?;
        print("")?;
    }
    if findings.is_empty() {
        print(paint.text(Mood::Good, "✓ It was carried until its applications ended it."))?;
    } else {
        show_findings(&findings, paint)?;
    }
    Ok(outcome)
}

/// What ended it, by both records: the side that knows better first, and agents that have died since.
fn findings(agents: &[Agent], told: &[Told]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Told { node, tale, .. } in told {
        let Some(explanation) = &tale.explanation else { continue };
        let record = &tale.record;
        let detail = record.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let mut evidence = vec![format!("Record {} of node {node}{detail}.", record.id)];
        evidence.extend(record.rule.as_deref().map(|rule| format!("Rule {rule}.")));
        evidence.push(explanation.evidence.clone());
        findings.push(Finding {
            cause: record.reason.clone(),
            weight: Weight::Happened,
            end: if record.direction == "outbound" { End::Source } else { End::Destination },
            vague: is_vague(&record.reason),
            at: Some(record.time),
            summary: explanation.cause.clone(),
            evidence,
            fix: explanation.fix.clone(),
        });
    }
    if !findings.is_empty() {
        let parties = told.iter().flat_map(|told| [&told.tale.record.source, &told.tale.record.destination]);
        let known: Vec<_> = told.iter().map(|told| told.node.as_str()).collect();
        findings.extend(agents_down(agents, &parties.collect::<Vec<_>>(), &known));
    }
    findings.sort_by_key(|finding| (finding.vague, finding.weight, finding.end));
    findings.dedup_by(|second, first| second.cause == first.cause);
    findings
}

/// The agents of these parties that are not `known` to have told anything, and are dead.
pub fn agents_down(agents: &[Agent], parties: &[&Party], known: &[&str]) -> Vec<Finding> {
    let concerned = |node: &str| parties.iter().any(|party| party.node.as_deref() == Some(node));
    let missing =
        dead(agents).into_iter().filter(|agent| concerned(&agent.node) && !known.contains(&agent.node.as_str()));
    let finding = |agent: DeadAgent| Finding {
        cause: "agent_down".to_owned(),
        weight: Weight::Blocks,
        end: End::Path,
        vague: false,
        at: None,
        summary: format!("The agent of node {}, on the other side, is down now.", agent.node),
        evidence: vec![format!("{}: {}.", agent.socket, agent.problem)],
        fix: "Start the agent on that node (weft-agent run), and look into its log for why it ended.".to_owned(),
    };
    missing.map(finding).collect()
}

/// Reasons that the other side usually has a better word for.
fn is_vague(reason: &str) -> bool {
    matches!(
        reason,
        "handshake_failed"
            | "handshake_timeout"
            | "peer_agent_down"
            | "upstream_refused"
            | "upstream_reset"
            | "downstream_reset"
            | "bad_preamble"
    )
}

#[derive(Serialize)]
struct Shown<'a> {
    connection: &'a str,
    cause: Option<&'a str>,
    findings: &'a [Finding],
    records: Vec<Value>,
    /// For each record its sentences.
    told: Vec<Vec<String>>,
}

/// A record as the agent wrote it, with the node that kept it.
pub fn as_json(kept: &Kept) -> Value {
    let record = &kept.record;
    let mut value = json!({
        "node": kept.node,
        "id": record.id,
        "time": record.time,
        "direction": record.direction,
        "verdict": record.verdict,
        "reason": record.reason,
        "rule": record.rule,
        "detail": record.detail,
        "security": record.security,
        "duration_seconds": record.duration_seconds,
        "source": record.source,
        "destination": record.destination,
        "service": record.service,
    });
    if let Value::Object(fields) = &mut value {
        fields.extend(record.rest.clone());
    }
    value
}
