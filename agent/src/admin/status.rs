//! The node's state as the composition root sees it, published for people.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use weft_abi::reason::REASONS;
use weft_proto::names::WorkloadUid;

use crate::bpf::NetnsCookie;
use crate::discovery::Nack;

/// What only the composition root knows of this node. Published whole through a watch channel.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NodeStatus {
    /// A snapshot is held, the hooks are attached, every worker serves.
    pub ready: bool,
    pub draining: bool,
    /// This node's pods that are meant to be captured, whether they are or not.
    pub pods: Vec<PodStatus>,
    /// This node's pods that are meant to be observed, whether they are or not.
    pub observed: Vec<ObservedStatus>,
    pub controller: ControllerStatus,
    pub workers: Vec<WorkerStatus>,
    pub kernel: KernelStatus,
}

/// Everything about this node that is not in the snapshot: what answers and metrics are made of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NodeView {
    #[serde(flatten)]
    pub status: NodeStatus,
    /// When the snapshot in force was applied.
    pub snapshot_applied: Option<Timestamp>,
    /// Resources of the snapshot that could not be read; their safe reading is in force.
    pub nacks: Vec<Nack>,
    /// One for each workload that wants a certificate, and the node's own.
    pub certificates: Vec<CertificateStatus>,
    /// Whom its workloads believe; the first one signs.
    pub roots: Vec<RootStatus>,
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

/// A pod of which nothing is captured and whose connections are noted.
#[derive(Debug, Clone, Serialize)]
pub struct ObservedStatus {
    pub uid: WorkloadUid,
    /// `namespace/name`.
    pub name: String,
    pub observed: bool,
    /// Why it is not observed, in a sentence; none while it has not begun to run, or still leaves the mesh.
    pub reason: Option<String>,
    /// Under which number the kernel knows it.
    #[serde(skip)]
    pub netns: Option<NetnsCookie>,
}

/// What the hooks counted for one pod since it was enrolled, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodCounters {
    by_reason: [u64; REASONS],
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
    pub identity: String,
    /// None while there is no certificate.
    pub not_after: Option<Timestamp>,
    /// Why the last attempt to get or renew it failed.
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct RootStatus {
    /// SHA-256 of the certificate (DER), in hexadecimal, its first half.
    pub digest: String,
    pub not_after: Timestamp,
}

impl RootStatus {
    /// None for bytes that are no certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let not_after = Timestamp::from_second(read.validity().not_after.timestamp()).ok()?;
        Some(Self { digest: crate::tls::short_digest(certificate), not_after })
    }
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
    /// Programs of others at the same hooks.
    pub foreign: Vec<ForeignStatus>,
}

/// A program that is not Weft's, at a hook that Weft uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeignStatus {
    /// `connect4`, `sock_ops` and so on.
    pub hook: &'static str,
    pub program: String,
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

impl PodCounters {
    /// From the row that the hooks count in, already summed over the processors.
    #[must_use]
    pub const fn new(by_reason: [u64; REASONS]) -> Self {
        Self { by_reason }
    }

    #[must_use]
    pub fn of(&self, reason: weft_abi::Reason) -> u64 {
        usize::try_from(reason.0).ok().and_then(|index| self.by_reason.get(index)).copied().unwrap_or(0)
    }

    /// Every counter with its stable word.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        weft_abi::Reason::ALL.iter().map(|(reason, word)| (*word, self.of(*reason)))
    }
}

/// Nothing was counted.
impl Default for PodCounters {
    fn default() -> Self {
        Self::new([0; REASONS])
    }
}

/// A map from word to count, without those that are zero.
impl Serialize for PodCounters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.each().filter(|(_, count)| *count > 0))
    }
}
