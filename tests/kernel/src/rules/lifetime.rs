//! Programs and pods come, are replaced and go.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use weft_abi::Reason;
use weft_agent::bpf::{Attachment, BpfError, Datapath, Failure, Paths, ProbeSockets, Role, remove_all};

use crate::Rule;
use crate::node::{Grounds, Node, remove_folder};
use crate::place::accept;
use crate::pod::{FAMILIES, Pod, at, canonical, eventually, expect_refused};

pub const RULES: &[(&str, Rule)] = &[
    ("lifetime::every_program_loads_within_its_budget", budgets),
    ("lifetime::a_place_that_is_no_bpf_file_system_is_refused_clearly", no_bpffs),
    ("lifetime::programs_of_others_are_told", foreign),
    ("lifetime::programs_are_replaced_without_a_gap", replaced),
    ("lifetime::maps_of_other_versions_are_removed", other_versions),
    ("lifetime::removal_leaves_nothing", removal),
    ("lifetime::a_pod_that_leaves_goes_direct_and_keeps_its_connections", disenrolled),
    ("lifetime::what_is_under_way_reaches_the_agent_while_a_pod_leaves", quiesced),
    ("lifetime::pods_that_are_gone_are_forgotten", gone),
    ("lifetime::an_agent_in_another_cgroup_is_recognised", moved_agent),
];

/// Instructions that the verifier may walk through; its own limit is a million.
const VERIFIED: u32 = 50_000;
/// Instructions of one program.
const TRANSLATED: u32 = 4096;

fn budgets(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let sizes = node.datapath()?.program_sizes()?;
    for size in &sizes {
        println!("{:<14} {:>6} instructions, {:>6} verified", size.name, size.translated, size.verified);
    }
    let names: BTreeSet<&str> = sizes.iter().map(|size| size.name).collect();
    let pods = ["connect4", "connect6", "flow_ops", "getpeername4", "getpeername6", "plain_tcp", "steer"];
    let others = ["own", "probe_connect4", "probe_connect6", "probe_ops"];
    let expected: BTreeSet<&str> = pods.into_iter().chain(others).collect();
    ensure!(names == expected, "these programs were loaded: {names:?}");
    ensure!(sizes.iter().all(|size| size.verified > 0 && size.verified <= VERIFIED && size.translated <= TRANSLATED));
    Ok(())
}

fn no_bpffs(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let paths = Paths { pin_dir: PathBuf::from("/run/weft-no-bpffs"), ..node.paths.clone() };
    match Datapath::open(&paths) {
        Err(BpfError::NotBpffs(_)) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => anyhow::bail!("pins were made on another file system"),
    }
}

/// Another mesh with programs of its own at the same cgroup: Weft itself, in another place.
fn foreign(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let foreign = |node: &Node| -> Result<Vec<(&str, String)>> {
        let found = node.datapath()?.foreign_programs()?.into_iter();
        Ok(found.map(|program| (program.hook, program.name)).collect())
    };
    let before = foreign(&node)?;
    // Names on a BPF file system have no dots.
    let paths = Paths { pin_dir: node.paths.pin_dir.with_file_name("other"), ..node.paths.clone() };
    let other = Datapath::open(&paths)?;
    let seen = foreign(&node)?;
    drop(other);
    remove_all(&paths.pin_dir)?;
    ensure!(seen.contains(&("sock_ops", "flow_ops".to_owned())) && seen.len() == before.len() + 1, "{seen:?}");
    ensure!(foreign(&node)? == before, "what is gone is still told");
    Ok(())
}

