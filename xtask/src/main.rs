//! The developer's commands: `cargo xtask SUBCOMMAND`, one file per subcommand.
//!
//! Every command does the set-up it needs itself, says what it does, and prints how long it took.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these commands talk to a person or to a build log")]

mod bench;
mod bpf;
mod build;
mod cluster;
mod conformance;
mod crds;
mod demo;
mod generated;
mod image;
mod images;
mod lint;
mod proto;
mod prove;
mod run;
mod setup;
mod step;
mod table;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use owo_colors::{OwoColorize, Stream};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, test and show Weft", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing on this machine, and say what.
    Setup {
        /// Only what these kinds of work need; everything by default.
        parts: Vec<setup::Part>,
    },
    /// Build the BPF programs and print their instruction counts.
    Bpf,
    /// Build the BPF programs, the agent, the controller and `weft`.
    Build(build::Arguments),
    /// Play the demo: a two-node mesh on this machine.
    Demo(demo::Arguments),
    /// Run a Kubernetes cluster with two nodes on this machine.
    Cluster(cluster::Arguments),
    /// Build the images of the agent and the controller, as archives that `ctr images import` and `docker load` read.
    Image(images::Arguments),
    /// Run the tiers unit, kernel, netns and conformance, or the named ones.
    Test {
        tiers: Vec<test::Tier>,
        /// Of the named tiers only the tests that have this in their names.
        #[arg(last = true, requires = "tiers")]
        name: Option<String>,
    },
    /// Run one proof in full, or list the proofs.
    Prove { name: Option<String> },
    /// Run Gateway API's own suite for meshes on a cluster.
    Conformance(conformance::Arguments),
    /// Measure the paths of connections, those of requests beside other proxies, and the search for a request's rule.
    Bench {
        /// Arguments of the load generator.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check format, clippy, spelling, dependencies, file lengths and generated code.
    Lint {
        /// Only these checks; all of them by default.
        checks: Vec<String>,
    },
    /// Regenerate the committed Rust code of proto/weft/v1/*.proto.
    Proto,
    /// Regenerate the definitions of Weft's kinds in deploy/charts/weft-crds.
    Crds,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run::pass_signals_on().and_then(|()| dispatch(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error:#}", "error:".if_supports_color(Stream::Stderr, |text| text.red()));
            ExitCode::from(run::failure_status())
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Setup { parts } => setup::run(&parts),
        Command::Bpf => bpf::build_and_report(),
        Command::Build(arguments) => build::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Image(arguments) => images::run(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Test { tiers, name } => test::run(&tiers, name.as_deref()),
        Command::Prove { name } => prove::run(name.as_deref()),
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Bench { arguments } => bench::run(&arguments),
        Command::Lint { checks } => lint::run(&checks),
        Command::Proto => proto::regenerate(),
        Command::Crds => crds::regenerate(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_chosen_by_one_name_in_named_tiers() {
        let accepted = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
        for good in ["xtask test", "xtask test unit kernel", "xtask test unit -- relay"] {
            assert!(accepted(good), "{good}");
        }
        for bad in ["xtask test -- relay", "xtask test unit -- relay close"] {
            assert!(!accepted(bad), "{bad}");
        }
    }
}
