//! Looking before capturing: observed pods, and who would be refused by strict mode.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, wait};

use super::probes;
use crate::cast::{self, ECHO, EFFECT_LIMIT, GREET, IDENTIFY, at};
use crate::scene::{Promise, Scene};

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("an_observed_pod_is_seen_and_not_touched", observed),
        Promise::new("observed_pods_are_captured_and_let_go_under_live_connections", switched),
        Promise::new("strict_mode_refuses_whom_observing_has_named", foretold),
        Promise::new("plaintext_of_permissive_pods_tells_who_would_be_refused", permissive),
        Promise::new("where_nobody_has_looked_strict_says_so", no_data),
    ]
}

const OBSERVE: (&str, &str) = ("weft.dev/capture", "observe");

/// What `weft check --strict shop` says, and its exit code.
fn strict(scene: &Scene, mesh: &Mesh) -> Result<(Value, Option<i32>)> {
    let outcome = mesh.weft(&scene.binaries()?.cli)?.args(["-o", "json", "check", "--strict", "shop"]).run()?;
    let told = serde_json::from_str(&outcome.stdout).with_context(|| format!("no answer: {outcome:?}"))?;
    Ok((told, outcome.status.code()))
}

/// The callers that would be refused: who, whom and where.
fn refused(told: &Value) -> Vec<String> {
    let all = told["refused"].as_array().into_iter().flatten();
    let mut lines: Vec<String> = all
        .map(|one| {
            let who = one["workload"].as_str().or_else(|| one["address"].as_str()).unwrap_or("?");
            format!("{who} → {}:{}", one["pod"].as_str().unwrap_or("?"), one["port"])
        })
        .collect();
    lines.sort();
    lines
}

fn await_refused(scene: &Scene, mesh: &Mesh, expected: &[&str]) -> Result<Value> {
    wait::until(&format!("{expected:?} to be named"), EFFECT_LIMIT, || {
        let (told, code) = strict(scene, mesh)?;
        ensure!(refused(&told) == expected, "{told:#}");
        ensure!(code == Some(i32::from(!expected.is_empty())), "it ended with {code:?}");
        Ok(told)
    })
}

