//! The agent is dead, hung, or one of its workers is: what the kernel decides alone.

use anyhow::{Context, Result, ensure};
use socket2::Socket;
use weft_abi::Reason;
use weft_agent::bpf::{Failure, Mode, Role};

use crate::Rule;
use crate::node::{Grounds, Node};
use crate::place::accept;
use crate::pod::{FAMILIES, Pod, at, expect_refused};

pub const RULES: &[(&str, Rule)] = &[
    ("liveness::without_an_agent_a_pod_that_fails_open_goes_direct", dead_open),
    ("liveness::without_an_agent_a_pod_that_fails_closed_is_refused", dead_closed),
    ("liveness::a_strict_port_is_closed_whatever_the_failure_mode", dead_strict),
    ("liveness::a_hung_agent_counts_as_none_after_two_seconds", hung),
    ("liveness::the_other_workers_take_a_stuck_ones_share", one_worker_stuck),
    ("liveness::connections_spread_over_all_workers", spread),
    ("liveness::a_syn_that_waits_for_an_agent_that_dies_is_reset", waiting_syn),
    ("liveness::a_restarted_agent_takes_its_pods_over", restart),
];

fn dead_open(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let mut pod = Pod::captured_as(&node, 2, |plan| plan.failure = Failure::Open)?;
    for family in FAMILIES {
        pod.expect_captured(at(family.vip, 80))?;
    }
    node.kill_agent();
    pod.listeners.clear();
    for family in FAMILIES {
        let service = pod.outside.listen(at(family.vip, 80))?;
        let client = pod.app.connect(at(family.vip, 80))?;
        accept(&service)?;
        ensure!(client.peer_addr()? == at(family.vip, 80));
        let app = pod.app.listen(at(family.any, 8080))?;
        pod.outside.connect(at(family.pod, 8080))?;
        accept(&app)?;
    }
    node.restart_agent()?;
    pod.expect_count(&node, Reason::OUTBOUND_DIRECT_AGENT_GONE, 2)?;
    pod.expect_count(&node, Reason::INBOUND_DIRECT_AGENT_GONE, 2)
}

fn dead_closed(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let mut pod = Pod::captured_as(&node, 2, |plan| plan.failure = Failure::Closed)?;
    node.kill_agent();
    pod.listeners.clear();
    for family in FAMILIES {
        let _service = pod.outside.listen(at(family.vip, 80))?;
        let _app = pod.app.listen(at(family.any, 8080))?;
        expect_refused(pod.app.connect(at(family.vip, 80)))?;
        expect_refused(pod.outside.connect(at(family.pod, 8080)))?;
        // What the mesh does not concern goes on.
        let world = pod.outside.listen(at(family.world, 443))?;
        pod.app.connect(at(family.world, 443))?;
        accept(&world)?;
    }
    node.restart_agent()?;
    pod.expect_count(&node, Reason::OUTBOUND_REFUSED_AGENT_GONE, 2)?;
    pod.expect_count(&node, Reason::INBOUND_REFUSED_AGENT_GONE, 2)
}

fn dead_strict(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let mut pod = Pod::captured_as(&node, 1, |plan| {
        plan.failure = Failure::Open;
        plan.inbound_mode = Mode::Strict;
        plan.inbound_ports.insert(9000, Mode::Permissive);
    })?;
    node.kill_agent();
    pod.listeners.clear();
    for family in FAMILIES {
        let _strict = pod.app.listen(at(family.any, 8080))?;
        let permissive = pod.app.listen(at(family.any, 9000))?;
        expect_refused(pod.outside.connect(at(family.pod, 8080)))?;
        pod.outside.connect(at(family.pod, 9000))?;
        accept(&permissive)?;
    }
    node.restart_agent()?;
    pod.expect_count(&node, Reason::INBOUND_REFUSED_AGENT_GONE, 2)
}

