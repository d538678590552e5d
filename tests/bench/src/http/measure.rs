//! One load on one layout, with the CPU time of everybody on the way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::certificates;
use super::layout::{Layout, Proxy};
use super::peer::Peer;
use crate::cpu;
use crate::generate::{Load, RoundTrip};
use crate::ground::{CLIENT_NODE, FAR, Ground, PLAIN_CLIENT, PLAIN_SERVER, SERVER_NODE};
use crate::load::HTTP_PORT;
use crate::report::Report;
use crate::scrape::{self, Recorded};

/// Connections of the loaded runs.
pub(super) const MANY: usize = 16;
/// Where everything runs, and clients and servers where the proxies have a core of their own.
const FIRST_CORE: usize = 0;

/// A load, and where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) connections: usize,
    pub(super) placement: Placement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// Client, proxies and server.
    OneCore,
    /// All proxies on one core, client and server on another.
    Split,
}

impl Step {
    pub(super) const ONE: Self = Self { connections: 1, placement: Placement::OneCore };
    pub(super) const LOADED: Self = Self { connections: MANY, placement: Placement::OneCore };
    pub(super) const ALL: [Self; 4] = [
        Self::ONE,
        Self::LOADED,
        Self { connections: 1, placement: Placement::Split },
        Self { connections: MANY, placement: Placement::Split },
    ];
}

/// How long each load runs in a round, in seconds.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Lengths {
    round_trip: f64,
    warm_up: f64,
    /// Connections that rest.
    pub(super) resting: usize,
}

impl Lengths {
    pub(super) const FULL: Self = Self { round_trip: 0.8, warm_up: 0.1, resting: 2000 };
    pub(super) const QUICK: Self = Self { round_trip: 0.3, warm_up: 0.05, resting: 1000 };
    /// Certificates, connections and code are there after it.
    const WARM_UP: Self = Self { round_trip: 0.2, warm_up: 0.0, resting: 0 };
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) layout: Layout,
    pub(super) step: Step,
    pub(super) report: Report,
    /// CPU time of all processes of the proxy; none without one.
    pub(super) proxies: Option<Duration>,
    /// CPU time of the server.
    pub(super) server: Duration,
}

/// The mesh, the peers, and what is known of them.
pub(super) struct Bench {
    pub(super) ground: Ground,
    peers: Vec<Peer>,
    pub(super) lengths: Lengths,
    cores: usize,
}

/// Where a layout's client runs, where it connects, and who works for it.
struct Way {
    client: String,
    to: SocketAddr,
    server: u32,
    proxies: Vec<u32>,
}

impl Bench {
    pub(super) fn new(mut ground: Ground, peers: &[Proxy], lengths: Lengths) -> Result<Self> {
        let files = certificates::issue(&ground.mesh.scratch().join("certificates"))?;
        let peers = peers
            .iter()
            .map(|proxy| Peer::start(*proxy, &mut ground.mesh, &ground.generator, &files))
            .collect::<Result<Vec<_>>>()?;
        let cores = std::thread::available_parallelism()?.get();
        Ok(Self { ground, peers, lengths, cores })
    }

    /// Runs every load once on a layout, and forgets it.
    pub(super) fn warm_up(&mut self, layout: Layout) -> Result<()> {
        Step::ALL.into_iter().try_for_each(|step| self.run(layout, step, Lengths::WARM_UP).map(drop))
    }

    pub(super) fn measure(&mut self, layout: Layout, step: Step) -> Result<Measurement> {
        self.run(layout, step, self.lengths)
    }

    fn run(&mut self, layout: Layout, step: Step, lengths: Lengths) -> Result<Measurement> {
        let way = self.way(layout)?;
        self.place(&way, step.placement)?;
        let closed = RoundTrip::closed(way.to, step.connections, lengths.round_trip);
        let load = Load::RoundTrip(RoundTrip { warm_up: lengths.warm_up, http: true, ..closed });
        let time = |processes: &[u32]| processes.iter().copied().map(cpu::time_of).sum::<Result<Duration>>();
        let (proxies_before, server_before) = (time(&way.proxies)?, cpu::time_of(way.server)?);
        let report = self.ground.generator.run(self.ground.mesh.pod(&way.client)?, &load, Some(FIRST_CORE))?;
        let proxies = time(&way.proxies)?.saturating_sub(proxies_before);
        let server = cpu::time_of(way.server)?.saturating_sub(server_before);
        let proxies = (layout != Layout::Direct).then_some(proxies);
        Ok(Measurement { layout, step, report, proxies, server })
    }

    fn place(&self, way: &Way, placement: Placement) -> Result<()> {
        let proxies = match placement {
            Placement::OneCore => FIRST_CORE,
            Placement::Split => (FIRST_CORE + 1) % self.cores,
        };
        cpu::pin(way.server, FIRST_CORE)?;
        way.proxies.iter().try_for_each(|process| cpu::pin(*process, proxies))
    }

    fn way(&mut self, layout: Layout) -> Result<Way> {
        let (client, to, server) = match layout {
            Layout::Direct => {
                let to = SocketAddr::new(self.ground.mesh.pod(PLAIN_SERVER)?.ipv4(), HTTP_PORT);
                (PLAIN_CLIENT.to_owned(), to, self.ground.server(PLAIN_SERVER)?)
            }
            Layout::Hop(Proxy::Weft) => self.by_service(PLAIN_SERVER)?,
            Layout::Pair(Proxy::Weft) => self.by_service(FAR)?,
            Layout::Hop(proxy) => {
                let peer = self.peer(proxy)?;
                (proxy.near_pod(), peer.hop, peer.server)
            }
            Layout::Pair(proxy) => {
                let peer = self.peer(proxy)?;
                (proxy.near_pod(), peer.pair, peer.server)
            }
        };
        let proxies = match layout {
            Layout::Direct => Vec::new(),
            Layout::Hop(proxy) | Layout::Pair(proxy) => self.processes(proxy)?.concat(),
        };
        Ok(Way { client, to, server, proxies })
    }

    fn by_service(&self, server: &str) -> Result<(String, SocketAddr, u32)> {
        Ok((Ground::client(1), self.ground.service(server, HTTP_PORT)?, self.ground.server(server)?))
    }

    fn peer(&self, proxy: Proxy) -> Result<&Peer> {
        self.peers.iter().find(|peer| peer.proxy == proxy).with_context(|| format!("{} does not run", proxy.name()))
    }

    /// The processes beside the client and those beside the server.
    pub(super) fn processes(&mut self, proxy: Proxy) -> Result<[Vec<u32>; 2]> {
        if proxy == Proxy::Weft {
            let near = scrape::agent_processes(self.ground.mesh.node(CLIENT_NODE)?)?;
            return Ok([near, scrape::agent_processes(self.ground.mesh.node(SERVER_NODE)?)?]);
        }
        let peer = self.peer(proxy)?;
        Ok([peer.near.clone(), peer.far.clone()])
    }

    /// What both agents have written down.
    pub(super) fn recorded(&mut self) -> Result<Recorded> {
        let mut recorded = Recorded::default();
        for node in [CLIENT_NODE, SERVER_NODE] {
            let own = Recorded::by(self.ground.mesh.node(node)?)?;
            recorded.requests += own.requests;
            recorded.dropped += own.dropped;
        }
        Ok(recorded)
    }

    /// Where a layout's client runs and where it connects.
    pub(super) fn ends(&mut self, layout: Layout) -> Result<(String, SocketAddr)> {
        self.way(layout).map(|way| (way.client, way.to))
    }
}
