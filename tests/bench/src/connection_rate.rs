//! New short connections at a fixed rate from several pods to one port, over both nodes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use weft_rig::{Mesh, Sandbox, wait};

use crate::generate::{Load, Short};
use crate::ground::{CLIENT_NODE, FAR, Ground, GroundPlan, SERVER_NODE};
use crate::load::{ECHO_PORT, Generator};
use crate::report::Report;
use crate::scrape::{self, Carried};

/// An agent that has not counted the last connections by then has lost them.
const COUNTING_LIMIT: Duration = Duration::from_secs(10);

/// A run in a mesh of its own.
#[derive(Debug, Clone, Args)]
pub struct ConnectionRate {
    /// New connections per second, of all clients together.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Client pods.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Worker threads of each agent.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Every TLS handshake in full.
    #[arg(long)]
    no_resumption: bool,
}

/// Who connects where, in a mesh that is there.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Captured pods, all on the same node.
    pub pods: Vec<String>,
    /// Their node.
    pub node: usize,
    /// The server's node.
    pub server_node: usize,
    /// An echo.
    pub to: SocketAddr,
}

/// What the clients and the agents saw.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// New connections per second as planned.
    pub rate: f64,
    /// From the first planned beginning to the last end.
    pub seconds: f64,
    /// What the clients saw; the latency counts from the planned beginning.
    pub clients: Report,
    /// What the agent of the clients' node carried.
    pub carried: Carried,
    /// The part of the handshakes that were resumptions.
    pub share_resumed: Option<f64>,
    /// CPU time of both agents for each connection, in microseconds.
    pub agents_cpu_us: f64,
}

/// Makes a mesh and measures it.
pub fn run(plan: &ConnectionRate, sandbox: &Sandbox) -> Result<Outcome> {
    let flags = if plan.no_resumption { vec!["--no-resumption".to_owned()] } else { Vec::new() };
    let ground =
        GroundPlan { clients: plan.clients, workers: plan.workers, agents: true, flags, ..GroundPlan::default() };
    let Ground { mut mesh, generator, .. } = Ground::lay(sandbox, &ground)?;
    let clients = Clients {
        pods: (1..=plan.clients).map(Ground::client).collect(),
        node: CLIENT_NODE,
        server_node: SERVER_NODE,
        to: SocketAddr::new(mesh.service_ipv4(FAR)?, ECHO_PORT),
    };
    measure(&mut mesh, &generator, &clients, plan.rate, plan.seconds)
}

/// Measures a mesh that is there.
pub fn measure(mesh: &mut Mesh, generator: &Generator, clients: &Clients, rate: f64, seconds: f64) -> Result<Outcome> {
    #[expect(clippy::cast_precision_loss, reason = "client pods are a handful")]
    let each = rate / clients.pods.len().max(1) as f64;
    let before = Carried::by(mesh.node(clients.node)?)?;
    let time_before = agents_time(mesh, clients)?;
    let load = Load::Connect(Short::open(clients.to, each, seconds));
    let pods = clients.pods.iter().map(|name| mesh.pod(name)).collect::<Result<Vec<_>>>()?;
    let report = generator.run_side_by_side(&pods, &load)?;
    let node = mesh.node(clients.node)?;
    let succeeded = report.completed;
    // What is missing then shows in the outcome; the run itself is not void.
    wait::until_true("the agent to count the last connections", COUNTING_LIMIT, || {
        Carried::by(node).is_ok_and(|now| now.since(before).connections >= succeeded)
    })
    .ok();
    let carried = Carried::by(node)?.since(before);
    let spent = agents_time(mesh, clients)?.saturating_sub(time_before);
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer connections than 2^52")]
    let agents_cpu_us = spent.as_secs_f64() * 1e6 / report.exchanges.max(1) as f64;
    Ok(Outcome {
        rate,
        seconds: report.seconds,
        share_resumed: carried.share_resumed(),
        carried,
        agents_cpu_us,
        clients: report,
    })
}

fn agents_time(mesh: &mut Mesh, clients: &Clients) -> Result<Duration> {
    let mut nodes = vec![clients.node, clients.server_node];
    nodes.dedup();
    nodes.into_iter().map(|node| scrape::agent_time(mesh.node(node)?)).sum()
}
