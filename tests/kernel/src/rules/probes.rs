//! Kubelet's probes: who passes for kubelet, and at which ports of whom.

use anyhow::{Result, ensure};
use weft_abi::Reason;
use weft_agent::bpf::{Mode, ProbeSockets, Role, Sizes};

use crate::Rule;
use crate::node::{Grounds, Node, make_folder, remove_folder};
use crate::place::{Place, accept, expect_nobody};
use crate::pod::{FAMILIES, NEIGHBOUR4, NEIGHBOUR6, Pod, at, canonical, cookie_of, eventually, expect_refused};

pub const RULES: &[(&str, Rule)] = &[
    ("probes::kubelet_reaches_what_the_pod_declares_and_nobody_else_does", declared),
    ("probes::a_declaration_that_goes_closes_its_port", withdrawn),
    ("probes::sockets_of_another_namespace_are_not_kubelets", foreign_namespace),
    ("probes::one_process_is_told_apart_in_a_shared_cgroup", shared_cgroup),
    ("probes::a_kubelet_in_a_new_cgroup_is_recognised", new_cgroup),
    ("probes::without_kubelets_cgroup_the_nodes_address_stands_for_it", by_address),
    ("probes::without_an_agent_kubelet_is_known_and_nobody_else_passes", agent_dead),
    ("probes::a_guarded_pod_is_probed_by_kubelet_alone", guarded),
    ("probes::syn_cookies_change_nothing", syn_cookies),
    ("probes::connections_that_never_end_keep_no_probe_out", full),
    ("probes::a_record_outlives_new_programs_and_ends_with_its_connection", flipped),
    ("probes::what_others_detach_is_noticed", detached),
];

const PROBED: u16 = 8080;
const OTHER: u16 = 9000;
/// Rows of a small table of connections.
const TABLE: u32 = 64;
/// More connections than that, with both their ends in one process: it may have 1024 descriptors.
const CROWD: u32 = 4 * TABLE;
/// Another address of whoever is outside.
const STRANGER4: &str = "10.88.0.77";

/// A strict pod that declares one port, and a place in kubelet's cgroup from where it can be reached.
fn probed(node: &Node) -> Result<(Pod, Place)> {
    probed_by(node, 1)
}

/// The same with so many workers.
fn probed_by(node: &Node, workers: u32) -> Result<(Pod, Place)> {
    let pod = Pod::captured_as(node, workers, |plan| {
        plan.inbound_mode = Mode::Strict;
        plan.probe_ports.insert(PROBED);
        plan.node4 = NEIGHBOUR4.parse().ok();
        plan.node6 = NEIGHBOUR6.parse().ok();
    })?;
    let kubelet = pod.outside.beside(Some(&node.kubelet))?;
    node.datapath()?.probe_by_sockets(&node.kubelet, ProbeSockets::All, cookie_of(&pod.outside)?)?;
    Ok((pod, kubelet))
}

/// Fails unless the app itself takes the connection, and sees who it is.
fn expect_app(pod: &Pod, from: &Place, address: &str) -> Result<()> {
    let app = pod.app.listen(at(address, PROBED))?;
    let client = from.connect(at(address, PROBED))?;
    let (_, peer) = accept(&app)?;
    ensure!(canonical(peer) == client.local_addr()?, "the app sees {peer}");
    Ok(())
}

/// Fails unless the agent takes the connection, for whom it is a client without an identity.
fn expect_agent(pod: &Pod, from: &Place, address: &str, port: u16) -> Result<()> {
    let app = pod.app.listen(at(address, port))?;
    from.connect(at(address, port))?;
    pod.agent_accepts(Role::Inbound)?;
    expect_nobody(&app)
}

fn declared(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (pod, kubelet) = probed(&node)?;
    for family in FAMILIES {
        expect_app(&pod, &kubelet, family.pod)?;
        expect_agent(&pod, &kubelet, family.pod, OTHER)?;
        expect_agent(&pod, &pod.outside, family.pod, PROBED)?;
        // Counted for the one from the node's address that is nobody's probe; not for the other port.
        pod.expect_count(&node, Reason::INBOUND_NODE_NOT_PROBE, if family.pod == FAMILIES[0].pod { 1 } else { 2 })?;
        // A port that nobody listens on is as closed as ever.
        expect_refused(kubelet.connect(at(family.pod, PROBED)))?;
    }
    pod.expect_count(&node, Reason::INBOUND_PROBE, 2)?;
    pod.expect_count(&node, Reason::INBOUND_PROBE_BY_ADDRESS, 0)?;
    eventually("no record of a probe that has ended", || Ok(node.datapath()?.probes()? == 0))?;
    // Permissive ports know kubelet, too: it is subject to no policy.
    let mut pod = pod;
    pod.update(&node, |plan| plan.inbound_mode = Mode::Permissive)?;
    expect_app(&pod, &kubelet, FAMILIES[0].pod)
}

