//! A successor takes over from a running agent.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_rig::Mesh;
use weft_rig::node::AgentPlan;

use crate::cast::{self, ECHO, EFFECT_LIMIT, at};
use crate::scene::{Promise, Scene};

/// The drain, and time to leave.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
/// New connections per second meanwhile.
const RATE: &str = "500";
/// Long connections that are shorter than the drain.
const HELD_SECONDS: &str = "3";

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("upgrades", upgrades)
            .proves("100 upgrades under 500 new connections/s and held ones: 0 failed, 0 refused"),
    ]
}

/// The two builds: the second one only where it was built (`weft-agent-next`), else the same twice.
fn builds(plan: &AgentPlan) -> [AgentPlan; 2] {
    let mut next = plan.clone();
    let other = plan.binary.with_file_name("weft-agent-next");
    if other.exists() {
        next.binary = other;
    }
    [next, plan.clone()]
}

/// What the kernel has counted on node 1 besides what went well.
fn kernel_reasons(mesh: &mut Mesh) -> String {
    let metrics = mesh.node(1).and_then(|node| node.metrics()).unwrap_or_default();
    let told =
        |line: &&str| line.contains("kernel_connections") && line.contains("pod=\"client\"") && !line.ends_with(" 0");
    metrics.lines().filter(told).collect::<Vec<_>>().join("\n")
}

fn upgrades(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let tap = mesh.fabric().listen(1)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    let plans = builds(&mesh.agent_plan(1)?);
    ensure!(
        scene.pick(true, plans[0].binary != plans[1].binary),
        "the proof wants two builds of different layout: there is no {}",
        plans[0].binary.with_file_name("weft-agent-next").display()
    );
    let (rounds, mut total) = (scene.pick(2, 100), 0);
    for round in 0..rounds {
        let load = cast::start_client(
            &mesh,
            "shop/client",
            "load",
            &["connect", "--to", &to, "--rate", RATE, "--seconds", "4"],
        )?;
        let arguments = ["hold", "--to", &to, "--count", "20", "--seconds", HELD_SECONDS, "--beat", "100"];
        let mut held = cast::start_client(&mesh, "shop/client", &format!("held-{round}"), &arguments)?;
        held.await_output("beat", EFFECT_LIMIT)?;
        let predecessor = mesh.node(1)?.start_agent(&plans[round % 2])?.context("no agent to take over from")?;
        let (status, report) = load.finish(DRAIN_LIMIT)?;
        ensure!(status.success(), "upgrade {round}: {report}\n{}", kernel_reasons(&mut mesh));
        let report: Value = serde_json::from_str(report.lines().next().unwrap_or_default())?;
        total += report["ok"].as_u64().context("no count")?;
        let (status, echoes) = held.finish(DRAIN_LIMIT)?;
        ensure!(status.success(), "upgrade {round}: a held connection was cut: {echoes}");
        predecessor.finish(DRAIN_LIMIT).with_context(|| format!("upgrade {round}: the old agent has not left"))?;
        mesh.node(1)?.agent()?.expect_running()?;
        let plaintext = tap.plaintext_towards(ECHO);
        if let Some((from, to)) = plaintext.first() {
            let heard = tap.first_bytes(ECHO).into_iter().find(|flow| flow.0 == *from && flow.1 == *to);
            let bytes = heard.map(|(.., bytes)| String::from_utf8_lossy(&bytes).into_owned());
            let count = plaintext.len();
            let reasons = kernel_reasons(&mut mesh);
            bail!("upgrade {round}: {count} went around the agent, the first {from} → {to}: {bytes:?}\n{reasons}");
        }
        mesh.await_enrolled(EFFECT_LIMIT)?;
        std::fs::remove_file(mesh.pod("shop/client")?.scratch().join("load.log"))?;
    }
    scene.note(&format!("{rounds} upgrades under {total} new connections, 0 failed; 20 held ones in each, 0 cut"));
    cast::records(&mut mesh, 1, "connections under mTLS", |record| record["security"] == "mtls").map(drop)
}
