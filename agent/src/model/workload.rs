//! A workload as every agent knows it, and as its own node captures and guards it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;
use weft_policy::Policy;
use weft_proto::names::{Identity, Namespace, NodeName, WorkloadUid};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MtlsMode {
    Permissive,
    Strict,
}

/// What a pod's traffic does while no worker of its agent lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureMode {
    Open,
    Closed,
}

/// The public row of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    pub uid: WorkloadUid,
    /// `namespace/name` of the pod.
    pub name: Arc<str>,
    /// The owner's name, for telemetry.
    pub application: Arc<str>,
    /// None when its service account is empty: nobody can prove to be it.
    pub identity: Option<Identity>,
    pub node: Option<NodeName>,
    pub addresses: Vec<IpAddr>,
    pub mesh_capable: bool,
    pub plaintext_permitted: bool,
    pub mtls: MtlsMode,
    /// No port of it is strict.
    pub takes_plaintext: bool,
    pub excluded_inbound_ports: Vec<u16>,
    pub not_capturable: Option<Arc<str>>,
}

impl Workload {
    /// None for a row whose name has none.
    #[must_use]
    pub fn namespace(&self) -> Option<Namespace> {
        self.name.split_once('/').and_then(|(namespace, _)| namespace.parse().ok())
    }
}

/// How this node captures and guards one of its own pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enrolment {
    pub uid: WorkloadUid,
    /// Where somebody who may say so has named it; else it is that of the pod's processes.
    pub netns: Option<PathBuf>,
    pub on_agent_failure: FailureMode,
    pub authentication: Authentication,
    pub require_mesh_tls: bool,
    pub excluded_inbound_ports: Vec<u16>,
    pub excluded_outbound_ports: Vec<u16>,
    pub excluded_outbound_networks: Vec<IpNet>,
    /// Ports that the pod itself declares for probes and lifecycle hooks.
    pub probe_ports: Vec<u16>,
    /// The policies that select this pod.
    pub policies: Vec<Arc<Policy>>,
    /// What its namespace did not permit it, in sentences.
    pub refused: Vec<String>,
}

impl Enrolment {
    /// Whether its own connections go on in plaintext, to whoever takes it, once its certificate has ended: an open namespace
    /// rather goes without mTLS than not at all.
    #[must_use]
    pub fn outlives_its_certificate(&self) -> bool {
        self.on_agent_failure == FailureMode::Open && !self.require_mesh_tls
    }

    /// Of a pod that nothing is known of: strict, fails closed, nobody may connect, no exception.
    #[must_use]
    pub fn of_nobody(uid: WorkloadUid, decided_by: &str, policy: Policy) -> Self {
        Self {
            uid,
            netns: None,
            on_agent_failure: FailureMode::Closed,
            authentication: Authentication {
                default: MtlsMode::Strict,
                ports: Vec::new(),
                exemptions: Vec::new(),
                decided_by: Arc::from(decided_by),
            },
            require_mesh_tls: true,
            excluded_inbound_ports: Vec::new(),
            excluded_outbound_ports: Vec::new(),
            excluded_outbound_networks: Vec::new(),
            probe_ports: Vec::new(),
            policies: vec![Arc::new(policy)],
            refused: Vec::new(),
        }
    }
}

/// Which plaintext an enrolled pod accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Authentication {
    pub default: MtlsMode,
    pub ports: Vec<(u16, MtlsMode)>,
    pub exemptions: Vec<Exemption>,
    /// `namespace/name` of the policy that decided, for people.
    pub decided_by: Arc<str>,
}

/// How a connection without mesh TLS begins, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// With anything, or with nothing yet.
    Anything,
    /// With a `ClientHello` of the application's own.
    OwnTls,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exemption {
    /// Empty: every port.
    pub ports: Vec<u16>,
    pub networks: Vec<IpNet>,
    pub anyone: bool,
    /// Only for connections that begin with the application's own TLS.
    pub tls_only: bool,
    pub reason: Arc<str>,
}

impl Authentication {
    #[must_use]
    pub fn mode(&self, port: u16) -> MtlsMode {
        self.ports.iter().find(|(declared, _)| *declared == port).map_or(self.default, |(_, mode)| *mode)
    }

    /// Whether what is not mesh TLS may reach a strict `port` from `source`.
    #[must_use]
    pub fn exempts(&self, port: u16, source: IpAddr, beginning: Beginning) -> Option<&Exemption> {
        self.exemptions.iter().find(|exemption| {
            (beginning == Beginning::OwnTls || !exemption.tls_only)
                && (exemption.ports.is_empty() || exemption.ports.contains(&port))
                && (exemption.anyone || exemption.networks.iter().any(|network| network.contains(&source)))
        })
    }
}
