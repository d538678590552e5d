//! Under which conditions a table came about: without them its numbers mean nothing.

use anyhow::Result;
use serde::Serialize;

use super::Table;
use super::measure::Lengths;
use crate::machine::Machine;
use crate::scrape::Carried;

/// The machine and the run.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    #[serde(flatten)]
    pub(super) machine: Machine,
    pub(super) rounds: usize,
    pub(super) workers: usize,
    pub(super) seed: u64,
    pub(super) seconds: Lengths,
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
        Ok(Self { machine: Machine::now()?, rounds, workers: plan.pace.workers, seed: plan.pace.seed, seconds })
    }
}

impl Agents {
    pub(super) fn new(resident_idle: Vec<u64>, resident_after: Vec<u64>, carried: Carried) -> Self {
        Self { resident_idle, resident_after, carried }
    }
}
