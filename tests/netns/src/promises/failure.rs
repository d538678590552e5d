//! The agent is dead, hangs, or is away on the other side.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::process::{Process, Signal};
use weft_rig::{Mesh, wait};

use crate::cast::{self, ECHO, EFFECT_LIMIT, at, server_mtls};
use crate::scene::{Promise, Scene};

/// New connections of a dead node's pods are decided within this time.
const OWN_DECISION: Duration = Duration::from_secs(1);
/// Connections towards a dead node's pods are decided within this time, and a little for the client's own start.
const PEER_DECISION: Duration = Duration::from_millis(3500);
/// The same without the client's start.
const PEER_ATTEMPT: Duration = Duration::from_secs(3);
/// Clients that connect for two seconds have ended by then.
const LOAD_LIMIT: Duration = Duration::from_secs(30);
/// A hung worker is noticed within this time.
const HANG_NOTICED: Duration = Duration::from_millis(2500);
/// What waits in a hung agent's backlog is reset within this time.
const BACKLOG_RESET: Duration = Duration::from_secs(6);
/// The lease in tests, and time for word of its end to get around.
const LEASE_AND_WORD: Duration = Duration::from_secs(25);

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("agent_killed_open_goes_direct_and_is_captured_again", killed_open),
        Promise::new("agent_killed_closed_refuses_at_once", killed_closed),
        Promise::new("agent_killed_strict_ports_stay_closed_whatever_the_label", killed_strict),
        Promise::new("agent_hung_is_noticed_and_restarted", hung),
        Promise::new("a_crashed_agent_is_started_again", crashed),
        Promise::new("peer_agent_down_other_endpoints_are_taken", peer_down_other_endpoint),
        Promise::new("peer_agent_down_is_told_in_time_and_direct_after_the_lease", peer_down_lease),
        Promise::new("kills", kills)
            .proves("50 SIGKILLs: decided within 1 s here and 3 s towards, never a hang; direct after the lease"),
    ]
}

fn killed_open(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let tap = mesh.fabric().listen(1)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    mesh.node(1)?.kill_agent();
    let start = Instant::now();
    cast::speak(&mesh, "shop/client", &to, "marker-direct")?;
    ensure!(start.elapsed() < OWN_DECISION, "direct only after {:?}", start.elapsed());
    tap.find("marker-direct")?.context("not on the wire")?;
    // The pods of the dead node go on being reached in plaintext: their ports are permissive.
    cast::expect_ok(&mesh, "outside/stranger", &at(&mesh, "shop/near", ECHO)?)?;
    mesh.restart_agent(1)?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::speak(&mesh, "shop/client", &to, "marker-captured-again")?;
    ensure!(tap.find("marker-captured-again")?.is_none(), "not captured again");
    Ok(())
}

fn closed_shop(scene: &Scene) -> Result<Mesh> {
    let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "closed")];
    cast::start(cast::shop_labelled(scene, &labels)?, scene)
}

fn killed_closed(scene: &Scene) -> Result<()> {
    let mut mesh = closed_shop(scene)?;
    let (out, back) = (at(&mesh, "shop/server", ECHO)?, at(&mesh, "shop/near", ECHO)?);
    cast::expect_ok(&mesh, "shop/client", &out)?;
    mesh.node(1)?.kill_agent();
    cast::expect_refused(&mesh, "shop/client", &out, OWN_DECISION)?;
    cast::expect_refused(&mesh, "outside/stranger", &back, OWN_DECISION)?;
    mesh.restart_agent(1)?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::expect_ok(&mesh, "shop/client", &out).map(drop)
}

fn killed_strict(scene: &Scene) -> Result<()> {
    let plan = cast::shop(scene)?.object(server_mtls("strict", &json!({"mtls": "Strict"})));
    let mut mesh = cast::start(plan, scene)?;
    let to = at(&mesh, "shop/near", ECHO)?;
    cast::expect_refused(&mesh, "outside/stranger", &to, OWN_DECISION)?;
    mesh.node(1)?.kill_agent();
    cast::expect_refused(&mesh, "outside/stranger", &to, OWN_DECISION)
}

