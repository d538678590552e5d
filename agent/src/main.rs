//! The agent's command.

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use weft_agent::config::{Command, CommandLine, RemoveSettings};
use weft_agent::node::sandbox::Sandboxes;
use weft_agent::node::{cgroups, originals, self_test};
use weft_agent::{app, bpf, supervise, telemetry};

/// Keeps what lives long apart from what is short-lived, so that handshakes leave no holes among connections.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
        Command::Remove(settings) => {
            remove(&settings)?;
            if settings.stay { stay() } else { Ok(()) }
        }
        Command::Ready(settings) => app::ready_file::is_told(&settings.file),
        Command::Probe(settings) => self_test::probe(&settings),
    }
}

/// The kernel side first, so that nothing is led to listeners whose ports are no longer reserved.
fn remove(settings: &RemoveSettings) -> anyhow::Result<()> {
    bpf::remove_all(&settings.kernel.pin_dir)?;
    let sandboxes = Sandboxes::new(cgroups::find_pods(&settings.kernel)?)?;
    originals::restore_all(&settings.run_dir, &settings.sysctl_root, &sandboxes)?;
    match &settings.state_dir {
        Some(state_dir) => app::forget::forget(&settings.run_dir, state_dir),
        None => Ok(()),
    }
}

/// Until SIGTERM.
fn stay() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        signal(SignalKind::terminate())?.recv().await;
        Ok(())
    })
}
