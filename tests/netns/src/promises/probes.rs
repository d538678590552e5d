//! Kubelet's probes of strict pods. A real process named kubelet opens them from the node's namespace, in a cgroup of its
//! own; what it is told is in its output.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::fabric::Fabric;
use weft_rig::place::Place;
use weft_rig::process::Process;
use weft_rig::{Mesh, wait};

use crate::cast::{self, ECHO, EFFECT_LIMIT, GREET, at, at_v6, server_mtls};
use crate::scene::{Promise, Scene};

/// So many probes in a row say how it is now.
const SETTLED: usize = 4;
/// The port of the node that leads to the pod.
const NODE_PORT: u16 = 30_700;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("kubelets_probes_reach_what_strict_pods_declare_and_nobody_else_does", declared),
        Promise::new("a_kubelet_that_comes_back_in_another_cgroup_is_never_refused", restarted),
        Promise::new("probes_go_on_while_the_agent_is_away", agent_restarted),
        Promise::new("a_kubelet_that_shares_the_root_of_all_cgroups_is_told_apart", shared_root),
        Promise::new("a_pod_that_calls_itself_kubelet_is_none", impostor),
        Promise::new("a_setuid_program_that_calls_itself_kubelet_is_none", setuid),
        Promise::new("of_two_kubelets_none_is_believed_and_probes_go_on", two),
        Promise::new("what_others_detach_at_kubelets_cgroup_is_attached_again", detached),
    ]
}

/// A strict shop in which both servers declare their echo for probes.
fn strict_shop(scene: &Scene) -> Result<Mesh> {
    let plan = cast::shop(scene)?.object(server_mtls("strict", &json!({"mtls": "Strict"})));
    let mut mesh = cast::start(plan, scene)?;
    for pod in ["near", "server"] {
        declare(&mut mesh, pod)?;
    }
    Ok(mesh)
}

/// Lets a pod declare its echo for probes, by the name of the port.
pub fn declare(mesh: &mut Mesh, pod: &str) -> Result<()> {
    let container = json!({
        "name": "app", "image": "app", "ports": [{"name": "echo", "containerPort": ECHO}],
        "livenessProbe": {"tcpSocket": {"port": "echo"}},
    });
    mesh.directory().edit("Pod", "shop", pod, |pod| pod["spec"]["containers"] = json!([container])).map(drop)
}

/// The folder of the first node's cgroups: pods, the agent and kubelet are below it.
fn cgroups(mesh: &mut Mesh) -> Result<PathBuf> {
    Ok(mesh.node(1)?.pods_cgroup().parent().context("no folder above the pods")?.to_owned())
}

/// Starts a kubelet of the first node that probes these addresses all the time, in this folder.
fn start_kubelet(mesh: &mut Mesh, name: &str, folder: &Path, to: &[&str]) -> Result<Process> {
    let place = mesh.node(1)?.place();
    start_named(mesh, name, &place, folder, to)
}

/// The same wherever it is.
fn start_named(mesh: &Mesh, name: &str, place: &Place, folder: &Path, to: &[&str]) -> Result<Process> {
    start_by(mesh, name, &place.clone().in_cgroup(folder), &[], to)
}

/// The same through another program, which becomes it.
fn start_by(mesh: &Mesh, name: &str, place: &Place, starter: &[&str], to: &[&str]) -> Result<Process> {
    place.cgroup().map_or(Ok(()), fs::create_dir_all)?;
    let program = mesh.scratch().join("kubelet");
    if !program.exists() {
        std::os::unix::fs::symlink(cast::testapp()?, &program)?;
    }
    let addresses = to.iter().flat_map(|to| ["--to", *to]);
    let program = program.to_str().context("a path that is no text")?;
    let mut words = starter.iter().copied().chain([program, "probe"]).chain(addresses);
    let launch = place.command(words.next().context("no program")?).args(words);
    launch.start(&mesh.scratch().join(format!("{name}.log")))
}

/// A kubelet in a folder of its own, once the agent knows it.
pub fn start_known(mesh: &mut Mesh, to: &[&str]) -> Result<Process> {
    let folder = cgroups(mesh)?.join("system/kubelet");
    let kubelet = start_kubelet(mesh, "kubelet", &folder, to)?;
    await_known(mesh, true)?;
    Ok(kubelet)
}

