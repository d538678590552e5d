//! The agent's command.

use clap::Parser as _;
use weft_agent::config::{Command, CommandLine};
use weft_agent::node::self_test;
use weft_agent::{app, bpf, supervise, telemetry};

fn main() -> anyhow::Result<()> {
    match CommandLine::parse().command {
        Command::Run(settings) => {
            telemetry::start_logs(settings.log_format, &settings.log)?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(supervise::run(&settings))
        }
        Command::Serve(settings) => {
            telemetry::start_logs(settings.log_format, &settings.log)?;
            app::run(&settings)
        }
        Command::Remove(paths) => Ok(bpf::remove_all(&(&paths).into())?),
        Command::Probe(settings) => self_test::probe(&settings),
    }
}
