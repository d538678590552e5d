//! Which machine a measurement comes from, and what else went on there: without it numbers mean nothing.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    processor: String,
    cores: usize,
    /// Average number of running processes in the last minute; above 2 somebody else was at work.
    load: String,
    /// Programs without optimization say nothing about Weft.
    optimized: bool,
}

/// The memory of a process.
pub(crate) fn resident_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

impl Machine {
    pub(crate) fn now() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            load: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
            optimized: !cfg!(debug_assertions),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, processor, cores, load, optimized } = self;
        write!(
            formatter,
            "Linux {kernel}, {processor}, {cores} cores, load {load}; network namespaces on one machine."
        )?;
        if !optimized {
            formatter.write_str("\nNOT OPTIMIZED: built for debugging, so the numbers say nothing about Weft.")?;
        }
        Ok(())
    }
}
