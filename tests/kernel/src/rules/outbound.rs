//! Which connections of a pod are led to the agent, and which go where the app wanted.

use std::io::{Read as _, Write as _};

use anyhow::{Result, bail, ensure};
use socket2::{Domain, Protocol, Type};
use weft_abi::Reason;
use weft_agent::bpf::{NetworkRule, Role};

use crate::Rule;
use crate::node::{Grounds, Node, VIP4};
use crate::place::accept;
use crate::pod::{FAMILIES, POD4, Pod, at, canonical, expect_refused};

pub const RULES: &[(&str, Rule)] = &[
    ("outbound::the_agent_gets_the_connection_and_the_app_sees_what_it_asked_for", capture),
    ("outbound::an_ip4_destination_of_an_ip6_socket_is_captured", mapped),
    ("outbound::loopback_and_own_addresses_stay_in_the_pod", local),
    ("outbound::what_is_outside_the_mesh_goes_direct", outside_the_mesh),
    ("outbound::the_longest_prefix_decides_and_single_ports_can_be_left_out", never),
    ("outbound::ports_and_networks_that_the_pod_excludes_go_direct", excluded),
    ("outbound::a_socket_bound_to_a_foreign_address_goes_direct", foreign_source),
    ("outbound::udp_is_not_touched", udp),
    ("outbound::a_pod_that_is_not_captured_goes_direct", uncaptured),
    ("outbound::a_service_without_an_endpoint_refuses_at_once", empty_service),
    ("outbound::a_service_port_outside_of_the_mesh_is_captured_alone", external_service),
    ("outbound::a_pod_without_an_address_of_the_family_follows_its_failure_mode", no_address),
    ("outbound::all_of_ip6_can_be_captured_without_ip4", all_of_ip6),
];

fn capture(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let vip = at(family.vip, 80);
        let (mut client, mut server) = pod.expect_captured(vip)?;
        ensure!(client.peer_addr()? == vip, "the app sees {} as its peer", client.peer_addr()?);
        ensure!(client.local_addr()?.ip() == at(family.pod, 0).ip(), "the app sees {}", client.local_addr()?);
        client.write_all(b"asked")?;
        let mut said = [0; 5];
        server.read_exact(&mut said)?;
        ensure!(&said == b"asked", "the bytes arrived as {said:?}");
        // The record went when the agent's end was established, not when the connection ended.
        pod.expect_in_flight(&node, 0)?;
    }
    pod.expect_count(&node, Reason::OUTBOUND_CAPTURED, 2)?;
    pod.expect_count(&node, Reason::OUTBOUND_HANDED, 2)
}

fn mapped(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let vip = at(&format!("::ffff:{VIP4}"), 80);
    let (client, server) = pod.expect_captured(vip)?;
    ensure!(client.peer_addr()? == vip, "the app sees {} as its peer", client.peer_addr()?);
    ensure!(canonical(server.peer_addr()?) == canonical(client.local_addr()?), "the ends do not agree");
    ensure!(canonical(client.local_addr()?).ip() == at(POD4, 0).ip(), "the app sees {}", client.local_addr()?);
    Ok(())
}

fn local(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    // Even if somebody captures the whole world.
    let everything = [("0.0.0.0/0".parse()?, NetworkRule::Captured), ("::/0".parse()?, NetworkRule::Captured)];
    node.datapath()?.publish_networks(&everything)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let listener = pod.app.listen(at(family.any, 8080))?;
        for address in [family.pod, family.loopback] {
            let client = pod.app.connect(at(address, 8080))?;
            let (_, peer) = accept(&listener)?;
            ensure!(canonical(peer) == client.local_addr()?, "the app sees {peer} as its client");
        }
    }
    pod.agent_hears_nothing()?;
    pod.expect_count(&node, Reason::OUTBOUND_LOCAL, 4)
}

fn outside_the_mesh(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let listener = pod.outside.listen(at(family.world, 443))?;
        let client = pod.app.connect(at(family.world, 443))?;
        let (_, peer) = accept(&listener)?;
        ensure!(peer == client.local_addr()?, "the world sees {peer}");
    }
    pod.agent_hears_nothing()?;
    pod.expect_count(&node, Reason::OUTBOUND_OUTSIDE, 2)
}

fn never(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let vip: std::net::IpAddr = family.vip.parse()?;
        let wide = if vip.is_ipv4() { "10.0.0.0/8" } else { "fd00::/8" };
        node.datapath()?
            .publish_networks(&[(wide.parse()?, NetworkRule::Captured), (vip.into(), NetworkRule::Never)])?;
        let listener = pod.outside.listen(at(family.vip, 443))?;
        let direct = pod.app.connect(at(family.vip, 443))?;
        accept(&listener)?;
        ensure!(direct.peer_addr()? == at(family.vip, 443));
        node.datapath()?.publish_networks(&[(wide.parse()?, NetworkRule::Captured)])?;
        node.datapath()?.publish_destinations(&[], &[], &[at(family.vip, 443)])?;
        pod.app.connect(at(family.vip, 443))?;
        accept(&listener)?;
        pod.expect_captured(at(family.vip, 444))?;
        node.datapath()?.publish_destinations(&[], &[], &[])?;
        pod.expect_captured(at(family.vip, 443))?;
    }
    pod.expect_count(&node, Reason::OUTBOUND_NEVER_CAPTURED, 4)
}

