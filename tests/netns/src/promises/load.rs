//! Many connections: their rate, their bytes, their memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_rig::{Mesh, PodPlan, wait};

use crate::cast::{self, ECHO, EFFECT_LIMIT, SINK, at};
use crate::scene::{Promise, Scene};

/// Pods that connect at the same time.
const CLIENTS: usize = 8;
/// Resident memory of an idle agent.
const IDLE_BYTES: u64 = 12 << 20;
/// The agents look every five seconds for memory to give back.
const AT_REST_LIMIT: Duration = Duration::from_secs(20);
/// By then everything that an idle agent does has been done at least once.
const UPKEEP: Duration = Duration::from_secs(10);
/// Above idle, once the connections are gone.
const SETTLED_BYTES: u64 = 8 << 20;
/// Of one connection that has moved its bytes and rests.
const CONNECTION_BYTES: u64 = 16 << 10;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("new_connections_with_resumption", with_resumption)
            .proves("2,000 new connections/s for 60 s from 8 pods to one port: 0 errors"),
        Promise::new("new_connections_without_resumption", without_resumption)
            .proves("1,000 new connections/s for 60 s, every handshake in full: 0 errors"),
        Promise::new("many_connections_with_hashes", many_connections)
            .proves("2,000 connections from one pod to one port, 4 GiB, hashes both ways"),
        Promise::new("memory", memory)
            .proves("idle ≤ 12 MiB; ≤ 16 KiB for a resting connection; nothing is lost over three cycles"),
    ]
}

fn with_resumption(scene: &Scene) -> Result<()> {
    new_connections(scene, scene.pick(500, 2000), None)
}

fn without_resumption(scene: &Scene) -> Result<()> {
    new_connections(scene, scene.pick(250, 1000), Some("--no-resumption"))
}

