//! Which connections to a pod are led to the agent, and what the app sees of their clients.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use anyhow::{Context, Result, bail, ensure};
use weft_abi::Reason;
use weft_agent::bpf::{Mode, Role};

use crate::Rule;
use crate::node::{Grounds, Node};
use crate::place::{MOMENT, accept, expect_nobody};
use crate::pod::{FAMILIES, OpenListener, Pod, at, canonical, expect_refused};

pub const RULES: &[(&str, Rule)] = &[
    ("inbound::the_agent_gets_the_connection_with_both_real_addresses", capture),
    ("inbound::the_app_sees_the_real_client", client_is_shown),
    ("inbound::a_connection_of_the_pod_itself_is_not_touched", same_pod),
    ("inbound::each_port_has_its_mode", modes),
    ("inbound::every_address_of_the_namespace_follows_the_rule", every_address),
    ("inbound::a_listener_of_another_namespace_is_never_chosen", foreign_namespace),
    ("inbound::nobody_shares_the_agents_connections", joined_group),
    ("inbound::the_agents_loopback_sources_need_a_client", loopback_sources),
    ("inbound::syn_cookies_change_nothing", syn_cookies),
    ("inbound::a_pod_captured_only_outbound_is_reached_directly", outbound_only),
];

fn capture(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let app = pod.app.listen(at(family.any, 8080))?;
        let client = pod.outside.connect(at(family.pod, 8080))?;
        let (_, server, peer) = pod.agent_accepts(Role::Inbound)?;
        ensure!(peer == client.local_addr()?, "the agent sees {peer}");
        ensure!(canonical(server.local_addr()?) == at(family.pod, 8080), "the agent's end is {}", server.local_addr()?);
        ensure!(pod.facts.original_destination(&server).is_none());
        expect_nobody(&app)?;
    }
    pod.expect_count(&node, Reason::INBOUND_CAPTURED, 2)
}

fn client_is_shown(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for (family, client) in FAMILIES.into_iter().zip([at("10.88.7.7", 7777), at("fd88:7::7", 7777)]) {
        for (address, port) in [(family.any, 8080), (family.pod, 8081), ("::", 8082)] {
            let app = pod.app.listen(at(address, port))?;
            let dialled = pod.agent_dials(at(family.pod, port), client)?;
            ensure!(pod.facts.client_is_published(&dialled), "the client is not published");
            let (mut server, peer) = accept(&app)?;
            ensure!(canonical(peer) == client, "accept() says {peer}");
            ensure!(canonical(server.peer_addr()?) == client, "getpeername() says {}", server.peer_addr()?);
            ensure!(canonical(server.local_addr()?) == at(family.pod, port));
            ensure!(dialled.peer_addr()? == at(family.pod, port), "the agent sees {}", dialled.peer_addr()?);
            server.write_all(b"hello")?;
        }
    }
    Ok(())
}

fn same_pod(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured_as(&node, 1, |plan| plan.inbound_mode = Mode::Strict)?;
    for family in FAMILIES {
        let app = pod.app.listen(at(family.any, 8080))?;
        for from in [family.pod, family.loopback] {
            // From `::1` only the agent connects to the pod's address.
            let to = if from == "::1" { from } else { family.pod };
            let client = pod.app.connect_from(at(from, 0), at(to, 8080))?;
            let (_, peer) = accept(&app)?;
            ensure!(canonical(peer) == client.local_addr()?, "the app sees {peer}");
        }
    }
    pod.agent_hears_nothing()
}

fn modes(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let mut pod = Pod::captured_as(&node, 1, |plan| {
        plan.inbound_ports.insert(9000, Mode::Excluded);
    })?;
    for family in FAMILIES {
        let excluded = pod.app.listen(at(family.any, 9000))?;
        let _other = pod.app.listen(at(family.any, 8080))?;
        let client = pod.outside.connect(at(family.pod, 9000))?;
        let (_, peer) = accept(&excluded)?;
        ensure!(canonical(peer) == client.local_addr()?);
        pod.outside.connect(at(family.pod, 8080))?;
        pod.agent_accepts(Role::Inbound)?;
        pod.update(&node, |plan| {
            plan.inbound_ports.insert(9000, Mode::Strict);
            plan.inbound_ports.insert(8080, Mode::Excluded);
        })?;
        pod.outside.connect(at(family.pod, 9000))?;
        pod.agent_accepts(Role::Inbound)?;
        pod.outside.connect(at(family.pod, 8080))?;
        pod.agent_hears_nothing()?;
        pod.update(&node, |plan| {
            plan.inbound_ports.insert(9000, Mode::Excluded);
            plan.inbound_ports.remove(&8080);
        })?;
    }
    pod.expect_count(&node, Reason::INBOUND_EXCLUDED, 4)
}

fn every_address(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured_as(&node, 1, |plan| plan.inbound_mode = Mode::Strict)?;
    let app = pod.app.listen(at("::", 8080))?;
    // Added by the pod later, unknown to everybody.
    pod.app.run(|| -> Result<()> {
        crate::netlink::add_address("eth0", "10.88.0.99".parse()?, 24)?;
        crate::netlink::add_address("eth0", "fd88::99".parse()?, 64)?;
        crate::netlink::add_address("eth0", "fe80::99".parse()?, 64)
    })?;
    pod.outside.run(|| crate::netlink::add_address("pod0", "fe80::1".parse()?, 64))?;
    let scope = pod.outside.run(|| crate::netlink::index("pod0"))?;
    let link_local = SocketAddr::V6(SocketAddrV6::new("fe80::99".parse()?, 8080, 0, scope));
    for to in [at("10.88.0.99", 8080), at("fd88::99", 8080), link_local] {
        pod.outside.connect(to).with_context(|| format!("connect to {to}"))?;
        let (_, server, _) = pod.agent_accepts(Role::Inbound)?;
        ensure!(canonical(server.local_addr()?).ip() == to.ip());
        expect_nobody(&app)?;
    }
    Ok(())
}