fn withdrawn(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (mut pod, kubelet) = probed(&node)?;
    expect_app(&pod, &kubelet, FAMILIES[0].pod)?;
    pod.update(&node, |plan| plan.probe_ports.clear())?;
    for family in FAMILIES {
        expect_agent(&pod, &kubelet, family.pod, PROBED)?;
    }
    pod.update(&node, |plan| {
        plan.probe_ports.insert(OTHER);
    })?;
    expect_agent(&pod, &kubelet, FAMILIES[0].pod, PROBED)?;
    pod.update(&node, |plan| {
        plan.probe_ports.insert(PROBED);
    })?;
    expect_app(&pod, &kubelet, FAMILIES[0].pod)?;
    // Nobody probes any more.
    node.datapath()?.probe_not_at_all()?;
    expect_agent(&pod, &kubelet, FAMILIES[0].pod, PROBED)
}

fn foreign_namespace(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    // Same addresses, same ports, other namespaces.
    let (other, stranger) = probed(&node)?;
    let (pod, kubelet) = probed(&node)?;
    for family in FAMILIES {
        expect_app(&pod, &kubelet, family.pod)?;
        expect_agent(&other, &stranger, family.pod, PROBED)?;
    }
    Ok(())
}

fn shared_cgroup(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (pod, kubelet) = probed(&node)?;
    let home = cookie_of(&pod.outside)?;
    let datapath = node.datapath()?;
    // Everything here is one process, below a folder that pods share with it.
    datapath.probe_by_sockets(&node.root, ProbeSockets::OfProcess(std::process::id()), home)?;
    let links = datapath.attachments()?;
    ensure!(links.iter().filter(|link| link.name.ends_with("-kubelet")).count() == 3, "attached are {links:?}");
    for family in FAMILIES {
        expect_app(&pod, &kubelet, family.pod)?;
        expect_agent(&pod, &kubelet, family.pod, OTHER)?;
        // The pods' own connections are none of its business.
        pod.expect_captured(at(family.vip, 80))?;
    }
    // Whoever that is: another one, also where this is the first process of a machine.
    datapath.probe_by_sockets(&node.root, ProbeSockets::OfProcess(std::process::id() + 1), home)?;
    for family in FAMILIES {
        expect_agent(&pod, &kubelet, family.pod, PROBED)?;
    }
    datapath.probe_by_sockets(&node.kubelet, ProbeSockets::All, home)?;
    let links = datapath.attachments()?;
    ensure!(links.iter().filter(|link| link.name.ends_with("-kubelet")).count() == 1, "attached are {links:?}");
    expect_app(&pod, &kubelet, FAMILIES[0].pod)
}

fn new_cgroup(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (pod, kubelet) = probed(&node)?;
    expect_app(&pod, &kubelet, FAMILIES[0].pod)?;
    // As systemd does it: another folder of the same name.
    drop(kubelet);
    remove_folder(&node.kubelet)?;
    make_folder(&node.kubelet)?;
    let kubelet = pod.outside.beside(Some(&node.kubelet))?;
    expect_agent(&pod, &kubelet, FAMILIES[0].pod, PROBED)?;
    node.datapath()?.probe_by_sockets(&node.kubelet, ProbeSockets::All, cookie_of(&pod.outside)?)?;
    for family in FAMILIES {
        expect_app(&pod, &kubelet, family.pod)?;
        expect_agent(&pod, &pod.outside, family.pod, PROBED)?;
    }
    ensure!(node.datapath()?.attachments()?.iter().all(|link| link.attached), "an orphan is still pinned");
    Ok(())
}

fn by_address(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (pod, _) = probed(&node)?;
    node.datapath()?.probe_by_address()?;
    let links = node.datapath()?.attachments()?;
    ensure!(links.iter().all(|link| !link.name.ends_with("-kubelet")), "attached are {links:?}");
    pod.outside.run(|| crate::netlink::add_address("pod0", STRANGER4.parse()?, 24))?;
    for family in FAMILIES {
        expect_app(&pod, &pod.outside, family.pod)?;
        expect_agent(&pod, &pod.outside, family.pod, OTHER)?;
    }
    let app = pod.app.listen(at(FAMILIES[0].pod, PROBED))?;
    pod.outside.connect_from(at(STRANGER4, 0), at(FAMILIES[0].pod, PROBED))?;
    pod.agent_accepts(Role::Inbound)?;
    expect_nobody(&app)?;
    pod.expect_count(&node, Reason::INBOUND_PROBE_BY_ADDRESS, 2)
}

