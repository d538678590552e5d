//! What a person and `weft` may ask an agent: HTTP/1.1 and JSON over a Unix socket that only root opens.
//!
//! Everything answered is read from the same snapshot, records and status that the data path and the
//! control side publish; nothing here changes anything. Metrics and readiness have a TCP listener of
//! their own that answers nothing else.

mod asked;
mod callers;
mod describe;
pub mod explain;
pub mod finding;
pub mod question;
mod requests;
mod serve;
mod status;
mod story;
mod tell;
pub mod why;

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tokio::sync::watch;
use weft_proto::names::NodeName;

pub use asked::AskedRequest;
pub use serve::{NODE_FILE, SOCKET, bind, serve, serve_metrics};
pub use status::{
    CertificateStatus, ControllerStatus, ForeignStatus, HookStatus, KernelStatus, NodeStatus, NodeView, ObservedStatus,
    PodCounters, PodStatus, RootStatus, WorkerStatus,
};

use crate::bpf::Sightings;
use crate::discovery::Snapshots;
use crate::identity::{CertificateFacts, Credentials, Membership};
use crate::model::Snapshot;
use crate::telemetry::Telemetry;

/// Everything that an answer is made of.
#[derive(Debug, Clone)]
pub struct AdminState {
    pub node: NodeName,
    pub snapshots: Snapshots,
    pub credentials: Credentials,
    /// None where no node certificate is used (tests).
    pub membership: Option<Membership>,
    pub telemetry: Telemetry,
    /// What the kernel has seen of observed pods; empty until the kernel side is open.
    pub sightings: Arc<OnceLock<Sightings>>,
    pub status: watch::Receiver<NodeStatus>,
}

impl AdminState {
    fn view(&self, snapshot: &Snapshot) -> NodeView {
        let applied = self.snapshots.applied();
        let applied = applied.borrow();
        NodeView {
            status: self.status.borrow().clone(),
            snapshot_applied: applied.at,
            nacks: applied.nacks.clone(),
            certificates: self.certificates(snapshot),
            roots: snapshot.roots.iter().filter_map(|root| RootStatus::of(root)).collect(),
        }
    }

    /// The node's own first.
    fn certificates(&self, snapshot: &Snapshot) -> Vec<CertificateStatus> {
        let own = self.membership.as_ref().map(|membership| self.certificate(snapshot, &membership.facts()));
        let workloads = self.credentials.facts();
        own.into_iter().chain(workloads.iter().map(|facts| self.certificate(snapshot, facts))).collect()
    }

    fn certificate(&self, snapshot: &Snapshot, facts: &CertificateFacts) -> CertificateStatus {
        let name = match &facts.workload {
            None => self.node.to_string(),
            Some(uid) => snapshot.workloads.get(uid).map_or_else(|| uid.to_string(), |row| row.name.to_string()),
        };
        CertificateStatus {
            uid: facts.workload.clone(),
            name,
            identity: facts.identity.clone(),
            not_after: facts.not_after.and_then(|end| Timestamp::try_from(end).ok()),
            last_error: facts.last_error.clone(),
        }
    }
}
