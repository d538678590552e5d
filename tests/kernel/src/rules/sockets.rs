//! Sockets that are made, marked and connected in unusual ways.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use weft_abi::{CAPTURE_PORT_FIRST, CAPTURE_PORT_LAST, Reason};
use weft_agent::bpf::Role;

use crate::Rule;
use crate::node::{Grounds, Node};
use crate::place::{SOON, accept};
use crate::pod::{FAMILIES, Pod, at, canonical, expect_refused};

pub const RULES: &[(&str, Rule)] = &[
    ("sockets::the_agent_is_recognised_by_its_mark_and_not_by_a_process", own),
    ("sockets::a_socket_that_is_connected_again_shows_its_second_destination", connected_again),
    ("sockets::a_connect_that_does_not_wait_is_captured", nonblocking),
    ("sockets::a_fast_open_is_captured", fast_open),
    ("sockets::mptcp_is_refused_in_captured_pods_only", mptcp),
    ("sockets::a_socket_bound_to_a_capture_port_does_not_meet_itself", bound_to_capture_port),
    ("sockets::a_wide_ephemeral_range_does_not_meet_the_capture_range", wide_range),
    ("sockets::a_socket_bound_to_a_device_is_captured", bound_to_device),
    ("sockets::connections_spread_over_the_capture_range", spread),
    ("sockets::an_app_that_dials_a_capture_port_gets_a_reset", dialled_capture_port),
];

/// `IPPROTO_MPTCP`.
const MPTCP: i32 = 262;

fn own(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let vip = at(family.vip, 80);
        let listener = pod.outside.listen(at(family.vip, 80))?;
        // Made in the agent's cgroup folder.
        let socket = pod.agent.tcp(vip)?;
        ensure!(pod.facts.is_own(&socket), "the agent's socket has no mark");
        socket.connect_timeout(&vip.into(), SOON)?;
        accept(&listener)?;
        // Made by the same process in an app's folder: captured, unless it is marked by hand.
        let socket = pod.app.tcp(vip)?;
        ensure!(!pod.facts.is_own(&socket), "an app's socket has the agent's mark");
        socket.connect_timeout(&vip.into(), SOON)?;
        pod.agent_accepts(Role::Outbound)?;
        let socket = pod.app.tcp(vip)?;
        pod.facts.mark_own(&socket)?;
        socket.connect_timeout(&vip.into(), SOON)?;
        accept(&listener)?;
    }
    pod.agent_hears_nothing()?;
    pod.expect_count(&node, Reason::OUTBOUND_CAPTURED, 2)
}

fn connected_again(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let world = at(family.world, 443);
        let listener = pod.outside.listen(world)?;
        let socket = pod.app.tcp(world)?;
        socket.connect_timeout(&at(family.vip, 80).into(), SOON)?;
        pod.agent_accepts(Role::Outbound)?;
        disconnect(&socket)?;
        socket.connect_timeout(&at(family.vip, 81).into(), SOON)?;
        let (_, server, _) = pod.agent_accepts(Role::Outbound)?;
        let asked = pod.facts.original_destination(&server);
        ensure!(asked == Some(at(family.vip, 81)), "the agent was told {asked:?}");
        disconnect(&socket)?;
        socket.connect_timeout(&world.into(), SOON)?;
        accept(&listener)?;
        let peer = socket.peer_addr()?.as_socket();
        ensure!(peer == Some(world), "the app sees {peer:?}");
    }
    Ok(())
}

fn disconnect(socket: &Socket) -> Result<()> {
    // SAFETY: all zeroes is the address of no family, with which connect() dissolves a connection.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr>())?;
    // SAFETY: the descriptor is open and the address outlives the call.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("dissolve a connection") }
}

fn nonblocking(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let vip = at(family.vip, 80);
        let socket = pod.app.tcp(vip)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&vip.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            other => other?,
        }
        let (_, server, _) = pod.agent_accepts(Role::Outbound)?;
        ensure!(pod.facts.original_destination(&server) == Some(vip));
        ensure!(socket.take_error()?.is_none());
        ensure!(socket.peer_addr()?.as_socket() == Some(vip));
    }
    Ok(())
}

fn fast_open(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let vip = at(family.vip, 80);
        let socket = pod.app.tcp(vip)?;
        let sent = socket.send_to_with_flags(b"early", &vip.into(), libc::MSG_FASTOPEN)?;
        ensure!(sent == 5);
        let (_, mut server, _) = pod.agent_accepts(Role::Outbound)?;
        ensure!(pod.facts.original_destination(&server) == Some(vip));
        let mut said = [0; 5];
        server.read_exact(&mut said)?;
        ensure!(&said == b"early");
    }
    Ok(())
}

