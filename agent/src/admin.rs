//! What a person and `weft` may ask an agent: HTTP/1.1 and JSON over a Unix socket that only root opens.
//!
//! Everything answered is read from the same snapshot, records and status that the data path and the
//! control side publish; nothing here changes anything. Metrics and readiness have a TCP listener of
//! their own that answers nothing else.

mod status;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use weft_proto::names::NodeName;

pub use status::{
    CertificateStatus, ControllerStatus, HookStatus, KernelStatus, NackStatus, NodeStatus,
    PodCounters, PodStatus, WorkerStatus,
};

use crate::model::Snapshot;
use crate::telemetry::Telemetry;

/// Everything that an answer is made of.
#[derive(Debug, Clone)]
pub struct AdminState {
    pub node: NodeName,
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    pub telemetry: Telemetry,
    pub status: watch::Receiver<NodeStatus>,
}
