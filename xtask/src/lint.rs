//! `cargo xtask lint`: everything that is checked without running Weft.
//!
//! Every check runs, also after a failure, so that one run shows everything there is to mend.

mod length;
mod pattern;
mod sources;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use owo_colors::{OwoColorize, Stream};

use super::{crds, proto, run, setup, step, workspace};

/// Folders of crates that are no members of the workspace.
const OUTSIDE: [&str; 1] = ["ebpf/programs"];

/// A check: its name and what it does.
type Check = (&'static str, fn() -> Result<()>);

/// In order of time, so that the quick ones answer first.
const CHECKS: [Check; 10] = [
    ("length", length::check),
    ("patterns", pattern::check),
    ("generated", generated),
    ("format", format),
    ("spelling", spelling),
    ("toml", toml_format),
    ("dependencies", dependencies),
    ("bpf-dependencies", outside_dependencies),
    ("charts", charts),
    ("clippy", clippy),
];

/// Runs the named checks, or every check, and prints each one's verdict and time.
pub fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| CHECKS.iter().all(|(known, _)| known != name)) {
        let known = CHECKS.map(|(name, _)| name).join(" ");
        bail!("there is no check {unknown}; the checks are: {known}");
    }
    setup::ensure(&[setup::Part::Lint])?;
    let mut verdicts = Vec::new();
    let chosen = CHECKS.into_iter().filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name));
    for (name, check) in chosen {
        println!("{name} ...");
        let started = Instant::now();
        let result = check();
        if let Err(error) = &result {
            println!("{error:#}");
        }
        verdicts.push((name, result.is_ok(), started.elapsed()));
    }
    println!();
    for (name, passed, time) in &verdicts {
        print_verdict(name, *passed, *time);
    }
    let failed = verdicts.iter().filter(|(_, passed, _)| !passed).count();
    if failed > 0 {
        bail!("{failed} of {} checks failed", verdicts.len());
    }
    Ok(())
}

fn print_verdict(name: &str, passed: bool, time: Duration) {
    let time = step::seconds(time);
    if passed {
        println!("{} {name} ({time})", "ok    ".if_supports_color(Stream::Stdout, |text| text.green()));
    } else {
        println!("{} {name} ({time})", "FAILED".if_supports_color(Stream::Stdout, |text| text.red()));
    }
}

fn generated() -> Result<()> {
    proto::check_fresh()?;
    crds::check_fresh()
}

fn format() -> Result<()> {
    run::captured(run::cargo().args(["fmt", "--all", "--check", "--", "--color", "never"]))?;
    for folder in OUTSIDE {
        let manifest = workspace::path(folder).join("Cargo.toml");
        let mut cargo = run::cargo();
        cargo.args(["fmt", "--check", "--manifest-path"]).arg(manifest).args(["--", "--color", "never"]);
        run::captured(&mut cargo)?;
    }
    Ok(())
}

fn clippy() -> Result<()> {
    let mut cargo = run::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"]);
    run::visibly(&mut cargo)
}

fn spelling() -> Result<()> {
    let mut typos = Command::new(setup::wheel_path("typos")?);
    run::captured(typos.current_dir(workspace::root()).args(["--format", "brief"])).map(drop)
}

fn toml_format() -> Result<()> {
    let mut taplo = Command::new(setup::wheel_path("taplo")?);
    taplo.current_dir(workspace::root()).env("RUST_LOG", "error");
    run::captured(taplo.args(["fmt", "--check", "--diff", "--colors", "never"])).map(drop)
}

fn dependencies() -> Result<()> {
    deny("Cargo.toml")
}

fn outside_dependencies() -> Result<()> {
    OUTSIDE.into_iter().try_for_each(|folder| deny(&format!("{folder}/Cargo.toml")))
}

/// Helm's own lint, and that `weft install` renders what Helm renders.
fn charts() -> Result<()> {
    let mut cargo = run::cargo();
    cargo.args(["run", "--quiet", "--package", "weft-charts", "--example", "against_helm", "--"]);
    run::captured(cargo.arg(setup::HELM.path()?)).map(drop)
}

/// Layering, licences and sources; advisories need a database that not every machine can fetch.
fn deny(manifest: &str) -> Result<()> {
    let mut deny = Command::new(setup::tool_path(&setup::CARGO_DENY)?);
    deny.current_dir(workspace::root())
        .args(["--log-level", "error", "--all-features", "--manifest-path", manifest, "--config"])
        .arg(workspace::path("deny.toml"))
        .args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    run::captured(&mut deny).map(drop)
}
