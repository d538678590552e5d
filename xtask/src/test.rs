//! `cargo xtask test [TIER]`: the tiers, one after the other, and one table at the end.
//!
//! Nothing is skipped: a tier that cannot run, runs no test or ignores one has failed.

mod cluster;
mod control;
mod counts;
mod initramfs;
mod kernels;
mod reasons;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use self::counts::Counts;
use self::reasons::Reasons;
use super::{build, run, setup, step, table, workspace};

/// The longest that the kernel or netns tier may take; each takes a few minutes.
const TIER_LIMIT: Duration = Duration::from_mins(30);

/// The longest that one proof in full may take: the longest run upgrades and kills by the hundred.
const PROOF_LIMIT: Duration = Duration::from_hours(1);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Pure logic; needs nothing.
    Unit,
    /// Every BPF rule against the running kernel; needs root.
    Kernel,
    /// Whole nodes out of network namespaces; needs root.
    Netns,
    /// Gateway API's specification, row by row, on the same kind of nodes; needs root.
    Conformance,
    /// The controller on a real Kubernetes API server, without nodes; needs root; runs by name only.
    Control,
    /// A real Kubernetes with two nodes; needs root; runs by name only.
    Cluster,
    /// The same with the other options of a cluster: cgroup v2 alone, point-to-point links, iptables; by name only.
    ClusterV2,
    /// The kernel tier on the oldest supported kernels, inside QEMU; runs by name only.
    Kernels,
}

impl Tier {
    /// What `cargo xtask test` runs when no tier is named.
    const DEFAULT: [Self; 4] = [Self::Unit, Self::Kernel, Self::Netns, Self::Conformance];

    /// The programs of all tiers: built in one call, so that no dependency is built twice.
    pub const PROGRAMS: [&str; 5] =
        ["weft-kernel-tier", "weft-netns-tier", "weft-conformance-tier", "weft-control-tier", "weft-cluster-tier"];

    /// The word for it on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
            Self::Conformance => "conformance",
            Self::Control => "control",
            Self::Cluster => "cluster",
            Self::ClusterV2 => "cluster-v2",
            Self::Kernels => "kernels",
        }
    }

    /// The package, and the program of the same name, that holds the tier's tests.
    pub fn program(self) -> &'static str {
        match self {
            Self::Unit => "cargo",
            Self::Kernel | Self::Kernels => "weft-kernel-tier",
            Self::Netns => "weft-netns-tier",
            Self::Conformance => "weft-conformance-tier",
            Self::Control => "weft-control-tier",
            Self::Cluster | Self::ClusterV2 => "weft-cluster-tier",
        }
    }
}

/// One row of the closing table.
struct Outcome {
    name: String,
    counts: Counts,
    time: Duration,
    /// Why the tier failed, apart from failed tests.
    failure: Option<String>,
}

impl Outcome {
    /// Times a tier and turns whatever went wrong into a row of the table.
    fn of(name: &str, work: impl FnOnce() -> Result<Counts>) -> Self {
        let started = Instant::now();
        let result = step::loud(&format!("tier {name}"), work);
        let time = started.elapsed();
        let (counts, failure) = match result {
            Ok(counts) => (counts, counts.objection()),
            Err(error) => (Counts::default(), Some(format!("{error:#}"))),
        };
        Self { name: name.to_owned(), counts, time, failure }
    }

    /// A tier of which nothing could run.
    fn unprepared(name: &str, error: &anyhow::Error) -> Self {
        let failure = Some(format!("{error:#}"));
        Self { name: name.to_owned(), counts: Counts::default(), time: Duration::ZERO, failure }
    }

    fn row(&self) -> [String; 4] {
        let Counts { passed, failed, .. } = self.counts;
        [self.name.clone(), passed.to_string(), failed.to_string(), step::seconds(self.time)]
    }
}

