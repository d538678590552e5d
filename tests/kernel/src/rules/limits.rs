//! Full maps, too many connections at once, too many events: bounded, told, and never misrouted.

use anyhow::{Result, bail, ensure};
use weft_abi::limits::EVENTS_PER_SECOND;
use weft_abi::{CAPTURE_PORT_FIRST, CAPTURE_PORT_LAST, Reason};
use weft_agent::bpf::{Event, Sizes};

use super::liveness::begin;
use crate::Rule;
use crate::node::{Grounds, Node};
use crate::place::expect_nobody;
use crate::pod::{FAMILIES, Pod, at, eventually, expect_refused};

pub const RULES: &[(&str, Rule)] = &[
    ("limits::a_pod_with_too_many_connections_in_flight_is_refused", flight_limit),
    ("limits::abandoned_connects_leave_no_row", abandoned),
    ("limits::a_connection_without_a_record_is_reset_and_reaches_nobody", full_flows),
    ("limits::a_client_that_cannot_be_shown_is_told_to_the_agent", full_peers),
    ("limits::a_listener_that_cannot_be_recorded_looks_closed_and_is_told", full_open_ports),
    ("limits::rare_happenings_are_told_with_their_reason", events),
    ("limits::a_flood_of_events_is_bounded_and_counted", event_flood),
];

/// A pod whose agent has room for one connection that waits, and that one is there.
fn clogged(node: &Node, limit: u32) -> Result<Pod> {
    let mut pod = Pod::uncaptured(node)?;
    pod.plan.flight_limit = limit;
    pod.open_listeners_for(1, 0)?;
    pod.enrol(node)?;
    pod.app.connect(at(FAMILIES[0].vip, 80))?;
    Ok(pod)
}

fn flight_limit(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = clogged(&node, 3)?;
    let other = Pod::captured(&node)?;
    let vip = at(FAMILIES[0].vip, 80);
    let waiting = [begin(&pod, vip)?, begin(&pod, vip)?, begin(&pod, at(FAMILIES[0].vip, 81))?];
    pod.expect_in_flight(&node, 3)?;
    expect_refused(pod.app.connect(vip))?;
    expect_refused(pod.app.connect(at(FAMILIES[1].vip, 80)))?;
    pod.expect_count(&node, Reason::OUTBOUND_REFUSED_FLIGHT_LIMIT, 2)?;
    // The others are not concerned.
    other.expect_captured(vip)?;
    drop(waiting);
    pod.expect_in_flight(&node, 0)?;
    begin(&pod, vip)?;
    Ok(())
}

fn abandoned(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = clogged(&node, 1000)?;
    for family in FAMILIES {
        for _ in 0..50 {
            let waiting = begin(&pod, at(family.vip, 80))?;
            drop(waiting);
        }
    }
    pod.expect_in_flight(&node, 0)?;
    pod.expect_count(&node, Reason::OUTBOUND_CAPTURED, 101)
}

fn full_flows(grounds: &Grounds) -> Result<()> {
    let node = Node::with_sizes(grounds, Sizes { flows: Some(4), ..Sizes::default() })?;
    let pod = clogged(&node, 1000)?;
    // Apps that listen on every port of the capture range that they can get.
    let range = CAPTURE_PORT_FIRST..=CAPTURE_PORT_LAST;
    let apps: Vec<_> = range.filter_map(|port| pod.app.listen(at(FAMILIES[0].pod, port)).ok()).collect();
    ensure!(apps.len() > 50, "only {} ports of the capture range were free", apps.len());
    let mut waiting = Vec::new();
    while pod.count(&node, Reason::FLOWS_FULL)? == 0 {
        waiting.push(begin(&pod, at(FAMILIES[0].vip, 80))?);
        ensure!(waiting.len() < 100, "the map does not get full");
    }
    for _ in 0..20 {
        expect_refused(pod.app.connect(at(FAMILIES[0].vip, 80)))?;
    }
    apps.iter().try_for_each(expect_nobody_at_once)?;
    drop(waiting);
    pod.expect_in_flight(&node, 0)
}

fn expect_nobody_at_once(listener: &std::net::TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    match listener.accept() {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        other => bail!("an app got {other:?}"),
    }
}

