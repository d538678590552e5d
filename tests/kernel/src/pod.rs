//! A pod and what is around it: its apps, the agent's sockets inside it, and a neighbour outside.
//!
//! All pods have the same addresses, each in a namespace of its own, so that whatever takes an address
//! for an identity is found out.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use weft_abi::Reason;
use weft_agent::bpf::{CapturedPod, Listener, NetnsCookie, Role, SocketFacts, listen_in_capture_range};
use weft_agent::node::sysctl;

use crate::netlink;
use crate::node::{self, Node};
use crate::place::{MOMENT, Place, SOON, readable};

/// The pod's addresses and its neighbour's.
pub const POD4: &str = "10.88.0.2";
pub const POD6: &str = "fd88::2";
pub const NEIGHBOUR4: &str = "10.88.0.1";
pub const NEIGHBOUR6: &str = "fd88::1";

/// One of the agent's listeners.
#[derive(Debug)]
pub struct OpenListener {
    pub role: Role,
    pub worker: u32,
    pub socket: TcpListener,
    pub port: u16,
}

/// The pod.
#[derive(Debug)]
pub struct Pod {
    /// Its apps.
    pub app: Place,
    /// The agent, inside its namespace.
    pub agent: Place,
    /// A host that is no pod, reached through the pod's device.
    pub outside: Place,
    pub cookie: NetnsCookie,
    /// What the kernel was told about it.
    pub plan: CapturedPod,
    pub listeners: Vec<OpenListener>,
    pub facts: SocketFacts,
}

impl Pod {
    /// A captured pod whose agent has one worker.
    pub fn captured(node: &Node) -> Result<Self> {
        Self::captured_as(node, 1, |_| {})
    }

    /// A captured pod with other settings.
    pub fn captured_as(node: &Node, workers: u32, change: impl FnOnce(&mut CapturedPod)) -> Result<Self> {
        let mut pod = Self::uncaptured(node)?;
        change(&mut pod.plan);
        pod.open_listeners(workers)?;
        pod.enrol(node)?;
        Ok(pod)
    }

    /// A pod that the mesh does not know.
    pub fn uncaptured(node: &Node) -> Result<Self> {
        let app = Place::new(Some(&node.apps))?;
        let agent = app.beside(Some(&node.paths.agent_cgroup))?;
        let outside = Place::new(None)?;
        connect_by_veth(&app, &outside)?;
        let cookie = cookie_of(&app)?;
        let facts = node.datapath()?.socket_facts();
        Ok(Self { app, agent, outside, cookie, plan: node::plan(cookie), listeners: Vec::new(), facts })
    }

    /// Opens the listeners as the agent does.
    pub fn open_listeners(&mut self, workers: u32) -> Result<()> {
        self.open_listeners_for(workers, 1024)
    }

    /// The same with room for so many connections that wait.
    pub fn open_listeners_for(&mut self, workers: u32, backlog: i32) -> Result<()> {
        for worker in 0..workers {
            for role in [Role::Outbound, Role::Inbound] {
                let (socket, port) = self.agent.run(move || listen_in_capture_range(backlog))?;
                let socket = TcpListener::from(socket);
                self.listeners.push(OpenListener { role, worker, socket, port });
            }
        }
        Ok(())
    }

    /// Writes the pod's settings, as the agent does before it enrols.
    pub fn apply_settings(&self) -> Result<()> {
        self.app.run(|| sysctl::apply(Path::new("/proc/sys"))).context("write the pod's settings")?;
        Ok(())
    }

    /// Tells the kernel about the pod.
    pub fn enrol(&self, node: &Node) -> Result<()> {
        let datapath = node.datapath()?;
        let own: Vec<u16> = self.listeners.iter().map(|listener| listener.port).collect();
        let cookie = self.cookie;
        let seeded = inside(&self.app, || datapath.seed_open_ports(cookie, &own))??;
        let listeners: Vec<Listener<'_>> = self
            .listeners
            .iter()
            .map(|open| Listener { role: open.role, worker: open.worker, socket: open.socket.as_fd(), port: open.port })
            .collect();
        Ok(datapath.enrol(&self.plan, self.app.as_fd(), &listeners, &seeded)?)
    }

    /// Tells the kernel about a change.
    pub fn update(&mut self, node: &Node, change: impl FnOnce(&mut CapturedPod)) -> Result<()> {
        change(&mut self.plan);
        Ok(node.datapath()?.update(&self.plan)?)
    }

    /// The next connection that one of the agent's listeners of this role takes: which worker, the
    /// connection, the peer.
    pub fn agent_accepts(&self, role: Role) -> Result<(u32, TcpStream, SocketAddr)> {
        let listeners: Vec<&OpenListener> = self.listeners.iter().filter(|open| open.role == role).collect();
        let ready = readable(listeners.iter().map(|open| open.socket.as_fd()), SOON)?;
        let open = listeners[ready.context("the agent's listener got no connection")?];
        let (stream, peer) = open.socket.accept()?;
        stream.set_nonblocking(false)?;
        Ok((open.worker, stream, canonical(peer)))
    }

