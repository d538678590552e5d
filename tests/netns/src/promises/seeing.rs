//! What a person sees: metrics, `weft status`, and `weft why` for faults it was not told of.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_rig::{Mesh, wait};

use super::hostile::{self, Forge};
use crate::cast::{self, CLOSED, ECHO, EFFECT_LIMIT, at, authorization, server_mtls};
use crate::scene::{Promise, Scene};

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("metrics_count_connections_by_workload_and_security", metrics),
        Promise::new("weft_status_check_and_dump_answer", commands),
        Promise::new("certificates_are_renewed_and_their_end_is_explained", outlived),
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
    serde_json::from_str::<serde_json::Value>(&dump)?;
    mesh.weft(&cli)?.arg("check").run()?.expect_success()?;
    Ok(())
}

fn why(scene: &Scene) -> Result<()> {
    let cli = scene.binaries()?.cli;
    let rules = json!([{"from": [{"serviceAccounts": ["shop/other"]}]}]);
    let plan = cast::shop(scene)?
        .object(authorization("no-other", "Deny", &rules))
        .object(server_mtls("strict", &json!({"mtls": "Strict"})));
    let mut mesh = cast::start(plan, scene)?;
    let server = at(&mesh, "shop/server", ECHO)?;
    let port = |name: &str, port: u16| format!("{name}:{port}");
    let ask = |mesh: &Mesh, source: &str, destination: &str, cause: &str| -> Result<()> {
        let answer = wait::until(&format!("weft why to say {cause}"), EFFECT_LIMIT, || {
            let outcome = mesh.weft(&cli)?.args(["-o", "json", "why", source, destination]).run()?;
            let answer: serde_json::Value =
                serde_json::from_str(&outcome.stdout).with_context(|| format!("no answer: {outcome:?}"))?;
            let found = answer["findings"].as_array().is_some_and(|all| all.iter().any(|one| one["cause"] == cause));
            ensure!(found, "{answer:#}");
            Ok(answer)
        })?;
        scene.note(&format!("{source} → {destination}: {cause} (first: {})", answer["cause"]));
        Ok(())
    };
    cast::expect_refused(&mesh, "outside/stranger", &server, EFFECT_LIMIT)?;
    ask(&mesh, "outside/stranger", &port("shop/server", ECHO), "plaintext_refused")?;
    ask(&mesh, "outside/stranger", &port("shop/server", ECHO), "not_captured")?;
    cast::expect_refused(&mesh, "shop/other", &server, EFFECT_LIMIT)?;
    ask(&mesh, "shop/other", &port("shop/server", ECHO), "denied_by_rule")?;
    cast::expect_refused(&mesh, "shop/client", &format!("server.shop:{CLOSED}"), EFFECT_LIMIT)?;
    ask(&mesh, "shop/client", &port("shop/server", CLOSED), "upstream_refused")?;
    mesh.set_ready("shop/server", false)?;
    cast::await_outcome(&mesh, "shop/client", &format!("server.shop:{ECHO}"), "refused")?;
    ask(&mesh, "shop/client", &port("shop/server", ECHO), "no_endpoint")?;
    mesh.set_ready("shop/server", true)?;
    cast::await_outcome(&mesh, "shop/client", &server, "ok")?;
    // A node that has not heard of its pod's new account goes on proving the old one.
    mesh.node(2)?.cut_off()?;
    let account = |mesh: &mut Mesh, name: &str| {
        mesh.directory().edit("Pod", "shop", "server", |pod| pod["spec"]["serviceAccountName"] = json!(name))
    };
    account(&mut mesh, "successor")?;
    cast::await_outcome(&mesh, "shop/client", &server, "refused")?;
    ask(&mesh, "shop/client", &port("shop/server", ECHO), "identity_mismatch")?;
    account(&mut mesh, "server")?;
    mesh.node(2)?.reconnect()?;
    cast::await_outcome(&mesh, "shop/client", &server, "ok")?;
    // Somebody outside holds a certificate of the mesh whose time is over.
    let stolen = Forge::with_stolen_key(&mut mesh)?;
    let pair = stolen.certificate("old", "URI:spiffe://cluster.local/ns/shop/sa/client", "-1")?;
    hostile::shake_hands(&mesh, Some(&pair), hostile::PING)?;
    ask(&mesh, "outside/stranger", &port("shop/server", ECHO), "certificate_expired")?;
    mesh.node(2)?.kill_agent();
    cast::expect_refused(&mesh, "shop/client", &server, Duration::from_secs(4))?;
    ask(&mesh, "shop/client", &port("shop/server", ECHO), "peer_agent_down")
}

fn outlived(scene: &Scene) -> Result<()> {
    let cli = scene.binaries()?.cli;
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
    let outcome = mesh.weft(&cli)?.args(["-o", "json", "why", "shop/client", &format!("shop/server:{ECHO}")]).run()?;
    ensure!(outcome.stdout.contains("\"certificate_expired\""), "{outcome:?}");
    mesh.controller()?.resume()?;
    cast::await_outcome(&mesh, "shop/client", &server, "ok")
}
