//! The conformance tier: every row on one mesh out of network namespaces, one test for each.
//!
//! The mesh is started once, in a sandbox; a row that changes something changes what is its own.

mod judge;
mod stage;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Trial};
use weft_conformance_tier::row::Row;
use weft_rig::sandbox::{self, Isolation};

use stage::Stage;

#[expect(clippy::print_stderr, reason = "the reason of a failure is the output of this program")]
fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stdout, reason = "what was measured is a result")]
fn run() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    let sandbox = sandbox::enter(Isolation::Private)?;
    let rows = weft_conformance_tier::rows()?;
    let stage = Stage::set(&sandbox, &rows).with_context(|| sandbox.last_words())?;
    let stage = Arc::new(Mutex::new(stage));
    // Shares and copies are counted on one mesh.
    arguments.test_threads = Some(1);
    let trials = rows.into_iter().filter(|row| !row.asks.is_empty() || !row.steps.is_empty());
    let trials = trials.map(|row| trial(row, Arc::clone(&stage))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let slowest = stage.lock().unwrap_or_else(PoisonError::into_inner).slowest;
    println!("the slowest change was in force after {slowest:.0?} (promised: 1s)");
    Ok(conclusion.exit_code())
}

fn trial(row: Row, stage: Arc<Mutex<Stage>>) -> Trial {
    let kind = row.item.clone();
    let name = row.title.clone();
    Trial::test(name, move || {
        let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
        stage.play(&row).map_err(|error| format!("{error:#}").into())
    })
    .with_kind(kind)
}
