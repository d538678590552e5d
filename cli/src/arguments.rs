//! The command line. The only reader of flags and the environment.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::Outcome;

/// Shows what the mesh does and why.
#[derive(Debug, Parser)]
#[command(name = "weft", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// When to use colours; `NO_COLOR` turns them off too.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
    /// The run directory of an agent, or a directory of such; repeatable.
    #[arg(
        long = "run-dir",
        value_name = "DIR",
        global = true,
        env = "WEFT_RUN_DIR",
        value_delimiter = ':',
        default_value = "/run/weft"
    )]
    pub run_directories: Vec<PathBuf>,
    /// The controller's admin socket, where it runs on this machine.
    #[arg(long, value_name = "FILE", global = true, env = "WEFT_CONTROLLER_SOCKET")]
    pub controller_socket: Option<PathBuf>,
}

const AFTER_HELP: &str = "Exit codes: 0 all is well, 1 a problem was found, 2 the command itself is wrong.

Examples:
  weft status                         agents, pods and their state
  weft why shop/client web.shop:80    why this is refused or not captured
  weft why 00c0ffee00c0ffee           both agents' story of one connection
  weft check                          what is wrong here, with cause and fix
  weft why shop/client web.shop:80 -o json | jq -r .cause";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows agents, pods, certificates and what the controller says.
    Status,
    /// Tells why a connection was, or would be, refused, cut or not captured.
    Why(WhyArguments),
    /// Shows the configuration that agents decide on.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Looks for everything that is wrong on this machine, with cause and fix.
    Check(CheckArguments),
    /// Prints a completion script, as in: `weft completion bash > /etc/bash_completion.d/weft`
    Completion { shell: Shell },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Prints the snapshot of each agent.
    Dump(DumpArguments),
}

#[derive(Debug, Args)]
#[command(after_help = WHY_HELP)]
pub struct WhyArguments {
    /// The source (NAMESPACE/POD, NAMESPACE/APPLICATION or an address), or a connection's id.
    #[arg(value_name = "SOURCE|CONNECTION")]
    pub subject: String,
    /// The destination, with a port: a service, a pod or an address.
    pub destination: Option<String>,
    /// The destination's port, where it is not part of the destination.
    #[arg(long)]
    pub port: Option<u16>,
}

const WHY_HELP: &str = "Examples:
  weft why shop/client web.shop:80       a service, as applications call it
  weft why shop/client shop/web-1:8080   a pod
  weft why 10.1.0.5 10.96.0.10:80        addresses
  weft why 00c0ffee00c0ffee              a connection's id in the access log";

#[derive(Debug, Args)]
pub struct DumpArguments {
    /// Only this node's agent.
    #[arg(long)]
    pub node: Option<String>,
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Only what is wrong.
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

impl Arguments {
    pub fn read() -> Self {
        Self::parse()
    }

    pub fn colour(&self) -> bool {
        match self.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !unwanted && io::stdout().is_terminal()
            }
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a command like the others")]
pub fn completion(shell: Shell) -> anyhow::Result<Outcome> {
    clap_complete::generate(shell, &mut Arguments::command(), "weft", &mut io::stdout());
    Ok(Outcome::Fine)
}
