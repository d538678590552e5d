//! `GET /status` on a Unix socket: the state of the mesh for people and for `weft`.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use weft_proto::names::TrustDomain;

use super::Services;
use crate::agents::Nack;
use crate::ca::RootReport;
use crate::source::Defect;
use crate::status::PolicyReport;
use crate::translate::Finding;
use crate::trouble::Troubles;

/// Everything that the controller knows about itself and its agents.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    pub version: &'static str,
    pub trust_domain: String,
    /// It tells agents what to do; otherwise another controller does.
    pub leads: bool,
    pub generation: u64,
    pub lease_ms: u128,
    /// Whom agents believe, and how far the new root is where one takes the other's place.
    pub identity: RootReport,
    pub objects: usize,
    /// Microseconds that the last translation took.
    pub translation_micros: u128,
    /// What could not be read, with file, line, object and field.
    pub errors: Vec<Defect>,
    /// What was read well and may still surprise.
    pub findings: Vec<Finding>,
    pub policies: Vec<Policy>,
    pub agents: Vec<AgentReport>,
}

#[derive(Debug, Serialize)]
pub struct Policy {
    pub policy: String,
    pub targets: Vec<PolicyReport>,
}

#[derive(Debug, Serialize)]
pub struct AgentReport {
    pub node: String,
    /// Heard within the last lease.
    pub live: bool,
    /// Its permissive, fail-open workloads may be reached in plaintext.
    pub plaintext_permitted: bool,
    pub heard_ms_ago: u128,
    pub version: String,
    pub protocol_version: u32,
    pub features: Vec<String>,
    pub enrolled: usize,
    pub not_enrolled: Vec<NotEnrolled>,
    pub snapshot: String,
    /// The newest generation that it has acknowledged; laggards have a smaller one than the mesh.
    pub generation: u64,
    pub nacks: Vec<Nack>,
}

#[derive(Debug, Serialize)]
pub struct NotEnrolled {
    pub workload: String,
    pub reason: String,
}

/// What is known: at first only what keeps the start waiting.
#[derive(Debug, Clone)]
pub struct Desk {
    trust_domain: TrustDomain,
    lease: Duration,
    troubles: Troubles,
    services: Arc<OnceLock<Services>>,
}

impl Desk {
    #[must_use]
    pub fn new(trust_domain: TrustDomain, lease: Duration, troubles: Troubles) -> Self {
        Self { trust_domain, lease, troubles, services: Arc::default() }
    }

    /// From now on it answers for these.
    pub fn open(&self, services: Services) {
        // There is one start.
        drop(self.services.set(services));
    }

    fn report(&self) -> StatusReport {
        self.services.get().map_or_else(|| self.beginning(), report)
    }

    fn beginning(&self) -> StatusReport {
        StatusReport {
            version: env!("CARGO_PKG_VERSION"),
            trust_domain: self.trust_domain.to_string(),
            leads: false,
            generation: 0,
            lease_ms: self.lease.as_millis(),
            identity: RootReport::default(),
            objects: 0,
            translation_micros: 0,
            errors: self.troubles.all(),
            findings: Vec::new(),
            policies: Vec::new(),
            agents: Vec::new(),
        }
    }
}

/// Serves until `stop`.
pub async fn serve(listener: UnixListener, path: PathBuf, desk: Desk, stop: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new().route("/status", get(status)).with_state(desk);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("the admin socket failed")?;
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Whoever holds the socket is the one controller of its state directory, which keeps others away from it.
/// A socket that nobody answers on any more is left from a controller that was killed.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if path.exists() {
        anyhow::ensure!(
            std::os::unix::net::UnixStream::connect(path).is_err(),
            "another controller answers on {}: one state directory serves one controller",
            path.display()
        );
        std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .with_context(|| format!("cannot close {} to others", path.display()))?;
    Ok(listener)
}

async fn status(State(desk): State<Desk>) -> Json<StatusReport> {
    Json(desk.report())
}

fn report(services: &Services) -> StatusReport {
    let mesh = &services.mesh;
    let reading = mesh.readings.borrow().clone();
    let told = mesh.told.borrow().clone();
    let lease = mesh.agents().lease();
    let agents = agents(services);
    let policies: BTreeMap<_, _> = told.policies.iter().collect();
    let policies = policies.into_iter().map(|(key, targets)| Policy {
        policy: key.to_string(),
        targets: targets.iter().filter(|report| report.is_worth_telling()).cloned().collect(),
    });
    StatusReport {
        version: env!("CARGO_PKG_VERSION"),
        trust_domain: services.trust_domain().to_string(),
        leads: services.standing.borrow().leads,
        generation: mesh.published.borrow().generation,
        lease_ms: lease.as_millis(),
        identity: services.authority.report(),
        objects: reading.objects.len(),
        translation_micros: told.translation_micros,
        errors: [services.troubles.all(), reading.defects.clone()].concat(),
        findings: told.findings.iter().cloned().collect(),
        policies: policies.collect(),
        agents,
    }
}

fn agents(services: &Services) -> Vec<AgentReport> {
    let now = Instant::now();
    let agents = services.mesh.agents();
    agents
        .iter()
        .map(|(node, agent)| AgentReport {
            node: node.to_string(),
            live: agents.is_live(agent, now),
            plaintext_permitted: agents.is_marked(node),
            heard_ms_ago: now.duration_since(agent.heard).as_millis(),
            version: agent.version.clone(),
            protocol_version: agent.protocol_version,
            features: agent.features.clone(),
            enrolled: agent.workloads.len(),
            not_enrolled: agent
                .failed
                .iter()
                .map(|(workload, reason)| NotEnrolled { workload: workload.clone(), reason: reason.clone() })
                .collect(),
            snapshot: agent.snapshot.clone(),
            generation: agent.acknowledged,
            nacks: agent.nacks.clone(),
        })
        .collect()
}
