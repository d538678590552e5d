//! The mesh that is measured: clients on the first node, a server on each node, both also uncaptured.
//!
//! The captured namespace is strict, so nothing that is measured as meshed can have been plaintext.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;
use weft_rig::{Binaries, Mesh, PodPlan, Sandbox, ServicePlan};

use crate::load::{ECHO_PORT, GREET_PORT, Generator, HTTP_PORT, SINK_PORT, SOURCE_PORT};

/// The captured namespace.
const MESHED: &str = "meshed";
/// The server on the clients' own node.
pub(crate) const NEAR: &str = "meshed/near";
/// The server on the other node.
pub(crate) const FAR: &str = "meshed/far";
/// The uncaptured client.
pub(crate) const PLAIN_CLIENT: &str = "plain/client";
/// The uncaptured server on the other node.
pub(crate) const PLAIN_SERVER: &str = "plain/server";
/// The node of every client.
pub(crate) const CLIENT_NODE: usize = 1;
/// The node of the far servers.
pub(crate) const SERVER_NODE: usize = 2;

/// What the mesh is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroundPlan {
    /// Captured client pods.
    pub(crate) clients: usize,
    /// Worker threads of each agent.
    pub(crate) workers: usize,
    /// Whether there are agents at all.
    pub(crate) agents: bool,
    /// The agents' program; by default the one beside this program.
    pub(crate) agent: Option<PathBuf>,
    /// Further flags of the agents.
    pub(crate) flags: Vec<String>,
    /// Uncaptured pods for whoever else is measured: name and node.
    pub(crate) others: Vec<(String, usize)>,
}

/// A running mesh with its servers.
pub(crate) struct Ground {
    pub(crate) mesh: Mesh,
    pub(crate) generator: Generator,
    /// The process of each server.
    servers: BTreeMap<&'static str, u32>,
}

impl Ground {
    pub(crate) fn lay(sandbox: &Sandbox, plan: &GroundPlan) -> Result<Self> {
        let generator = Generator::beside_this_program()?;
        let mut mesh = plan_mesh(plan)?.start(sandbox)?;
        let mut servers = BTreeMap::new();
        for name in [NEAR, FAR, PLAIN_SERVER] {
            servers.insert(name, generator.serve(mesh.pod_mut(name)?)?);
        }
        Ok(Self { mesh, generator, servers })
    }

    /// The name of a captured client, counted from 1.
    pub(crate) fn client(number: usize) -> String {
        format!("{MESHED}/client{number}")
    }

    /// The process of a server.
    pub(crate) fn server(&self, name: &str) -> Result<u32> {
        self.servers.get(name).copied().with_context(|| format!("{name} is no server"))
    }

    /// A port of a captured server, as applications dial it: by its Service.
    pub(crate) fn service(&self, name: &str, port: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.mesh.service_ipv4(name)?, port))
    }
}

fn plan_mesh(plan: &GroundPlan) -> Result<weft_rig::MeshPlan> {
    let mut mesh = Mesh::two_nodes()
        .namespace("plain", &[])
        .namespace(MESHED, &[("weft.dev/capture", "enabled")])
        .object(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "AuthenticationPolicy",
            "metadata": {"name": "strict", "namespace": MESHED},
            "spec": {
                "targetRefs": [{"kind": "Pod"}],
                "server": {"mtls": "Strict"},
            },
        }))
        .pod(PodPlan::named(PLAIN_CLIENT).on(CLIENT_NODE))
        .pod(PodPlan::named(PLAIN_SERVER).on(SERVER_NODE).label("app", "server"))
        .pod(PodPlan::named(NEAR).on(CLIENT_NODE).account("near").label("app", "near"))
        .pod(PodPlan::named(FAR).on(SERVER_NODE).account("far").label("app", "far"))
        .service(service(NEAR, "near"))
        .service(service(FAR, "far"))
        .service(service(PLAIN_SERVER, "server"))
        .workers(plan.workers);
    for number in 1..=plan.clients {
        mesh = mesh.pod(PodPlan::named(&Ground::client(number)).on(CLIENT_NODE).account("client"));
    }
    for (name, node) in &plan.others {
        mesh = mesh.pod(PodPlan::named(name).on(*node));
    }
    if plan.agents {
        let mut binaries = Binaries::beside_this_program()?;
        if let Some(agent) = &plan.agent {
            binaries.agent.clone_from(agent);
        }
        mesh = mesh.controller(&binaries).agents();
    }
    Ok(plan.flags.iter().fold(mesh, |mesh, flag| mesh.agent_flag(flag)))
}

fn service(name: &str, application: &str) -> ServicePlan {
    let ports =
        [("echo", ECHO_PORT), ("greet", GREET_PORT), ("sink", SINK_PORT), ("source", SOURCE_PORT), ("http", HTTP_PORT)];
    let plan = ServicePlan::named(name).selects("app", application);
    ports.into_iter().fold(plan, |plan, (name, port)| plan.port(name, port, port))
}