fn new_connections(scene: &Scene, rate: usize, flag: Option<&str>) -> Result<()> {
    let mut plan = cast::shop(scene)?;
    for number in 1..=CLIENTS {
        plan = plan.pod(PodPlan::named(&format!("shop/client-{number}")).on(1).account("client"));
    }
    if let Some(flag) = flag {
        plan = plan.agent_flag(flag);
    }
    let mut mesh = cast::start(plan, scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    let (rate, seconds) = ((rate / CLIENTS).to_string(), scene.pick("8", "60"));
    let arguments = ["connect", "--to", &to, "--rate", &rate, "--seconds", seconds];
    let started: Vec<_> = (1..=CLIENTS)
        .map(|number| cast::start_client(&mesh, &format!("shop/client-{number}"), "load", &arguments))
        .collect::<Result<_>>()?;
    let mut total = 0;
    for process in started {
        let (status, report) = process.finish(Duration::from_mins(2))?;
        ensure!(status.success(), "{report}");
        let report: Value = serde_json::from_str(report.lines().next().unwrap_or_default())?;
        total += report["ok"].as_u64().context("no count")?;
        scene.note(&report.to_string());
    }
    let records = cast::records(&mut mesh, 2, "the connections", |record| record["security"] == "mtls")?;
    let resumed = records.iter().filter(|record| record["resumed"] == true).count();
    scene.note(&format!("{total} connections, {resumed} of {} recorded handshakes resumed", records.len()));
    ensure!(flag.is_none() || resumed == 0, "{resumed} handshakes were resumed although that is off");
    ensure!(flag.is_some() || resumed * 10 > records.len() * 8, "only {resumed} of {} were resumed", records.len());
    Ok(())
}

fn many_connections(scene: &Scene) -> Result<()> {
    let mesh = cast::start(cast::shop(scene)?, scene)?;
    let to = at(&mesh, "shop/server", SINK)?;
    // 2,000 × 1 MiB and a little, each way: 4 GiB.
    let (connections, bytes) = scene.pick(("200", "262147"), ("2000", "1073742"));
    let arguments = ["transfer", "--to", &to, "--bytes", bytes, "--connections", connections];
    let report = cast::expect_client(&mesh, "shop/client", &arguments, Duration::from_mins(10))?;
    scene.note(&report.to_string());
    Ok(())
}

fn resident(mesh: &mut Mesh) -> Result<[u64; 2]> {
    Ok([mesh.node(1)?.agent_resident_bytes()?, mesh.node(2)?.agent_resident_bytes()?])
}

fn memory(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let idle = at_rest(&mut mesh)?;
    scene.note(&format!("idle: {idle:?} bytes"));
    let (count, rest) = (2000_u64, "10");
    let mut after = Vec::new();
    for _ in 0..scene.pick(1, 3) {
        let to = at(&mesh, "shop/server", ECHO)?;
        let count_text = count.to_string();
        let arguments = ["hold", "--to", &to, "--count", &count_text, "--bytes", "1024", "--seconds", rest];
        let mut held = cast::start_client(&mesh, "shop/client", "held", &arguments)?;
        held.await_output("holding", Duration::from_mins(1))?;
        // They rest for as long as `--seconds` says and then speak once more: that is the moment to look.
        held.await_output("beat", Duration::from_mins(1))?;
        let full = resident(&mut mesh)?;
        let each: Vec<u64> = full.iter().zip(idle).map(|(now, before)| now.saturating_sub(before) / count).collect();
        scene.note(&format!("{count} connections: {full:?} bytes, {each:?} for each"));
        let (status, output) = held.finish(EFFECT_LIMIT)?;
        ensure!(status.success(), "{output}");
        ensure!(each.iter().all(|bytes| *bytes <= CONNECTION_BYTES), "{each:?} bytes for each connection");
        std::fs::remove_file(mesh.pod("shop/client")?.scratch().join("held.log"))?;
        after.push(settled(&mut mesh, scene)?);
        scene.note(&format!("afterwards: {:?} bytes", after[after.len() - 1]));
    }
    for node in 0..2 {
        let (first, last) = (after[0][node], after[after.len() - 1][node]);
        let bound = (first + first / 10).min(idle[node] + SETTLED_BYTES);
        ensure!(last <= bound, "node{}: {idle:?} then {after:?}, at most {bound}", node + 1);
        ensure!(idle[node] <= IDLE_BYTES, "node{}: {} bytes when idle", node + 1, idle[node]);
    }
    Ok(())
}

/// The memory of agents that have nothing to do: what only their start needed is given back within some seconds, and what
/// their upkeep needs has come back by then.
fn at_rest(mesh: &mut Mesh) -> Result<[u64; 2]> {
    let what = format!("idle agents of at most {IDLE_BYTES} bytes");
    wait::until(&what, AT_REST_LIMIT, || {
        let now = resident(mesh)?;
        ensure!(now.iter().all(|bytes| *bytes <= IDLE_BYTES), "they have {now:?} bytes");
        Ok(())
    })?;
    let most = most_during(mesh, UPKEEP)?;
    ensure!(most.iter().all(|bytes| *bytes <= IDLE_BYTES), "idle agents have {most:?} bytes");
    Ok(most)
}

/// The most that each agent has at any moment of this span: code that upkeep needs comes and goes.
fn most_during(mesh: &mut Mesh, span: Duration) -> Result<[u64; 2]> {
    let mut most = [0; 2];
    wait::throughout("the agents' life", span, || {
        let now = resident(mesh)?;
        most = [most[0].max(now[0]), most[1].max(now[1])];
        Ok(())
    })?;
    Ok(most)
}

/// The memory once the connections are gone: it may take the agent a while to give it back.
fn settled(mesh: &mut Mesh, scene: &Scene) -> Result<[u64; 2]> {
    // An agent gives back what a crowd has left when nobody has come or gone for three seconds.
    wait::throughout("the agents' life", scene.pick(Duration::from_secs(15), Duration::from_secs(50)), || {
        resident(mesh).map(drop)
    })?;
    most_during(mesh, UPKEEP)
}
