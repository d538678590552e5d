//! An agent that is gone: what each namespace has chosen happens, and capture comes back by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weft_rig::wait;

use crate::screen::Screen;
use crate::stage::{EFFECT_LIMIT, Stage};

/// New connections are decided within this time, whichever way.
const DECISION_LIMIT: Duration = Duration::from_secs(1);

pub fn agent_killed(stage: &mut Stage, screen: &Screen) -> Result<()> {
    // Strict mode would close the shop's ports to plaintext, and this scene is about going on without.
    stage.mesh.directory().remove("AuthenticationPolicy", "shop", "strict").context("the scene before is missing")?;
    let web = stage.mesh.pod("shop/web-2")?.ipv4();
    let plain = format!("curl -sS --max-time 5 http://{web}:8080/weft-permissive-again");
    wait::until("the shop to be permissive again", EFFECT_LIMIT, || {
        stage.mesh.pod("outside/intruder")?.shell(&plain)?.expect_success()
    })?;
    let clerk = "curl -sS --max-time 5 http://safe.vault/";
    stage.run(screen, "vault/clerk", clerk)?.expect_success()?;

    screen.typed("node1", "kill -9 <weft-agent and its parent>");
    stage.mesh.node(1)?.kill_agent();
    let start = Instant::now();
    stage.run(screen, "shop/customer", "curl -sS --max-time 5 http://web.shop/weft-open-direct")?.expect_success()?;
    let open = start.elapsed();
    let sighting = stage.tap.find("weft-open-direct")?.context("the direct connection was not on the wire")?;
    screen.quote(&format!("{} → {}  {}", sighting.from, sighting.to, sighting.excerpt));
    let start = Instant::now();
    let refused = stage.run(screen, "vault/clerk", clerk)?;
    let closed = start.elapsed();
    ensure!(refused.status.code() == Some(7), "the closed namespace was not refused at once: {refused:?}");
    ensure!(open < DECISION_LIMIT && closed < DECISION_LIMIT, "decided too late: open {open:?}, closed {closed:?}");
    screen.proven(&format!(
        "open: direct after {} ms; closed: refused after {} ms",
        open.as_millis(),
        closed.as_millis()
    ));

    stage.mesh.restart_agent(1)?;
    stage.await_capture()?;
    screen.typed("node1", "weft-agent run …   # the agent is back");
    let markers = stage.converse(screen, "shop/customer", "back")?;
    stage.expect_secret(markers)?;
    stage.run(screen, "vault/clerk", clerk)?.expect_success()?;
    screen.proven("capture has resumed, both namespaces are served, nothing was restarted but the agent");
    Ok(())
}
