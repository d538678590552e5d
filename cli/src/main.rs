//! `weft`: shows what the mesh does and why, and installs it.
//!
//! It asks the admin sockets of the agents and of the controller on this machine, joins what they say,
//! and prints it: tables for people, JSON for programs. Clusters it asks by kubectl, and changes one by `install --apply`,
//! `upgrade` and `uninstall` alone.

mod agents;
mod answers;
mod arguments;
mod ask;
mod check;
mod config;
mod controller;
mod exposition;
mod install;
mod join;
mod kubectl;
mod paint;
mod raw;
mod status;
mod status_view;
mod tap;
mod top;
mod uninstall;
mod why;
mod why_record;
mod why_request;

use std::process::ExitCode;

use arguments::{Arguments, Command, ConfigCommand};
use paint::{Paint, complain};

/// What a command found; the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Fine,
    ProblemFound,
    /// The question itself cannot be answered.
    Usage,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Fine => Self::SUCCESS,
            Outcome::ProblemFound => Self::FAILURE,
            Outcome::Usage => Self::from(2),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::read();
    let paint = Paint::new(arguments.colour());
    match run(&arguments, paint) {
        Ok(outcome) => outcome.into(),
        // A reader such as `head` that has seen enough is no problem.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, paint: Paint) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &arguments.command {
            Command::Status => status::run(arguments, paint).await,
            Command::Why(question) => why::run(arguments, question, paint).await,
            Command::Top(options) => top::run(arguments, options, paint).await,
            Command::Tap(options) => tap::run(arguments, options, paint).await,
            Command::Config { command: ConfigCommand::Dump(options) } => config::dump(arguments, options, paint).await,
            Command::Check(options) => check::run(arguments, options, paint).await,
            Command::Ask(question) => raw::run(arguments, question).await,
            Command::Install(options) => install::install(options),
            Command::Upgrade(installation) => install::upgrade(installation),
            Command::Uninstall(options) => uninstall::uninstall(options),
            Command::Completion { shell } => arguments::completion(*shell),
        }
    })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
