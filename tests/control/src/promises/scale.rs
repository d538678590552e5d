//! A large cluster, as objects of a real API server and agents without nodes.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use weft_rig::tier::Scale;
use weft_rig::wait;

use crate::cluster::Cluster;
use crate::controller::Controller;
use crate::fleet::{Bytes, Fleet};
use crate::{Promise, objects};

/// Of the full form: what a cluster of that size may cost.
const RSS_MEBIBYTES: u64 = 300;
const CHANGE_P99: Duration = Duration::from_millis(50);
/// Of routes, which is more than people and pipelines of a cluster of that size make. One after the other without a pause, they
/// would also be delayed by what 300 agents say of the one before, with the processors of one machine for all.
const BETWEEN_CHANGES: Duration = Duration::from_millis(100);
/// What an agent says to a controller that has just begun, of whatever size the mesh is: its digests, and names of what has
/// changed meanwhile.
const SAID_BYTES: usize = 16 << 10;
/// Agents that begin with nothing at the same moment; after a restart of the controller all come back at once.
const FIRST_AT_ONCE: usize = 50;
/// Objects of that size are written and read by one API server on two processors.
const FILL_LIMIT: Duration = Duration::from_mins(10);

struct Size {
    nodes: usize,
    namespaces: usize,
    pods: usize,
    services: usize,
    routes: usize,
    changes: u32,
}

const SHORT: Size = Size { nodes: 10, namespaces: 4, pods: 100, services: 10, routes: 50, changes: 10 };
const FULL: Size = Size { nodes: 300, namespaces: 100, pods: 10_000, services: 1_000, routes: 5_000, changes: 200 };

pub fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "a_change_reaches_every_agent_and_a_restart_sends_nothing_again",
        proof: Some(
            "300 agents, 10,000 pods, 1,000 Services, 5,000 routes: memory at most 300 MiB, ten changes a second, each in 50 ms (p99), and a restart without a full push",
        ),
        limit: Duration::from_mins(3),
        run: a_change_reaches_every_agent_and_a_restart_sends_nothing_again,
    }]
}