fn replaced(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured_as(&node, 1, |plan| plan.failure = Failure::Open)?;
    let links = links_of(&node)?;
    let vip = at(FAMILIES[0].vip, 80);
    let service = pod.outside.listen(vip)?;
    let _app = pod.app.listen(at("::", 8080))?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let connections = std::thread::scope(|scope| -> Result<u32> {
        let load = scope.spawn(|| -> Result<u32> {
            let mut connections = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                pod.expect_captured(vip)?;
                pod.outside.connect(at(FAMILIES[0].pod, 8080))?;
                pod.agent_accepts(Role::Inbound)?;
                connections += 1;
            }
            Ok(connections)
        });
        for _ in 0..10 {
            let next = Datapath::open(&node.paths)?;
            let own: Vec<u16> = pod.listeners.iter().map(|listener| listener.port).collect();
            ensure!(next.pods()? == [pod.cookie] && own.len() == 2);
            pod.enrol(&node)?;
            next.attach()?;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })?;
    println!("{connections} connections each way while the programs were replaced ten times");
    ensure!(connections > 10, "there was too little load to prove anything");
    crate::place::expect_nobody(&service)?;
    let after = links_of(&node)?;
    ensure!(links.iter().map(|link| (&link.name, link.id)).eq(after.iter().map(|link| (&link.name, link.id))));
    ensure!(links.iter().zip(&after).all(|(old, new)| old.program != new.program), "a program was not replaced");
    Ok(())
}

/// The pinned links, as the agent sees them and as the kernel numbers them.
#[derive(Debug)]
struct LinkState {
    name: String,
    id: u32,
    program: u32,
}

fn links_of(node: &Node) -> Result<Vec<LinkState>> {
    let mut links = Vec::new();
    for Attachment { name, program, .. } in node.datapath()?.attachments()? {
        let link = FdLink::from(PinnedLink::from_pin(node.paths.pin_dir.join("links").join(&name))?);
        links.push(LinkState { name, id: link.info()?.id(), program });
    }
    Ok(links)
}