/// Waits until the agent knows probes by kubelet's sockets, or, with `by_sockets` false, by the node's address.
fn await_known(mesh: &mut Mesh, by_sockets: bool) -> Result<()> {
    wait::until("the agent to know how probes are recognised", EFFECT_LIMIT, || {
        let node = mesh.node(1)?;
        let status: Value = weft_rig::admin::ask(&node.admin_socket(), "/status")?;
        let hooks = status["kernel"]["hooks"].as_array().context("no hooks")?;
        let hook = hooks.iter().find(|hook| hook["name"] == "probe_ops").context("no hook for probes")?;
        ensure!(hook["attached"] == by_sockets, "{hook}");
        ensure!(by_sockets || hook["detail"].as_str().is_some_and(|why| why.contains("address")), "{hook}");
        let metric = format!("weft_probes_by_address {}", i32::from(!by_sockets));
        ensure!(node.metrics()?.contains(&metric), "the metrics do not say {metric}");
        Ok(())
    })
}

/// What came of a kubelet's probes of one address so far.
fn outcomes(kubelet: &Process, to: &str) -> Vec<String> {
    let told = kubelet.output();
    let lines = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["to"] == to).filter_map(|line| line["outcome"].as_str().map(str::to_owned)).collect()
}

/// Waits until a kubelet's probes have this outcome; returns how many there were until then.
fn await_probes(kubelet: &mut Process, to: &str, wanted: &str) -> Result<usize> {
    await_probes_after(kubelet, to, wanted, 0)
}

/// The same for those that come after the first `seen` ones.
fn await_probes_after(kubelet: &mut Process, to: &str, wanted: &str, seen: usize) -> Result<usize> {
    wait::until(&format!("probes of {to} to be {wanted}"), EFFECT_LIMIT, || {
        kubelet.expect_running()?;
        let found = outcomes(kubelet, to);
        let last = found.get(found.len().saturating_sub(SETTLED).max(seen)..).unwrap_or_default();
        ensure!(last.len() == SETTLED && last.iter().all(|one| cast::is_outcome(one, wanted)), "the last: {last:?}");
        Ok(found.len())
    })
}

/// Fails unless every probe since the first `seen` ones was answered, and there were some.
fn expect_all_ok(kubelet: &mut Process, to: &str, seen: usize) -> Result<()> {
    await_probes_after(kubelet, to, "ok", seen)?;
    let found = outcomes(kubelet, to);
    ensure!(found[seen..].iter().all(|outcome| outcome == "ok"), "{to}: {:?}", &found[seen..]);
    Ok(())
}

/// What comes of one connection of another process than kubelet.
fn attempt(place: &Place, to: &str) -> Result<String> {
    let outcome =
        place.command(cast::testapp()?).args(["attempt", "--to", to]).within(Duration::from_secs(20)).run()?;
    let report = outcome.report()?;
    Ok(report["outcome"].as_str().context("no outcome")?.to_owned())
}

fn expect_attempt(place: &Place, to: &str, wanted: &str) -> Result<()> {
    let outcome = attempt(place, to)?;
    ensure!(cast::is_outcome(&outcome, wanted), "a connection to {to} is {outcome} and not {wanted}");
    Ok(())
}

/// Leads a port of the first node to a pod as kube-proxy does, with the node's own address for the client's.
fn open_node_port(mesh: &mut Mesh, pod: &str) -> Result<String> {
    let (node, pod) = (Fabric::node_ipv4(1), mesh.pod(pod)?.ipv4());
    let ruleset = format!(
        "table ip node-port {{\n\
         chain before {{ type nat hook prerouting priority -100; ip daddr {node} tcp dport {NODE_PORT} dnat to {pod}:{ECHO}; }}\n\
         chain after {{ type nat hook postrouting priority 100; ip daddr {pod} ct status dnat masquerade; }}\n}}\n"
    );
    mesh.node(1)?.load_rules(&ruleset)?;
    Ok(format!("{node}:{NODE_PORT}"))
}

