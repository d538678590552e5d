//! `cargo xtask bench`: one interleaved run of the direct, one-node and two-node paths.

use std::process::Command;

use anyhow::Result;

use super::{build, run, setup, step, workspace};

/// The package and the program that generates load and compares.
const BENCH: &str = "weft-bench";

/// Sets up, builds, and measures; `arguments` go to the generator as they are.
pub fn run(arguments: &[String]) -> Result<()> {
    setup::require_root("the benchmark")?;
    setup::ensure(&[setup::Part::Demo])?;
    build::for_packages(&[BENCH])?;
    step::loud("bench", || {
        let mut bench = Command::new(workspace::program(BENCH));
        run::visibly(bench.current_dir(workspace::root()).args(arguments))
    })
}
