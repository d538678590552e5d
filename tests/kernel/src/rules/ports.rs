//! A closed port looks closed, an open one open: what listens where is known in time.

use anyhow::{Context, Result, ensure};
use weft_abi::{CAPTURE_PORT_FIRST, CAPTURE_PORT_LAST, Reason};
use weft_agent::bpf::{Mode, Role};

use crate::Rule;
use crate::node::{Grounds, Node};
use crate::place::accept;
use crate::pod::{FAMILIES, Pod, at, eventually, expect_refused};

pub const RULES: &[(&str, Rule)] = &[
    ("ports::a_port_that_nobody_listens_on_is_refused", closed),
    ("ports::opening_and_closing_is_followed", followed),
    ("ports::a_listener_at_one_address_opens_only_that_one", one_address),
    ("ports::a_listener_on_loopback_is_not_open_to_others", loopback_only),
    ("ports::several_listeners_keep_a_port_open_until_the_last", several),
    ("ports::what_listened_before_is_known", seeded),
    ("ports::what_closed_unseen_is_found_by_seeding_again", seeded_again),
    ("ports::the_agents_listeners_take_no_port_from_an_app", no_stolen_ports),
    ("ports::an_app_that_restarts_gets_its_port_back", restarted_app),
    ("ports::connections_to_an_app_do_not_run_out_of_ports", exhaustion),
];

fn closed(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let mut pod = Pod::captured(&node)?;
    for mode in [Mode::Permissive, Mode::Strict] {
        pod.update(&node, |plan| plan.inbound_mode = mode)?;
        for family in FAMILIES {
            expect_refused(pod.outside.connect(at(family.pod, 8080)))?;
        }
    }
    pod.agent_hears_nothing()?;
    pod.expect_count(&node, Reason::INBOUND_CLOSED_PORT, 4)
}

/// Whether a connection from outside is taken by the agent or refused.
fn is_open(pod: &Pod, address: &str, port: u16) -> Result<bool> {
    match pod.outside.connect(at(address, port)) {
        Ok(_) => {
            pod.agent_accepts(Role::Inbound)?;
            Ok(true)
        }
        Err(error) => {
            expect_refused(Err(error))?;
            Ok(false)
        }
    }
}

fn followed(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let [four, six] = FAMILIES;
    for (listening, open4, open6) in [("0.0.0.0", true, false), ("::", true, true)] {
        for _ in 0..3 {
            let app = pod.app.listen(at(listening, 8080))?;
            ensure!(is_open(&pod, four.pod, 8080)? == open4, "IPv4 while {listening} is listened at");
            ensure!(is_open(&pod, six.pod, 8080)? == open6, "IPv6 while {listening} is listened at");
            ensure!(!is_open(&pod, four.pod, 8081)?, "another port");
            drop(app);
            ensure!(!is_open(&pod, four.pod, 8080)?, "IPv4 after {listening} was closed");
            ensure!(!is_open(&pod, six.pod, 8080)?, "IPv6 after {listening} was closed");
        }
    }
    Ok(())
}

fn one_address(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for (family, second) in FAMILIES.into_iter().zip(["10.88.0.99", "fd88::99"]) {
        let prefix = if second.contains(':') { 64 } else { 24 };
        pod.app.run(move || crate::netlink::add_address("eth0", second.parse()?, prefix))?;
        let app = pod.app.listen(at(family.pod, 8080))?;
        ensure!(is_open(&pod, family.pod, 8080)?, "the address that is listened at");
        ensure!(!is_open(&pod, second, 8080)?, "another address");
        drop(app);
        ensure!(!is_open(&pod, family.pod, 8080)?, "after it was closed");
    }
    Ok(())
}

fn loopback_only(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let app = pod.app.listen(at(family.loopback, 8080))?;
        expect_refused(pod.outside.connect(at(family.pod, 8080)))?;
        pod.app.connect(at(family.loopback, 8080))?;
        accept(&app)?;
    }
    pod.agent_hears_nothing()
}

fn several(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    let mut group = Vec::new();
    for _ in 0..3 {
        let socket = pod.app.tcp(at("0.0.0.0", 8080))?;
        socket.set_reuse_port(true)?;
        socket.bind(&at("0.0.0.0", 8080).into())?;
        socket.listen(16)?;
        group.push(socket);
    }
    while let Some(socket) = group.pop() {
        ensure!(is_open(&pod, FAMILIES[0].pod, 8080)?, "while {} listen", group.len() + 1);
        drop(socket);
    }
    ensure!(!is_open(&pod, FAMILIES[0].pod, 8080)?, "after the last");
    Ok(())
}

