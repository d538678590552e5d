//! A captured pod as the rest of the agent says it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_abi::rows;

/// The kernel's number of a network namespace, never used twice in one boot (`SO_NETNS_COOKIE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsCookie(pub u64);

/// What happens to a pod's connections while no worker of the agent is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Outgoing ones go direct, plaintext reaches permissive ports.
    Open,
    /// Outgoing ones are refused, incoming ones are reset.
    Closed,
}

/// What a port of the pod takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Mesh TLS only. Never plaintext, whatever the failure mode.
    Strict,
    /// Mesh TLS and plaintext.
    Permissive,
    /// Not touched by the mesh.
    Excluded,
}

/// Which listener of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Takes what the pod's apps open.
    Outbound,
    /// Takes what is opened towards the pod.
    Inbound,
}

/// Everything that the kernel is to know about a captured pod, apart from the agent's listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedPod {
    pub netns: NetnsCookie,
    /// The address of the pod's own interface, by which captured connections are led to the agent.
    pub address4: Option<Ipv4Addr>,
    pub address6: Option<Ipv6Addr>,
    /// Whether connections of the pod are captured.
    pub outbound: bool,
    /// Whether connections to the pod are captured.
    pub inbound: bool,
    pub failure: Failure,
    /// For every port without an entry in `inbound_ports`.
    pub inbound_mode: Mode,
    pub inbound_ports: BTreeMap<u16, Mode>,
    pub excluded_outbound_ports: BTreeSet<u16>,
    pub excluded_outbound_networks: BTreeSet<IpNet>,
    /// Ports that the pod declares for probes and lifecycle hooks: kubelet reaches them without the agent.
    pub probe_ports: BTreeSet<u16>,
    /// The addresses from which this node itself connects to the pod, for as long as nobody sees kubelet's sockets.
    pub node4: Option<Ipv4Addr>,
    pub node6: Option<Ipv6Addr>,
    /// Connections between SYN and accept, above which `connect()` is refused. See
    /// [`weft_abi::limits::DEFAULT_FLIGHT_LIMIT`].
    pub flight_limit: u32,
}

impl Failure {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Open => rows::FAIL_OPEN,
            Self::Closed => rows::FAIL_CLOSED,
        }
    }
}

impl Mode {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Strict => rows::MODE_STRICT,
            Self::Permissive => rows::MODE_PERMISSIVE,
            Self::Excluded => rows::MODE_EXCLUDED,
        }
    }
}

impl Role {
    pub(super) const ALL: [Self; 2] = [Self::Outbound, Self::Inbound];

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Outbound => rows::ROLE_OUTBOUND,
            Self::Inbound => rows::ROLE_INBOUND,
        }
    }
}
