//! What the program of a tier does whose tests each want everything to themselves: it lists them and starts each in a
//! process of its own.
//!
//! None can see what another left, and one that hangs is ended with everything it made. `--full NAME` runs the long
//! form of a proof in the open.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::place::Launch;
use crate::sandbox::{self, Isolation, Sandbox};

/// Names the test that a started process is to run.
pub const RUN: &str = "--run-one";
/// Runs the proof that the next word names in full.
pub const FULL: &str = "--full";
/// Lists the proofs: name, tab, what is proven.
pub const PROOFS: &str = "--proofs";

/// How much of a proof is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// At most a minute, in every run of the tier.
    Short,
    /// The numbers that are claimed.
    Full,
}

/// A test.
#[derive(Debug, Clone, Copy)]
pub struct Promise<Run> {
    /// What it is called on the command line.
    pub name: &'static str,
    /// A test that takes longer hangs.
    pub limit: Duration,
    /// What its longer form proves, if it has one.
    pub proof: Option<&'static str>,
    /// The test itself.
    pub run: Run,
}

impl<Run> Promise<Run> {
    /// A test of at most a minute.
    pub fn new(name: &'static str, run: Run) -> Self {
        Self { name, limit: Duration::from_mins(1), proof: None, run }
    }

    /// The same, with a longer form that proves this.
    #[must_use]
    pub fn proves(self, claim: &'static str) -> Self {
        Self { proof: Some(claim), ..self }
    }
}

/// The program: it does what its arguments say, and `play` runs one test in its place.
pub fn main<Run>(
    promises: &[Promise<Run>],
    play: impl FnOnce(&Promise<Run>, Sandbox, Scale) -> Result<()>,
) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let named = || {
        let name = arguments.get(2).and_then(|name| name.to_str()).context("name a test")?;
        promises.iter().find(|promise| promise.name == name).with_context(|| format!("there is no test {name}"))
    };
    let outcome = match arguments.get(1).and_then(|flag| flag.to_str()) {
        Some(RUN) => named().and_then(|promise| play(promise, sandbox::enter(Isolation::Private)?, Scale::Short)),
        Some(FULL) => named().and_then(|promise| prove(promise, play)),
        Some(PROOFS) => {
            list_proofs(promises);
            Ok(())
        }
        Some(_) | None => return start_all(promises),
    };
    exit_code(outcome)
}

fn start_all<Run>(promises: &[Promise<Run>]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two processors carry two nodes, or an API server, with their clients: tests side by side would disturb each other.
    arguments.test_threads.get_or_insert(1);
    let trial = |Promise { name, limit, .. }: &Promise<Run>| {
        let (name, limit) = (*name, *limit);
        Trial::test(name, move || start(name, limit))
    };
    libtest_mimic::run(&arguments, promises.iter().map(trial).collect()).exit_code()
}

fn start(name: &str, limit: Duration) -> Result<(), Failed> {
    let launch = Launch::new("/proc/self/exe").args([RUN, name]).ends_with_caller();
    let outcome = launch.within(limit).run().map_err(|error| format!("{error:#}"))?;
    if outcome.success() { Ok(()) } else { Err(format!("{}{}", outcome.stdout, outcome.stderr).into()) }
}

/// Runs a proof in the open and closes with the line that `cargo xtask prove` counts.
#[expect(clippy::print_stdout, reason = "what a proof prints is its result")]
fn prove<Run>(promise: &Promise<Run>, play: impl FnOnce(&Promise<Run>, Sandbox, Scale) -> Result<()>) -> Result<()> {
    if promise.proof.is_none() {
        bail!("{} has no longer form; `{PROOFS}` lists those that have", promise.name);
    }
    let outcome = sandbox::enter(Isolation::Private).and_then(|sandbox| play(promise, sandbox, Scale::Full));
    println!("{} passed, {} failed", i32::from(outcome.is_ok()), i32::from(outcome.is_err()));
    outcome
}

#[expect(clippy::print_stdout, reason = "the list is the output")]
fn list_proofs<Run>(promises: &[Promise<Run>]) {
    for promise in promises {
        if let Some(claim) = promise.proof {
            println!("{}\t{claim}", promise.name);
        }
    }
}

#[expect(clippy::print_stderr, reason = "the reason of a failure is the output of this program")]
fn exit_code(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
