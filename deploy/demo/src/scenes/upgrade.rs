//! A new agent takes over from a running one while connections keep coming.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::screen::Screen;
use crate::stage::Stage;

/// New connections per second while the agent is replaced.
const RATE: &str = "200";
/// How long the load lasts: longer than a take-over.
const SECONDS: u64 = 8;
/// The successor has to serve well within this time.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(20);

pub fn under_load(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let testapp = stage.binaries.testapp.clone();
    let echo = stage.mesh.pod_mut("shop/chat")?;
    let launch = echo.command(&testapp).args(["echo", "--port", "7000"]);
    echo.serve("echo", launch)?;
    echo.await_listener(7000, Duration::from_secs(5))?;
    let to = format!("{}:7000", stage.mesh.pod("shop/chat")?.ipv4());
    let customer = stage.mesh.pod("shop/customer")?;
    let load =
        customer.command(&testapp).args(["connect", "--to", &to, "--rate", RATE, "--seconds", &SECONDS.to_string()]);
    screen.typed("shop/customer", &format!("connect --to {to} --rate {RATE} --seconds {SECONDS}   # never retries"));
    let load = customer.start("load", load)?;
    let held = customer.command(&testapp).args([
        "hold",
        "--to",
        &to,
        "--count",
        "10",
        "--seconds",
        &SECONDS.to_string(),
        "--beat",
        "200",
    ]);
    let mut held = customer.start("held", held)?;
    held.await_output("\"echoes\":20", Duration::from_secs(5))?;
    let before = stage.mesh.node(1)?.agent()?.pid();
    let plan = stage.mesh.agent_plan(1)?;
    screen.typed("node1", "weft-agent run …   # a second one: the successor takes the listening sockets over");
    let predecessor = stage.mesh.node(1)?.start_agent(&plan)?.context("there was no agent to take over from")?;
    let (status, report) = load.finish(TAKE_OVER_LIMIT)?;
    screen.quote(report.trim());
    ensure!(status.success(), "connections failed during the upgrade: {report}");
    let report: Value =
        serde_json::from_str(report.lines().last().unwrap_or_default()).context("the client's report")?;
    let (status, echoes) = held.finish(TAKE_OVER_LIMIT)?;
    ensure!(status.success(), "a held connection was cut: {echoes}");
    let plaintext = stage.tap.plaintext_towards(7000);
    ensure!(
        plaintext.is_empty(),
        "{} connections went around the agent in plaintext, as {:?}",
        plaintext.len(),
        plaintext[0]
    );
    predecessor.finish(Duration::from_secs(45)).context("the old agent has not left")?;
    stage.await_capture()?;
    let after = stage.mesh.node(1)?.agent()?.pid();
    stage.mesh.node(1)?.agent()?.expect_running()?;
    screen.proven(&format!(
        "{} connections, 0 failed, 10 held ones undisturbed; the agent was process {before} and is {after}",
        report["ok"]
    ));
    Ok(())
}
