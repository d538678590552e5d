//! The cluster tier: real pods on the two nodes of a real Kubernetes, which `cargo xtask test cluster` brings up around it.
//!
//! This program runs in the network of the control plane, with kubectl on its path and the administrator's credentials.
//! Every test has a namespace of its own. Absent: bringing the cluster up and down, which xtask does.

mod ground;
mod namespace;
mod nodes;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use namespace::Namespace;

/// What a test does in its namespace.
pub type Run = fn(&Namespace) -> Result<()>;

/// A test: its name, which is its namespace's too, and what it does there.
pub struct Promise {
    pub name: &'static str,
    pub run: Run,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two processors carry a control plane and two nodes: tests side by side would disturb each other.
    arguments.test_threads.get_or_insert(1);
    let promises = ground::promises().into_iter().chain(nodes::promises());
    let trials = promises.map(|promise| Trial::test(promise.name, move || start(&promise)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn start(promise: &Promise) -> Result<(), Failed> {
    let outcome = Namespace::create(promise.name).and_then(|namespace| {
        let outcome = (promise.run)(&namespace).map_err(|error| error.context(namespace.last_words()));
        // The test's error says more than that of the removal behind it.
        outcome.and(namespace.remove())
    });
    outcome.map_err(|error| format!("{error:#}").into())
}
