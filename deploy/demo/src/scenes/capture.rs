//! The wire before and after: what can be read, who is seen, who is proven.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_rig::packets::TLS_HANDSHAKE;
use weft_rig::wait;

use crate::screen::Screen;
use crate::stage::Stage;

pub fn before(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.say("The customer on node1 talks to four servers on node2.");
    let markers = stage.converse(screen, "shop/customer", "uncaptured")?;
    screen.say("On the wire between the nodes:");
    stage.expect_readable(screen, &markers)?;
    screen.proven("all four conversations can be read between the nodes");
    let testapp = stage.binaries.testapp.clone();
    let pod = stage.mesh.pod("shop/customer")?;
    let talk = pod.command(testapp).args([
        "websocket-talk",
        "--to",
        "ws://chat.shop/",
        "--seconds",
        "600",
        "--message",
        "old-chat",
    ]);
    let mut chat = pod.start("old-chat", talk)?;
    chat.await_output("\"echoes\":3", Duration::from_secs(5))?;
    screen.say("One WebSocket conversation stays open from here on.");
    stage.old_chat = Some(chat);
    Ok(())
}

pub fn switch_on(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let servers = server_pids(stage);
    for namespace in ["shop", "vault"] {
        stage.label(screen, "Namespace", "", namespace, "weft.dev/capture", "enabled")?;
    }
    stage.await_capture()?;
    let markers = stage.converse(screen, "shop/customer", "captured")?;
    stage.expect_secret(markers)?;
    let first = stage.tap.first_bytes(8080);
    let customer = addresses_of(stage)?;
    let (from, to, bytes) = first
        .iter()
        .find(|(from, _, bytes)| customer.contains(&from.ip()) && bytes.starts_with(&TLS_HANDSHAKE))
        .context("no TLS handshake from the customer to port 8080 was on the wire")?;
    screen.quote(&format!("{from} → {to}  {:02x?} …  a TLS handshake, pod to pod, on the original port", &bytes[..5]));
    screen.proven("the same conversations, and no marker can be read");
    stage.records(1, "an outbound connection under mTLS", |record| {
        record["direction"] == "outbound" && record["security"] == "mtls"
    })?;
    expect_old_chat(stage, screen)?;
    ensure!(server_pids(stage) == servers, "a server was restarted");
    screen.proven("every server still runs under its old process number");
    Ok(())
}

pub fn identity(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let page =
        stage.run(screen, "shop/customer", "curl -sS --max-time 5 http://web.shop/who-am-i")?.expect_success()?;
    // A Service has addresses of both families, and curl takes whichever answers first.
    let customer = addresses_of(stage)?.into_iter().find(|address| page.trim().ends_with(&format!("sees {address}")));
    let customer = customer.with_context(|| format!("nginx sees somebody else than the customer: {page}"))?;
    // A server logs what it has answered already.
    let line = wait::until("nginx to log the request", Duration::from_secs(5), || {
        let mut seen = String::new();
        for name in ["shop/web-1", "shop/web-2"] {
            seen += &std::fs::read_to_string(stage.mesh.pod(name)?.scratch().join("nginx.log")).unwrap_or_default();
        }
        seen.lines().find(|line| line.contains("who-am-i")).map(str::to_owned).context("it has not logged the request")
    })?;
    screen.typed("shop/web", "grep who-am-i access.log");
    screen.quote(&line);
    ensure!(line.starts_with(&customer.to_string()), "nginx has logged another address than {customer}");
    screen.proven(&format!("nginx sees and logs {customer}, the customer's own address"));
    let records = stage.records(2, "the customer's identity", |record| {
        record["direction"] == "inbound"
            && record["source"]["identity"].as_str().is_some_and(|id| id.ends_with("/ns/shop/sa/customer"))
    })?;
    let record = &records[records.len() - 1];
    screen.typed("node2", "tail -1 access.log");
    screen.quote(&format!(
        "security={} source={} destination={} verdict={}",
        record["security"], record["source"]["identity"], record["destination"]["workload"], record["verdict"]
    ));
    screen.proven("the access log names the customer by a certificate, not by an address");
    Ok(())
}

pub fn nothing_heard(stage: &mut Stage, screen: &Screen) -> Result<()> {
    for marker in ["weft-uncaptured-web", "weft-intruder", "weft-open-direct"] {
        stage.tap.find(marker)?.with_context(|| format!("the control is missing: {marker} was never on the wire"))?;
        screen.quote(&format!("{marker}: readable, as it should be"));
    }
    let secrets = std::mem::take(&mut stage.secrets);
    ensure!(!secrets.is_empty(), "there was nothing to keep secret");
    stage.expect_secret(secrets.clone())?;
    screen.proven(&format!(
        "{} frames heard, {} markers of captured scenes looked for, none readable",
        stage.tap.frames(),
        secrets.len()
    ));
    expect_old_chat(stage, screen)
}

/// The conversation that began before capture goes on, whatever has happened since.
fn expect_old_chat(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let chat = stage.old_chat.as_mut().context("the old conversation was never begun")?;
    let so_far = chat.output().lines().count();
    wait::until("the old conversation to go on", Duration::from_secs(5), || {
        chat.expect_running()?;
        ensure!(chat.output().lines().count() > so_far + 1, "it is silent");
        Ok(())
    })?;
    screen.proven(&format!(
        "the WebSocket conversation from before is alive: {} echoes so far",
        chat.output().lines().count()
    ));
    Ok(())
}

fn addresses_of(stage: &Stage) -> Result<[IpAddr; 2]> {
    let customer = stage.mesh.pod("shop/customer")?;
    Ok([customer.ipv4(), customer.ipv6()])
}

fn server_pids(stage: &Stage) -> Vec<u32> {
    stage.mesh.pods().flat_map(|pod| pod.programs().iter().map(weft_rig::process::Process::pid)).collect()
}
