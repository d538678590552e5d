//! The table of routing: what finding a request's rule costs, by the number of rules on one Service port.
//!
//! Counted in instructions, by callgrind, in a process of its own for each cell: unlike times they come out alike on a busy
//! machine. Every cell is the mean of [`REQUESTS`] requests for different rules. The rules are there in memory as an agent
//! holds them; how long these take to be put in order, and their memory, is told beside it.

mod print;
mod rules;

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use weft_agent::model::{Matches, Routes};

use crate::machine;
use crate::table::{Output, Pace};
use rules::Asked;
pub(crate) use rules::Kind;

/// Rules of one Service port: a small team's, a platform's, and as many as one port takes.
const RULES: [usize; 3] = [10, 1_000, 10_000];
/// The most that a request may cost among the most rules, of what it costs among the fewest.
const TARGET: f64 = 1.10;
/// Requests of one cell.
const REQUESTS: u32 = 1_000;
/// What callgrind counts, and nothing else: [`choose_all`] with all that it calls.
const COUNTED: &str = "--toggle-collect=*weft_bench*routing*choose_all*";

/// How the table is made.
#[derive(Debug, Clone, Args)]
pub struct Routing {
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// One cell, for callgrind to look at.
#[derive(Debug, Clone, Args)]
pub struct Choose {
    #[arg(long)]
    rules: usize,
    #[arg(long, value_enum)]
    kind: Kind,
}

impl From<&Pace> for Routing {
    fn from(pace: &Pace) -> Self {
        Self { output: pace.output }
    }
}

#[derive(Debug, Serialize)]
struct Outcome {
    target: f64,
    rows: Vec<Row>,
    held: Held,
}

#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    /// Instructions of one request, for each number of [`RULES`].
    instructions: Vec<f64>,
    /// Of the most rules, to those of the fewest.
    ratio: f64,
    met: bool,
}

/// What rules cost before any request.
#[derive(Debug, Clone, Copy, Serialize)]
struct Held {
    rules: usize,
    /// From rules in their order to an index of them.
    index_milliseconds: f64,
    /// Resident memory for each rule.
    index_bytes: u64,
    rule_bytes: u64,
}

/// Counts and prints; fails only if something cannot be counted.
pub fn run(plan: &Routing) -> Result<()> {
    // First, while this process has little memory of its own to take it from.
    let held = hold(RULES[RULES.len() - 1])?;
    let rows = Kind::value_variants().iter().map(|kind| row(*kind)).collect::<Result<_>>()?;
    let outcome = Outcome { target: TARGET, rows, held };
    match plan.output {
        Output::Table => print::table(&outcome),
        Output::Json => crate::table::print_json(&serde_json::to_value(&outcome)?)?,
    }
    Ok(())
}

/// What callgrind runs.
pub fn choose(cell: &Choose) -> Result<()> {
    let routes = rules::routes(cell.rules)?;
    let asked = rules::requests(cell.kind, cell.rules, REQUESTS as usize)?;
    let chosen = choose_all(&routes, &asked);
    let expected = if cell.kind == Kind::Nobody { 0 } else { asked.len() };
    ensure!(chosen == expected, "{chosen} of {} requests have a rule", asked.len());
    Ok(())
}

/// A function of its own, so that its instructions can be told from the others.
#[inline(never)]
fn choose_all(routes: &Routes, asked: &[Asked]) -> usize {
    asked.iter().filter(|one| routes.choose(&one.canonical, &one.headers).is_some()).count()
}

fn row(kind: Kind) -> Result<Row> {
    let instructions = RULES.map(|rules| count(rules, kind)).into_iter().collect::<Result<Vec<_>>>()?;
    let (fewest, most) = instructions.first().zip(instructions.last()).context("there are no rules")?;
    let ratio = most / fewest;
    Ok(Row { kind: kind.name(), instructions, ratio, met: ratio <= TARGET })
}

/// Instructions of one request.
fn count(rules: usize, kind: Kind) -> Result<f64> {
    let mut callgrind = Command::new("valgrind");
    callgrind.args(["--tool=callgrind", COUNTED, "--callgrind-out-file=/dev/stdout"]);
    callgrind.arg(std::env::current_exe()?).args(["choose", "--rules", &rules.to_string(), "--kind", kind.name()]);
    let output = callgrind.output().context("cannot run valgrind; `cargo xtask setup bench` installs it")?;
    let [counted, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    ensure!(output.status.success(), "callgrind failed: {said}");
    let total = counted.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u32>().ok());
    let total = total.filter(|total| *total > 0).with_context(|| format!("callgrind counted nothing: {said}"))?;
    Ok(f64::from(total) / f64::from(REQUESTS))
}

fn hold(rules: usize) -> Result<Held> {
    let resident = || machine::resident_bytes(std::process::id());
    let before = resident()?;
    let all = rules::matches(rules)?;
    let listed = resident()?;
    let start = Instant::now();
    let matches = Matches::new(all);
    let index_milliseconds = start.elapsed().as_secs_f64() * 1e3;
    let after = resident()?;
    let each = |bytes: u64| bytes / (matches.all().len() as u64).max(1);
    Ok(Held { rules, index_milliseconds, index_bytes: each(after - listed), rule_bytes: each(listed - before) })
}