fn hung(scene: &Scene) -> Result<()> {
    let mut mesh = closed_shop(scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    mesh.node(1)?.signal_serving(Signal::STOP);
    let start = Instant::now();
    // This one waits in the backlog of a listener that nobody serves.
    let attempt = cast::attempt(&mesh, "shop/client", &to)?;
    ensure!(attempt.outcome != "ok" && attempt.time < BACKLOG_RESET, "{attempt:?}");
    wait::until("the hang to be noticed", HANG_NOTICED.saturating_sub(start.elapsed()), || {
        cast::expect_refused(&mesh, "shop/client", &to, OWN_DECISION)
    })
    .or_else(|error| {
        // By now the parent may have started a new agent, and then it is served again.
        cast::expect_ok(&mesh, "shop/client", &to).map(drop).context(error)
    })?;
    mesh.await_enrolled(EFFECT_LIMIT).context("the parent has not started a new agent")?;
    mesh.node(1)?.signal_serving(Signal::CONT);
    cast::await_outcome(&mesh, "shop/client", &to, "ok")
}

fn crashed(scene: &Scene) -> Result<()> {
    let mut mesh = closed_shop(scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    for _ in 0..3 {
        let before = mesh.node(1)?.serving_pids();
        mesh.node(1)?.signal_serving(Signal::KILL);
        wait::until("the parent to start a new agent", EFFECT_LIMIT, || {
            let now = mesh.node(1)?.serving_pids();
            ensure!(!now.is_empty() && now != before, "still {now:?}");
            Ok(())
        })?;
        mesh.await_enrolled(EFFECT_LIMIT)?;
        cast::await_outcome(&mesh, "shop/client", &to, "ok")?;
    }
    Ok(())
}

fn peer_down_other_endpoint(scene: &Scene) -> Result<()> {
    let mut mesh = closed_shop(scene)?;
    let to = format!("both.shop:{ECHO}");
    mesh.node(2)?.kill_agent();
    for _ in 0..10 {
        let time = cast::expect_ok(&mesh, "shop/client", &to)?;
        ensure!(time < PEER_DECISION, "another endpoint only after {time:?}");
    }
    Ok(())
}

fn peer_down_lease(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    mesh.node(2)?.kill_agent();
    cast::expect_refused(&mesh, "shop/client", &to, PEER_DECISION)?;
    cast::records(&mut mesh, 1, "the cause", |record| record["reason"] == "peer_agent_down")?;
    wait::until("plaintext to be permitted after the lease", LEASE_AND_WORD, || {
        cast::expect_ok(&mesh, "shop/client", &to)
    })?;
    mesh.restart_agent(2)?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::await_outcome(&mesh, "shop/client", &to, "ok")?;
    cast::records(&mut mesh, 1, "mTLS once more", |record| record["security"] == "mtls").map(drop)
}

fn kills(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let (out, towards) = (at(&mesh, "shop/server", ECHO)?, at(&mesh, "shop/near", ECHO)?);
    let (mut worst_own, mut worst_peer) = (Duration::ZERO, Duration::ZERO);
    let rounds = scene.pick(2, 50);
    for round in 0..rounds {
        // Before, while and after the agent is away.
        let loads = [
            start_load(&mesh, "shop/client", &out, round, OWN_DECISION)?,
            start_load(&mesh, "shop/server", &towards, round, PEER_ATTEMPT)?,
        ];
        mesh.node(1)?.kill_agent();
        let own = cast::attempt(&mesh, "shop/client", &out)?;
        let peer = peer_attempt(&mesh, &towards)?;
        ensure!(own.time < OWN_DECISION && own.outcome != "hung", "of its own pods: {own:?}");
        ensure!(peer.time < PEER_DECISION && peer.outcome != "hung", "towards them: {peer:?}");
        mesh.restart_agent(1)?;
        mesh.await_enrolled(EFFECT_LIMIT)?;
        cast::await_outcome(&mesh, "shop/client", &out, "ok")?;
        for (load, worst) in loads.into_iter().zip([&mut worst_own, &mut worst_peer]) {
            let (status, report) = load.finish(LOAD_LIMIT)?;
            ensure!(status.success(), "round {round}: {report}");
            let report: Value = serde_json::from_str(report.lines().next().unwrap_or_default())?;
            *worst = (*worst).max(Duration::from_micros(report["decided_max_us"].as_u64().context("no time")?));
        }
    }
    scene
        .note(&format!("{rounds} kills; slowest decision: {worst_own:?} of its own pods, {worst_peer:?} towards them"));
    direct_after_lease(&mut mesh, &towards, scene)
}

/// Connects all the time; that a connection is refused is a decision, that it hangs is none.
fn start_load(mesh: &Mesh, pod: &str, to: &str, round: u32, patience: Duration) -> Result<Process> {
    let patience = patience.as_secs().to_string();
    let arguments =
        ["connect", "--to", to, "--rate", "50", "--seconds", "2", "--refusals-allowed", "--patience", &patience];
    cast::start_client(mesh, pod, &format!("load-{round}"), &arguments)
}

/// An agent that stays away: what is open is reached in plaintext once its lease has ended.
fn direct_after_lease(mesh: &mut Mesh, towards: &str, scene: &Scene) -> Result<()> {
    let tap = mesh.fabric().listen(1)?;
    mesh.node(1)?.kill_agent();
    let start = Instant::now();
    wait::until("plaintext to be permitted after the lease", LEASE_AND_WORD, || {
        let attempt = peer_attempt(mesh, towards)?;
        ensure!(attempt.time < PEER_DECISION && attempt.outcome == "ok", "{attempt:?}");
        Ok(())
    })?;
    scene.note(&format!("direct {:?} after the last kill", start.elapsed()));
    cast::speak(mesh, "shop/server", towards, "marker-after-lease")?;
    tap.find("marker-after-lease")?.context("not direct").map(drop)
}

/// From a captured pod of the other node.
fn peer_attempt(mesh: &Mesh, to: &str) -> Result<cast::Attempt> {
    cast::attempt(mesh, "shop/server", to)
}