fn full_peers(grounds: &Grounds) -> Result<()> {
    let node = Node::with_sizes(grounds, Sizes { peers: Some(4), ..Sizes::default() })?;
    let pod = Pod::captured(&node)?;
    let to = at(FAMILIES[0].pod, 8080);
    let app = pod.app.tcp(to)?;
    app.bind(&to.into())?;
    app.listen(0)?;
    let client = at(FAMILIES[0].neighbour, 7);
    pod.agent_dials(to, client)?;
    // The app does not accept: further connections wait, each with its row.
    let mut waiting = Vec::new();
    let unpublished = loop {
        let socket = pod.agent.tcp(to)?;
        pod.facts.set_client(&socket, client)?;
        socket.set_nonblocking(true)?;
        let _ = socket.connect(&to.into());
        if !pod.facts.client_is_published(&socket) {
            break socket;
        }
        waiting.push(socket);
        ensure!(waiting.len() < 100, "the map does not get full");
    };
    ensure!(waiting.iter().all(|socket| pod.facts.client_is_published(socket)));
    ensure!(pod.count(&node, Reason::PEERS_FULL)? > 0);
    drop(unpublished);
    drop(waiting);
    // There is room again.
    eventually("a client that can be shown", || {
        let socket = pod.agent.tcp(to)?;
        pod.facts.set_client(&socket, client)?;
        socket.set_nonblocking(true)?;
        let _ = socket.connect(&to.into());
        Ok(pod.facts.client_is_published(&socket))
    })
}

fn full_open_ports(grounds: &Grounds) -> Result<()> {
    let node = Node::with_sizes(grounds, Sizes { open_ports: Some(4), ..Sizes::default() })?;
    let pod = Pod::captured(&node)?;
    let mut apps = Vec::new();
    while pod.count(&node, Reason::OPEN_PORTS_FULL)? == 0 {
        apps.push(pod.app.listen(at("0.0.0.0", 0))?);
        ensure!(apps.len() < 200, "the map does not get full");
    }
    let lost = apps.pop().map(|app| app.local_addr()).transpose()?;
    if let Some(lost) = lost {
        expect_refused(pod.outside.connect(at(FAMILIES[0].pod, lost.port())))?;
    }
    let mut events = node.datapath()?.events()?;
    let told = std::iter::from_fn(|| events.next_event()).find(|event| event.reason == Reason::OPEN_PORTS_FULL);
    ensure!(told.is_some_and(|event| Some(event.source.port()) == lost.map(|lost| lost.port())), "told {told:?}");
    expect_nobody(&pod.listeners[0].socket)
}

fn events(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let mut events = node.datapath()?.events()?;
    for family in FAMILIES {
        let vip = at(family.vip, 80);
        node.datapath()?.publish_destinations(&[], &[vip], &[])?;
        expect_refused(pod.app.connect(vip))?;
        let Some(Event { netns, reason, destination, suppressed, .. }) = events.next_event() else {
            bail!("nothing was told");
        };
        ensure!(netns == pod.cookie && reason == Reason::OUTBOUND_REFUSED_NO_ENDPOINT);
        ensure!(destination == vip && suppressed == 0, "told about {destination}, {suppressed} suppressed");
    }
    pod.expect_captured(at(FAMILIES[0].vip, 81))?;
    ensure!(events.next_event().is_none(), "an ordinary connection was told as an event");
    Ok(())
}

fn event_flood(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let mut events = node.datapath()?.events()?;
    let vip = at(FAMILIES[0].vip, 80);
    node.datapath()?.publish_destinations(&[], &[vip], &[])?;
    let begun = std::time::Instant::now();
    let (mut refused, mut told, mut suppressed) = (0_u64, 0_u64, 0_u64);
    while suppressed == 0 {
        expect_refused(pod.app.connect(vip))?;
        refused += 1;
        while let Some(event) = events.next_event() {
            told += 1;
            suppressed += u64::from(event.suppressed);
        }
        ensure!(begun.elapsed() < crate::place::SOON, "{refused} refusals in a second do not reach the limit");
    }
    pod.expect_count(&node, Reason::OUTBOUND_REFUSED_NO_ENDPOINT, refused)?;
    let cpus = u64::try_from(aya::util::nr_cpus().map_err(|(_, error)| error)?)?;
    let bound = u64::from(EVENTS_PER_SECOND) * cpus * (begun.elapsed().as_secs() + 2);
    ensure!(told <= bound, "{told} events, at most {bound} were allowed");
    Ok(())
}