fn foreign_namespace(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    // Same addresses, same ports, other namespaces.
    let pods = [Pod::captured(&node)?, Pod::captured(&node)?];
    for family in FAMILIES {
        for (pod, other) in [(0, 1), (1, 0)] {
            let _app = pods[pod].app.listen(at(family.any, 8080))?;
            pods[pod].outside.connect(at(family.pod, 8080))?;
            pods[pod].agent_accepts(Role::Inbound)?;
            pods[pod].expect_captured(at(family.vip, 80))?;
            pods[other].agent_hears_nothing()?;
            // What one app listens on is closed in the other pod.
            expect_refused(pods[other].outside.connect(at(family.pod, 8080)))?;
        }
    }
    Ok(())
}

fn joined_group(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let mut pod = Pod::uncaptured(&node)?;
    // As bad as it can be: the agent's own listener allows a group, and root in the container joins it.
    let mut joined = Vec::new();
    for (role, port) in [(Role::Outbound, 61_000), (Role::Inbound, 61_001)] {
        let mine = group_member(&pod.agent, port)?;
        joined.push(group_member(&pod.app, port)?);
        pod.listeners.push(OpenListener { role, worker: 0, socket: mine, port });
    }
    pod.enrol(&node)?;
    let _app = pod.app.listen(at("0.0.0.0", 8080))?;
    for _ in 0..40 {
        pod.expect_captured(at(FAMILIES[0].vip, 80))?;
        pod.outside.connect(at(FAMILIES[0].pod, 8080))?;
        pod.agent_accepts(Role::Inbound)?;
    }
    joined.iter().try_for_each(expect_nobody)?;
    // And the agent's real listeners cannot be joined at all.
    let real = Pod::captured(&node)?;
    for listener in &real.listeners {
        match group_member(&real.app, listener.port) {
            Err(_) => {}
            Ok(_) => bail!("an app has joined port {}", listener.port),
        }
    }
    Ok(())
}

fn group_member(place: &crate::place::Place, port: u16) -> Result<std::net::TcpListener> {
    let address = at("127.0.0.1", port);
    let socket = place.tcp(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(64)?;
    Ok(socket.into())
}

fn loopback_sources(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for (family, source) in FAMILIES.into_iter().zip(["127.87.1.2", "::1"]) {
        let app = pod.app.listen(at(family.any, 8080))?;
        let to = at(family.pod, 8080);
        let bare = pod.agent.tcp(to)?;
        bare.bind(&at(source, 0).into())?;
        // The kernel has no way back to `::1` for its reset: there the SYN is dropped without a word.
        let outcome = bare.connect_timeout(&to.into(), MOMENT);
        ensure!(outcome.is_err(), "the app got a connection from {source} without a client");
        let client: SocketAddr = SocketAddr::new(family.neighbour.parse::<IpAddr>()?, 4242);
        let socket = pod.agent.tcp(to)?;
        pod.facts.set_client(&socket, client)?;
        socket.bind(&at(source, 0).into())?;
        socket.connect_timeout(&to.into(), crate::place::SOON)?;
        let (server, peer) = accept(&app)?;
        ensure!(canonical(peer) == client, "the app sees {peer}");
        ensure!(canonical(server.peer_addr()?) == client);
    }
    pod.expect_count(&node, Reason::INBOUND_DROPPED_UNKNOWN_CLIENT, 2)
}

fn syn_cookies(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured_as(&node, 2, |_| {})?;
    pod.app.set("net/ipv4/tcp_syncookies", "2")?;
    for family in FAMILIES {
        let app = pod.app.listen(at(family.any, 8080))?;
        for _ in 0..20 {
            pod.expect_captured(at(family.vip, 80))?;
            let client = pod.outside.connect(at(family.pod, 8080))?;
            let (_, _, peer) = pod.agent_accepts(Role::Inbound)?;
            ensure!(peer == client.local_addr()?);
            pod.agent_dials(at(family.pod, 8080), client.local_addr()?)?;
            let (_, seen) = accept(&app)?;
            ensure!(canonical(seen) == client.local_addr()?, "the app sees {seen}");
        }
    }
    // Each of the 40 was looked up for its SYN and for its ACK, so the cookies were really at work.
    pod.expect_count(&node, Reason::INBOUND_CAPTURED, 80)?;
    pod.expect_count(&node, Reason::OUTBOUND_HANDED, 80)?;
    pod.expect_in_flight(&node, 0)
}

fn outbound_only(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured_as(&node, 1, |plan| plan.inbound = false)?;
    for family in FAMILIES {
        let app = pod.app.listen(at(family.any, 8080))?;
        let client = pod.outside.connect(at(family.pod, 8080))?;
        let (_, peer) = accept(&app)?;
        ensure!(canonical(peer) == client.local_addr()?);
        pod.expect_captured(at(family.vip, 80))?;
    }
    Ok(())
}
