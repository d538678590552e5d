//! Pods and labels change while everything runs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_rig::{PodPlan, wait};

use super::probes;
use crate::cast::{self, ECHO, EFFECT_LIMIT, IDENTIFY, at};
use crate::scene::{Promise, Scene};

/// The ports that Weft takes for itself in a captured pod.
const CAPTURE_PORTS: &str = "61000-61063";

/// Within this time nobody has forgotten the last owner of an address.
const REUSE: Duration = Duration::from_secs(1);

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("a_label_switches_capture_on_and_off_under_live_connections", switch_on_and_off),
        Promise::new("a_pod_may_stay_outside_its_namespace_capture", opt_out),
        Promise::new("excluded_ports_are_left_alone", exclusions),
        Promise::new("a_new_pod_is_served_at_once", new_pod),
        Promise::new("a_pod_that_a_kubelet_made_is_found_by_its_processes", found),
        Promise::new("a_new_pod_is_served_by_a_peer_that_has_never_heard_of_it", unheard_of),
        Promise::new("a_pod_that_vanishes_under_live_connections_harms_nobody", vanish),
        Promise::new("an_address_used_again_never_lends_its_old_identity", address_reused),
        Promise::new("removal_leaves_nothing_behind", removal),
    ]
}

fn switch_on_and_off(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop_labelled(scene, &[("weft.dev/on-agent-failure", "open")])?, scene)?;
    let tap = mesh.fabric().listen(1)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    let arguments = ["hold", "--to", &to, "--seconds", "60", "--beat", "50", "--message", "held-since-before"];
    let mut held = cast::start_client(&mesh, "shop/client", "held", &arguments)?;
    held.await_output("\"echoes\":3", EFFECT_LIMIT)?;
    mesh.directory().label("Namespace", "", "shop", "weft.dev/capture", Some("enabled"))?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::speak(&mesh, "shop/client", &to, "marker-while-captured")?;
    ensure!(tap.find("marker-while-captured")?.is_none(), "a captured connection is readable");
    mesh.directory().label("Namespace", "", "shop", "weft.dev/capture", Some("disabled"))?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::speak(&mesh, "shop/client", &to, "marker-after-release")?;
    tap.find("marker-after-release")?.context("a released pod's connection is not readable")?;
    let beats = held.output().lines().count();
    wait::until("the old connection to go on", EFFECT_LIMIT, || {
        held.expect_running()?;
        ensure!(held.output().lines().count() > beats + 2, "silent since {beats}");
        Ok(())
    })
}

fn opt_out(scene: &Scene) -> Result<()> {
    let plan = cast::shop(scene)?.pod(PodPlan::named("shop/apart").on(1).label("weft.dev/capture", "disabled"));
    let mesh = cast::start(plan, scene)?;
    let tap = mesh.fabric().listen(1)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::speak(&mesh, "shop/apart", &to, "marker-apart")?;
    tap.find("marker-apart")?.context("its connection was captured")?;
    Ok(())
}

fn exclusions(scene: &Scene) -> Result<()> {
    let apart = PodPlan::named("shop/apart").on(1).annotation("weft.dev/exclude-outbound-ports", &ECHO.to_string());
    let mut mesh = cast::start(cast::shop(scene)?.pod(apart), scene)?;
    let tap = mesh.fabric().listen(1)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::speak(&mesh, "shop/apart", &to, "marker-excluded")?;
    tap.find("marker-excluded")?.context("the excluded port was captured")?;
    let address = at(&mesh, "shop/server", IDENTIFY)?;
    mesh.pod("shop/apart")?
        .shell(&format!("curl -sS --max-time 5 http://{address}/marker-included"))?
        .expect_success()?;
    ensure!(tap.find("marker-included")?.is_none(), "the other port was not captured");
    cast::records(&mut mesh, 1, "the captured one", |record| record["source"]["workload"] == "shop/apart").map(drop)
}

fn new_pod(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    for round in 0..scene.pick(3, 30) {
        let name = format!("shop/fresh-{round}");
        mesh.add_pod(&PodPlan::named(&name).on(1).account("fresh"))?;
        // Its first connection, before or after anybody has heard of it: it may be direct, never broken.
        cast::expect_ok(&mesh, &name, &at(&mesh, "shop/server", ECHO)?)?;
        mesh.await_enrolled(EFFECT_LIMIT)?;
        cast::expect_ok(&mesh, &name, &at(&mesh, "shop/server", ECHO)?)?;
        cast::records(&mut mesh, 2, "its identity", |record| {
            record["source"]["identity"].as_str().is_some_and(|identity| identity.ends_with("/sa/fresh"))
        })?;
        mesh.remove_pod(&name)?;
    }
    Ok(())
}

