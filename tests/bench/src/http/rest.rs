//! What the proxies hold in memory: before the first request, and with connections that rest.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use weft_rig::wait;

use super::layout::{Layout, Proxy};
use super::measure::Bench;
use crate::generate::Hold;
use crate::machine::resident_bytes;
use crate::table::progress;

/// What a start needed is given back by then, and connections to the server that nobody needs are closed.
const REST: Duration = Duration::from_secs(10);
/// Connections may rest this much longer before the generator ends them itself.
const REST_MARGIN: f64 = 120.0;

/// One proxy's memory in bytes, beside the client and beside the server.
#[derive(Debug, Serialize)]
pub(super) struct Resting {
    pub(super) proxy: Proxy,
    /// Before the first request.
    pub(super) idle: [u64; 2],
    pub(super) connections: usize,
    /// What one client's connection costs that has carried one request.
    pub(super) per_connection: [i64; 2],
}

/// All proxies, one after the other.
pub(super) fn measure(bench: &mut Bench, peers: &[Proxy]) -> Result<Vec<Resting>> {
    wait::throughout("being idle", REST, || Ok(()))?;
    std::iter::once(Proxy::Weft).chain(peers.iter().copied()).map(|proxy| one(bench, proxy)).collect()
}

fn one(bench: &mut Bench, proxy: Proxy) -> Result<Resting> {
    progress(&format!("memory of {}", proxy.name()));
    let idle = resident(bench, proxy)?;
    let (client, to) = bench.ends(Layout::Pair(proxy))?;
    let connections = bench.lengths.resting;
    let load = Hold { to, connections, bytes: 1024, seconds: REST.as_secs_f64() + REST_MARGIN, http: true };
    let mut holding = bench.ground.generator.hold(bench.ground.mesh.pod(&client)?, &load)?;
    wait::throughout("resting", REST, || holding.expect_running())?;
    let held = resident(bench, proxy)?;
    let report = holding.end()?;
    ensure!(report.failed() == 0, "{}: resting connections broke: {:?}", proxy.name(), report.errors);
    let each = |side: usize| -> Result<i64> {
        Ok((i64::try_from(held[side])? - i64::try_from(idle[side])?) / i64::try_from(connections)?.max(1))
    };
    Ok(Resting { proxy, idle, connections, per_connection: [each(0)?, each(1)?] })
}

fn resident(bench: &mut Bench, proxy: Proxy) -> Result<[u64; 2]> {
    let [near, far] = bench.processes(proxy)?;
    Ok([sum(&near)?, sum(&far)?])
}

fn sum(processes: &[u32]) -> Result<u64> {
    processes.iter().map(|process| resident_bytes(*process)).sum()
}
