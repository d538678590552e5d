//! The table on paper. Losses stand in it as plainly as wins.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the output of this program")]

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::conditions::{Agents, Conditions};
use super::metric::Better;
use super::summary::{Row, Summary};
use crate::spread::Spread;

/// A line for whoever waits.
pub(crate) fn progress(line: &str) {
    eprintln!("bench: {line}");
}

/// Everything as one JSON object.
pub(super) fn json(summary: &Summary, conditions: &Conditions, agents: &Agents) -> Result<()> {
    let all = serde_json::json!({"conditions": conditions, "agents": agents, "rows": summary.rows});
    print_json(&all)
}

/// One object of any table.
pub(crate) fn print_json(all: &serde_json::Value) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(all)?);
    Ok(())
}

/// Everything for people.
pub(super) fn table(summary: &Summary, conditions: &Conditions, agents: &Agents) {
    print_conditions(conditions);
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(heading(summary));
    let mut load = "";
    for row in &summary.rows {
        if row.load != load {
            load = row.load;
            table.add_row(vec![load.to_owned()]);
        }
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    print_agents(agents);
}

fn print_conditions(conditions: &Conditions) {
    let Conditions { machine, rounds, workers, seed, .. } = conditions;
    println!("{machine}");
    println!(
        "{rounds} rounds in an order shuffled by seed {seed}, {workers} worker(s) in each agent, access log on. \
         Everything on one core; bulk: the first node on one core, the second node or the server on another."
    );
    println!(
        "direct: uncaptured pods of two nodes, by pod address. one-node, two-node: captured pods, mTLS, by Service."
    );
    println!("Median (least..most of the rounds); x: this path / direct, median of the rounds' own ratios.");
    println!("- less is better, + more is better. No network between the nodes: compare paths, not machines.");
    println!();
}

fn heading(summary: &Summary) -> Vec<String> {
    let mut words = vec![String::new(), "unit".to_owned()];
    for values in summary.rows.first().map(|row| &row.paths).into_iter().flatten() {
        words.push(values.path.to_owned());
        if values.path != super::Path::Direct.name() {
            words.push("x".to_owned());
        }
    }
    words
}

fn cells(row: &Row) -> Vec<String> {
    let sign = match row.better {
        Better::Lower => '-',
        Better::Higher => '+',
    };
    let mut cells = vec![format!("  {}", row.measure), format!("{} {sign}", row.unit)];
    for values in &row.paths {
        cells.push(Spread::text(values.value));
        if values.path != super::Path::Direct.name() {
            cells.push(Spread::text(values.ratio));
        }
    }
    cells
}

fn print_agents(agents: &Agents) {
    let megabytes = |bytes: &[u64]| -> Vec<String> {
        bytes.iter().map(|bytes| format!("{}.{}", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20)).collect()
    };
    if agents.resident_idle.is_empty() {
        return;
    }
    let carried = agents.carried;
    let share = carried.share_resumed().map_or_else(|| "none".to_owned(), |share| format!("{:.1} %", share * 100.0));
    println!();
    println!("agents' memory (RSS), idle: {} MiB", megabytes(&agents.resident_idle).join(" and "));
    println!("agents' memory (RSS), after the run: {} MiB", megabytes(&agents.resident_after).join(" and "));
    println!(
        "the clients' agent carried {} connections, {} of them under mTLS, {share} resumed",
        carried.connections, carried.mtls
    );
}