fn declared(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let (four, six) = (at(&mesh, "shop/near", ECHO)?, at_v6(&mesh, "shop/near", ECHO)?);
    let (other, far) = (at(&mesh, "shop/near", GREET)?, at(&mesh, "shop/server", ECHO)?);
    let node_port = open_node_port(&mut mesh, "shop/near")?;
    let mut kubelet = start_known(&mut mesh, &[&four, &six, &other, &far])?;
    for to in [&four, &six] {
        await_probes(&mut kubelet, to, "ok")?;
    }
    // Neither at another port, nor in a pod that another kubelet looks after.
    for to in [&other, &far] {
        await_probes(&mut kubelet, to, "refused")?;
    }
    let node = mesh.node(1)?.place();
    for to in [&four, &six] {
        expect_attempt(&node, to, "refused")?;
        cast::expect_refused(&mesh, "outside/stranger", to, Duration::from_secs(1))?;
        cast::expect_ok(&mesh, "shop/client", to)?;
    }
    // To the pod, this client has the node's own address.
    expect_attempt(&mesh.fabric().place(), &node_port, "refused")?;
    wait::until("the probes to be counted", EFFECT_LIMIT, || {
        let metrics = mesh.node(1)?.metrics()?;
        let of_pod = |line: &&str| line.contains("event=\"inbound_probe\"") && line.contains("pod=\"near\"");
        let line = metrics.lines().find(of_pod);
        ensure!(line.is_some_and(|line| !line.ends_with(" 0")), "{line:?}");
        Ok(())
    })?;
    // The row goes with the declaration.
    mesh.directory().edit("Pod", "shop", "near", |pod| pod["spec"]["containers"] = json!([{"name": "app"}]))?;
    await_probes(&mut kubelet, &four, "refused")?;
    declare(&mut mesh, "near")?;
    await_probes(&mut kubelet, &four, "ok").map(drop)
}

fn restarted(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let (to, other) = (at(&mesh, "shop/near", ECHO)?, at(&mesh, "shop/near", GREET)?);
    let node_port = open_node_port(&mut mesh, "shop/near")?;
    let mut kubelet = start_known(&mut mesh, &[&to])?;
    await_probes(&mut kubelet, &to, "ok")?;
    let node = mesh.node(1)?.place();
    for round in 0..2 {
        expect_attempt(&node, &to, "refused")?;
        kubelet.kill();
        // Until it is back, who comes from the node may be it: at the ports of probes, and there alone.
        await_known(&mut mesh, false)?;
        expect_attempt(&node, &to, "ok")?;
        expect_attempt(&mesh.fabric().place(), &node_port, "ok")?;
        expect_attempt(&node, &other, "refused")?;
        cast::expect_refused(&mesh, "outside/stranger", &to, Duration::from_secs(1))?;
        let folder = cgroups(&mut mesh)?.join(format!("system/kubelet-{round}"));
        kubelet = start_kubelet(&mut mesh, &format!("kubelet-{round}"), &folder, &[&to, &other])?;
        await_known(&mut mesh, true)?;
        expect_all_ok(&mut kubelet, &to, 0)?;
        await_probes(&mut kubelet, &other, "refused")?;
        expect_attempt(&mesh.fabric().place(), &node_port, "refused")?;
    }
    Ok(())
}

fn agent_restarted(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let to = at(&mesh, "shop/near", ECHO)?;
    let node_port = open_node_port(&mut mesh, "shop/near")?;
    let mut kubelet = start_known(&mut mesh, &[&to])?;
    let seen = await_probes(&mut kubelet, &to, "ok")?;
    mesh.node(1)?.kill_agent();
    expect_all_ok(&mut kubelet, &to, seen)?;
    cast::expect_refused(&mesh, "outside/stranger", &to, Duration::from_secs(1))?;
    // The kernel goes on to know kubelet's sockets, so nobody else passes for it.
    let node = mesh.node(1)?.place();
    expect_attempt(&node, &to, "refused")?;
    expect_attempt(&mesh.fabric().place(), &node_port, "refused")?;
    mesh.restart_agent(1)?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    await_known(&mut mesh, true)?;
    expect_attempt(&node, &to, "refused")?;
    // A successor takes this over with everything else.
    let plan = mesh.agent_plan(1)?;
    let predecessor = mesh.node(1)?.start_agent(&plan)?.context("no agent to take over from")?;
    predecessor.finish(Duration::from_secs(40)).context("the old agent has not left")?;
    await_known(&mut mesh, true)?;
    expect_attempt(&node, &to, "refused")?;
    expect_all_ok(&mut kubelet, &to, seen)
}

