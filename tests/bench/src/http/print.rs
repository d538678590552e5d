//! The table of requests on paper. Losses stand in it as plainly as wins.
#![expect(clippy::print_stdout, reason = "the table is the output of this program")]

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::layout::Proxy;
use super::measure::Step;
use super::rest::Resting;
use super::summary::{Measure, Row, Summary};
use super::{Conditions, Outcome, target};
use crate::scrape::Recorded;
use crate::spread::{Spread, number};

/// Everything for people.
pub(super) fn table(outcome: &Outcome) {
    print_conditions(&outcome.conditions);
    for step in Step::ALL {
        let rows: Vec<&Row> = outcome.summary.rows.iter().filter(|row| row.step == step).collect();
        print_step(step, &rows);
    }
    print_resting(&outcome.resting);
    let Recorded { requests, dropped } = outcome.recorded;
    println!("Weft's agents counted and logged {requests} requests, and lost the records of {dropped}.\n");
    print_verdicts(&outcome.summary);
    print_targets(outcome);
}

fn print_conditions(conditions: &Conditions) {
    let Conditions { machine, rounds, workers, seed, versions, .. } = conditions;
    println!("{machine}");
    println!("{}", versions.join("\n"));
    println!(
        "HTTP/1.1 POST, 1 KiB each way, keep-alive; {rounds} rounds in an order shuffled by seed {seed}; {workers} worker(s) \
         in each agent, one in each peer. Connections to upstreams are kept alive by all."
    );
    println!(
        "pair: client, proxy, mTLS, proxy, server: TLS 1.3, AES-128-GCM, P-256 certificates on both sides. hop: client, proxy, \
         server, plaintext."
    );
    println!(
        "Everybody writes one line of JSON for each request and process into a file: Weft and Envoy from a thread of their \
         own or in bulk, nginx in bulk, HAProxy line by line. Weft and Envoy also count requests for their metrics."
    );
    println!("Median (least..most of the rounds); added: minus the direct layout of the same round and load.");
    println!(
        "W/: Weft in the same arrangement divided by this one, median of the rounds' own ratios: below 1 Weft wins."
    );
    println!();
}

fn print_step(step: Step, rows: &[&Row]) {
    println!("{step}");
    let mut table = empty();
    let mut heading = vec![String::new()];
    for measure in Measure::ALL {
        heading.push(measure.heading().to_owned());
        if measure.is_compared() {
            heading.push("W/".to_owned());
        }
    }
    table.set_header(heading);
    for row in rows {
        let mut cells = vec![format!("  {}", row.layout)];
        for values in &row.measures {
            cells.push(text(values.spread));
            if values.measure.is_compared() {
                cells.push(values.weft.map_or_else(String::new, |ratio| number(ratio.median)));
            }
        }
        table.add_row(cells);
    }
    print(&mut table);
}

fn print_resting(resting: &[Resting]) {
    println!("memory (RSS of all processes), near: beside the client, far: beside the server");
    let mut table = empty();
    let connections = resting.first().map_or(0, |resting| resting.connections);
    table.set_header(["", "idle near MiB", "idle far MiB", "W/", "near KiB each", "far KiB each", "W/"]);
    let weft = resting.iter().find(|resting| resting.proxy == Proxy::Weft);
    for resting in resting {
        let ratio = |value: fn(&Resting) -> f64| {
            let weft = weft.filter(|_| resting.proxy != Proxy::Weft && value(resting) > 0.0);
            weft.map_or_else(String::new, |weft| number(value(weft) / value(resting)))
        };
        let Resting { idle, per_connection, .. } = resting;
        table.add_row([
            format!("  {}", resting.proxy.name()),
            number(float(idle[0]) / 1_048_576.0),
            number(float(idle[1]) / 1_048_576.0),
            ratio(|resting| float(resting.idle[0] + resting.idle[1])),
            number(signed(per_connection[0]) / 1024.0),
            number(signed(per_connection[1]) / 1024.0),
            ratio(|resting| signed(resting.per_connection[0] + resting.per_connection[1])),
        ]);
    }
    println!("each: of {connections} client connections that carried one request and rest, through the pair");
    print(&mut table);
}

/// How many comparisons Weft wins, and every one that it loses.
fn print_verdicts(summary: &Summary) {
    let mut wins = 0;
    let mut losses: Vec<(Step, Measure, Vec<String>)> = Vec::new();
    for row in &summary.rows {
        for values in &row.measures {
            match values.weft {
                None => {}
                Some(ratio) if ratio.median <= 1.0 => wins += 1,
                Some(ratio) => {
                    let line = format!("{} {}", row.layout, number(ratio.median));
                    let known =
                        losses.iter_mut().find(|(step, measure, _)| (*step, *measure) == (row.step, values.measure));
                    match known {
                        Some((.., lines)) => lines.push(line),
                        None => losses.push((row.step, values.measure, vec![line])),
                    }
                }
            }
        }
    }
    let lost: usize = losses.iter().map(|(.., lines)| lines.len()).sum();
    println!("Weft wins {wins} of {} comparisons (W/ at most 1) and loses {lost}:", wins + lost);
    for (step, measure, lines) in losses {
        println!("  {step}, {}: {}", measure.heading(), lines.join(", "));
    }
    println!();
}

fn print_targets(outcome: &Outcome) {
    println!("targets");
    let mut table = empty();
    for target in target::all(&outcome.summary, &outcome.resting) {
        let verdict = if target.met { "met" } else { "NOT MET" };
        let at_most = format!("at most {}", number(target.at_most));
        table.add_row([format!("  {}", target.name), text(Some(target.ratio)), at_most, verdict.to_owned()]);
    }
    print(&mut table);
}

fn empty() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn print(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}\n");
}

fn text(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| Spread::text(Some(spread)))
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn signed(bytes: i64) -> f64 {
    bytes as f64
}
