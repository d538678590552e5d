//! `cargo xtask conformance`: Gateway API's own suite for meshes, unmodified, on a cluster of its own.
//!
//! All extended features are claimed, and the tests that no profile counts run too. A test that is skipped has failed. On
//! the experimental channel nothing is claimed: what the mesh says of itself in its `XMesh` is what the suite tests.
//! Absent: what the suite does not look at, which `tests/conformance` does.

mod results;
mod suite;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::results::Results;
use super::cluster::{Borrowed, Choice, GATEWAY_API, GATEWAY_API_EXPERIMENTS};
use super::test::Tier;
use super::{build, images, run, setup, step, workspace};

pub use self::suite::ensure;

/// Where what the suite printed is kept, below the repository.
const LOGS: &str = "target/conformance";

/// A run takes two minutes; where nothing works every test waits for its own limit.
const RUN_LIMIT: Duration = Duration::from_mins(40);

/// Answers in a row with which none of the tests but the first can pass by chance.
const BEYOND_CHANCE: u32 = 20;

#[derive(Args)]
pub struct Arguments {
    /// How often the suite runs, in one cluster.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    runs: u32,
    /// How many answers in a row must be right; the suite's own number is 3.
    #[arg(long)]
    successes: Option<u32>,
    /// Only the test of this name.
    #[arg(long)]
    test: Option<String>,
    /// Where the suite writes its report, of the last run.
    #[arg(long, conflicts_with_all = ["test", "without_weft"])]
    report: Option<PathBuf>,
    /// Show that all tests but the first fail without a mesh, each with 20 answers in a row.
    #[arg(long, conflicts_with_all = ["test", "successes"])]
    without_weft: bool,
    /// With the definitions of the experimental channel; the suite reads in its mesh object what Weft can do.
    #[arg(long, conflicts_with = "without_weft")]
    experimental: bool,
}

/// Runs the suite as often as asked for, and fails unless every test of every run ended as it should.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("conformance")?;
    setup::ensure(&[setup::Part::Bpf, setup::Part::Cluster, setup::Part::Conformance])?;
    // The same build as the tiers', so that nothing is built twice.
    build::for_packages_and_next_agent(&Tier::PROGRAMS)?;
    let logs = workspace::path(LOGS);
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let cluster = Borrowed::up("conformance", Choice::USUAL)?;
    let outcome = prepare(&cluster, arguments).and_then(|()| {
        (1..=arguments.runs).try_fold(true, |good, number| {
            let log = logs.join(format!("run-{number}.log"));
            Ok(run_once(&cluster, arguments, number, &log)? && good)
        })
    });
    if outcome.is_err() {
        println!("{}", cluster.last_words());
    }
    cluster.down()?;
    ensure!(outcome?, "the suite did not end as it should; what it printed is in {LOGS}");
    Ok(())
}

/// Gateway API's definitions, what the suite tests with, and Weft where it is asked for.
fn prepare(cluster: &Borrowed, arguments: &Arguments) -> Result<()> {
    let definitions = if arguments.experimental { GATEWAY_API_EXPERIMENTS } else { GATEWAY_API }.place()?;
    step::quiet("apply the definitions of Gateway API", || {
        let mut kubectl = cluster.command(Path::new("kubectl"))?;
        run::captured(kubectl.args(["apply", "--server-side", "--filename"]).arg(&definitions)).map(drop)
    })?;
    cluster.load(&suite::echo_image()?)?;
    if arguments.without_weft {
        return Ok(());
    }
    images::of_tests()?.iter().try_for_each(|image| cluster.load(image))?;
    step::quiet("install Weft", || {
        let mut install = cluster.command(&workspace::program("weft"))?;
        run::captured(install.args(["install", "--apply"]).args(Borrowed::values())).map(drop)
    })?;
    if arguments.experimental {
        step::quiet("wait until Weft says what it can do", || {
            let introduction = format!("xmesh/{}", suite::MESH);
            [["--for=create", "--timeout=60s"], ["--for=condition=Accepted", "--timeout=60s"]].iter().try_for_each(
                |until| {
                    let mut kubectl = cluster.command(Path::new("kubectl"))?;
                    run::captured(kubectl.arg("wait").args(until).arg(&introduction)).map(drop)
                },
            )
        })?;
    }
    Ok(())
}

/// Whether it ended as it should.
fn run_once(cluster: &Borrowed, arguments: &Arguments, number: u32, log: &Path) -> Result<bool> {
    println!("==> conformance, run {number} of {}", arguments.runs);
    let started = Instant::now();
    let mut printed = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut results = Results::default();
    let mut suite = command(cluster, arguments, &log.with_extension("json"))?;
    let status = run::read(&mut suite, Some(RUN_LIMIT), |line| {
        writeln!(printed, "{line}")?;
        if let Some(ended) = results.hear(line) {
            println!("{ended}");
        }
        Ok(())
    })?;
    println!("{} in {}", results.summary(), step::seconds(started.elapsed()));
    let objection = match &arguments.test {
        _ if arguments.without_weft => results.objection_without_mesh(),
        Some(_) => results.objection_to_some(),
        None => results.objection(),
    };
    if let Some(objection) = &objection {
        println!("{objection}");
    }
    ensure!(
        status.success() || results.any_failed(),
        "`{}` ended with {status}, but no test failed: {}",
        run::line(&suite),
        log.display()
    );
    Ok(objection.is_none())
}

/// The suite reads JSON as the YAML that it is.
fn command(cluster: &Borrowed, arguments: &Arguments, options: &Path) -> Result<Command> {
    let text = serde_json::to_string_pretty(&options_of(arguments)?)?;
    fs::write(options, text).with_context(|| format!("cannot write {}", options.display()))?;
    let mut suite = cluster.command(&suite::program()?)?;
    suite.args(["-test.v", &format!("-test.timeout={}s", RUN_LIMIT.as_secs())]);
    suite.arg(format!("-conformance-options-file={}", options.display()));
    Ok(suite)
}

fn options_of(arguments: &Arguments) -> Result<Value> {
    let mut options = if arguments.experimental { suite::as_introduced() } else { suite::as_claimed() };
    if arguments.without_weft {
        // Waiting longer would not help it.
        options["timeoutConfig"] = json!({"requiredConsecutiveSuccesses": BEYOND_CHANCE, "maxTimeToConsistency": "4s"});
    } else {
        options["namespaceLabels"] = json!({"weft.dev/capture": "enabled"});
    }
    if let Some(successes) = arguments.successes {
        options["timeoutConfig"] = json!({"requiredConsecutiveSuccesses": successes});
    }
    if let Some(test) = &arguments.test {
        options["runTest"] = json!(test);
    }
    if let Some(report) = &arguments.report {
        options["reportOutputPath"] = json!(std::path::absolute(report)?);
    }
    Ok(options)
}
