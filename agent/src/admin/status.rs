//! The node's state as the composition root sees it, published for people.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use weft_proto::names::{Identity, WorkloadUid};

/// Everything about this node that is not in the snapshot. Published whole through a watch channel.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NodeStatus {
    /// A snapshot is held, the hooks are attached, every worker serves.
    pub ready: bool,
    pub draining: bool,
    /// When the snapshot in use was published.
    pub snapshot_applied: Option<Timestamp>,
    /// Resources of the snapshot that could not be read; their safe reading is in force.
    pub nacks: Vec<NackStatus>,
    /// This node's pods that are meant to be captured, whether they are or not.
    pub pods: Vec<PodStatus>,
    pub controller: ControllerStatus,
    /// One for each workload that wants a certificate, and the node's own.
    pub certificates: Vec<CertificateStatus>,
    pub workers: Vec<WorkerStatus>,
    pub kernel: KernelStatus,
}

#[derive(Debug, Clone, Serialize)]
pub struct PodStatus {
    pub uid: WorkloadUid,
    /// `namespace/name`.
    pub name: String,
    pub enrolled: bool,
    /// Why it is not enrolled, in a sentence.
    pub reason: Option<String>,
    pub counters: PodCounters,
}

/// What the kernel counted for one pod since it was enrolled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PodCounters {
    /// Connects handed to the agent.
    pub outbound_captured: u64,
    /// Connects that the mesh does not concern: outside its networks, excluded, loopback.
    pub outbound_passed: u64,
    /// Connects refused because the service port has no usable endpoint.
    pub outbound_refused_no_endpoint: u64,
    /// Connects that went direct because no worker lives (fails open).
    pub outbound_direct_agent_down: u64,
    /// Connects refused because no worker lives (fails closed).
    pub outbound_refused_agent_down: u64,
    /// Connects refused because a map was full or the pod's share of it spent.
    pub outbound_refused_limit: u64,
    /// Connections from elsewhere handed to the agent.
    pub inbound_captured: u64,
    /// Connections to ports that nobody listens on, answered by the kernel as always.
    pub inbound_closed_port: u64,
    /// Connections that reached the application directly because no worker lives (fails open).
    pub inbound_direct_agent_down: u64,
    /// Connections dropped because no worker lives (fails closed, or the port is strict).
    pub inbound_refused_agent_down: u64,
    /// MPTCP sockets refused, so that the runtime falls back to TCP.
    pub mptcp_refused: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct ControllerStatus {
    pub connected: bool,
    /// `host:port`.
    pub address: String,
    /// Since when it has been connected or away.
    pub since: Option<Timestamp>,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct CertificateStatus {
    /// None for the node's own certificate.
    pub uid: Option<WorkloadUid>,
    /// `namespace/name` of the pod, or the node's name.
    pub name: String,
    pub identity: Option<Identity>,
    /// None while there is no certificate.
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    /// Why the last attempt to get or renew it failed.
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    pub index: u32,
    /// Its heartbeat is fresh.
    pub alive: bool,
    /// Milliseconds since the last heartbeat.
    pub heartbeat_age_milliseconds: u64,
    /// Connections that it carries now.
    pub connections: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct KernelStatus {
    /// As `uname -r` says.
    pub release: String,
    /// Where this agent's maps and links are pinned.
    pub pin_directory: PathBuf,
    pub hooks: Vec<HookStatus>,
}

/// One program of the kernel side, as the kernel itself says (BPF link info), never as it was once asked for.
#[derive(Debug, Clone, Serialize)]
pub struct HookStatus {
    /// `connect4`, `flow_ops`, `steer` and so on.
    pub name: String,
    /// The cgroup or pod that it is attached to.
    pub target: String,
    pub pinned: bool,
    pub attached: bool,
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct NackStatus {
    pub resource: String,
    pub reason: String,
}

impl PodCounters {
    /// Every counter with its stable word.
    #[must_use]
    pub fn each(&self) -> [(&'static str, u64); 11] {
        [
            ("outbound_captured", self.outbound_captured),
            ("outbound_passed", self.outbound_passed),
            (
                "outbound_refused_no_endpoint",
                self.outbound_refused_no_endpoint,
            ),
            (
                "outbound_direct_agent_down",
                self.outbound_direct_agent_down,
            ),
            (
                "outbound_refused_agent_down",
                self.outbound_refused_agent_down,
            ),
            ("outbound_refused_limit", self.outbound_refused_limit),
            ("inbound_captured", self.inbound_captured),
            ("inbound_closed_port", self.inbound_closed_port),
            ("inbound_direct_agent_down", self.inbound_direct_agent_down),
            (
                "inbound_refused_agent_down",
                self.inbound_refused_agent_down,
            ),
            ("mptcp_refused", self.mptcp_refused),
        ]
    }
}
