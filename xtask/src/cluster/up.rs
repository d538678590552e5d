//! `cargo xtask cluster up`: from nothing to two ready nodes and DNS.
//!
//! Whoever interrupts it gets everything removed. What fails otherwise stays to be looked at, and the next `up` removes it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cgroups::Hierarchies;
use super::launch::{self, CONTROL_PLANE, Started};
use super::network::{self, API, API_PORT, API_SERVICE, NODES, Node};
use super::options::{Choice, Options};
use super::place::Place;
use super::{control_plane, node, programs, removal, wait};
use crate::setup::{self, Part};
use crate::{run, step, table};

/// The objects of the cluster's DNS.
const DNS: &str = include_str!("../../../cluster/dns.yaml");

/// A node takes two seconds on a free machine, after its images.
const NODES_LIMIT: Duration = Duration::from_mins(2);

/// DNS needs a scheduler, a node and one container.
const DNS_LIMIT: Duration = Duration::from_mins(2);

/// Starts the cluster, unless it runs.
pub fn up(place: &Place, choice: Choice) -> Result<()> {
    let hierarchies = Hierarchies::of_this_machine()?;
    let options = choice.on(&hierarchies)?;
    setup::ensure(&[Part::Cluster])?;
    let started = Instant::now();
    let _lock = place.lock()?;
    if let Some(running) = place.options() {
        if control_plane::is_ready(place) {
            return already_there(place, &running, options);
        }
        if removal_would_surprise(place, &hierarchies) {
            bail!(
                "the cluster {} is there, but its API server does not answer; see {}, or end it: {}",
                place.name,
                place.path("kube-apiserver.log").display(),
                command_line(place, "down")
            );
        }
    }
    let outcome = run::watchfully(|| {
        let outcome = clear(place).and_then(|()| start(place, options));
        if outcome.is_err() && run::interrupted() {
            println!("interrupted: removing what is there of the cluster {}", place.name);
            removal::remove(place)?;
        }
        outcome
    });
    if let Err(error) = outcome {
        if run::interrupted() {
            return Err(error);
        }
        let words = launch::all_last_words(place.folder());
        return Err(error.context(format!("{words}the cluster {} did not come up, and is left as it is", place.name)));
    }
    println!("\nThe cluster {} is up ({}).\n", place.name, step::seconds(started.elapsed()));
    describe(place, options);
    Ok(())
}

fn already_there(place: &Place, running: &str, asked: Options) -> Result<()> {
    if running != asked.line() {
        bail!("the cluster {} runs already, with {running}; first: {}", place.name, command_line(place, "down"));
    }
    println!("The cluster {} runs already.\n", place.name);
    describe(place, asked);
    Ok(())
}

/// A complete cluster whose processes live is somebody's, even if it does not answer.
fn removal_would_surprise(place: &Place, hierarchies: &Hierarchies) -> bool {
    !hierarchies.processes(place, "").is_empty()
}

/// Removes what a killed `up` left, or a cluster of which the machine forgot everything but the files.
fn clear(place: &Place) -> Result<()> {
    let empty = fs::read_dir(place.folder()).map_or(true, |mut entries| entries.next().is_none());
    if empty && !Hierarchies::of_this_machine()?.exist(place) {
        return Ok(());
    }
    step::quiet("remove what was left of the cluster", || removal::remove_contents(place))
}

fn start(place: &Place, options: Options) -> Result<()> {
    launch::make_room(place, CONTROL_PLANE)?;
    let mut started = Started::nothing();
    step::quiet("networks and certificates", || {
        programs::link(place)?;
        network::make(place)?;
        certificates(place)
    })?;
    step::quiet("etcd and the API server; containerd and its images", || {
        control_plane::start_api(place, &mut started)?;
        NODES.into_iter().try_for_each(|node| node::prepare(place, node, options, &mut started))?;
        control_plane::await_api(place, &mut started)
    })?;
    step::quiet("controller manager, scheduler, kubelets: both nodes are ready", || {
        create_objects(place)?;
        control_plane::start_controllers(place, &mut started)?;
        start_nodes(place, &NODES, options, &mut started)?;
        await_nodes(place, &NODES, "condition=Ready")
    })?;
    step::quiet("DNS is ready", || {
        let mut kubectl = place.kubectl();
        kubectl.args(["--namespace=kube-system", "rollout", "status", "deployment/coredns", &limit(DNS_LIMIT)]);
        launch::captured(place, &kubectl).map(drop)
    })?;
    started.expect_running()?;
    fs::write(place.complete(), options.line()).context("cannot note that the cluster is complete")
}

/// Lets nodes that are being prepared start, as soon as they can.
pub fn start_nodes(place: &Place, nodes: &[Node], options: Options, started: &mut Started) -> Result<()> {
    wait::until("the nodes' images", NODES_LIMIT, || {
        started.expect_running()?;
        Ok(nodes.iter().all(|node| node::is_prepared(place, *node)).then_some(()))
    })?;
    nodes.iter().try_for_each(|node| node::start(place, *node, options))
}

/// Waits until nodes are what `kubectl wait` is asked for.
pub fn await_nodes(place: &Place, nodes: &[Node], wanted: &str) -> Result<()> {
    let mut kubectl = place.kubectl();
    kubectl.args(["wait", &format!("--for={wanted}"), &limit(NODES_LIMIT)]);
    kubectl.args(nodes.iter().map(|node| format!("node/{}", node.name())));
    launch::captured(place, &kubectl).map(drop)
}

fn certificates(place: &Place) -> Result<()> {
    let mut make = place.in_control_plane("certificates");
    make.arg(place.path("certificates")).args([format!("{API}:{API_PORT}"), API_SERVICE.to_string()]);
    make.args(NODES.map(|node| format!("{}={}", node.name(), node.address())));
    launch::captured(place, &make).map(drop)
}

fn create_objects(place: &Place) -> Result<()> {
    let nodes = NODES.map(|node| format!("---\n{}\n", node::object(node)));
    let objects = place.path("objects.yaml");
    fs::write(&objects, format!("{DNS}{}", nodes.concat()))?;
    let mut kubectl = place.kubectl();
    kubectl.args(["create", "--validate=false", "--filename"]).arg(objects);
    launch::captured(place, &kubectl).map(drop)
}

fn describe(place: &Place, options: Options) {
    let mut rows = vec![[
        "control-plane".to_owned(),
        API.to_string(),
        String::new(),
        format!("Kubernetes {}: etcd, API server, controller manager, scheduler", programs::kubernetes_version()),
    ]];
    for node in NODES {
        let runs = "containerd, kubelet, kube-proxy".to_owned();
        rows.push([node.name(), node.address().to_string(), node.pods(), runs]);
    }
    println!("{}\n", table::layout(["place", "address", "pods", "runs"], &rows));
    let commands = [
        ("options".to_owned(), options.line()),
        ("look".to_owned(), command_line(place, "kubectl get pods --all-namespaces")),
        ("enter a node".to_owned(), command_line(place, "node node1 bash")),
        ("logs".to_owned(), format!("{}/*.log, */*.log", place.folder().display())),
        ("end it".to_owned(), command_line(place, "down")),
    ];
    for (what, line) in commands {
        println!("{what:<13} {line}");
    }
}

fn command_line(place: &Place, rest: &str) -> String {
    match place.name.to_string().as_str() {
        "weft" => format!("cargo xtask cluster {rest}"),
        name => format!("cargo xtask cluster --name {name} {rest}"),
    }
}

fn limit(limit: Duration) -> String {
    format!("--timeout={}s", limit.as_secs())
}
