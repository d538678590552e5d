//! `cargo xtask bench`: Weft's paths for connections, and for requests beside other proxies, in interleaved runs; and what
//! finding a request's rule costs.

use std::process::Command;

use anyhow::Result;

use super::{build, run, setup, step, workspace};

/// The package and the program that generates load and compares.
const BENCH: &str = "weft-bench";

/// The one table for which no agent runs.
const ROUTING: &str = "routing";

/// Sets up, builds, and measures; `arguments` go to the generator as they are.
pub fn run(arguments: &[String]) -> Result<()> {
    setup::require_root("the benchmark")?;
    setup::ensure(&[setup::Part::Demo, setup::Part::Bench])?;
    build::for_packages(&[BENCH])?;
    let runs_agents = arguments.first().is_none_or(|first| first != ROUTING);
    let agent = runs_agents.then(build::product_agent).transpose()?;
    step::loud("bench", || {
        let mut bench = Command::new(workspace::program(BENCH));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let wheels = setup::BENCH_WHEELS.programs()?;
        let path = std::env::join_paths(std::iter::once(wheels).chain(std::env::split_paths(&path)))?;
        bench.current_dir(workspace::root()).env("PATH", path);
        bench.envs(agent.map(|agent| ("WEFT_BENCH_AGENT", agent)));
        run::visibly(bench.args(arguments))
    })
}
