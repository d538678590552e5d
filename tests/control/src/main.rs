//! The control tier: the controller as it is, on a real etcd and a real API server, without nodes.
//!
//! Every test runs in a process, a sandbox and a cluster of its own ([`weft_rig::tier`]), so that it may take
//! definitions away and kill the API server. Nodes and pods are objects that nobody runs; agents are bare clients that
//! join as agents do.

mod agent;
mod cluster;
mod controller;
mod fleet;
mod objects;
mod peers;
mod promises;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use weft_rig::tier;

use cluster::Cluster;

/// A test.
pub type Promise = tier::Promise<fn(&mut Cluster) -> Result<()>>;

fn main() -> ExitCode {
    tier::main(&promises::all(), |promise, sandbox, scale| {
        let mut cluster = Cluster::start(&sandbox, scale)?;
        (promise.run)(&mut cluster).map_err(|error| anyhow!("{error:#}\n{}", sandbox.last_words()))
    })
}