fn a_change_reaches_every_agent_and_a_restart_sends_nothing_again(cluster: &mut Cluster) -> Result<()> {
    let size = if cluster.scale == Scale::Full { FULL } else { SHORT };
    for plural in ["httproutes", "grpcroutes"] {
        let definition = cluster.gateway_definition(plural)?;
        cluster.define(&definition)?;
    }
    let begun = Instant::now();
    let nodes = fill(cluster, &size)?;
    tell(&format!(
        "{} objects written in {} s",
        size.pods * 2 + size.services * 2 + size.routes,
        begun.elapsed().as_secs()
    ));

    let mut controller = Controller::launch_as_users_do(cluster, "one", 15010)?;
    controller.await_generation()?;
    let mut fleet = Fleet::join(cluster, &controller, &nodes)?;
    let begun = Instant::now();
    let first = fleet.subscribe(cluster, &controller, FIRST_AT_ONCE)?;
    let (least, most) = fleet.resources();
    ensure!(least > size.pods + size.services + size.routes / size.services, "an agent holds {least} resources alone");
    tell(&format!(
        "{} agents hold {least} to {most} resources after {:.1} s: {} KiB each",
        size.nodes,
        begun.elapsed().as_secs_f64(),
        first.received / size.nodes / 1024
    ));
    await_statuses(cluster, &size)?;

    let (first_times, times) = change_weights(cluster, &mut fleet, size.changes)?;
    let [first_median, first_p99, _] = spread(first_times);
    tell(&format!("a change on the first agent: p50 {first_median:?}, p99 {first_p99:?}"));
    let [median, p99, worst] = spread(times);
    tell(&format!(
        "a change on all agents: p50 {median:?}, p99 {p99:?}, worst {worst:?} (at most {CHANGE_P99:?} at p99)"
    ));
    let (resident, peak) = memory(controller.process.pid())?;
    tell(&format!("controller: {resident} MiB resident, at its peak {peak} MiB (at most {RSS_MEBIBYTES})"));

    fleet.hang_up();
    controller.stop()?;
    let mut next = Controller::launch_as_users_do(cluster, "two", 15011)?;
    // An agent that is turned away would come again; these do not.
    next.await_log("this controller writes statuses")?;
    let begun = Instant::now();
    let Bytes { received, said } = fleet.subscribe(cluster, &next, size.nodes)?;
    tell(&format!(
        "after a restart: {} KiB sent to each in place of {}, {} KiB from each, {:.1} s until all are up to date",
        received / size.nodes / 1024,
        first.received / size.nodes / 1024,
        said / size.nodes / 1024,
        begun.elapsed().as_secs_f64()
    ));
    ensure!(received * 10 < first.received, "{received} bytes after the restart, {} before", first.received);
    ensure!(said <= size.nodes * SAID_BYTES, "{said} bytes of {} agents that hold everything", size.nodes);
    let (_, peak_again) = memory(next.process.pid())?;
    tell(&format!("the next controller: {peak_again} MiB at its peak"));
    next.stop()?;
    if cluster.scale == Scale::Full {
        let most = resident.max(peak).max(peak_again);
        ensure!(most <= RSS_MEBIBYTES, "the controller takes {most} MiB");
        ensure!(p99 <= CHANGE_P99, "a change takes {p99:?}");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what a proof prints is its result")]
fn tell(line: &str) {
    println!("{line}");
}

/// What the nodes have: their pods' uids.
fn fill(cluster: &Cluster, size: &Size) -> Result<BTreeMap<String, Vec<String>>> {
    cluster.put(&objects::mesh(&["10.0.0.0/8"]))?;
    let place = |service: usize| format!("team-{:03}", service % size.namespaces);
    let mut first = Vec::new();
    for number in 0..size.namespaces {
        let namespace = format!("team-{number:03}");
        first.push(objects::namespace(&namespace, "enabled"));
        first.push(objects::denial(&namespace, "strangers", &json!({"namespaces": ["strangers"]})));
    }
    first.extend((0..size.nodes).map(|node| objects::node(&node_name(node), "10.1.0.0/16")));
    // Namespaces first: what is in them is refused before they are there.
    let (namespaces, rest): (Vec<Value>, Vec<Value>) = first.into_iter().partition(|one| one["kind"] == "Namespace");
    cluster.create_all(namespaces)?;
    cluster.create_all(rest)?;
    let names = (0..size.namespaces).map(|number| format!("team-{number:03}"));
    cluster.create_all(names.map(|namespace| objects::service_account(&namespace, "app")).collect())?;

    let mut all = Vec::new();
    for number in 0..size.services {
        let (namespace, name) = (place(number), format!("svc-{number}"));
        all.push(objects::service(&namespace, &name));
        let endpoints = (number..size.pods).step_by(size.services).map(|pod| (pod_name(pod), address(pod)));
        all.push(objects::slice(&namespace, &name, &endpoints.collect::<Vec<_>>()));
    }
    for number in 0..size.routes {
        let service = number % size.services;
        all.push(objects::route(&place(service), &format!("route-{number}"), &format!("svc-{service}")));
    }
    for number in 0..size.pods {
        let service = number % size.services;
        let mut pod = objects::pod(&place(service), &pod_name(number), &node_name(number % size.nodes), "app");
        pod["metadata"]["labels"] = json!({"app": format!("svc-{service}")});
        all.push(pod);
    }
    let made = cluster.create_all(all)?;
    let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in made.iter().filter(|made| made["kind"] == "Pod") {
        let (node, uid) = (pod["spec"]["nodeName"].as_str(), pod["metadata"]["uid"].as_str());
        let (node, uid) = node.zip(uid).context("a pod has neither node nor uid")?;
        nodes.entry(node.to_owned()).or_default().push(uid.to_owned());
    }
    let statuses = (0..size.pods)
        .map(|number| (place(number % size.services), pod_name(number), objects::running(&address(number))));
    cluster.put_all_statuses("Pod", statuses.collect())?;
    Ok(nodes)
}

fn node_name(number: usize) -> String {
    format!("node-{number:03}")
}

fn pod_name(number: usize) -> String {
    format!("pod-{number:05}")
}

fn address(pod: usize) -> String {
    format!("10.1.{}.{}", pod / 250, pod % 250 + 1)
}

/// The leader has said to every route what became of it, and is at rest.
fn await_statuses(cluster: &Cluster, size: &Size) -> Result<()> {
    wait::until("every route to have its status", FILL_LIMIT, || {
        let routes = cluster.list("HTTPRoute")?;
        let told = routes.iter().filter(|route| route["status"]["parents"][0]["conditions"][0].is_object()).count();
        ensure!(told == size.routes, "{told} of {}", size.routes);
        Ok(())
    })
}

/// Median, 99th percentile and worst.
fn spread(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort();
    [50, 99, 100].map(|percent| times[(times.len() * percent / 100).min(times.len() - 1)])
}

/// From the API server's answer to the first and to the last agent's receipt; ten a second.
fn change_weights(cluster: &Cluster, fleet: &mut Fleet, changes: u32) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut of_first, mut of_last) = (Vec::new(), Vec::new());
    let mut ticks = cluster.wait_for(async { interval(BETWEEN_CHANGES) });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for weight in 2..changes + 2 {
        cluster.wait_for(ticks.tick());
        let patch = json!({"spec": {"rules": [{"backendRefs": [{"name": "svc-1", "port": 80, "weight": weight}]}]}});
        cluster.merge("HTTPRoute", "team-001", "route-1", &patch)?;
        let answered = Instant::now();
        let (first, last) = fleet.await_weight(cluster, "routes/team-001/svc-1/80", weight)?;
        of_first.push(first.saturating_duration_since(answered));
        of_last.push(last.saturating_duration_since(answered));
    }
    Ok((of_first, of_last))
}

/// Resident now and at its peak, in MiB.
fn memory(process: u32) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let of = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("the kernel says nothing")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kibibytes / 1024)
    };
    Ok((of("VmRSS:")?, of("VmHWM:")?))
}
