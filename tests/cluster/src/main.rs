//! The cluster tier: real pods on the two nodes of a real Kubernetes, which `cargo xtask test cluster` brings up around it.
//!
//! This program runs in the network of the control plane, with kubectl on its path and the administrator's credentials.
//! Every test has a namespace of its own. Absent: bringing the cluster up and down, which xtask does.

mod capability;
mod capture;
mod check;
mod enforced;
mod faults;
mod ground;
mod install;
mod kinds;
mod load;
mod namespace;
mod nodes;
mod policy_engine;
mod reboot;
mod removal;
mod reuse;
mod rollout;
mod route;
mod services;
mod stolen;
mod strict;
mod upgrade;
mod weft;

use std::env;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};

use namespace::Namespace;
use weft_rig::tier::{FULL, PROOFS};

/// What a test does in its namespace.
pub type Run = fn(&Namespace) -> Result<()>;

/// A test: its name, which is its namespace's too, and what it does there.
pub struct Promise {
    pub name: &'static str,
    pub run: Run,
}

/// A test that has a longer form, which is asked for by name.
pub struct Proof {
    pub name: &'static str,
    /// What it proves.
    pub claim: &'static str,
    pub run: Run,
}

fn proofs() -> [Proof; 2] {
    [enforced::PROOF, faults::PROOF]
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [removal::LIST_LINKS] => return printed(removal::list_links()),
        [PROOFS] => return printed(Ok(proofs().map(|proof| format!("{}\t{}\n", proof.name, proof.claim)).concat())),
        [FULL, name] => return prove(name),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // Two processors carry a control plane and two nodes: tests side by side would disturb each other.
    arguments.test_threads.get_or_insert(1);
    // Without Weft first, and last its removal: what one test installs is there for the next.
    let promises = [
        ground::promises,
        nodes::promises,
        install::promises,
        capture::promises,
        strict::promises,
        check::promises,
        route::promises,
        services::promises,
        kinds::promises,
        stolen::promises,
        policy_engine::promises,
        reuse::promises,
        enforced::promises,
        faults::promises,
        reboot::promises,
        rollout::promises,
        upgrade::promises,
        capability::promises,
        removal::promises,
    ];
    let trials = promises
        .into_iter()
        .flat_map(|promises| promises())
        .map(|promise| Trial::test(promise.name, move || start(&promise)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is what the program was started for")]
fn printed(outcome: Result<String>) -> ExitCode {
    match outcome {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the one proof in full, and closes with the line that `cargo xtask prove` counts.
fn prove(name: &str) -> ExitCode {
    let proof = proofs().into_iter().find(|proof| proof.name == name);
    let proof = proof.with_context(|| format!("there is no proof named {name}"));
    match proof.and_then(|proof| in_namespace(proof.name, proof.run)) {
        Ok(()) => printed(Ok("1 passed, 0 failed\n".to_owned())),
        Err(error) => {
            printed(Ok("0 passed, 1 failed\n".to_owned()));
            printed(Err(error))
        }
    }
}

fn start(promise: &Promise) -> Result<(), Failed> {
    in_namespace(promise.name, promise.run).map_err(|error| format!("{error:#}").into())
}

fn in_namespace(name: &str, run: Run) -> Result<()> {
    let namespace = Namespace::create(name)?;
    let outcome = run(&namespace).map_err(|error| anyhow!("{error:#}\n{}", namespace.last_words()));
    // The test's error says more than that of the removal behind it.
    outcome.and(namespace.remove())
}
