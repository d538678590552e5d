//! The netns tier: whole nodes with real agents, controller and applications, one test per promise.
//!
//! The outer process only lists and starts: every test runs in a process and a sandbox of its own, so
//! none can see what another left, and one that hangs is ended with everything it made.
//! `--full NAME` runs the long form of a proof in the open.

mod cast;
mod promises;
mod rig;
mod scene;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use libtest_mimic::{Arguments, Failed, Trial};
use weft_rig::place::Launch;
use weft_rig::{Isolation, sandbox};

use scene::{Promise, Scale, Scene};

/// Names the test that a started process is to run.
const RUN: &str = "--run-one";
/// Runs a proof in full.
const FULL: &str = "--full";
/// Lists the proofs: name, tab, what is proven.
const PROOFS: &str = "--proofs";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|flag| flag.to_str()) {
        Some(RUN) => exit_code(name_in(&arguments).and_then(|name| run(&name, Scale::Short))),
        Some(FULL) => exit_code(name_in(&arguments).and_then(|name| prove(&name))),
        Some(PROOFS) => proofs(),
        Some(_) | None => list(),
    }
}

fn list() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two processors carry two nodes, a controller and their clients: tests side by side would disturb each other.
    arguments.test_threads.get_or_insert(1);
    let trials = all().map(|promise| Trial::test(promise.name, move || start(&promise))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn start(promise: &Promise) -> Result<(), Failed> {
    let launch = Launch::new("/proc/self/exe").args([RUN, promise.name]).ends_with_caller();
    let outcome = launch.within(promise.limit).run();
    let outcome = outcome.map_err(|error| format!("{error:#}"))?;
    if outcome.success() { Ok(()) } else { Err(format!("{}{}", outcome.stdout, outcome.stderr).into()) }
}

fn run(name: &str, scale: Scale) -> Result<()> {
    let promise = all().find(|promise| promise.name == name).with_context(|| format!("there is no test {name}"))?;
    if scale == Scale::Full && promise.proof.is_none() {
        bail!("{name} has no longer form; `{PROOFS}` lists those that have");
    }
    let scene = Scene::new(sandbox::enter(Isolation::Private)?, scale);
    (promise.run)(&scene).map_err(|error| anyhow!("{error:#}\n{}", scene.sandbox.last_words()))
}

/// Runs a proof in the open and closes with the line that `cargo xtask prove` counts.
#[expect(clippy::print_stdout, reason = "what a proof prints is its result")]
fn prove(name: &str) -> Result<()> {
    let outcome = run(name, Scale::Full);
    println!("{} passed, {} failed", i32::from(outcome.is_ok()), i32::from(outcome.is_err()));
    outcome
}

#[expect(clippy::print_stdout, reason = "the list is the output")]
fn proofs() -> ExitCode {
    for promise in all() {
        if let Some(claim) = promise.proof {
            println!("{}\t{claim}", promise.name);
        }
    }
    ExitCode::SUCCESS
}

fn all() -> impl Iterator<Item = Promise> {
    rig::promises().into_iter().chain(promises::all())
}

fn name_in(arguments: &[OsString]) -> Result<String> {
    let name = arguments.get(2).and_then(|name| name.to_str());
    Ok(name.context("name a test")?.to_owned())
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