/// Runs the named tiers, or the default ones, and prints the table. Of a tier all tests run, or those with `name` in theirs.
pub fn run(tiers: &[Tier], name: Option<&str>) -> Result<()> {
    ensure!(name.is_none() || !tiers.contains(&Tier::Kernels), "inside QEMU all tests run");
    let tiers = if tiers.is_empty() { &Tier::DEFAULT[..] } else { tiers };
    let mut outcomes = Vec::new();
    for &tier in tiers {
        // What somebody stopped before it ran has not passed.
        if let Err(error) = run::expect_uninterrupted() {
            outcomes.push(Outcome::unprepared(tier.name(), &error));
            continue;
        }
        match tier {
            Tier::Unit => outcomes.push(Outcome::of("unit", || unit(name))),
            Tier::Kernel | Tier::Netns | Tier::Conformance => {
                outcomes.push(in_namespaces(tier, name));
            }
            Tier::Control => outcomes.push(control::run(name)),
            Tier::Cluster | Tier::ClusterV2 => outcomes.push(cluster::run(tier, name.as_slice())),
            Tier::Kernels => outcomes.extend(kernels::run()),
        }
    }
    report(&outcomes)
}

/// Runs one proof of a tier, which is prepared, in full.
pub fn run_proof(tier: Tier, name: &str) -> Result<()> {
    let words = ["--full", name];
    report(&[if tier == Tier::Cluster {
        cluster::run(tier, &words)
    } else {
        Outcome::of(name, || count(prover(tier)?.args(words), Some(PROOF_LIMIT)).map(Counts::or_one_passed))
    }])
}

/// The program of a tier that has proofs.
pub fn prover(tier: Tier) -> Result<Command> {
    if tier == Tier::Control { control::program() } else { Ok(Command::new(workspace::program(tier.program()))) }
}

/// Builds and installs what a tier that has proofs needs.
pub fn prepare_prover(tier: Tier) -> Result<()> {
    if tier == Tier::Control {
        return control::prepare();
    }
    if tier == Tier::Cluster {
        return cluster::prepare();
    }
    setup::ensure(&[setup::Part::Demo])?;
    build::for_packages_and_next_agent(&Tier::PROGRAMS)
}

fn unit(name: Option<&str>) -> Result<Counts> {
    let mut cargo = run::cargo();
    count(cargo.args(["test", "--no-fail-fast", "--", "--quiet"]).args(name), None)
}

fn in_namespaces(tier: Tier, name: Option<&str>) -> Outcome {
    let prepared = setup::require_root(&format!("the {} tier", tier.name()))
        .and_then(|()| setup::ensure(&[setup::Part::Demo]))
        .and_then(|()| build::for_packages_and_next_agent(&Tier::PROGRAMS));
    if let Err(error) = prepared {
        return Outcome::unprepared(tier.name(), &error);
    }
    let mut program = Command::new(workspace::program(tier.program()));
    Outcome::of(tier.name(), || count(program.args(name), Some(TIER_LIMIT)))
}

/// Runs a program that prints closing lines and adds them up. A program that prints both forms says the same twice. Why tests
/// failed is said again at its end.
fn count(command: &mut Command, limit: Option<Duration>) -> Result<Counts> {
    let (mut harness, mut own) = (Counts::default(), Counts::default());
    let mut reasons = Reasons::default();
    command.current_dir(workspace::root());
    let status = run::watched(command, limit, |line| {
        reasons.read(line);
        if let Some(closing) = Counts::of_line(line) {
            *(if line.starts_with("test result") { &mut harness } else { &mut own }) += closing;
        }
    })?;
    reasons.into_lines().for_each(|line| println!("{line}"));
    let counts = if harness == Counts::default() { own } else { harness };
    if !status.success() && counts.failed == 0 {
        bail!("`{}` ended with {status}, but counted no failure", run::line(command));
    }
    Ok(counts)
}

fn report(outcomes: &[Outcome]) -> Result<()> {
    let rows: Vec<_> = outcomes.iter().map(Outcome::row).collect();
    println!("\n{}", table::layout(["tier", "passed", "failed", "time"], &rows));
    let failures: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{}: {}", outcome.name, outcome.failure.as_ref()?)))
        .collect();
    for failure in &failures {
        println!("{failure}");
    }
    let mut total = Counts::default();
    for outcome in outcomes {
        total += outcome.counts;
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if !failures.is_empty() {
        bail!("the tests did not pass");
    }
    Ok(())
}
