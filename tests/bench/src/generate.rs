//! The load generator: one process, one thread, inside a pod.
//!
//! Nothing is tried again and every error is counted. In the open loop the times are planned before the
//! run and latency counts from the planned time, so a stall of the other side lengthens every exchange
//! that should have begun meanwhile. What a run needs in connections, memory and time is bounded.

mod bulk;
mod exchange;
mod hold;
mod plan;
mod round_trip;
mod schedule;
mod short;
mod socket;
mod timer;

use std::num::NonZeroU64;

use anyhow::{Context, Result};
use rustix::process::Resource;
use tokio::task::LocalSet;

use crate::cpu;
use crate::report::Report;

pub use bulk::{Bulk, Direction};
pub use hold::Hold;
pub use plan::Load;
pub use round_trip::RoundTrip;
pub use short::Short;

/// What [`Hold`] prints when all its connections stand.
pub const HOLDING: &str = "\"holding\"";

/// Runs the load to its end. [`Hold`] prints on the way when it holds.
pub fn run(load: &Load) -> Result<Report> {
    prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = cpu::own_time()?;
    let tasks = LocalSet::new();
    let mut report = runtime.block_on(tasks.run_until(async {
        match load {
            Load::Connect(plan) => short::run(plan, short::Kind::Echo).await,
            Load::Greeting(plan) => short::run(plan, short::Kind::Greeting).await,
            Load::RoundTrip(plan) => round_trip::run(plan).await,
            Load::Bulk(plan) => bulk::run(plan).await,
            Load::Hold(plan) => hold::run(plan).await,
        }
    }))?;
    report.generator_cpu_seconds = cpu::own_time()?.saturating_sub(before).as_secs_f64();
    Ok(report)
}

/// Timers to the microsecond instead of the usual 50, and all descriptors that the system grants.
fn prepare() -> Result<()> {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("cannot make timers precise")?;
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
