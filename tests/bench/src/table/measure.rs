//! One load over one path, with the CPU time of everybody on it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use weft_rig::wait;

use super::Path;
use crate::cpu;
use crate::generate::{Bulk, Load, RoundTrip, Short};
use crate::ground::{CLIENT_NODE, FAR, Ground, NEAR, PLAIN_CLIENT, PLAIN_SERVER, SERVER_NODE};
use crate::load::{ECHO_PORT, GREET_PORT, SINK_PORT};
use crate::report::Report;
use crate::scrape::{self, Carried};

/// Connections of the loaded round trip.
pub(super) const MANY: usize = 16;
/// New connections per second: the same on every path, and far below what any of them can do.
pub(super) const CONNECT_RATE: f64 = 400.0;
/// Where everything runs, and the first node's part of what is spread over two.
const FIRST_CORE: usize = 0;
/// Agents give back what their start or a crowd needed after some seconds of rest.
const REST: Duration = Duration::from_secs(10);

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    Greeting,
    RoundTripOne,
    RoundTripMany,
    Bulk,
}

impl Step {
    pub(super) const ALL: [Self; 5] =
        [Self::Connect, Self::Greeting, Self::RoundTripOne, Self::RoundTripMany, Self::Bulk];
}

/// How long each load runs in a round, in seconds.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Lengths {
    short: f64,
    round_trip: f64,
    bulk: f64,
    warm_up: f64,
}

impl Lengths {
    pub(super) const FULL: Self = Self { short: 1.0, round_trip: 1.0, bulk: 1.2, warm_up: 0.1 };
    pub(super) const QUICK: Self = Self { short: 0.4, round_trip: 0.3, bulk: 0.4, warm_up: 0.05 };
    /// Certificates, sessions and code are there after it.
    const WARM_UP: Self = Self { short: 0.2, round_trip: 0.1, bulk: 0.2, warm_up: 0.0 };
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) path: Path,
    pub(super) step: Step,
    pub(super) report: Report,
    /// CPU time of all agents.
    pub(super) agents: Duration,
    /// CPU time of the server.
    pub(super) server: Duration,
}

/// The mesh and what is known of it.
pub(super) struct Bench {
    ground: Ground,
    lengths: Lengths,
    cores: usize,
}

impl Bench {
    pub(super) fn new(ground: Ground, lengths: Lengths) -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        Ok(Self { ground, lengths, cores })
    }

    /// Runs every load once over a path, and forgets it.
    pub(super) fn warm_up(&mut self, path: Path) -> Result<()> {
        for step in Step::ALL {
            self.run(path, step, Lengths::WARM_UP)?;
        }
        Ok(())
    }

    pub(super) fn measure(&mut self, path: Path, step: Step) -> Result<Measurement> {
        self.run(path, step, self.lengths)
    }

    fn run(&mut self, path: Path, step: Step, lengths: Lengths) -> Result<Measurement> {
        self.place(path, step)?;
        let load = self.load(path, step, lengths)?;
        let server = self.server_process(path)?;
        let (agents_before, server_before) = (self.agents_time()?, cpu::time_of(server)?);
        let report = self.ground.generator.run(self.ground.mesh.pod(&client(path))?, &load, Some(FIRST_CORE))?;
        let agents = self.agents_time()?.saturating_sub(agents_before);
        let server = cpu::time_of(server)?.saturating_sub(server_before);
        Ok(Measurement { path, step, report, agents, server })
    }

    /// Everything on one core where a wake-up of another core would be most of what is measured. Bulk keeps two
    /// cores busy, so there each end has its own.
    fn place(&mut self, path: Path, step: Step) -> Result<()> {
        let second = if step == Step::Bulk { (FIRST_CORE + 1) % self.cores } else { FIRST_CORE };
        cpu::pin(self.server_process(path)?, second)?;
        for (node, core) in [(CLIENT_NODE, FIRST_CORE), (SERVER_NODE, second)] {
            for process in scrape::agent_processes(self.ground.mesh.node(node)?)? {
                cpu::pin(process, core)?;
            }
        }
        Ok(())
    }

    fn load(&self, path: Path, step: Step, lengths: Lengths) -> Result<Load> {
        let warm_up = lengths.warm_up;
        let round_trip = |to, connections| {
            Load::RoundTrip(RoundTrip { warm_up, ..RoundTrip::closed(to, connections, lengths.round_trip) })
        };
        let short = |to| Short { warm_up, ..Short::open(to, CONNECT_RATE, lengths.short) };
        let echo = self.address(path, ECHO_PORT)?;
        Ok(match step {
            Step::Connect => Load::Connect(short(echo)),
            Step::Greeting => Load::Greeting(short(self.address(path, GREET_PORT)?)),
            Step::RoundTripOne => round_trip(echo, 1),
            Step::RoundTripMany => round_trip(echo, MANY),
            Step::Bulk => {
                let to = self.address(path, SINK_PORT)?;
                Load::Bulk(Bulk { to, seconds: lengths.bulk, direction: crate::generate::Direction::Send })
            }
        })
    }

    fn address(&self, path: Path, port: u16) -> Result<SocketAddr> {
        match path {
            // What a client without a mesh would do at best: no Service, so no address translation.
            Path::Direct => Ok(SocketAddr::new(self.ground.mesh.pod(PLAIN_SERVER)?.ipv4(), port)),
            Path::OneNode | Path::TwoNode => self.ground.service(server(path), port),
        }
    }

    fn server_process(&self, path: Path) -> Result<u32> {
        self.ground.server(server(path))
    }

    fn agents_time(&mut self) -> Result<Duration> {
        [CLIENT_NODE, SERVER_NODE].into_iter().map(|node| scrape::agent_time(self.ground.mesh.node(node)?)).sum()
    }

    /// Resident memory of the agents of the first and the second node at rest, in bytes; empty without agents.
    pub(super) fn agents_resident(&mut self) -> Result<Vec<u64>> {
        if !self.ground.mesh.node(CLIENT_NODE)?.serving_pids().is_empty() {
            wait::throughout("the agents' rest", REST, || Ok(()))?;
        }
        let mut all = Vec::new();
        for node in [CLIENT_NODE, SERVER_NODE] {
            let node = self.ground.mesh.node(node)?;
            if !node.serving_pids().is_empty() {
                all.push(node.agent_resident_bytes()?);
            }
        }
        Ok(all)
    }

    /// What the clients' agent has carried so far; nothing without an agent.
    pub(super) fn carried(&mut self) -> Result<Carried> {
        let node = self.ground.mesh.node(CLIENT_NODE)?;
        if node.serving_pids().is_empty() { Ok(Carried::default()) } else { Carried::by(node) }
    }
}

fn client(path: Path) -> String {
    match path {
        Path::Direct => PLAIN_CLIENT.to_owned(),
        Path::OneNode | Path::TwoNode => Ground::client(1),
    }
}

fn server(path: Path) -> &'static str {
    match path {
        Path::Direct => PLAIN_SERVER,
        Path::OneNode => NEAR,
        Path::TwoNode => FAR,
    }
}
