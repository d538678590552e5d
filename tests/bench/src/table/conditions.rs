//! Under which conditions a table came about: without them its numbers mean nothing.

use std::fs;

use anyhow::Result;
use serde::Serialize;

use super::Table;
use super::measure::Lengths;
use crate::scrape::Carried;

/// The machine and the run.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    /// Average number of running processes in the last minute; above 2 somebody else was at work.
    pub(super) load: String,
    pub(super) rounds: usize,
    pub(super) workers: usize,
    pub(super) seed: u64,
    pub(super) seconds: Lengths,
    /// Programs without optimization say nothing about Weft.
    pub(super) optimized: bool,
}

/// What the agents tell of the run.
#[derive(Debug, Serialize)]
pub(super) struct Agents {
    /// Resident bytes of each agent before the first connection.
    pub(super) resident_idle: Vec<u64>,
    /// And after the last round.
    pub(super) resident_after: Vec<u64>,
    /// What the clients' agent carried in the rounds.
    pub(super) carried: Carried,
}

impl Conditions {
    pub(super) fn now(plan: &Table, rounds: usize, seconds: Lengths) -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            load: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
            rounds,
            workers: plan.workers,
            seed: plan.seed,
            seconds,
            optimized: !cfg!(debug_assertions),
        })
    }
}

impl Agents {
    pub(super) fn new(resident_idle: Vec<u64>, resident_after: Vec<u64>, carried: Carried) -> Self {
        Self { resident_idle, resident_after, carried }
    }
}
