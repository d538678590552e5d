//! `weft why SOURCE DESTINATION`.

use crate::agents::{self, Agent};
use crate::answers::{Answer, Finding, Weight};
use crate::arguments::{Arguments, Output, WhyArguments};
use crate::ask::AskError;
use crate::join::{DeadAgent, Joined, Kept, KeptRequest, Shown, join};
use crate::paint::{Mood, Paint, ago, complain, print, print_json, print_table};
use crate::{Outcome, why_record, why_request};

/// Connections of a pair that are shown.
const RECORDS_SHOWN: usize = 8;

pub async fn run(arguments: &Arguments, question: &WhyArguments, paint: Paint) -> anyhow::Result<Outcome> {
    let agents = agents::find(&arguments.run_directories).await;
    let Some(destination) = &question.destination else {
        return why_record::run(arguments, &agents, &question.subject, paint).await;
    };
    let asked = ask_all(&agents, question, destination).await;
    match join(&asked.answers, &dead(&agents), &answering(&agents)) {
        Some(joined) => show(arguments, &joined, paint),
        None => unanswered(arguments, &agents, &asked.declined, paint),
    }
}

/// The agents that cannot be asked.
pub fn dead(agents: &[Agent]) -> Vec<DeadAgent> {
    let dead = |agent: &Agent| {
        Some(DeadAgent {
            node: agent.node.clone(),
            problem: agent.problem()?.to_string(),
            socket: agent.socket().display().to_string(),
        })
    };
    agents.iter().filter_map(dead).collect()
}

pub fn answering(agents: &[Agent]) -> Vec<String> {
    agents.iter().filter(|agent| agent.status().is_some()).map(|agent| agent.node.clone()).collect()
}

struct Asked {
    answers: Vec<Answer>,
    /// What agents said that cannot answer.
    declined: Vec<String>,
}

/// Asks every agent. What the source's own agent says the source would speak decides what the others are asked.
async fn ask_all(agents: &[Agent], question: &WhyArguments, destination: &str) -> Asked {
    let mut asked = Asked { answers: Vec::new(), declined: Vec::new() };
    let port = question.port.map(|port| port.to_string());
    let headers = Some(question.header.join("\n")).filter(|headers| !headers.is_empty());
    let mut parameters = vec![("source", question.subject.as_str()), ("destination", destination)];
    let optional = [
        ("port", port.as_deref()),
        ("method", question.method.as_deref()),
        ("path", question.path.as_deref()),
        ("host", question.host.as_deref()),
        ("headers", headers.as_deref()),
    ];
    parameters.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    for agent in agents.iter().filter(|agent| agent.status().is_some()) {
        match agent.ask::<Answer>("/why", &parameters).await {
            Ok(answer) => asked.answers.push(answer),
            Err(AskError::Declined(problem)) => asked.declined.push(problem),
            Err(error) => asked.declined.push(format!("the agent of {}: {error}", agent.node)),
        }
    }
    let own = asked.answers.iter().find(|answer| answer.source.here).map(|answer| answer.source.speaks.clone());
    if let Some(speaks) = own {
        parameters.push(("security", speaks.as_str()));
        for answer in asked.answers.iter_mut().filter(|answer| !answer.source.here && answer.source.speaks != speaks) {
            let Some(agent) = agents.iter().find(|agent| agent.node == answer.node) else { continue };
            if let Ok(better) = agent.ask::<Answer>("/why", &parameters).await {
                *answer = better;
            }
        }
    }
    asked
}

/// Nobody could answer: dead agents are the cause, or the names mean nothing.
fn unanswered(arguments: &Arguments, agents: &[Agent], declined: &[String], paint: Paint) -> anyhow::Result<Outcome> {
    let dead = dead(agents);
    if let Some(problem) = declined.first() {
        let also: Vec<_> =
            dead.iter().map(|agent| format!("the agent of {} is down ({})", agent.node, agent.socket)).collect();
        let also = if also.is_empty() { String::new() } else { format!("; {}", also.join(", ")) };
        complain(format!("{problem}{also}"));
        return Ok(Outcome::Usage);
    }
    if arguments.output == Output::Json {
        let causes: Vec<_> = dead.iter().map(|agent| format!("{}: {}", agent.socket, agent.problem)).collect();
        print_json(&serde_json::json!({ "cause": "agent_down", "findings": [], "unknown": causes }))?;
        return Ok(Outcome::ProblemFound);
    }
    print(
        paint.text(
            Mood::Bad,
            "✗ agent_down  No agent of this machine answers, so nobody can tell about this connection.",
        ),
    )?;
    for agent in &dead {
        print(format!("    {}: {}", agent.socket, agent.problem))?;
    }
    print("    Start the agents (weft-agent run), or say where they run with --run-dir.")?;
    Ok(Outcome::ProblemFound)
}