fn agent_dead(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let (mut pod, kubelet) = probed(&node)?;
    pod.outside.run(|| crate::netlink::add_address("pod0", STRANGER4.parse()?, 24))?;
    node.kill_agent();
    pod.listeners.clear();
    for family in FAMILIES {
        expect_app(&pod, &kubelet, family.pod)?;
        let _apps = [pod.app.listen(at(family.pod, OTHER))?, pod.app.listen(at(family.pod, PROBED))?];
        expect_refused(kubelet.connect(at(family.pod, OTHER)))?;
        // It has the node's address.
        expect_refused(pod.outside.connect(at(family.pod, PROBED)))?;
    }
    let _app = pod.app.listen(at(FAMILIES[0].pod, PROBED))?;
    let stranger = pod.outside.connect_from(at(STRANGER4, 0), at(FAMILIES[0].pod, PROBED));
    ensure!(stranger.is_err(), "a stranger reaches a strict port");
    node.restart_agent()?;
    pod.expect_count(&node, Reason::INBOUND_PROBE, 2)?;
    pod.expect_count(&node, Reason::INBOUND_NODE_NOT_PROBE, 2)?;
    pod.expect_count(&node, Reason::INBOUND_PROBE_BY_ADDRESS, 0)
}

/// The agent is well and serves other pods; this one is in the kernel without listeners.
fn guarded(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (pod, kubelet) = probed_by(&node, 0)?;
    for family in FAMILIES {
        expect_app(&pod, &kubelet, family.pod)?;
        let _app = pod.app.listen(at(family.pod, PROBED))?;
        expect_refused(pod.outside.connect(at(family.pod, PROBED)))?;
    }
    pod.expect_count(&node, Reason::INBOUND_PROBE_BY_ADDRESS, 0)
}

fn syn_cookies(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (pod, kubelet) = probed(&node)?;
    pod.app.set("net/ipv4/tcp_syncookies", "2")?;
    for family in FAMILIES {
        for _ in 0..10 {
            expect_app(&pod, &kubelet, family.pod)?;
        }
    }
    // Each was looked up for its SYN and for its ACK.
    pod.expect_count(&node, Reason::INBOUND_PROBE, 40)?;
    eventually("no record of a probe that has ended", || Ok(node.datapath()?.probes()? == 0))
}

/// A hook of kubelet's may call somebody who never hangs up, again and again.
fn full(grounds: &Grounds) -> Result<()> {
    let node = Node::with_sizes(grounds, Sizes { probes: Some(TABLE), ..Sizes::default() })?;
    let (pod, kubelet) = probed(&node)?;
    let app = pod.app.listen(at(FAMILIES[0].pod, PROBED))?;
    let mut held = Vec::new();
    for _ in 0..CROWD {
        let client = kubelet.connect(at(FAMILIES[0].pod, PROBED))?;
        held.push((client, accept(&app)?));
    }
    pod.agent_hears_nothing()?;
    pod.expect_count(&node, Reason::INBOUND_PROBE, u64::from(CROWD))?;
    held.clear();
    eventually("room in the table", || Ok(node.datapath()?.probes()? == 0))?;
    drop(app);
    expect_app(&pod, &kubelet, FAMILIES[0].pod)
}

/// Whether kubelet has its cgroup to itself may change while it has connections.
fn flipped(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (pod, kubelet) = probed(&node)?;
    let datapath = node.datapath()?;
    let _app = pod.app.listen(at(FAMILIES[0].pod, PROBED))?;
    let client = kubelet.connect(at(FAMILIES[0].pod, PROBED))?;
    ensure!(datapath.probes()? == 1, "it is not on record");
    let process = ProbeSockets::OfProcess(std::process::id());
    datapath.probe_by_sockets(&node.kubelet, process, cookie_of(&pod.outside)?)?;
    ensure!(datapath.probes()? == 1, "a connection that lives is not on record any more");
    drop(client);
    eventually("no record of a probe that has ended", || Ok(datapath.probes()? == 0))
}

fn detached(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (pod, kubelet) = probed(&node)?;
    let (datapath, home) = (node.datapath()?, cookie_of(&pod.outside)?);
    let process = ProbeSockets::OfProcess(std::process::id());
    for (whose, links) in [
        (ProbeSockets::All, &["probe_ops-kubelet"][..]),
        (process, &["probe_ops-kubelet", "probe_connect4-kubelet", "probe_connect6-kubelet"]),
    ] {
        for link in links {
            datapath.probe_by_sockets(&node.kubelet, whose, home)?;
            ensure!(datapath.probes_by_sockets(&node.kubelet, whose, home)?, "{link} is in force and not seen");
            ensure!(!datapath.probes_by_sockets(&node.root, whose, home)?, "{link} is not attached there");
            std::fs::remove_file(node.paths.pin_dir.join("links").join(link))?;
            ensure!(!datapath.probes_by_sockets(&node.kubelet, whose, home)?, "nobody misses {link}");
        }
        datapath.probe_by_sockets(&node.kubelet, whose, home)?;
        expect_app(&pod, &kubelet, FAMILIES[0].pod)?;
    }
    datapath.probe_by_address()?;
    ensure!(!datapath.probes_by_sockets(&node.kubelet, process, home)?, "probes are known by the address");
    Ok(())
}
