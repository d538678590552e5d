//! The table of requests: Weft beside Envoy, `HAProxy` and nginx, in one interleaved run.
//!
//! Every proxy is measured as a pair under mTLS (one beside the client, one beside the server) and as one plaintext hop
//! beside the client, on the same path through the same kind of pods, under the same load. Every round measures every
//! layout with every load once, in an order shuffled anew. Nothing is judged but lost requests: targets are printed as met
//! or not met.

mod certificates;
mod layout;
mod measure;
mod peer;
mod print;
mod rest;
mod summary;
mod target;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;
use serde_json::Value;
use weft_rig::Sandbox;

use crate::ground::{Ground, GroundPlan};
use crate::machine::Machine;
use crate::scrape::Recorded;
use crate::table::{Output, Pace, progress};
use layout::{Layout, Proxy};
use measure::{Bench, Lengths, Measurement, Step};
use rest::Resting;
use summary::Summary;

/// How the table is made.
#[derive(Debug, Clone, Args)]
pub struct Requests {
    #[command(flatten)]
    pace: Pace,
    /// Only these proxies beside Weft; all by default.
    #[arg(long, value_enum)]
    beside: Vec<Proxy>,
}

/// Under which conditions the table came about.
#[derive(Debug, Serialize)]
struct Conditions {
    #[serde(flatten)]
    machine: Machine,
    rounds: usize,
    workers: usize,
    seed: u64,
    seconds: Lengths,
    /// What each peer says of its version.
    versions: Vec<String>,
}

impl From<&Pace> for Requests {
    fn from(pace: &Pace) -> Self {
        Self { pace: pace.clone(), beside: Vec::new() }
    }
}

/// Measures, prints, and fails if any request did.
pub fn run(plan: &Requests, sandbox: &Sandbox) -> Result<()> {
    let (outcome, measurements) = measure(plan, sandbox)?;
    match plan.pace.output {
        Output::Table => print::table(&outcome),
        Output::Json => crate::table::print_json(&outcome.json())?,
    }
    expect_no_failure(&measurements)
}

/// Everything that was found.
struct Outcome {
    conditions: Conditions,
    summary: Summary,
    resting: Vec<Resting>,
    recorded: Recorded,
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::json!({
            "conditions": self.conditions,
            "rows": self.summary.rows,
            "resting": self.resting,
            "weft_recorded": self.recorded,
            "targets": target::all(&self.summary, &self.resting),
        })
    }
}

fn measure(plan: &Requests, sandbox: &Sandbox) -> Result<(Outcome, Vec<Measurement>)> {
    let peers = Proxy::peers(&plan.beside);
    let lengths = if plan.pace.quick { Lengths::QUICK } else { Lengths::FULL };
    let ground = GroundPlan {
        clients: 1,
        workers: plan.pace.workers,
        agents: true,
        agent: plan.pace.agent.clone(),
        others: peers.iter().flat_map(|peer| peer.pods()).collect(),
        ..GroundPlan::default()
    };
    progress("putting the mesh and the proxies together");
    let mut bench = Bench::new(Ground::lay(sandbox, &ground)?, &peers, lengths)?;
    progress("memory at rest, and with resting connections");
    let resting = rest::measure(&mut bench, &peers)?;
    let layouts = Layout::all(&peers);
    for layout in &layouts {
        bench.warm_up(*layout).with_context(|| format!("{layout} does not work"))?;
    }
    let mut random = StdRng::seed_from_u64(plan.pace.seed);
    let mut measurements = Vec::new();
    let rounds = plan.pace.rounds();
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}"));
        let mut order: Vec<(Layout, Step)> =
            layouts.iter().flat_map(|layout| Step::ALL.map(|step| (*layout, step))).collect();
        order.shuffle(&mut random);
        for (layout, step) in order {
            measurements.push(bench.measure(layout, step).with_context(|| format!("{layout} {step:?}"))?);
        }
    }
    let conditions = Conditions {
        machine: Machine::now()?,
        rounds,
        workers: plan.pace.workers,
        seed: plan.pace.seed,
        seconds: lengths,
        versions: peers.iter().map(|peer| peer.version()).collect::<Result<_>>()?,
    };
    let summary = Summary::of(&measurements, &layouts);
    let recorded = bench.recorded()?;
    Ok((Outcome { conditions, summary, resting, recorded }, measurements))
}

fn expect_no_failure(measurements: &[Measurement]) -> Result<()> {
    let failed: Vec<String> = measurements
        .iter()
        .filter(|measurement| measurement.report.failed() > 0)
        .map(|measurement| format!("{} {:?}: {:?}", measurement.layout, measurement.step, measurement.report.errors))
        .collect();
    ensure!(failed.is_empty(), "requests failed:\n{}", failed.join("\n"));
    Ok(())
}