fn found(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    for (name, node) in [("shop/found-client", 1), ("shop/found-server", 2)] {
        mesh.add_pod(&PodPlan::named(name).on(node).account("found").found_by_its_processes())?;
    }
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::start_servers(&mut mesh, "shop/found-server")?;
    let to = at(&mesh, "shop/found-server", ECHO)?;
    cast::expect_ok(&mesh, "shop/found-client", &to)?;
    cast::records(&mut mesh, 2, "both identities", |record| {
        let is_found = |side: &str| record[side]["identity"].as_str().is_some_and(|name| name.ends_with("/sa/found"));
        is_found("source") && is_found("destination")
    })?;
    let arguments = ["hold", "--to", &to, "--seconds", "60", "--beat", "50"];
    let mut held = cast::start_client(&mesh, "shop/found-client", "held", &arguments)?;
    held.await_output("beat", EFFECT_LIMIT)?;
    // With its processes it is gone, whatever its object says.
    mesh.vanish_pod("shop/found-server")?;
    let (status, output) = held.finish(Duration::from_secs(20)).context("its client was never told")?;
    ensure!(!status.success(), "echoes out of nowhere: {output}");
    cast::expect_ok(&mesh, "shop/found-client", &at(&mesh, "shop/server", ECHO)?).map(drop)
}

fn unheard_of(scene: &Scene) -> Result<()> {
    let strict = cast::server_mtls("strict", &json!({"mtls": "Strict"}));
    let mut mesh = cast::start(cast::shop(scene)?.object(strict), scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    mesh.node(2)?.cut_off()?;
    mesh.add_pod(&PodPlan::named("shop/fresh").on(1).account("fresh"))?;
    cast::await_outcome(&mesh, "shop/fresh", &to, "ok")?;
    // Its certificate is enough: the peer has no row for it.
    let records = cast::records(&mut mesh, 2, "its identity", |record| {
        record["source"]["identity"].as_str().is_some_and(|identity| identity.ends_with("/sa/fresh"))
    })?;
    ensure!(records[0]["security"] == "mtls", "{}", records[0]);
    mesh.node(2)?.reconnect()
}

fn vanish(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let to = format!("server.shop:{ECHO}");
    let held = cast::start_client(
        &mesh,
        "shop/client",
        "held",
        &["hold", "--to", &to, "--count", "50", "--seconds", "60", "--beat", "50"],
    )?;
    let mut held = held;
    held.await_output("beat", EFFECT_LIMIT)?;
    mesh.vanish_pod("shop/server")?;
    let (status, output) = held.finish(Duration::from_secs(20)).context("its clients were never told")?;
    ensure!(!status.success(), "echoes out of nowhere: {output}");
    for number in [1, 2] {
        mesh.node(number)?.agent()?.expect_running()?;
    }
    cast::expect_ok(&mesh, "shop/client", &at(&mesh, "shop/near", ECHO)?).map(drop)
}

fn address_reused(scene: &Scene) -> Result<()> {
    let rules = json!([{"from": [{"serviceAccounts": ["shop/client"]}]}]);
    let policy = cast::authorization("only-client", "Allow", &rules);
    let mut mesh = cast::start(cast::shop(scene)?.object(policy), scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    for _ in 0..scene.pick(3, 30) {
        cast::expect_ok(&mesh, "shop/client", &to)?;
        let number = mesh.pod("shop/client")?.number();
        let expected = mesh.pod("shop/client")?.ipv4();
        let start = Instant::now();
        mesh.remove_pod("shop/client")?;
        mesh.add_pod(&PodPlan::named("shop/thief").on(1).account("thief").number(number))?;
        ensure!(mesh.pod("shop/thief")?.ipv4() == expected, "the address was not used again");
        ensure!(start.elapsed() < REUSE, "only after {:?}: nobody would have mistaken it", start.elapsed());
        // Whatever has been heard of the thief by now: it is not the client.
        cast::expect_refused(&mesh, "shop/thief", &to, Duration::from_secs(12))?;
        mesh.await_enrolled(EFFECT_LIMIT)?;
        cast::expect_refused(&mesh, "shop/thief", &to, Duration::from_secs(12))?;
        mesh.remove_pod("shop/thief")?;
        mesh.add_pod(&PodPlan::named("shop/client").on(1).account("client").number(number))?;
        mesh.await_enrolled(EFFECT_LIMIT)?;
    }
    Ok(())
}

fn removal(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let tap = mesh.fabric().listen(1)?;
    probes::declare(&mut mesh, "near")?;
    let probed = at(&mesh, "shop/near", ECHO)?;
    let mut kubelet = probes::start_known(&mut mesh, &[&probed])?;
    let namespace = mesh.pod("shop/client")?.namespace();
    let reserved = namespace.read_sysctl("net/ipv4/ip_local_reserved_ports")?;
    ensure!(reserved.contains(CAPTURE_PORTS), "the capture range is not reserved: {reserved:?}");
    let plan = mesh.agent_plan(1)?;
    mesh.node(1)?.remove_agent(&plan)?;
    // The folder of the pins may go with them.
    let pins: Vec<_> = std::fs::read_dir(mesh.node(1)?.pin_dir()).into_iter().flatten().collect();
    ensure!(pins.is_empty(), "pins are left: {pins:?}");
    let namespace = mesh.pod("shop/client")?.namespace();
    let reserved = namespace.read_sysctl("net/ipv4/ip_local_reserved_ports")?;
    ensure!(reserved.is_empty(), "ports are still reserved: {reserved}");
    let listeners = mesh.pod("shop/client")?.shell("ss -Hltn")?.expect_success()?;
    ensure!(listeners.trim().is_empty(), "somebody listens: {listeners}");
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::speak(&mesh, "shop/client", &to, "marker-removed")?;
    tap.find("marker-removed")?.context("still captured")?;
    kubelet.expect_running()
}