fn seeded(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let mut pod = Pod::uncaptured(&node)?;
    let [four, six] = FAMILIES;
    let everywhere = pod.app.listen(at("::", 8080))?;
    let _one = pod.app.listen(at(four.pod, 8081))?;
    let _loopback = pod.app.listen(at("127.0.0.1", 8082))?;
    pod.open_listeners(1)?;
    pod.enrol(&node)?;
    ensure!(is_open(&pod, four.pod, 8080)? && is_open(&pod, six.pod, 8080)?, "a wildcard listener");
    ensure!(is_open(&pod, four.pod, 8081)?, "a listener at one address");
    ensure!(!is_open(&pod, four.pod, 8082)?, "a listener on loopback");
    for listener in &pod.listeners {
        ensure!(!is_open(&pod, four.pod, listener.port)?, "the agent's own listener");
    }
    // It was made while the programs were attached, so its end is seen although it was seeded.
    drop(everywhere);
    ensure!(!is_open(&pod, four.pod, 8080)?, "after it was closed");
    Ok(())
}

fn seeded_again(grounds: &Grounds) -> Result<()> {
    let mut node = Node::new(grounds)?;
    let mut pod = Pod::uncaptured(&node)?;
    // Older than the agent's first start on this machine.
    node.kill_agent();
    weft_agent::bpf::remove_all(&node.paths.pin_dir)?;
    let app = pod.app.listen(at("::", 8080))?;
    node.restart_agent()?;
    node.datapath()?.attach()?;
    pod.facts = node.datapath()?.socket_facts();
    pod.open_listeners(1)?;
    pod.enrol(&node)?;
    ensure!(is_open(&pod, FAMILIES[0].pod, 8080)?, "a listener that was there before");
    drop(app);
    pod.enrol(&node)?;
    eventually("a closed port", || Ok(!is_open(&pod, FAMILIES[0].pod, 8080)?))
}

fn no_stolen_ports(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured_as(&node, 4, |_| {})?;
    for listener in &pod.listeners {
        let port = listener.socket.local_addr()?.port();
        ensure!((CAPTURE_PORT_FIRST..=CAPTURE_PORT_LAST).contains(&port), "the agent listens on {port}");
    }
    for port in [22, 80, 443, 3306, 5432, 8080, 9090, 32_768, 50_051, 60_999, 61_064, 65_535] {
        pod.app.listen(at("::", port)).with_context(|| format!("an app's port {port}"))?;
    }
    // An app that was there first keeps its port of the range.
    let mut second = Pod::uncaptured(&node)?;
    let app = second.app.listen(at("0.0.0.0", CAPTURE_PORT_FIRST))?;
    second.open_listeners(1)?;
    second.enrol(&node)?;
    second.app.connect(at("127.0.0.1", CAPTURE_PORT_FIRST))?;
    accept(&app)?;
    ensure!(second.listeners.iter().all(|listener| listener.port != CAPTURE_PORT_FIRST));
    Ok(())
}

fn restarted_app(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    for family in FAMILIES {
        let app = pod.app.listen(at(family.any, 8080))?;
        let client = pod.outside.connect(at(family.pod, 8080))?;
        let (_, server, _) = pod.agent_accepts(Role::Inbound)?;
        drop(app);
        // The agent's end has the app's port; then it rests in TIME_WAIT.
        drop(pod.app.listen(at(family.any, 8080))?);
        drop(server);
        drop(client);
        drop(pod.app.listen(at(family.any, 8080))?);
    }
    Ok(())
}

/// With 100 ports 150 connections to one app port, each closed by the agent first, so that the agent's
/// end of it rests in `TIME_WAIT`: only possible where ports are used again after a second.
fn exhaustion(grounds: &Grounds) -> Result<()> {
    let node = Node::new(grounds)?;
    let pod = Pod::captured(&node)?;
    pod.app.set("net/ipv4/ip_local_port_range", "20000 20099")?;
    for family in FAMILIES {
        let app = pod.app.listen(at(family.any, 8080))?;
        let to = at(family.pod, 8080);
        pod.app.set("net/ipv4/tcp_tw_reuse", "2")?;
        let begun = std::time::Instant::now();
        let mut made = 0;
        while let Ok(dialled) = pod.agent_dials(to, at(family.neighbour, 7)) {
            let _server = accept(&app)?;
            drop(dialled);
            made += 1;
            ensure!(made <= 100, "the ports do not run out, so this test proves nothing");
        }
        ensure!(made > 90, "only {made} connections were possible");
        pod.apply_settings()?;
        // What rests already may be used again a second after it was used last.
        let mut again = 0;
        while again < 150 {
            if let Ok(dialled) = pod.agent_dials(to, at(family.neighbour, 7)) {
                let _server = accept(&app)?;
                drop(dialled);
                again += 1;
            }
            ensure!(begun.elapsed().as_secs() < 40, "only {again} more connections in 40 s");
        }
    }
    Ok(())
}