fn show(arguments: &Arguments, joined: &Joined, paint: Paint) -> anyhow::Result<Outcome> {
    let outcome = if joined.is_broken() { Outcome::ProblemFound } else { Outcome::Fine };
    if arguments.output == Output::Json {
        print_json(&Shown {
            source: &joined.source,
            destination: &joined.destination,
            cause: joined.cause(),
            findings: &joined.findings,
            facts: &joined.facts,
            records: joined.records.iter().map(why_record::as_json).collect(),
            requests: &joined.requests,
            unknown: &joined.unknown,
            snapshots: &joined.snapshots,
        })?;
        return Ok(outcome);
    }
    let snapshots: Vec<_> = joined.snapshots.iter().map(|(node, version)| format!("{node}: {version}")).collect();
    print(format!(
        "{}  {}",
        paint.heading(format!("{} → {}", joined.source, joined.destination)),
        paint.text(Mood::Faint, format!("snapshots {}", snapshots.join(", ")))
    ))?;
    print("")?;
    show_findings(&joined.findings, paint)?;
    show_facts(joined, paint)?;
    show_requests(&joined.requests, paint)?;
    show_records(&joined.records, paint)?;
    Ok(outcome)
}

/// The first finding in full, the others below it.
pub fn show_findings(findings: &[Finding], paint: Paint) -> anyhow::Result<()> {
    let Some((first, others)) = findings.split_first() else {
        print(paint.text(Mood::Good, "✓ Nothing that is known stands in the way."))?;
        return print("");
    };
    show_finding(first, paint)?;
    if !others.is_empty() {
        print(paint.heading("Also found"))?;
        for finding in others {
            show_finding(finding, paint)?;
        }
    }
    Ok(())
}

fn show_finding(finding: &Finding, paint: Paint) -> anyhow::Result<()> {
    let (mood, mark) = mark(finding.weight);
    print(paint.text(mood, format!("{mark} {}", finding.cause)))?;
    let mut table = paint.columns();
    let mut row = |label: &str, text: &str| {
        table.add_row(vec![paint.cell(Mood::Plain, ""), paint.cell(Mood::Faint, label), paint.cell(Mood::Plain, text)]);
    };
    row("cause", &finding.summary);
    for evidence in &finding.evidence {
        row("evidence", evidence);
    }
    row("fix", &finding.fix);
    print_table(table)?;
    print("")
}

const fn mark(weight: Weight) -> (Mood, &'static str) {
    match weight {
        Weight::Blocks | Weight::Happened => (Mood::Bad, "✗"),
        Weight::Weakens => (Mood::Doubtful, "!"),
        Weight::Counted => (Mood::Plain, "·"),
    }
}

fn show_facts(joined: &Joined, paint: Paint) -> anyhow::Result<()> {
    print(paint.heading("What would be decided now"))?;
    let mut table = paint.columns();
    for (number, fact) in joined.facts.iter().enumerate() {
        table.add_row(vec![paint.cell(Mood::Faint, format!("  {}.", number + 1)), paint.cell(Mood::Plain, &fact.text)]);
    }
    for unknown in &joined.unknown {
        table.add_row(vec![paint.cell(Mood::Doubtful, "  ?"), paint.cell(Mood::Plain, unknown)]);
    }
    print_table(table)?;
    print("")
}

/// The newest of them, if there are some.
pub fn show_requests(requests: &[KeptRequest], paint: Paint) -> anyhow::Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    print(paint.heading("Last requests"))?;
    print_table(why_request::table(requests.iter().take(RECORDS_SHOWN), paint))?;
    match requests.len().saturating_sub(RECORDS_SHOWN) {
        0 => print(""),
        more => print(paint.text(Mood::Faint, format!("and {more} more; weft why REQUEST tells of one\n"))),
    }
}

fn show_records(records: &[Kept], paint: Paint) -> anyhow::Result<()> {
    if records.is_empty() {
        return print(paint.text(Mood::Faint, "No agent has kept a record of a connection of this pair."));
    }
    print(paint.heading("Last connections"))?;
    print_table(records_table(records.iter().take(RECORDS_SHOWN), paint))?;
    match records.len().saturating_sub(RECORDS_SHOWN) {
        0 => Ok(()),
        more => print(paint.text(Mood::Faint, format!("and {more} more; weft why CONNECTION tells of one"))),
    }
}

pub fn records_table<'a>(records: impl Iterator<Item = &'a Kept>, paint: Paint) -> comfy_table::Table {
    let now = jiff::Timestamp::now();
    let mut table = paint.table(&["CONNECTION", "WHEN", "NODE", "SIDE", "SECURITY", "VERDICT", "REASON", "RULE"]);
    for Kept { node, record } in records {
        let mood = match record.verdict.as_str() {
            "allow" => Mood::Good,
            "deny" => Mood::Bad,
            _ => Mood::Doubtful,
        };
        table.add_row(vec![
            paint.cell(Mood::Plain, &record.id),
            paint.cell(Mood::Plain, ago(record.time, now)),
            paint.cell(Mood::Plain, node),
            paint.cell(Mood::Plain, &record.direction),
            paint.cell(Mood::Plain, &record.security),
            paint.cell(mood, &record.verdict),
            paint.cell(mood, &record.reason),
            paint.cell(Mood::Plain, record.rule.as_deref().unwrap_or("-")),
        ]);
    }
    table
}
