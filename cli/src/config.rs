//! `weft config dump`: the configuration that each agent decides on.

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::agents::{self, Agent};
use crate::arguments::{Arguments, DumpArguments, Output};
use crate::paint::{Mood, Paint, complain, print, print_json, print_table};

pub async fn dump(arguments: &Arguments, options: &DumpArguments, paint: Paint) -> anyhow::Result<Outcome> {
    let mut agents = agents::find(&arguments.run_directories).await;
    if let Some(node) = &options.node {
        agents.retain(|agent| agent.node == *node);
        if agents.is_empty() {
            complain(format!("no agent of a node {node} is on this machine"));
            return Ok(Outcome::Usage);
        }
    }
    let mut outcome = Outcome::Fine;
    let mut snapshots = Map::new();
    for agent in &agents {
        match agent.ask::<Value>("/config", &[]).await {
            Ok(snapshot) => {
                snapshots.insert(agent.node.clone(), snapshot);
            }
            Err(error) => {
                outcome = Outcome::ProblemFound;
                complain(format!("the agent of {}: {error} ({})", agent.node, agent.socket().display()));
            }
        }
    }
    if arguments.output == Output::Json {
        print_json(&Value::Object(snapshots))?;
        return Ok(outcome);
    }
    for agent in &agents {
        if let Some(snapshot) = snapshots.get(&agent.node) {
            show(agent, snapshot, paint)?;
        }
    }
    Ok(outcome)
}

fn show(agent: &Agent, snapshot: &Value, paint: Paint) -> anyhow::Result<()> {
    print(paint.heading(format!(
        "Node {}, snapshot {}, trust domain {}",
        agent.node,
        text(&snapshot["version"]),
        text(&snapshot["trust_domain"])
    )))?;
    print(format!("captured networks: {}", list(&snapshot["captured_networks"])))?;
    print(format!("never captured:    {}", addresses(&snapshot["never_captured"])))?;
    print("")?;
    print_table(services(snapshot, paint))?;
    print("")?;
    print_table(workloads(snapshot, paint))?;
    print("")?;
    print_table(enrolments(snapshot, paint))?;
    print(paint.text(Mood::Faint, "everything, with policies and their rules: weft config dump -o json"))?;
    print("")
}

fn services(snapshot: &Value, paint: Paint) -> comfy_table::Table {
    let mut table = paint.table(&["SERVICE", "ADDRESSES", "PORT", "ENDPOINTS"]);
    for service in rows(&snapshot["services"], "name") {
        for port in service["ports"].as_array().into_iter().flatten() {
            let endpoints: Vec<_> =
                port["endpoints"].as_array().into_iter().flatten().map(|endpoint| text(&endpoint["address"])).collect();
            let mood = if endpoints.is_empty() { Mood::Bad } else { Mood::Plain };
            let endpoints = if endpoints.is_empty() { "none".to_owned() } else { endpoints.join(", ") };
            table.add_row(vec![
                paint.cell(Mood::Plain, text(&service["name"])),
                paint.cell(Mood::Plain, list(&service["addresses"])),
                paint.cell(Mood::Plain, text(&port["port"])),
                paint.cell(mood, endpoints),
            ]);
        }
    }
    table
}

fn workloads(snapshot: &Value, paint: Paint) -> comfy_table::Table {
    let mut table = paint.table(&["WORKLOAD", "NODE", "ADDRESSES", "MESH", "MTLS", "IDENTITY"]);
    for row in rows(&snapshot["workloads"], "name") {
        let (mood, mesh) = match (row["mesh_capable"] == json!(true), row["plaintext_permitted"] == json!(true)) {
            (true, false) => (Mood::Good, "yes"),
            (_, true) => (Mood::Doubtful, "plaintext permitted"),
            (false, false) => (Mood::Doubtful, "no"),
        };
        table.add_row(vec![
            paint.cell(Mood::Plain, text(&row["name"])),
            paint.cell(Mood::Plain, text(&row["node"])),
            paint.cell(Mood::Plain, list(&row["addresses"])),
            paint.cell(mood, mesh),
            paint.cell(Mood::Plain, text(&row["mtls"])),
            paint.cell(Mood::Faint, text(&row["identity"])),
        ]);
    }
    table
}

fn enrolments(snapshot: &Value, paint: Paint) -> comfy_table::Table {
    let mut table = paint.table(&["POD OF THIS NODE", "FAILS", "MTLS", "DECIDED BY", "POLICIES"]);
    for row in rows(&snapshot["enrolments"], "uid") {
        let name = &snapshot["workloads"][text(&row["uid"])]["name"];
        let policies: Vec<_> = row["policies"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|policy| {
                let dry = if policy["dry_run"] == json!(true) { " (dry run)" } else { "" };
                format!("{} {}{dry}", text(&policy["action"]), text(&policy["name"]))
            })
            .collect();
        let authentication = &row["authentication"];
        let mut modes = vec![text(&authentication["default"])];
        for pair in authentication["ports"].as_array().into_iter().flatten() {
            modes.push(format!("{}: {}", text(&pair[0]), text(&pair[1])));
        }
        table.add_row(vec![
            paint.cell(Mood::Plain, if name.is_null() { text(&row["uid"]) } else { text(name) }),
            paint.cell(Mood::Plain, text(&row["on_agent_failure"])),
            paint.cell(Mood::Plain, modes.join(", ")),
            paint.cell(Mood::Plain, text(&authentication["decided_by"])),
            paint.cell(Mood::Plain, if policies.is_empty() { "-".to_owned() } else { policies.join(", ") }),
        ]);
    }
    table
}

/// The members of a list or the values of a map, by one of their fields.
fn rows<'a>(value: &'a Value, by: &str) -> Vec<&'a Value> {
    let mut rows: Vec<_> = match value {
        Value::Array(rows) => rows.iter().collect(),
        Value::Object(rows) => rows.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    rows.sort_by_key(|row| text(&row[by]));
    rows
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn list(value: &Value) -> String {
    let texts: Vec<_> = value.as_array().into_iter().flatten().map(text).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}

/// Pairs of an address and perhaps a port.
fn addresses(value: &Value) -> String {
    let pairs = value.as_array().into_iter().flatten();
    let texts: Vec<_> = pairs
        .map(|pair| match pair[1].as_u64() {
            None => text(&pair[0]),
            Some(port) => format!("{}:{port}", text(&pair[0])),
        })
        .collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}