fn excluded(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let mut pod = Pod::captured_as(&node, 1, |plan| {
        plan.excluded_outbound_ports.insert(5432);
    })?;
    let other = Pod::captured(&node)?;
    for family in FAMILIES {
        let database = pod.outside.listen(at(family.vip, 5432))?;
        let web = pod.outside.listen(at(family.vip, 80))?;
        pod.app.connect(at(family.vip, 5432))?;
        accept(&database)?;
        pod.expect_captured(at(family.vip, 80))?;
        let network = ipnet::IpNet::from(family.vip.parse::<std::net::IpAddr>()?);
        pod.update(&node, |plan| {
            plan.excluded_outbound_networks.insert(network);
        })?;
        pod.app.connect(at(family.vip, 80))?;
        accept(&web)?;
        // Another pod's rules are not this one's.
        other.expect_captured(at(family.vip, 5432))?;
        other.expect_captured(at(family.vip, 80))?;
    }
    pod.update(&node, |plan| {
        plan.excluded_outbound_networks.clear();
        plan.excluded_outbound_ports.clear();
    })?;
    pod.expect_captured(at(VIP4, 5432))?;
    pod.expect_count(&node, Reason::OUTBOUND_EXCLUDED, 4)
}

fn foreign_source(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for (family, foreign) in FAMILIES.into_iter().zip(["10.88.0.77", "fd88::77"]) {
        let address = foreign.parse()?;
        let prefix = if foreign.contains(':') { 64 } else { 24 };
        pod.app.run(move || crate::netlink::add_address("eth0", address, prefix))?;
        let listener = pod.outside.listen(at(family.vip, 80))?;
        let client = pod.app.connect_from(at(foreign, 0), at(family.vip, 80))?;
        let (_, peer) = accept(&listener)?;
        ensure!(peer == client.local_addr()?, "the service sees {peer}");
        // Bound to the pod's own address it is captured as ever.
        pod.app.connect_from(at(family.pod, 0), at(family.vip, 80))?;
        pod.agent_accepts(Role::Outbound)?;
    }
    pod.expect_count(&node, Reason::OUTBOUND_FOREIGN_SOURCE, 2)
}

fn udp(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let vip = at(family.vip, 53);
        let socket = pod.app.socket(Domain::for_address(vip), Type::DGRAM, Protocol::UDP)?;
        socket.connect(&vip.into())?;
        let peer = socket.peer_addr()?.as_socket();
        ensure!(peer == Some(vip), "the datagrams would go to {peer:?}");
    }
    pod.expect_count(&node, Reason::OUTBOUND_CAPTURED, 0)
}

fn uncaptured(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::uncaptured(&node)?;
    let other = Pod::captured(&node)?;
    for family in FAMILIES {
        let listener = pod.outside.listen(at(family.vip, 80))?;
        pod.app.connect(at(family.vip, 80))?;
        accept(&listener)?;
        other.expect_captured(at(family.vip, 80))?;
    }
    Ok(())
}

/// A Service's port at an address outside of the mesh's networks; the host's other ports stay its own.
fn external_service(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let (service, own) = (at(family.world, 80), at(family.world, 81));
        let listeners = (pod.outside.listen(service)?, pod.outside.listen(own)?);
        node.datapath()?.publish_destinations(&[service], &[], &[])?;
        pod.expect_captured(service)?;
        pod.app.connect(own)?;
        accept(&listeners.1)?;
        node.datapath()?.publish_destinations(&[service], &[service], &[])?;
        expect_refused(pod.app.connect(service))?;
        node.datapath()?.publish_destinations(&[], &[], &[])?;
        pod.app.connect(service)?;
        accept(&listeners.0)?;
    }
    pod.expect_count(&node, Reason::OUTBOUND_REFUSED_NO_ENDPOINT, 2)
}

fn empty_service(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        node.datapath()?.publish_destinations(&[], &[at(family.vip, 80)], &[])?;
        expect_refused(pod.app.connect(at(family.vip, 80)))?;
        pod.expect_captured(at(family.vip, 81))?;
        node.datapath()?.publish_destinations(&[], &[], &[])?;
        pod.expect_captured(at(family.vip, 80))?;
    }
    pod.expect_count(&node, Reason::OUTBOUND_REFUSED_NO_ENDPOINT, 2)
}

fn no_address(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let [four, six] = FAMILIES;
    let mut pod = Pod::captured_as(&node, 1, |plan| plan.address6 = None)?;
    expect_refused(pod.app.connect(at(six.vip, 80)))?;
    pod.expect_captured(at(four.vip, 80))?;
    pod.update(&node, |plan| plan.failure = weft_agent::bpf::Failure::Open)?;
    let listener = pod.outside.listen(at(six.vip, 80))?;
    pod.app.connect(at(six.vip, 80))?;
    accept(&listener)?;
    pod.expect_count(&node, Reason::OUTBOUND_REFUSED_NO_ADDRESS, 1)?;
    pod.expect_count(&node, Reason::OUTBOUND_DIRECT_NO_ADDRESS, 1)
}

fn all_of_ip6(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let [four, six] = FAMILIES;
    node.datapath()?.publish_networks(&[("::/0".parse()?, NetworkRule::Captured)])?;
    pod.expect_captured(at(six.world, 443))?;
    let listener = pod.outside.listen(at(four.world, 443))?;
    pod.app.connect(at(four.world, 443))?;
    accept(&listener)?;
    match pod.count(&node, Reason::OUTBOUND_OUTSIDE)? {
        1 => Ok(()),
        count => bail!("{count} connections were counted as outside"),
    }
}
