//! The table: paths through the mesh against the direct one, in one interleaved run.
//!
//! Every round measures every path with every load once, in an order shuffled anew, so that whatever else
//! the machine does meets all paths alike. Medians and ratios are over rounds. Nothing is judged: a slow
//! path is a number, and only exchanges that failed make the run fail.

mod conditions;
mod measure;
mod metric;
mod print;
mod summary;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use weft_rig::Sandbox;

use crate::ground::{Ground, GroundPlan};
use measure::{Bench, Lengths, Measurement, Step};
pub(crate) use print::{print_json, progress};
use summary::Summary;

/// Rounds whose medians mean something.
const ROUNDS: usize = 7;
/// The least that are: a median of five stands two disturbed rounds.
const ROUNDS_QUICK: usize = 5;
/// Rounds that fit into a coffee.
const ROUNDS_MAXIMUM: usize = 25;

/// How a table is made.
#[derive(Debug, Clone, Args)]
pub struct Pace {
    /// Five short rounds: a minute or two instead of several.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds, at most 25; fewer than 5 say little.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=ROUNDS_MAXIMUM as i64))]
    rounds: Option<u32>,
    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Worker threads of each agent.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
    /// The agent to measure; by default the one beside this program.
    #[arg(long, env = "WEFT_BENCH_AGENT", value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,
    /// The order of the measurements comes from this number.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// The table of connections.
#[derive(Debug, Clone, Args)]
pub struct Table {
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// Only the direct path, without Weft: shows how steady this machine is.
    #[arg(long)]
    direct_only: bool,
}

/// The form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs, with the value of every round.
    Json,
}

/// A path from a client to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Path {
    /// Uncaptured pods of two nodes, by the pod's address.
    Direct,
    /// Captured pods of one node, by the Service.
    OneNode,
    /// Captured pods of two nodes, by the Service.
    TwoNode,
}

impl Path {
    const ALL: [Self; 3] = [Self::Direct, Self::OneNode, Self::TwoNode];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::OneNode => "one-node",
            Self::TwoNode => "two-node",
        }
    }
}

/// Measures, prints, and fails if any exchange did.
pub fn run(plan: &Table, sandbox: &Sandbox) -> Result<()> {
    let paths = if plan.direct_only { &Path::ALL[..1] } else { &Path::ALL[..] };
    let lengths = if plan.pace.quick { Lengths::QUICK } else { Lengths::FULL };
    let rounds = plan.pace.rounds();
    let ground = GroundPlan {
        clients: 1,
        workers: plan.pace.workers,
        agents: !plan.direct_only,
        agent: plan.pace.agent.clone(),
        ..GroundPlan::default()
    };
    progress("putting the mesh together");
    let mut bench = Bench::new(Ground::lay(sandbox, &ground)?, lengths)?;
    let idle = bench.agents_resident()?;
    let mut measurements = Vec::new();
    let mut random = StdRng::seed_from_u64(plan.pace.seed);
    for path in paths {
        bench.warm_up(*path).with_context(|| format!("the {} path does not work", path.name()))?;
    }
    let before = bench.carried()?;
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}"));
        let mut order: Vec<(Path, Step)> = paths.iter().flat_map(|path| Step::ALL.map(|step| (*path, step))).collect();
        order.shuffle(&mut random);
        for (path, step) in order {
            measurements.push(bench.measure(path, step).with_context(|| format!("{} {step:?}", path.name()))?);
        }
    }
    let conditions = conditions::Conditions::now(plan, rounds, lengths)?;
    let agents = conditions::Agents::new(idle, bench.agents_resident()?, bench.carried()?.since(before));
    let summary = Summary::of(&measurements, paths);
    match plan.pace.output {
        Output::Table => print::table(&summary, &conditions, &agents),
        Output::Json => print::json(&summary, &conditions, &agents)?,
    }
    expect_no_failure(&measurements)
}

impl From<&Pace> for Table {
    fn from(pace: &Pace) -> Self {
        Self { pace: pace.clone(), direct_only: false }
    }
}

impl Pace {
    pub(crate) fn rounds(&self) -> usize {
        let usual = if self.quick { ROUNDS_QUICK } else { ROUNDS };
        self.rounds.map_or(usual, |rounds| usize::try_from(rounds).unwrap_or(ROUNDS_MAXIMUM))
    }
}

fn expect_no_failure(measurements: &[Measurement]) -> Result<()> {
    let failed: Vec<String> = measurements
        .iter()
        .filter(|measurement| measurement.report.failed() > 0)
        .map(|measurement| {
            format!("{} {:?}: {:?}", measurement.path.name(), measurement.step, measurement.report.errors)
        })
        .collect();
    ensure!(failed.is_empty(), "exchanges failed:\n{}", failed.join("\n"));
    Ok(())
}
