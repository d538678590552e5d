//! Observed pods: who talks to whom is noted, and nothing else happens.

use std::collections::{BTreeMap, HashSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Type};
use weft_agent::bpf::{NetnsCookie, ProbeSockets, Seen, Sizes};

use crate::Rule;
use crate::node::{Grounds, Node};
use crate::place::{Place, accept};
use crate::pod::{FAMILIES, Pod, at, canonical, cookie_of};

pub const RULES: &[(&str, Rule)] = &[
    ("observe::who_talks_to_whom_is_noted_and_nothing_is_touched", noted),
    ("observe::kubelets_probes_are_told_apart", probes),
    ("observe::connections_that_stand_are_found", standing),
    ("observe::what_is_not_observed_any_more_is_forgotten", forgotten),
    ("observe::the_newest_peers_are_kept", full),
    ("observe::a_restarted_agent_goes_on_with_what_was_seen", restarted),
];

const SERVED: u16 = 8080;
/// `IPPROTO_MPTCP`.
const MPTCP: i32 = 262;
/// Rows of a small table.
const TABLE: u32 = 64;

/// A pod that nothing but notes is taken of.
fn observed(node: &Node) -> Result<Pod> {
    let pod = Pod::uncaptured(node)?;
    observe(node, &pod)?;
    Ok(pod)
}

fn observe(node: &Node, pod: &Pod) -> Result<()> {
    let (datapath, cookie) = (node.datapath()?, pod.cookie);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsFd::as_fd(&pod.app).as_raw_fd());
    Ok(weft_rig::netns::inside(Path::new(&path), || datapath.observe(cookie))??)
}

/// Connections by who opened them, peer and port.
type Noted = BTreeMap<(Seen, String, u16), u64>;

fn sightings(node: &Node, netns: NetnsCookie) -> Result<Noted> {
    let all = node.datapath()?.sightings().all()?;
    let own = all.into_iter().filter(|sighting| sighting.netns == netns);
    Ok(own.map(|one| ((one.seen, one.peer.to_string(), one.port), one.connections)).collect())
}

fn expect_noted(node: &Node, pod: &Pod, expected: &[(Seen, &str, u16, u64)]) -> Result<()> {
    let expected: Noted =
        expected.iter().map(|(seen, peer, port, count)| ((*seen, (*peer).to_owned(), *port), *count)).collect();
    let found = sightings(node, pod.cookie)?;
    ensure!(found == expected, "noted were {found:?} and not {expected:?}");
    Ok(())
}

/// A connection of which both ends see each other.
fn connect(from: &Place, to: &TcpListener) -> Result<(TcpStream, TcpStream, SocketAddr)> {
    let client = from.connect(to.local_addr()?)?;
    let (server, peer) = accept(to)?;
    ensure!(canonical(peer) == client.local_addr()?, "the server sees {peer}");
    ensure!(client.peer_addr()? == to.local_addr()?, "the client sees {}", client.peer_addr()?);
    Ok((client, server, peer))
}

fn noted(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    // Same addresses, another namespace: nobody observes it.
    let (pod, stranger) = (observed(&node)?, Pod::uncaptured(&node)?);
    let mut expected = Vec::new();
    for family in FAMILIES {
        let app = pod.app.listen(at(family.pod, SERVED))?;
        for _ in 0..3 {
            connect(&pod.outside, &app)?;
        }
        // A captured pod's would be led to the agent, which is not there.
        let service = pod.outside.listen(at(family.vip, 80))?;
        connect(&pod.app, &service)?;
        // Within the pod, and towards a port that nobody listens on: no traffic with anybody.
        connect(&pod.app, &app)?;
        let inner = pod.app.listen(at(family.loopback, 9000))?;
        connect(&pod.app, &inner)?;
        ensure!(pod.app.connect(at(family.vip, 81)).is_err());
        let other = stranger.app.listen(at(family.pod, SERVED))?;
        connect(&stranger.outside, &other)?;
        expected.push((Seen::Inbound, family.neighbour, SERVED, 3));
        expected.push((Seen::Outbound, family.vip, 80, 1));
        let domain = Domain::for_address(at(family.pod, 0));
        pod.app.socket(domain, Type::STREAM, Protocol::from(MPTCP)).context("MPTCP is refused")?;
    }
    expect_noted(&node, &pod, &expected)?;
    expect_noted(&node, &stranger, &[])?;
    let datapath = node.datapath()?;
    ensure!(datapath.pods()?.is_empty() && datapath.counters(pod.cookie)?.is_empty(), "it is captured");
    ensure!(datapath.attachments()?.iter().all(|hook| !hook.name.starts_with("steer")), "it is steered");
    let all = datapath.sightings().all()?;
    let since = datapath.sightings().observed_for(pod.cookie)?.context("nobody observes it")?;
    ensure!(all.iter().all(|one| one.last <= one.first && one.first <= since), "{all:?} since {since:?}");
    ensure!(datapath.sightings().observed_for(stranger.cookie)?.is_none());
    Ok(())
}