fn shared_root(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let (to, other) = (at(&mesh, "shop/near", ECHO)?, at(&mesh, "shop/near", GREET)?);
    let root = cgroups(&mut mesh)?;
    let mut kubelet = start_kubelet(&mut mesh, "kubelet", &root, &[&to, &other])?;
    await_known(&mut mesh, true)?;
    await_probes(&mut kubelet, &to, "ok")?;
    await_probes(&mut kubelet, &other, "refused")?;
    let beside = mesh.node(1)?.place().in_cgroup(&root);
    expect_attempt(&beside, &to, "refused")?;
    cast::expect_refused(&mesh, "outside/stranger", &to, Duration::from_secs(1))?;
    cast::expect_ok(&mesh, "shop/client", &to).map(drop)
}

fn impostor(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let to = at(&mesh, "shop/near", ECHO)?;
    // Older than the real one, one with the node's network and one without.
    let folder = mesh.pod("outside/stranger")?.cgroup().to_owned();
    let places = [mesh.node(1)?.place(), mesh.pod("outside/stranger")?.place()];
    let mut impostors = Vec::new();
    for (place, name) in places.iter().zip(["impostor-node", "impostor-pod"]) {
        impostors.push(start_named(&mesh, name, place, &folder, &[&to])?);
    }
    await_known(&mut mesh, false)?;
    let mut kubelet = start_known(&mut mesh, &[&to])?;
    await_probes(&mut kubelet, &to, "ok")?;
    impostors.iter_mut().try_for_each(|impostor| await_probes(impostor, &to, "refused").map(drop))
}

fn setuid(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let to = at(&mesh, "shop/near", ECHO)?;
    // What a setuid program of root's is when somebody else starts it by a link of that name.
    let folder = cgroups(&mut mesh)?.join("user");
    let place = mesh.node(1)?.place().in_cgroup(&folder);
    let mut impostor = start_by(&mesh, "setuid", &place, &["setpriv", "--ruid", "65534", "--euid", "0"], &[&to])?;
    await_known(&mut mesh, false)?;
    let mut kubelet = start_known(&mut mesh, &[&to])?;
    await_probes(&mut kubelet, &to, "ok")?;
    await_probes(&mut impostor, &to, "refused").map(drop)
}

fn two(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let (to, other) = (at(&mesh, "shop/near", ECHO)?, at(&mesh, "shop/near", GREET)?);
    let mut kubelet = start_known(&mut mesh, &[&to])?;
    let seen = await_probes(&mut kubelet, &to, "ok")?;
    let folder = cgroups(&mut mesh)?.join("user");
    let mut second = start_kubelet(&mut mesh, "second", &folder, &[&to, &other])?;
    await_known(&mut mesh, false)?;
    await_probes(&mut second, &other, "refused")?;
    second.kill();
    await_known(&mut mesh, true)?;
    expect_attempt(&mesh.node(1)?.place(), &to, "refused")?;
    expect_all_ok(&mut kubelet, &to, seen)
}

fn detached(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let to = at(&mesh, "shop/near", ECHO)?;
    let mut kubelet = start_known(&mut mesh, &[&to])?;
    await_probes(&mut kubelet, &to, "ok")?;
    let link = mesh.node(1)?.pin_dir().join("links/probe_ops-kubelet");
    fs::remove_file(&link)?;
    wait::until("the link to be pinned again", EFFECT_LIMIT, || {
        ensure!(link.exists(), "{} is not there", link.display());
        Ok(())
    })?;
    let seen = outcomes(&kubelet, &to).len();
    await_probes_after(&mut kubelet, &to, "ok", seen)?;
    expect_attempt(&mesh.node(1)?.place(), &to, "refused")
}