fn other_versions(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let old = node.paths.pin_dir.join("0123456789abcdef");
    fs::create_dir(&old)?;
    let map = aya::maps::Array::<aya::maps::MapData, u32>::create(1, 0)?;
    map.pin(old.join("PODS"))?;
    let flight = node.paths.pin_dir.join("flight-v1");
    let frozen = names_in(&flight)?;
    ensure!(frozen == ["FLOWS", "IN_FLIGHT", "PEERS", "PROBES", "SOCKET_FACTS"], "frozen are {frozen:?}");
    node.datapath()?.attach()?;
    ensure!(!old.exists(), "the old version's maps are still pinned");
    ensure!(names_in(&flight)? == frozen);
    pod.expect_captured(at(FAMILIES[0].vip, 80))?;
    Ok(())
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn removal(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    node.datapath()?.probe_by_sockets(&node.root, ProbeSockets::OfProcess(1), pod.cookie)?;
    let links = links_of(&node)?;
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    ensure!(links.len() == 12, "these links were pinned: {names:?}");
    node.kill_agent();
    remove_all(&node.paths.pin_dir)?;
    ensure!(!node.paths.pin_dir.exists(), "something is still pinned");
    eventually("no link of ours", || {
        let loaded = aya::programs::loaded_links().collect::<Result<Vec<_>, _>>()?;
        Ok(!loaded.iter().any(|link| links.iter().any(|ours| ours.id == link.id())))
    })?;
    eventually("no program of ours", || {
        let loaded = aya::programs::loaded_programs().collect::<Result<Vec<_>, _>>()?;
        Ok(!loaded.iter().any(|program| links.iter().any(|ours| ours.program == program.id())))
    })?;
    for family in FAMILIES {
        let service = pod.outside.listen(at(family.vip, 80))?;
        pod.app.connect(at(family.vip, 80))?;
        accept(&service)?;
        let app = pod.app.listen(at(family.pod, 8080))?;
        pod.outside.connect(at(family.pod, 8080))?;
        accept(&app)?;
    }
    // Twice is no error.
    Ok(remove_all(&node.paths.pin_dir)?)
}

fn disenrolled(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let (mut client, mut server) = pod.expect_captured(at(FAMILIES[0].vip, 80))?;
    let app = pod.app.listen(at("::", 8080))?;
    let dialled = pod.agent_dials(at(FAMILIES[0].pod, 8080), at("10.88.7.7", 7))?;
    let (inside, _) = accept(&app)?;
    node.datapath()?.disenrol(pod.cookie)?;
    ensure!(node.datapath()?.pods()?.is_empty());
    ensure!(links_of(&node)?.iter().all(|link| !link.name.starts_with("steer")), "steer is still attached");
    for family in FAMILIES {
        let service = pod.outside.listen(at(family.vip, 81))?;
        pod.app.connect(at(family.vip, 81))?;
        accept(&service)?;
        let direct = pod.outside.connect(at(family.pod, 8080))?;
        let (_, peer) = accept(&app)?;
        ensure!(canonical(peer) == direct.local_addr()?);
    }
    server.write_all(b"still here")?;
    let mut said = [0; 10];
    client.read_exact(&mut said)?;
    ensure!(client.peer_addr()? == at(FAMILIES[0].vip, 80), "the app sees {}", client.peer_addr()?);
    ensure!(canonical(inside.peer_addr()?) == at("10.88.7.7", 7), "the app sees {}", inside.peer_addr()?);
    drop(dialled);
    // Unknown pods are no error, and a pod may come back.
    node.datapath()?.disenrol(pod.cookie)?;
    pod.enrol(&node)?;
    pod.expect_captured(at(FAMILIES[0].vip, 80))?;
    Ok(())
}

fn quiesced(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let mut pod = Pod::uncaptured(&node)?;
    pod.open_listeners_for(1, 0)?;
    pod.enrol(&node)?;
    let vip = at(FAMILIES[0].vip, 80);
    let _queued = pod.app.connect(vip)?;
    let waiting = super::liveness::begin(&pod, vip)?;
    pod.expect_in_flight(&node, 1)?;
    node.datapath()?.quiesce(pod.cookie)?;
    let service = pod.outside.listen(vip)?;
    pod.app.connect(vip)?;
    accept(&service)?;
    // Its SYN comes again, and the agent still takes it.
    pod.agent_accepts(Role::Outbound)?;
    let (_, server, _) = pod.agent_accepts(Role::Outbound)?;
    ensure!(pod.facts.original_destination(&server) == Some(vip));
    ensure!(waiting.take_error()?.is_none());
    pod.expect_in_flight(&node, 0)
}

fn gone(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (stays, leaves, dies) = (Pod::captured(&node)?, Pod::captured(&node)?, Pod::captured(&node)?);
    let dead = dies.cookie;
    drop(dies);
    node.datapath()?.attach()?;
    let name = format!("steer-{:x}", dead.0);
    eventually("no link of a namespace that is gone", || {
        node.datapath()?.attach()?;
        Ok(!node.paths.pin_dir.join("links").join(&name).exists())
    })?;
    node.datapath()?.retain(&[stays.cookie])?;
    ensure!(node.datapath()?.pods()? == [stays.cookie]);
    stays.expect_captured(at(FAMILIES[0].vip, 80))?;
    let service = leaves.outside.listen(at(FAMILIES[0].vip, 80))?;
    leaves.app.connect(at(FAMILIES[0].vip, 80))?;
    accept(&service)?;
    stays.expect_count(&node, Reason::OUTBOUND_CAPTURED, 1)
}

fn moved_agent(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let mut pod = Pod::captured(&node)?;
    node.kill_agent();
    pod.listeners.clear();
    // The next agent lives in a cgroup folder of its own, beside the pods; the old one's is removed.
    let old = node.paths.agent_cgroup.clone();
    let next = node.paths.pods_cgroup.with_file_name("agent");
    fs::create_dir(&next)?;
    fs::write(next.join("cgroup.type"), "threaded")?;
    node.paths.agent_cgroup.clone_from(&next);
    pod.agent = pod.app.beside(Some(&next))?;
    remove_folder(&old)?;
    node.restart_agent()?;
    pod.facts = node.datapath()?.socket_facts();
    pod.open_listeners(1)?;
    pod.enrol(&node)?;
    eventually("no link of a cgroup that is gone", || {
        node.datapath()?.attach()?;
        let links = links_of(&node)?;
        Ok(links.iter().filter(|link| link.name.contains("-agent-")).count() == 2)
    })?;
    for family in FAMILIES {
        pod.expect_captured(at(family.vip, 80))?;
        let app = pod.app.listen(at(family.pod, 8080))?;
        pod.agent_dials(at(family.pod, 8080), at(family.neighbour, 9))?;
        let (_, peer) = accept(&app)?;
        ensure!(canonical(peer) == at(family.neighbour, 9), "the app sees {peer}");
    }
    expect_refused(pod.outside.connect(at(FAMILIES[0].pod, 8081)))?;
    drop(pod);
    node.kill_agent();
    remove_all(&node.paths.pin_dir)?;
    remove_folder(&next)
}