fn hung(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let open = Pod::captured_as(&node, 2, |plan| plan.failure = Failure::Open)?;
    let closed = Pod::captured_as(&node, 2, |plan| plan.inbound_mode = Mode::Strict)?;
    let services = FAMILIES.map(|family| open.outside.listen(at(family.vip, 80)));
    let apps = FAMILIES.map(|family| open.app.listen(at(family.pod, 8080)));
    let _strict = closed.app.listen(at("::", 8080))?;
    node.hang(&[0, 1, 2, 3])?;
    for ((family, service), app) in FAMILIES.into_iter().zip(services).zip(apps) {
        open.app.connect(at(family.vip, 80))?;
        accept(&service?)?;
        open.outside.connect(at(family.pod, 8080))?;
        accept(&app?)?;
        expect_refused(closed.app.connect(at(family.vip, 80)))?;
        expect_refused(closed.outside.connect(at(family.pod, 8080)))?;
    }
    open.agent_hears_nothing()?;
    open.expect_count(&node, Reason::OUTBOUND_DIRECT_AGENT_HUNG, 2)?;
    open.expect_count(&node, Reason::INBOUND_DIRECT_AGENT_HUNG, 2)?;
    closed.expect_count(&node, Reason::OUTBOUND_REFUSED_AGENT_HUNG, 2)?;
    closed.expect_count(&node, Reason::INBOUND_REFUSED_AGENT_HUNG, 2)?;
    node.revive(&[0, 1, 2, 3])?;
    closed.expect_captured(at(FAMILIES[0].vip, 80))?;
    open.expect_captured(at(FAMILIES[1].vip, 80))?;
    Ok(())
}

fn one_worker_stuck(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured_as(&node, 3, |_| {})?;
    let _app = pod.app.listen(at("::", 8080))?;
    node.hang(&[1])?;
    let shares = shares(&pod)?;
    ensure!(shares[1] == 0, "the stuck worker got {} connections", shares[1]);
    ensure!(shares[0] > 10 && shares[2] > 10, "the others got {shares:?}");
    Ok(())
}

fn spread(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured_as(&node, 3, |_| {})?;
    let _app = pod.app.listen(at("::", 8080))?;
    let shares = shares(&pod)?;
    ensure!(shares.iter().all(|share| *share > 10), "the workers got {shares:?}");
    Ok(())
}

/// How many of 160 connections, half of them each way, each of three workers got.
fn shares(pod: &Pod) -> Result<[u32; 3]> {
    let mut shares = [0; 3];
    for _ in 0..40 {
        for family in FAMILIES {
            pod.app.connect(at(family.vip, 80))?;
            shares[pod.agent_accepts(Role::Outbound)?.0 as usize] += 1;
            pod.outside.connect(at(family.pod, 8080))?;
            shares[pod.agent_accepts(Role::Inbound)?.0 as usize] += 1;
        }
    }
    Ok(shares)
}

fn waiting_syn(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let mut pod = Pod::uncaptured(&node)?;
    pod.open_listeners_for(1, 0)?;
    pod.enrol(&node)?;
    let vip = at(FAMILIES[0].vip, 80);
    // The one place in the queue is taken, so that the next SYN waits.
    let _queued = pod.app.connect(vip)?;
    let waiting = begin(&pod, vip)?;
    pod.expect_in_flight(&node, 1)?;
    pod.listeners.clear();
    let begun = std::time::Instant::now();
    let error = loop {
        if let Some(error) = waiting.take_error()? {
            break error;
        }
        ensure!(begun.elapsed() < crate::place::SOON, "the connection still waits");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    };
    ensure!(error.kind() == std::io::ErrorKind::ConnectionRefused, "it ended with {error}");
    pod.expect_in_flight(&node, 0)
}

/// A connection that is begun and not waited for.
pub fn begin(pod: &Pod, to: std::net::SocketAddr) -> Result<Socket> {
    let socket = pod.app.tcp(to)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        other => other.map(|()| socket).with_context(|| format!("begin to connect to {to}")),
    }
}

fn restart(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let mut pod = Pod::captured_as(&node, 1, |plan| plan.failure = Failure::Closed)?;
    let app = pod.app.listen(at("::", 8080))?;
    for _ in 0..3 {
        node.kill_agent();
        pod.listeners.clear();
        expect_refused(pod.app.connect(at(FAMILIES[0].vip, 80)))?;
        node.restart_agent()?;
        ensure!(node.datapath()?.pods()? == [pod.cookie], "the pod is forgotten");
        pod.facts = node.datapath()?.socket_facts();
        pod.open_listeners(1)?;
        pod.enrol(&node)?;
        node.datapath()?.attach()?;
        for family in FAMILIES {
            pod.expect_captured(at(family.vip, 80))?;
            pod.outside.connect(at(family.pod, 8080))?;
            pod.agent_accepts(Role::Inbound)?;
        }
    }
    drop(app);
    expect_refused(pod.outside.connect(at(FAMILIES[0].pod, 8080)))
}
