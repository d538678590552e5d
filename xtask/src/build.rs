//! `cargo xtask build`: the BPF object, and with it the programs that people run.

use anyhow::Result;
use clap::Args;

use super::{bpf, run, step};

/// What a user installs.
const PRODUCT: [&str; 3] = ["weft-agent", "weft-controller", "weft"];

/// What the demo, the tiers and the benchmark start besides the product: applications and clients.
const RIG: &str = "weft-rig";

#[derive(Args)]
pub struct Arguments {
    /// Optimized programs, in target/release; this is the default.
    #[arg(long, conflicts_with = "dev")]
    release: bool,
    /// Programs of the dev profile, in target/debug.
    #[arg(long)]
    dev: bool,
}

/// Builds the product in the profile that was asked for.
pub fn run(arguments: &Arguments) -> Result<()> {
    bpf::build()?;
    compile(&PRODUCT, !arguments.dev)
}

/// Builds the BPF object, the product and these packages, optimized.
pub fn for_packages(packages: &[&str]) -> Result<()> {
    bpf::build()?;
    let mut all = Vec::from(PRODUCT);
    all.push(RIG);
    all.extend(packages);
    compile(&all, true)
}

/// Cargo builds everything in one call: packages built one by one would unify features differently
/// and compile their dependencies again.
fn compile(packages: &[&str], release: bool) -> Result<()> {
    let profile = if release { "release" } else { "dev" };
    step::loud(&format!("build {} ({profile})", packages.join(" ")), || {
        let mut cargo = run::cargo();
        cargo.args(["build", "--profile", profile]);
        for package in packages {
            cargo.args(["--package", package]);
        }
        run::visibly(&mut cargo)
    })
}