fn probes(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = observed(&node)?;
    let kubelet = pod.outside.beside(Some(&node.kubelet))?;
    node.datapath()?.probe_by_sockets(&node.kubelet, ProbeSockets::All, cookie_of(&pod.outside)?)?;
    for family in FAMILIES {
        let app = pod.app.listen(at(family.pod, SERVED))?;
        connect(&kubelet, &app)?;
        connect(&pod.outside, &app)?;
        ensure!(!node.datapath()?.sightings().probes_by_address()?);
    }
    let [four, six] = FAMILIES;
    let expected =
        [four, six].map(|family| [Seen::Probe, Seen::Inbound].map(|seen| (seen, family.neighbour, SERVED, 1)));
    expect_noted(&node, &pod, &expected.concat())?;
    node.datapath()?.probe_by_address()?;
    ensure!(node.datapath()?.sightings().probes_by_address()?);
    Ok(())
}

fn standing(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::uncaptured(&node)?;
    let (mut held, mut listening, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for family in FAMILIES {
        let app = pod.app.listen(at(family.pod, SERVED))?;
        let service = pod.outside.listen(at(family.vip, 80))?;
        for _ in 0..2 {
            held.push(connect(&pod.outside, &app)?);
        }
        held.push(connect(&pod.app, &service)?);
        held.push(connect(&pod.app, &app)?);
        expected.push((Seen::Inbound, family.neighbour, SERVED, 2));
        expected.push((Seen::Outbound, family.vip, 80, 1));
        listening.extend([app, service]);
    }
    observe(&node, &pod)?;
    expect_noted(&node, &pod, &expected)?;
    // Once: to ask again finds nothing that was not counted.
    observe(&node, &pod)?;
    expect_noted(&node, &pod, &expected)
}

fn forgotten(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let (one, other) = (observed(&node)?, observed(&node)?);
    let address = at(FAMILIES[0].pod, SERVED);
    let apps = [one.app.listen(address)?, other.app.listen(address)?];
    let talk = || -> Result<()> {
        connect(&one.outside, &apps[0])?;
        connect(&other.outside, &apps[1]).map(drop)
    };
    talk()?;
    let row = |count| [(Seen::Inbound, FAMILIES[0].neighbour, SERVED, count)];
    expect_noted(&node, &one, &row(1))?;
    node.datapath()?.observe_only(&HashSet::from([other.cookie]))?;
    talk()?;
    expect_noted(&node, &one, &[])?;
    expect_noted(&node, &other, &row(2))?;
    ensure!(node.datapath()?.sightings().observed_for(one.cookie)?.is_none());
    Ok(())
}

fn full(grounds: &Grounds) -> Result<()> {
    let node = Node::with_sizes(grounds, Sizes { seen: Some(TABLE), ..Sizes::default() })?;
    let pod = observed(&node)?;
    let first = u32::from(SERVED);
    let ports: Vec<u16> = (first..first + 4 * TABLE).map(u16::try_from).collect::<Result<_, _>>()?;
    for port in &ports {
        connect(&pod.outside, &pod.app.listen(at(FAMILIES[0].pod, *port))?)?;
    }
    let found = sightings(&node, pod.cookie)?;
    let last = ports.last().copied().context("no port")?;
    ensure!(found.len() <= TABLE as usize && !found.is_empty(), "{} rows", found.len());
    ensure!(found.contains_key(&(Seen::Inbound, FAMILIES[0].neighbour.to_owned(), last)), "the last one is not there");
    Ok(())
}

fn restarted(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let pod = observed(&node)?;
    let app = pod.app.listen(at(FAMILIES[0].pod, SERVED))?;
    connect(&pod.outside, &app)?;
    node.kill_agent();
    // The kernel goes on alone.
    connect(&pod.outside, &app)?;
    node.restart_agent()?;
    observe(&node, &pod)?;
    connect(&pod.outside, &app)?;
    expect_noted(&node, &pod, &[(Seen::Inbound, FAMILIES[0].neighbour, SERVED, 3)])
}
