//! `weft-bench`: all tables by default, the runs behind the proofs and both ends of the load by name.
//!
//! What measures a mesh builds it in a sandbox that dies with this process; `generate` and `serve` are
//! started by it inside pods and need nothing.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "results and errors are the output of this program")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde_json::Value;
use weft_bench::connection_rate::{self, ConnectionRate};
use weft_bench::cpu;
use weft_bench::generate::{self, Load};
use weft_bench::http::{self, Requests};
use weft_bench::memory::{self, Memory};
use weft_bench::routing::{self, Choose, Routing};
use weft_bench::serve::{self, Servers};
use weft_bench::table::{self, Pace, Table};
use weft_rig::{Isolation, sandbox};

/// Measure Weft's paths against the direct one, and its way with requests beside other proxies.
#[derive(Parser)]
#[command(name = "weft-bench", args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    pace: Pace,
}

#[derive(Subcommand)]
enum Command {
    /// Compare the direct, the one-node and the two-node path of connections.
    Connections(Table),
    /// Compare Weft's way with HTTP requests with that of Envoy, `HAProxy` and nginx.
    Requests(Requests),
    /// Count what finding a request's rule costs among 10, 1,000 and 10,000.
    Routing(Routing),
    /// One cell of that table, for callgrind.
    #[command(hide = true)]
    Choose(Choose),
    /// New connections at a fixed rate over two nodes: errors, latency, share of resumptions. Prints JSON.
    ConnectionRate(ConnectionRate),
    /// The agents' memory with many resting connections, cycle by cycle. Prints JSON.
    Memory(Memory),
    /// Generate load where this process runs. Prints one JSON line.
    Generate(Generate),
    /// Answer to load.
    Serve(Servers),
}

#[derive(Args)]
struct Generate {
    /// The core to run on.
    #[arg(long)]
    core: Option<usize>,
    #[command(subcommand)]
    load: Load,
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    match line.command.map_or_else(|| all(&line.pace), run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn all(pace: &Pace) -> Result<()> {
    routing::run(&pace.into())?;
    let sandbox = sandbox::enter(Isolation::Private)?;
    table::run(&pace.into(), &sandbox)?;
    http::run(&pace.into(), &sandbox)
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Connections(plan) => table::run(&plan, &sandbox::enter(Isolation::Private)?),
        Command::Requests(plan) => http::run(&plan, &sandbox::enter(Isolation::Private)?),
        Command::Routing(plan) => routing::run(&plan),
        Command::Choose(cell) => routing::choose(&cell),
        Command::ConnectionRate(plan) => {
            print_briefly(&connection_rate::run(&plan, &sandbox::enter(Isolation::Private)?)?)
        }
        Command::Memory(plan) => print_briefly(&memory::run(&plan, &sandbox::enter(Isolation::Private)?)?),
        Command::Generate(Generate { core, load }) => {
            if let Some(core) = core {
                cpu::pin(std::process::id(), core)?;
            }
            print(&generate::run(&load)?)
        }
        Command::Serve(servers) => serve::run(&servers),
    }
}

/// For people: quantiles without the buckets that they come from.
fn print_briefly(result: &impl Serialize) -> Result<()> {
    let mut value = serde_json::to_value(result)?;
    drop_buckets(&mut value);
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(())
}

fn drop_buckets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("buckets");
            fields.values_mut().for_each(drop_buckets);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_buckets),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn print(result: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}
