//! The agents' memory: idle, with many resting connections, and after these are closed, cycle by cycle.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use weft_rig::{Mesh, Sandbox, wait};

use crate::generate::Hold;
use crate::ground::{CLIENT_NODE, FAR, Ground, GroundPlan, SERVER_NODE};
use crate::load::{ECHO_PORT, Generator, Holding};
use crate::report::Report;

/// Connections may rest this much longer than planned before the generator ends them itself.
const REST_MARGIN: f64 = 120.0;

/// A run in a mesh of its own.
#[derive(Debug, Clone, Args)]
pub struct Memory {
    /// Connections from one pod to one port.
    #[arg(long, default_value_t = 2000)]
    connections: usize,
    /// Seconds that they rest before the memory is read.
    #[arg(long, default_value_t = 10.0)]
    rest: f64,
    /// Seconds after they are closed before the memory is read again.
    #[arg(long, default_value_t = 60.0)]
    settle: f64,
    /// How often.
    #[arg(long, default_value_t = 3)]
    cycles: usize,
    /// Worker threads of each agent.
    #[arg(long, default_value_t = 2)]
    workers: usize,
}

/// What is held, in a mesh that is there.
#[derive(Debug, Clone)]
pub struct Held {
    /// The captured pod that connects.
    pub client: String,
    /// An echo.
    pub to: SocketAddr,
    /// The nodes whose agents are looked at.
    pub nodes: Vec<usize>,
    /// How many connections, each of which moves 1 KiB each way and rests.
    pub connections: usize,
    /// How long they rest before the memory is read; as long as the agents do before the first one.
    pub rest: Duration,
    /// How long after they are closed it is read again.
    pub settle: Duration,
    /// How often.
    pub cycles: usize,
}

/// Resident memory in bytes; every list has one value for each node.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// At rest, before the first connection.
    pub idle: Vec<u64>,
    /// The connections that were asked for.
    pub connections: usize,
    /// Each cycle.
    pub cycles: Vec<Cycle>,
    /// What a resting connection costs, by the first cycle.
    pub per_connection: Vec<u64>,
}

/// One cycle.
#[derive(Debug, Clone, Serialize)]
pub struct Cycle {
    /// While the connections rest.
    pub held: Vec<u64>,
    /// After they were closed.
    pub after: Vec<u64>,
    /// What the client saw.
    pub client: Report,
}

/// Makes a mesh and measures it.
pub fn run(plan: &Memory, sandbox: &Sandbox) -> Result<Outcome> {
    let ground = GroundPlan { clients: 1, workers: plan.workers, agents: true, ..GroundPlan::default() };
    let Ground { mut mesh, generator, .. } = Ground::lay(sandbox, &ground)?;
    let held = Held {
        client: Ground::client(1),
        to: SocketAddr::new(mesh.service_ipv4(FAR)?, ECHO_PORT),
        nodes: vec![CLIENT_NODE, SERVER_NODE],
        connections: plan.connections,
        rest: Duration::from_secs_f64(plan.rest),
        settle: Duration::from_secs_f64(plan.settle),
        cycles: plan.cycles,
    };
    measure(&mut mesh, &generator, &held)
}

/// Measures a mesh that is there.
pub fn measure(mesh: &mut Mesh, generator: &Generator, plan: &Held) -> Result<Outcome> {
    // An agent that has just enrolled its pods still holds what only its start needed.
    wait::throughout("being idle", plan.rest, || Ok(()))?;
    let idle = resident(mesh, &plan.nodes)?;
    let cycles = (0..plan.cycles).map(|_| cycle(mesh, generator, plan)).collect::<Result<Vec<_>>>()?;
    let per_connection = cycles.first().map(|cycle| each(&cycle.held, &idle, plan.connections)).unwrap_or_default();
    Ok(Outcome { idle, connections: plan.connections, cycles, per_connection })
}

fn cycle(mesh: &mut Mesh, generator: &Generator, plan: &Held) -> Result<Cycle> {
    let seconds = plan.rest.as_secs_f64() + REST_MARGIN;
    let load = Hold { to: plan.to, connections: plan.connections, bytes: 1024, seconds, http: false };
    let mut holding: Holding = generator.hold(mesh.pod(&plan.client)?, &load)?;
    wait::throughout("resting", plan.rest, || holding.expect_running())?;
    let held = resident(mesh, &plan.nodes)?;
    let client = holding.end()?;
    let processes: Vec<_> =
        plan.nodes.iter().map(|node| Ok(mesh.node(*node)?.serving_pids())).collect::<Result<_>>()?;
    wait::throughout("being the same agent", plan.settle, || {
        for (node, processes) in plan.nodes.iter().zip(&processes) {
            ensure!(mesh.node(*node)?.serving_pids() == *processes, "the agent of node {node} is another process");
        }
        Ok(())
    })?;
    Ok(Cycle { held, after: resident(mesh, &plan.nodes)?, client })
}

fn resident(mesh: &mut Mesh, nodes: &[usize]) -> Result<Vec<u64>> {
    nodes.iter().map(|node| mesh.node(*node)?.agent_resident_bytes()).collect()
}

fn each(held: &[u64], idle: &[u64], connections: usize) -> Vec<u64> {
    let connections = (connections as u64).max(1);
    held.iter().zip(idle).map(|(held, idle)| held.saturating_sub(*idle) / connections).collect()
}
