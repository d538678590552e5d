//! `cargo xtask build`: the BPF object, and with it the programs that people run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use super::bpf::{self, Layout};
use super::cluster::{BUILD, Call, Module, STRIPPED};
use super::{run, setup, step, workspace};

/// The agent's package and program.
const AGENT: &str = "weft-agent";

/// The agent of the tests of upgrades, beside the other.
pub const NEXT_AGENT: &str = "weft-agent-next";

/// The server in Go of the tests of raw requests.
const WITNESS: &str = "weft-witness";

/// What asks the agents for the rules of HTTP/2.
const H2SPEC: Module = Module {
    folder: "h2spec",
    verb: BUILD,
    calls: &[Call {
        packages: &["github.com/summerwind/h2spec/cmd/h2spec"],
        output: "weft-h2spec",
        flags: STRIPPED,
        with_c: false,
    }],
};

/// What a user installs.
const PRODUCT: [&str; 3] = [AGENT, "weft-controller", "weft"];

/// What the demo, the tiers and the benchmark start besides the product: applications and clients.
const RIG: &str = "weft-rig";

/// How cargo compiles.
#[derive(Clone, Copy)]
enum Profile {
    Dev,
    /// For the tiers: optimized, and quick to build.
    Release,
    /// For users: optimized across crates.
    Product,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Product => "product",
        }
    }
}

#[derive(Args)]
pub struct Arguments {
    /// Optimized programs, in target/product; this is the default.
    #[arg(long, conflicts_with = "dev")]
    release: bool,
    /// Programs of the dev profile, in target/debug.
    #[arg(long)]
    dev: bool,
}

/// Builds the product in the profile that was asked for.
pub fn run(arguments: &Arguments) -> Result<()> {
    bpf::build(Layout::Own)?;
    compile(&PRODUCT, if arguments.dev { Profile::Dev } else { Profile::Product })
}

/// Builds the product as users run it, or `quick`ly as tests do, and returns the folder of its programs.
pub fn for_images(quick: bool) -> Result<PathBuf> {
    bpf::build(Layout::Own)?;
    let profile = if quick { Profile::Release } else { Profile::Product };
    compile(&PRODUCT, profile)?;
    Ok(workspace::path("target").join(profile.name()))
}

/// Builds the agent as users run it, and returns where it is.
pub fn product_agent() -> Result<PathBuf> {
    bpf::build(Layout::Own)?;
    compile(&[AGENT], Profile::Product)?;
    Ok(workspace::path("target/product").join(AGENT))
}

/// Builds the BPF object, the product and these packages, optimized.
pub fn for_packages(packages: &[&str]) -> Result<()> {
    bpf::build(Layout::Own)?;
    compile(&with_product(packages), Profile::Release)
}

/// The same, with what only tests start: a server in Go, h2spec, and beside the agent a second one whose derived maps have another
/// layout. With the two the tests of upgrades go back and forth between builds that cannot share those maps.
pub fn for_packages_and_next_agent(packages: &[&str]) -> Result<()> {
    bpf::build(Layout::Own)?;
    bpf::build(Layout::Alternate)?;
    let all = with_product(packages);
    build_next_agent(&all)?;
    compile(&all, Profile::Release)?;
    build_witness()?;
    H2SPEC.ensure()?;
    put(&H2SPEC.programs()?.join("weft-h2spec"), "weft-h2spec")
}

fn with_product<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    PRODUCT.into_iter().chain([RIG]).chain(packages.iter().copied()).collect()
}

/// All packages are named, as in the build that follows, so that the two share every dependency.
fn build_next_agent(packages: &[&str]) -> Result<()> {
    step::loud(&format!("build {NEXT_AGENT} (release)"), || {
        let mut cargo = cargo_build(Profile::Release.name(), packages);
        cargo.args(["--bin", AGENT, "--features", &format!("{AGENT}/{}", bpf::ALTERNATE_FEATURE)]);
        run::visibly(&mut cargo)?;
        put(&workspace::program(AGENT), NEXT_AGENT)
    })
}

/// Puts a program beside those of cargo: a new file, never new bytes in the old one, for a test that runs it goes on with what
/// it has.
fn put(built: &Path, name: &str) -> Result<()> {
    let place = workspace::program(name);
    let draft = place.with_extension("new");
    std::fs::copy(built, &draft).with_context(|| format!("cannot copy {}", built.display()))?;
    std::fs::rename(&draft, &place).with_context(|| format!("cannot write {}", place.display()))
}

/// Of the standard library alone, so that nothing is downloaded.
fn build_witness() -> Result<()> {
    step::loud(&format!("build {WITNESS}"), || {
        let mut go = Command::new(setup::program("go").context("there is no go; `cargo xtask setup` installs it")?);
        go.args(["build", "-trimpath", "-o"]).arg(workspace::program(WITNESS));
        go.args(["witness.go", "fastcgi.go"].map(|file| workspace::path("tests/netns/witness").join(file)));
        go.envs([("GO111MODULE", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("CGO_ENABLED", "0")]);
        run::visibly(&mut go)
    })
}

/// Cargo builds everything in one call: packages built one by one would unify features differently
/// and compile their dependencies again.
fn compile(packages: &[&str], profile: Profile) -> Result<()> {
    let profile = profile.name();
    step::loud(&format!("build {} ({profile})", packages.join(" ")), || {
        run::visibly(&mut cargo_build(profile, packages))
    })
}

fn cargo_build(profile: &str, packages: &[&str]) -> Command {
    let mut cargo = run::cargo();
    cargo.args(["build", "--profile", profile]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo
}
