//! What a person sees: metrics, `weft status`, and `weft why` for faults it was not told of.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, wait};

use super::hostile::{self, Forge};
use crate::cast::{self, CLOSED, ECHO, EFFECT_LIMIT, at, authorization, server_mtls};
use crate::scene::{Promise, Scene};

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("metrics_count_connections_by_workload_and_security", metrics),
        Promise::new("weft_status_check_and_dump_answer", commands),
        Promise::new("certificates_are_renewed_and_their_end_is_explained", outlived),
        Promise::new("an_open_namespace_goes_on_while_its_certificates_end", goes_on),
        Promise::new("why", why).proves("`weft why` names the true cause of every injected fault"),
    ]
}

fn metrics(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    for _ in 0..10 {
        cast::expect_ok(&mesh, "shop/client", &at(&mesh, "shop/server", ECHO)?)?;
    }
    for (number, direction) in [(1, "outbound"), (2, "inbound")] {
        wait::until("the connections to be counted", EFFECT_LIMIT, || {
            let text = mesh.node(number)?.metrics()?;
            let counted = text.lines().any(|line| {
                line.contains("connections")
                    && line.contains(direction)
                    && line.contains("mtls")
                    && line.contains("allow")
            });
            ensure!(
                counted,
                "{}",
                text.lines().filter(|line| line.contains("connections")).collect::<Vec<_>>().join("\n")
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn commands(scene: &Scene) -> Result<()> {
    let cli = scene.binaries()?.cli;
    let mesh = cast::start(cast::shop(scene)?, scene)?;
    cast::expect_ok(&mesh, "shop/client", &at(&mesh, "shop/server", ECHO)?)?;
    let status = mesh.weft(&cli)?.arg("status").run()?.expect_success()?;
    ensure!(status.contains("shop/client") && status.contains("shop/server"), "{status}");
    let dump = mesh.weft(&cli)?.args(["-o", "json", "config", "dump"]).run()?.expect_success()?;
    serde_json::from_str::<Value>(&dump)?;
    mesh.weft(&cli)?.arg("check").run()?.expect_success()?;
    Ok(())
}

/// Asks `weft why` until the cause that it names first is this one.
fn expect_cause(scene: &Scene, mesh: &Mesh, ends: [&str; 2], cause: &str) -> Result<()> {
    let cli = scene.binaries()?.cli;
    wait::until(&format!("weft why {ends:?} to say {cause}"), EFFECT_LIMIT, || {
        let outcome = mesh.weft(&cli)?.args(["-o", "json", "why"]).args(ends).run()?;
        let answer: Value = serde_json::from_str(&outcome.stdout).with_context(|| format!("no answer: {outcome:?}"))?;
        ensure!(answer["cause"] == cause, "{answer:#}");
        Ok(())
    })?;
    scene.note(&format!("{} → {}: {cause}", ends[0], ends[1]));
    Ok(())
}

/// Every fault is injected, felt, and explained by a command that is told two names and nothing else.
fn why(scene: &Scene) -> Result<()> {
    let rules = json!([{"from": [{"serviceAccounts": ["shop/other"]}]}]);
    let mut mesh = cast::start(cast::shop(scene)?.object(authorization("no-other", "Deny", &rules)), scene)?;
    let server = at(&mesh, "shop/server", ECHO)?;
    let (asked, closed) = (format!("shop/server:{ECHO}"), format!("shop/server:{CLOSED}"));
    let ask = |mesh: &Mesh, source: &str, cause: &str| expect_cause(scene, mesh, [source, &asked], cause);
    cast::expect_ok(&mesh, "outside/stranger", &server)?;
    ask(&mesh, "outside/stranger", "not_captured")?;
    mesh.directory().apply(server_mtls("strict", &json!({"mtls": "Strict"})))?;
    cast::await_outcome(&mesh, "outside/stranger", &server, "refused")?;
    ask(&mesh, "outside/stranger", "plaintext_refused")?;
    cast::expect_refused(&mesh, "shop/other", &server, EFFECT_LIMIT)?;
    ask(&mesh, "shop/other", "denied_by_rule")?;
    cast::expect_refused(&mesh, "shop/client", &format!("server.shop:{CLOSED}"), EFFECT_LIMIT)?;
    expect_cause(scene, &mesh, ["shop/client", &closed], "upstream_refused")?;
    mesh.set_ready("shop/server", false)?;
    cast::await_outcome(&mesh, "shop/client", &format!("server.shop:{ECHO}"), "refused")?;
    ask(&mesh, "shop/client", "no_endpoint")?;
    mesh.set_ready("shop/server", true)?;
    cast::await_outcome(&mesh, "shop/client", &server, "ok")?;
    stale_identity(&mut mesh, &server, |mesh| ask(mesh, "shop/client", "identity_mismatch"))?;
    // Somebody outside holds a certificate of the mesh whose time is over.
    let stolen = Forge::with_stolen_key(&mut mesh)?;
    let pair = stolen.certificate("old", "URI:spiffe://cluster.local/ns/shop/sa/client", "-1")?;
    hostile::shake_hands(&mesh, Some(&pair), hostile::PING)?;
    ask(&mesh, "outside/stranger", "certificate_expired")?;
    mesh.node(2)?.kill_agent();
    cast::expect_refused(&mesh, "shop/client", &server, Duration::from_secs(4))?;
    ask(&mesh, "shop/client", "peer_agent_down")?;
    mesh.restart_agent(2)?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    mesh.node(1)?.kill_agent();
    ask(&mesh, "shop/client", "agent_down")
}

/// A node that has not heard of its pod's new account goes on proving the old one.
fn stale_identity(mesh: &mut Mesh, server: &str, ask: impl Fn(&Mesh) -> Result<()>) -> Result<()> {
    let account = |mesh: &mut Mesh, name: &str| {
        mesh.directory().edit("Pod", "shop", "server", |pod| pod["spec"]["serviceAccountName"] = json!(name))
    };
    mesh.node(2)?.cut_off()?;
    account(mesh, "successor")?;
    cast::await_outcome(mesh, "shop/client", server, "refused")?;
    ask(mesh)?;
    account(mesh, "server")?;
    mesh.node(2)?.reconnect()?;
    cast::await_outcome(mesh, "shop/client", server, "ok")
}

fn goes_on(scene: &Scene) -> Result<()> {
    let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "open")];
    let plan = cast::shop_labelled(scene, &labels)?.controller_flag("--certificate-life").controller_flag("10");
    let mut mesh = cast::start(plan, scene)?;
    let server = at(&mesh, "shop/server", ECHO)?;
    mesh.controller()?.kill();
    // Each pod's certificate ends at a time of its own: the client's first, or the server's.
    wait::throughout("the client's luck", Duration::from_secs(15), || {
        cast::expect_ok(&mesh, "shop/client", &server).map(drop)
    })?;
    let carried = |security: &'static str| {
        move |record: &Value| record["security"] == security && record["direction"] == "outbound"
    };
    cast::records(&mut mesh, 1, "a connection in plaintext", carried("plaintext"))?;
    mesh.controller()?.resume()?;
    wait::until("mutual TLS again", Duration::from_secs(15), || {
        cast::expect_ok(&mesh, "shop/client", &server)?;
        let records = cast::records(&mut mesh, 1, "connections", |record| record["direction"] == "outbound")?;
        let last = records.last().map(|record| record["security"].clone());
        ensure!(last.as_ref().is_some_and(|security| security == "mtls"), "the last connection's security is {last:?}");
        Ok(())
    })
}

fn outlived(scene: &Scene) -> Result<()> {
    let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "closed")];
    let plan = cast::shop_labelled(scene, &labels)?.controller_flag("--certificate-life").controller_flag("10");
    let mut mesh = cast::start(plan, scene)?;
    let server = at(&mesh, "shop/server", ECHO)?;
    // Longer than a life: certificates are renewed and nobody notices.
    wait::throughout("the client's luck", Duration::from_secs(12), || {
        cast::expect_ok(&mesh, "shop/client", &server).map(drop)
    })?;
    mesh.controller()?.kill();
    wait::until("the certificates to end", Duration::from_secs(15), || {
        cast::expect_refused(&mesh, "shop/client", &server, Duration::from_secs(4))
    })?;
    expect_cause(scene, &mesh, ["shop/client", &format!("shop/server:{ECHO}")], "certificate_expired")?;
    mesh.controller()?.resume()?;
    cast::await_outcome(&mesh, "shop/client", &server, "ok")
}
