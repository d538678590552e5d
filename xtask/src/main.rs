//! The developer's commands: `cargo xtask SUBCOMMAND`, one file per subcommand.
//!
//! Every command does the set-up it needs itself, says what it does, and prints how long it took.
#![expect(clippy::print_stdout, reason = "these commands talk to a person or to a build log")]

mod bpf;
mod proto;
mod run;
mod setup;
mod step;
mod table;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    /// Regenerate the committed Rust code of proto/weft/v1/*.proto.
    Proto,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Setup { parts } => setup::run(&parts),
        Command::Bpf => bpf::build_and_report(),
        Command::Proto => proto::regenerate(),
    }
}
