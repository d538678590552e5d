//! The kernel tier: every rule of the BPF programs, against the running kernel.
//!
//! Each test makes its own node (programs, maps, cgroup folders) and its own pods (namespaces) and does
//! with real sockets what a user would; none passes without going through the kernel. `--init` makes
//! this program the only one of a machine. Absent: whole agents, which the netns tier runs.
#![expect(clippy::print_stdout, reason = "a test program talks to its caller through its output")]

mod machine;
mod netlink;
mod node;
mod place;
mod pod;
mod rules;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, ColorSetting, Failed, Trial};
use weft_rig::{Isolation, sandbox};

use crate::node::Grounds;

/// One test.
type Rule = fn(&Grounds) -> Result<()>;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--init") {
        let plain = Arguments { color: Some(ColorSetting::Never), ..Arguments::default() };
        machine::run_as_init(|| run(Isolation::WholeMachine, &plain))
    }
    match run(Isolation::Private, &arguments()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("the kernel tier cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `--full NAME`, by which a proof in full is asked for, runs the tests of that name.
fn arguments() -> Arguments {
    let words = std::env::args().filter(|argument| argument != "--full");
    Arguments::from_iter(words)
}

/// Runs the tests; how many failed.
fn run(isolation: Isolation, arguments: &Arguments) -> Result<usize> {
    let sandbox = sandbox::enter(isolation)?;
    let grounds = Grounds { cgroup: sandbox.cgroup().to_owned(), bpffs: sandbox.bpffs() };
    // Threads of this process can only be in folders below its own.
    std::fs::write(grounds.cgroup.join("cgroup.procs"), "0").context("join the tier's cgroup folder")?;
    println!("kernel {}", rustix::system::uname().release().to_string_lossy());
    let tests: Vec<Trial> = rules::all().into_iter().map(|(name, rule)| trial(name, rule, &grounds)).collect();
    // One after the other: some tests fill maps or wait for heartbeats, and there may be two cores.
    let arguments = Arguments { test_threads: Some(1), ..arguments.clone() };
    let conclusion = libtest_mimic::run(&arguments, tests);
    let failed = usize::try_from(conclusion.num_failed)?;
    println!("{} passed, {failed} failed", conclusion.num_passed);
    Ok(failed)
}

fn trial(name: &'static str, rule: Rule, grounds: &Grounds) -> Trial {
    let grounds = grounds.clone();
    Trial::test(name, move || rule(&grounds).map_err(|error| Failed::from(format!("{error:#}"))))
}