/// Waits until every pod of the shop is observed and none is captured.
fn await_observed(mesh: &mut Mesh) -> Result<()> {
    for (number, pods) in [(1, 3), (2, 1)] {
        let socket = mesh.node(number)?.admin_socket();
        wait::until(&format!("node{number} to observe {pods} pods"), EFFECT_LIMIT, || {
            let status = weft_rig::admin::ask(&socket, "/status")?;
            let all = status["observed"].as_array().context("no list")?;
            let observed = all.iter().filter(|pod| pod["observed"] == true && pod["reason"].is_null()).count();
            ensure!(observed == pods && all.len() == pods && status["pods"] == json!([]), "{status}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What an agent has seen of a pod.
fn seen(mesh: &mut Mesh, node: usize, pod: &str) -> Result<Value> {
    let told = weft_rig::admin::ask(&mesh.node(node)?.admin_socket(), "/callers?namespace=shop")?;
    let found = told["pods"].as_array().into_iter().flatten().find(|one| one["pod"] == pod).cloned();
    found.with_context(|| format!("nothing of {pod}: {told}"))
}

fn observed(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop_labelled(scene, &[OBSERVE])?, scene)?;
    await_observed(&mut mesh)?;
    let tap = mesh.fabric().listen(1)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    for _ in 0..3 {
        cast::speak(&mesh, "shop/client", &to, "marker-observed")?;
    }
    tap.find("marker-observed")?.context("somebody carried it")?;
    // The application sees its client, and nothing of the mesh is in the pod.
    let identified = format!("http://{}/", at(&mesh, "shop/server", IDENTIFY)?);
    let answer = mesh.pod("shop/client")?.shell(&format!("curl -sSi --max-time 5 {identified}"))?.expect_success()?;
    ensure!(!answer.contains("weft-request-id"), "{answer}");
    ensure!(answer.contains(&mesh.pod("shop/client")?.ipv4().to_string()), "{answer}");
    let reserved = mesh.pod("shop/server")?.namespace().read_sysctl("net/ipv4/ip_local_reserved_ports")?;
    ensure!(reserved.is_empty(), "its settings were changed: {reserved}");
    let listeners = mesh.pod("shop/server")?.shell("ss -Hltn")?.expect_success()?;
    ensure!(!listeners.contains(":610"), "somebody else listens: {listeners}");
    let hooks = weft_rig::admin::ask(&mesh.node(2)?.admin_socket(), "/status")?;
    ensure!(!hooks["kernel"]["hooks"].to_string().contains("steer"), "{hooks}");

    let server = seen(&mut mesh, 2, "shop/server")?;
    let caller = |port: u16| {
        let all = server["callers"].as_array().into_iter().flatten();
        all.filter(|one| one["port"] == port).cloned().collect::<Vec<_>>()
    };
    let [echo] = &caller(ECHO)[..] else { anyhow::bail!("{server:#}") };
    ensure!(echo["workload"] == "shop/client" && echo["connections"] == 3 && echo["who"] == "neighbour", "{echo}");
    ensure!(echo["last"].as_str() > echo["first"].as_str() && server["since"].is_string(), "{server:#}");
    ensure!(caller(IDENTIFY).len() == 1 && caller(GREET).is_empty(), "{server:#}");
    let client = seen(&mut mesh, 1, "shop/client")?;
    let calls = client["calls"].as_array().into_iter().flatten();
    let seen: Vec<_> = calls.map(|one| (&one["name"], &one["port"], &one["connections"])).collect();
    ensure!(seen.contains(&(&json!("shop/server"), &json!(ECHO), &json!(3))), "{client:#}");
    mesh.weft(&scene.binaries()?.cli)?.arg("check").run()?.expect_success().map(drop)
}

fn switched(scene: &Scene) -> Result<()> {
    let labels = [("weft.dev/on-agent-failure", "open")];
    let mut mesh = cast::start(cast::shop_labelled(scene, &labels)?, scene)?;
    let tap = mesh.fabric().listen(1)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    let stranger = ["hold", "--to", &to, "--seconds", "60", "--beat", "50"];
    let mut held = [("outside/stranger", "old"), ("shop/client", "own")]
        .map(|(pod, name)| cast::start_client(&mesh, pod, name, &stranger));
    for one in &mut held {
        one.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?.await_output("\"echoes\":3", EFFECT_LIMIT)?;
    }
    let [old, own] = held;
    let mut held = [old?, own?];
    let label =
        |mesh: &mut Mesh, value: &str| mesh.directory().label("Namespace", "", "shop", "weft.dev/capture", Some(value));
    label(&mut mesh, "observe")?;
    await_observed(&mut mesh)?;
    // It stood before anybody looked, and is seen all the same.
    await_refused(scene, &mesh, &[&format!("outside/stranger → shop/server:{ECHO}")])?;
    label(&mut mesh, "enabled")?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::speak(&mesh, "shop/client", &to, "marker-while-captured")?;
    ensure!(tap.find("marker-while-captured")?.is_none(), "a captured connection is readable");
    label(&mut mesh, "observe")?;
    await_observed(&mut mesh)?;
    cast::speak(&mesh, "shop/client", &to, "marker-while-observed")?;
    tap.find("marker-while-observed")?.context("an observed pod's connection is not readable")?;
    label(&mut mesh, "disabled")?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    wait::until("nobody to be observed", EFFECT_LIMIT, || {
        let status = weft_rig::admin::ask(&mesh.node(1)?.admin_socket(), "/status")?;
        ensure!(status["observed"] == json!([]), "{}", status["observed"]);
        Ok(())
    })?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    for one in &mut held {
        let beats = one.output().lines().count();
        wait::until("an old connection to go on", EFFECT_LIMIT, || {
            one.expect_running()?;
            ensure!(one.output().lines().count() > beats + 2, "silent since {beats}");
            Ok(())
        })?;
    }
    Ok(())
}

fn foretold(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop_labelled(scene, &[OBSERVE])?, scene)?;
    probes::declare(&mut mesh, "near")?;
    await_observed(&mut mesh)?;
    let (near, probed) = (at(&mesh, "shop/near", GREET)?, at(&mesh, "shop/near", ECHO)?);
    let mut kubelet = probes::start_known(&mut mesh, &[&probed])?;
    await_refused(scene, &mesh, &[])?;
    for (pod, to) in [("shop/client", &near), ("outside/stranger", &probed)] {
        cast::expect_ok(&mesh, pod, to).or_else(|_| cast::attempt(&mesh, pod, to).map(|attempt| attempt.time))?;
    }
    let stranger = format!("outside/stranger → shop/near:{ECHO}");
    let told = await_refused(scene, &mesh, &[&stranger])?;
    ensure!(told["verdict"] == "somebody" && told["accepted"].as_u64() >= Some(2), "{told:#}");
    ensure!(told["refused"][0]["who"] == "uncaptured", "{told:#}");
    let callers = seen(&mut mesh, 1, "shop/near")?;
    let is_probe = |one: &Value| one["who"] == "probe" && one["port"] == ECHO && one["standing"] == "accepted";
    ensure!(callers["callers"].as_array().into_iter().flatten().any(is_probe), "no probe: {callers:#}");
    let table = mesh.weft(&scene.binaries()?.cli)?.args(["check", "--strict", "shop"]).run()?.stdout;
    ensure!(table.contains("✗  outside/stranger (") && table.contains("1 callers would be refused"), "{table}");

    mesh.directory().apply(cast::server_mtls("strict", &json!({"mtls": "Strict"})))?;
    mesh.directory().label("Namespace", "", "shop", "weft.dev/capture", Some("enabled"))?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::await_outcome(&mesh, "outside/stranger", &probed, "refused")?;
    cast::await_outcome(&mesh, "shop/client", &probed, "ok")?;
    kubelet.expect_running()
}

fn permissive(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    await_refused(scene, &mesh, &[])?;
    // One that goes on has no record yet.
    let arguments = ["hold", "--to", &to, "--seconds", "60", "--beat", "50"];
    let mut held = cast::start_client(&mesh, "outside/stranger", "held", &arguments)?;
    held.await_output("beat", EFFECT_LIMIT)?;
    let line = format!("outside/stranger → shop/server:{ECHO}");
    let told = await_refused(scene, &mesh, &[&line])?;
    ensure!(told["refused"][0]["connections"] == 1, "{told:#}");
    let exempt = json!({
        "mtls": "Permissive",
        "exemptions": [{"ports": [ECHO], "from": {"any": true}, "reason": "until it is captured"}],
    });
    mesh.directory().apply(cast::server_mtls("exempt", &exempt))?;
    let told = await_refused(scene, &mesh, &[])?;
    ensure!(told["accepted"] == 1 && told["verdict"] == "nobody", "{told:#}");
    held.expect_running()
}

fn no_data(scene: &Scene) -> Result<()> {
    let mesh = cast::start(cast::shop_labelled(scene, &[])?, scene)?;
    cast::expect_ok(&mesh, "outside/stranger", &at(&mesh, "shop/server", ECHO)?)?;
    let (told, code) = strict(scene, &mesh)?;
    ensure!(told["verdict"] == "no_data" && code == Some(1), "{code:?} {told:#}");
    ensure!(told["unseen"].as_array().is_some_and(|unseen| unseen.len() == 4), "{told:#}");
    let outcome = mesh.weft(&scene.binaries()?.cli)?.args(["check", "--strict", "nowhere"]).run()?;
    ensure!(outcome.status.code() == Some(2) && outcome.stdout.contains("knows a pod of nowhere"), "{outcome:?}");
    Ok(())
}