fn mptcp(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let captured = Pod::captured(&node)?;
    let uncaptured = Pod::uncaptured(&node)?;
    for domain in [Domain::IPV4, Domain::IPV6] {
        let refused = captured.app.socket(domain, Type::STREAM, Protocol::from(MPTCP));
        let error = refused.err().context("an MPTCP socket was made")?;
        ensure!(error.raw_os_error() == Some(libc::ENOPROTOOPT), "it was refused with {error}");
        uncaptured.app.socket(domain, Type::STREAM, Protocol::from(MPTCP)).context("MPTCP without the mesh")?;
        captured.app.socket(domain, Type::STREAM, Protocol::TCP)?;
    }
    captured.expect_count(&node, Reason::MPTCP_REFUSED, 2)
}

fn bound_to_capture_port(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let vip = at(family.vip, 80);
        // Every port of the range: whichever port the hook likes best, one of these is bound to it.
        for port in CAPTURE_PORT_FIRST..=CAPTURE_PORT_LAST {
            let socket = pod.app.tcp(vip)?;
            socket.set_reuse_address(true)?;
            if socket.bind(&at(family.pod, port).into()).is_err() {
                // One of the agent's listeners is there.
                continue;
            }
            socket.connect_timeout(&vip.into(), SOON)?;
            let (_, mut server, _) = pod.agent_accepts(Role::Outbound)?;
            let mut client = TcpStream::from(socket);
            server.write_all(b"agent")?;
            let mut said = [0; 5];
            client.read_exact(&mut said)?;
            ensure!(&said == b"agent", "the app is connected to somebody else");
            ensure!(pod.facts.original_destination(&server) == Some(vip));
            reset(client)?;
        }
    }
    Ok(())
}

/// Closes without `TIME_WAIT`, so that the port is free again.
fn reset(stream: TcpStream) -> Result<()> {
    let socket = Socket::from(stream);
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    Ok(())
}

fn wide_range(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    // Only the capture range and a few ports below it, so that one of the range is soon drawn.
    pod.app.set("net/ipv4/ip_local_port_range", "60990 61063")?;
    let in_range = |port: u16| (CAPTURE_PORT_FIRST..=CAPTURE_PORT_LAST).contains(&port);
    for settings_are_applied in [false, true] {
        if settings_are_applied {
            pod.apply_settings()?;
        }
        for family in FAMILIES {
            let vip = at(family.vip, 80);
            let mut met = false;
            for _ in 0..10 {
                let client = pod.app.connect(vip)?;
                if in_range(client.local_addr()?.port()) {
                    // Such a connection may have met itself, and nobody else has got it.
                    met = true;
                    break;
                }
                pod.agent_accepts(Role::Outbound)?;
                reset(client)?;
            }
            ensure!(met != settings_are_applied, "settings applied: {settings_are_applied}, port in the range: {met}");
        }
    }
    Ok(())
}

fn bound_to_device(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let vip = at(family.vip, 80);
        let socket = pod.app.tcp(vip)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.connect_timeout(&vip.into(), SOON)?;
        let (_, server, _) = pod.agent_accepts(Role::Outbound)?;
        ensure!(pod.facts.original_destination(&server) == Some(vip));
    }
    Ok(())
}

fn spread(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let client = pod.app.connect(at(FAMILIES[0].vip, 80))?;
        let (_, server, _) = pod.agent_accepts(Role::Outbound)?;
        ports.insert(server.local_addr()?.port());
        drop(client);
    }
    ensure!(ports.len() > 32, "200 connections used only {} ports", ports.len());
    ensure!(ports.iter().all(|port| (CAPTURE_PORT_FIRST..=CAPTURE_PORT_LAST).contains(port)));
    Ok(())
}

fn dialled_capture_port(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let ports: Vec<u16> = pod.listeners.iter().map(|listener| listener.port).collect();
    for family in FAMILIES {
        for port in &ports {
            expect_refused(pod.app.connect(at(family.pod, *port)))?;
            expect_refused(pod.app.connect(at(family.loopback, *port)))?;
            expect_refused(pod.outside.connect(at(family.pod, *port)))?;
        }
    }
    pod.agent_hears_nothing()?;
    // A port of the range that is not the agent's is an app's like any other, inside and out.
    let free = (CAPTURE_PORT_FIRST..=CAPTURE_PORT_LAST).find(|port| !ports.contains(port)).context("no free port")?;
    let listener = pod.app.listen(at("0.0.0.0", free))?;
    pod.app.connect(at("127.0.0.1", free))?;
    accept(&listener)?;
    pod.outside.connect(at(FAMILIES[0].pod, free))?;
    let (_, server, peer) = pod.agent_accepts(Role::Inbound)?;
    let client: SocketAddr = canonical(peer);
    let to = canonical(server.local_addr()?);
    pod.agent_dials(to, client)?;
    let (_, seen) = accept(&listener)?;
    ensure!(canonical(seen) == client, "the app sees {seen}");
    Ok(())
}
