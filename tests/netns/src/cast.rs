//! The pods that most tests need, with every small server in them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::process::Process;
use weft_rig::{Mesh, MeshPlan, PodPlan, ServicePlan, wait};

pub use weft_rig::binaries::testapp;

use crate::scene::Scene;

pub const ECHO: u16 = 7000;
pub const GREET: u16 = 7001;
pub const SINK: u16 = 7002;
pub const RESET: u16 = 7003;
pub const TALLY: u16 = 7005;
pub const IDENTIFY: u16 = 8080;
/// A port of the Service and of the pods on which nobody listens.
pub const CLOSED: u16 = 7999;

/// Labels and objects take effect at once; this is for machines that are busy with something else.
pub const EFFECT_LIMIT: Duration = Duration::from_secs(10);

/// A client on node 1, a server on node 2 and one beside the client, a stranger outside the mesh.
///
/// The Service `shop/server` leads to the far one, `shop/near` to the near one, `shop/both` to both.
pub fn shop(scene: &Scene) -> Result<MeshPlan> {
    shop_labelled(scene, &[("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "open")])
}

/// The same with other labels on the namespace.
pub fn shop_labelled(scene: &Scene, labels: &[(&str, &str)]) -> Result<MeshPlan> {
    Ok(pods_and_services(labels).controller(&scene.binaries()?).agents())
}

fn pods_and_services(labels: &[(&str, &str)]) -> MeshPlan {
    let plan = Mesh::two_nodes()
        .namespace("shop", labels)
        .namespace("outside", &[])
        .pod(PodPlan::named("shop/client").on(1).account("client"))
        .pod(PodPlan::named("shop/other").on(1).account("other"))
        .pod(PodPlan::named("shop/near").on(1).account("server").label("app", "near").label("kind", "server"))
        .pod(PodPlan::named("shop/server").on(2).account("server").label("app", "server").label("kind", "server"))
        .pod(PodPlan::named("outside/stranger").on(1));
    [("shop/server", "app", "server"), ("shop/near", "app", "near"), ("shop/both", "kind", "server")].into_iter().fold(
        plan,
        |plan, (name, label, value)| {
            plan.service(
                ServicePlan::named(name)
                    .port("http", 80, IDENTIFY)
                    .port("echo", ECHO, ECHO)
                    .port("greet", GREET, GREET)
                    .port("sink", SINK, SINK)
                    .port("reset", RESET, RESET)
                    .port("tally", TALLY, TALLY)
                    .port("closed", CLOSED, CLOSED)
                    .selects(label, value),
            )
        },
    )
}

/// The mesh with its servers started.
pub fn start(plan: MeshPlan, scene: &Scene) -> Result<Mesh> {
    let mut mesh = plan.start(&scene.sandbox)?;
    for name in ["shop/near", "shop/server"] {
        start_servers(&mut mesh, name)?;
    }
    Ok(mesh)
}

/// Starts every small server in a pod and waits until all listen.
pub fn start_servers(mesh: &mut Mesh, name: &str) -> Result<()> {
    let testapp = testapp()?;
    let pod = mesh.pod_mut(name)?;
    let servers = [("echo", ECHO), ("greet", GREET), ("sink", SINK), ("reset", RESET), ("tally", TALLY)];
    for (server, port) in servers {
        let launch = pod.command(&testapp).args([server, "--port", &port.to_string()]);
        pod.serve(server, launch)?;
    }
    let launch = pod.command(&testapp).args(["identify", "--port", &IDENTIFY.to_string(), "--name", name]);
    pod.serve("identify", launch)?;
    servers.iter().map(|(_, port)| *port).chain([IDENTIFY]).try_for_each(|port| pod.await_listener(port, EFFECT_LIMIT))
}

/// Runs a client of the test application in a pod; returns its report, whether it succeeded or not.
pub fn client(mesh: &Mesh, pod: &str, arguments: &[&str], limit: Duration) -> Result<(bool, Value)> {
    let outcome = mesh.pod(pod)?.command(testapp()?).args(arguments).within(limit).run()?;
    Ok((outcome.success(), outcome.report()?))
}

/// The same for a client that must succeed.
pub fn expect_client(mesh: &Mesh, pod: &str, arguments: &[&str], limit: Duration) -> Result<Value> {
    let (success, report) = client(mesh, pod, arguments, limit)?;
    ensure!(success, "`weft-testapp {}` in {pod} failed: {report}", arguments.join(" "));
    Ok(report)
}

/// Sends a word to an echo and waits until it is back.
pub fn speak(mesh: &Mesh, pod: &str, to: &str, word: &str) -> Result<()> {
    let arguments = ["hold", "--to", to, "--seconds", "0", "--message", word];
    expect_client(mesh, pod, &arguments, EFFECT_LIMIT).map(drop)
}

/// Starts a client of the test application in a pod.
pub fn start_client(mesh: &Mesh, pod: &str, name: &str, arguments: &[&str]) -> Result<Process> {
    let pod = mesh.pod(pod)?;
    pod.start(name, pod.command(testapp()?).args(arguments))
}

/// What came of one connection with one word each way.
#[derive(Debug)]
pub struct Attempt {
    /// `ok`, `ConnectionRefused`, `ConnectionReset`, `hung` and the like.
    pub outcome: String,
    /// How long that took.
    pub time: Duration,
}

/// Connects once to an echo.
pub fn attempt(mesh: &Mesh, pod: &str, to: &str) -> Result<Attempt> {
    let (_, report) = client(mesh, pod, &["attempt", "--to", to], Duration::from_secs(20))?;
    let outcome = report["outcome"].as_str().context("no outcome")?.to_owned();
    Ok(Attempt { outcome, time: Duration::from_millis(report["ms"].as_u64().context("no time")?) })
}

/// Waits until a connection has this outcome.
pub fn await_outcome(mesh: &Mesh, pod: &str, to: &str, wanted: &str) -> Result<()> {
    wait::until(&format!("a connection from {pod} to {to} to be {wanted}"), EFFECT_LIMIT, || {
        let attempt = attempt(mesh, pod, to)?;
        ensure!(is_outcome(&attempt.outcome, wanted), "{attempt:?}");
        Ok(())
    })
}

/// `refused` stands for every way in which a peer can say no at once.
pub fn is_outcome(outcome: &str, wanted: &str) -> bool {
    match wanted {
        "refused" => ["ConnectionRefused", "ConnectionReset", "closed before the answer"].contains(&outcome),
        wanted => outcome == wanted,
    }
}

/// Fails unless a connection is refused or reset, and at once.
pub fn expect_refused(mesh: &Mesh, pod: &str, to: &str, limit: Duration) -> Result<()> {
    let attempt = attempt(mesh, pod, to)?;
    ensure!(is_outcome(&attempt.outcome, "refused") && attempt.time < limit, "{pod} → {to}: {attempt:?}");
    Ok(())
}

/// Fails unless a connection works.
pub fn expect_ok(mesh: &Mesh, pod: &str, to: &str) -> Result<Duration> {
    let attempt = attempt(mesh, pod, to)?;
    ensure!(attempt.outcome == "ok", "{pod} → {to}: {attempt:?}");
    Ok(attempt.time)
}

/// A program that is built for this tier alone.
pub fn built(name: &str) -> Result<PathBuf> {
    let program = weft_rig::binaries::folder_of_this_program()?.join(name);
    ensure!(program.exists(), "not built: {}; `cargo xtask test netns` builds it", program.display());
    Ok(program)
}

/// The lines of a node's access log that `wanted` picks; waits until there is one.
pub fn records(mesh: &mut Mesh, node: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
    let log = mesh.node(node)?.access_log();
    wait::until(&format!("{what} in the access log of node{node}"), EFFECT_LIMIT, || {
        let text = std::fs::read_to_string(&log).with_context(|| format!("no {}", log.display()))?;
        let records: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let found: Vec<Value> = records.iter().filter(|record| wanted(record)).cloned().collect();
        let last: Vec<String> = records.iter().rev().take(3).map(ToString::to_string).collect();
        ensure!(!found.is_empty(), "none of its {} lines; the last: {}", records.len(), last.join("\n"));
        Ok(found)
    })
}

/// An `AuthenticationPolicy` of the shop for all its pods.
pub fn server_mtls(name: &str, server: &Value) -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "AuthenticationPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Pod"}], "server": server},
    })
}

/// An `AuthorizationPolicy` of the shop for the pods behind `shop/server`.
pub fn authorization(name: &str, action: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Pod", "selector": {"matchLabels": {"app": "server"}}}], "action": action, "rules": rules},
    })
}

/// Host and port of a server in a pod.
pub fn at(mesh: &Mesh, pod: &str, port: u16) -> Result<String> {
    Ok(format!("{}:{port}", mesh.pod(pod)?.ipv4()))
}

/// Host and port of a server in a pod, by IPv6.
pub fn at_v6(mesh: &Mesh, pod: &str, port: u16) -> Result<String> {
    Ok(format!("[{}]:{port}", mesh.pod(pod)?.ipv6()))
}