    /// Fails if any of the agent's listeners gets a connection.
    pub fn agent_hears_nothing(&self) -> Result<()> {
        match readable(self.listeners.iter().map(|open| open.socket.as_fd()), MOMENT)? {
            None => Ok(()),
            Some(at) => bail!("the agent's {:?} listener got a connection", self.listeners[at].role),
        }
    }

    /// Connects an app and expects the agent to take the connection and to know where it was going.
    pub fn expect_captured(&self, to: SocketAddr) -> Result<(TcpStream, TcpStream)> {
        let client = self.app.connect(to).with_context(|| format!("connect to {to}"))?;
        let (_, server, _) = self.agent_accepts(Role::Outbound)?;
        let asked = self.facts.original_destination(&server).map(canonical);
        if asked != Some(canonical(to)) {
            bail!("the agent was told {asked:?} and not {to}");
        }
        Ok((client, server))
    }

    /// The agent's connection to an app, for a client.
    pub fn agent_dials(&self, to: SocketAddr, client: SocketAddr) -> Result<TcpStream> {
        let socket = self.agent.tcp(to)?;
        self.facts.set_client(&socket, client)?;
        socket.connect_timeout(&to.into(), SOON).with_context(|| format!("the agent dials {to}"))?;
        Ok(socket.into())
    }

    /// How often this reason has decided.
    pub fn count(&self, node: &Node, reason: Reason) -> Result<u64> {
        let counters = node.datapath()?.counters(self.cookie)?;
        Ok(counters.iter().find(|(other, _)| *other == reason).map_or(0, |(_, count)| *count))
    }

    /// Fails unless this reason has decided so often.
    pub fn expect_count(&self, node: &Node, reason: Reason, count: u64) -> Result<()> {
        let found = self.count(node, reason)?;
        if found != count {
            bail!("{:?} was counted {found} times and not {count}", reason.name());
        }
        Ok(())
    }

    /// Fails unless a connection between SYN and accept is counted so often, soon.
    pub fn expect_in_flight(&self, node: &Node, count: u64) -> Result<()> {
        eventually(&format!("{count} connections in flight"), || Ok(node.datapath()?.in_flight(self.cookie)? == count))
    }
}

/// Waits for a condition.
pub fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = std::time::Instant::now();
    while !holds()? {
        if begun.elapsed() > SOON {
            bail!("there never was: {what}");
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    Ok(())
}

/// An address and a port.
pub fn at(address: &str, port: u16) -> SocketAddr {
    match address.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port),
        Err(error) => panic!("{address}: {error}"),
    }
}

/// An IPv4 address in IPv6 form is an IPv4 address.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Fails unless the connection was refused, and says what happened instead.
pub fn expect_refused(outcome: io::Result<TcpStream>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => bail!("it failed, but differently: {error}"),
        Ok(_) => bail!("it was not refused"),
    }
}

/// Runs something that borrows on a thread inside the namespace.
fn inside<T: Send>(place: &Place, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = format!("/proc/self/fd/{}", place.as_fd().as_raw_fd());
    weft_rig::netns::inside(Path::new(&path), work)
}

/// The number of a place's network namespace.
pub fn cookie_of(place: &Place) -> Result<NetnsCookie> {
    let path = format!("/proc/self/fd/{}", place.as_fd().as_raw_fd());
    let netns = weft_agent::node::netns::Netns::open(Path::new(&path)).context("open a namespace")?;
    Ok(netns.cookie())
}

fn connect_by_veth(app: &Place, outside: &Place) -> Result<()> {
    let peer = outside.as_fd().try_clone_to_owned()?;
    app.run(move || -> Result<()> {
        netlink::add_veth("eth0", "pod0", &peer.into())?;
        netlink::add_address("eth0", POD4.parse()?, 24)?;
        netlink::add_address("eth0", POD6.parse()?, 64)?;
        netlink::set_up("eth0")
    })?;
    outside.run(|| -> Result<()> {
        netlink::add_address("pod0", NEIGHBOUR4.parse()?, 24)?;
        netlink::add_address("pod0", NEIGHBOUR6.parse()?, 64)?;
        netlink::set_up("pod0")?;
        for address in [node::VIP4, node::WORLD4] {
            netlink::add_address("lo", address.parse()?, 32)?;
        }
        for address in [node::VIP6, node::WORLD6] {
            netlink::add_address("lo", address.parse()?, 128)?;
        }
        Ok(())
    })?;
    app.run(|| -> Result<()> {
        netlink::add_default_route("eth0", NEIGHBOUR4.parse()?)?;
        netlink::add_default_route("eth0", NEIGHBOUR6.parse()?)
    })
}

/// The same parts of the world in one address family.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub vip: &'static str,
    pub world: &'static str,
    pub pod: &'static str,
    pub neighbour: &'static str,
    pub loopback: &'static str,
    /// Listening there is listening everywhere.
    pub any: &'static str,
}

/// IPv4 and IPv6.
pub const FAMILIES: [Family; 2] = [
    Family {
        vip: node::VIP4,
        world: node::WORLD4,
        pod: POD4,
        neighbour: NEIGHBOUR4,
        loopback: "127.0.0.1",
        any: "0.0.0.0",
    },
    Family { vip: node::VIP6, world: node::WORLD6, pod: POD6, neighbour: NEIGHBOUR6, loopback: "::1", any: "::" },
];
