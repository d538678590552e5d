//! What strict mode would mean for one caller of one port. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::model::{Beginning, Enrolment, Snapshot, Workload};

/// A pod that is asked about, as it is captured or would be.
pub(super) struct Target<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) row: &'a Arc<Workload>,
    pub(super) enrolment: &'a Enrolment,
    /// The addresses from which its node itself connects to it.
    pub(super) from_here: &'a [IpAddr],
    /// Nobody sees kubelet's sockets: these addresses stand for it at the ports of probes.
    pub(super) probes_by_address: bool,
}

/// How it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Approach {
    /// From one of kubelet's sockets.
    Kubelet,
    /// Nobody has looked at what it spoke.
    Unknown,
    /// It spoke plaintext.
    Plaintext,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    /// A captured pod.
    Mesh,
    /// A pod of the same namespace, which is captured when its namespace is.
    Neighbour,
    /// Kubelet, at a port that the pod declares.
    Probe,
    /// Somebody who need not speak mTLS.
    Exempt,
    /// A process of a node.
    Node,
    /// A pod that is not captured.
    Uncaptured,
    /// Nobody has this address of the pods' now.
    Gone,
    /// No pod's address.
    Outside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    Accepted,
    Refused,
    Unknown,
}

/// The judgement about one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Judged {
    pub(super) who: Who,
    /// What would become of it if the port were strict.
    pub(super) standing: Standing,
    /// In a sentence.
    pub(super) why: String,
}

/// Judges in the order in which the hooks and the agent would.
pub(super) fn judge(target: &Target<'_>, client: IpAddr, port: u16, approach: Approach) -> Judged {
    let told = |who, standing, why: &str| Judged { who, standing, why: why.to_owned() };
    let declares = target.enrolment.probe_ports.contains(&port);
    let from_here = target.from_here.contains(&client);
    if declares && (approach == Approach::Kubelet || from_here && target.probes_by_address) {
        return told(Who::Probe, Standing::Accepted, "it is kubelet's probe of a port that the pod declares for it");
    }
    if let Some(exemption) = target.enrolment.authentication.exempts(port, client, Beginning::OwnTls) {
        let limit = if exemption.tls_only { ", as long as it brings TLS of its own" } else { "" };
        return told(Who::Exempt, Standing::Accepted, &format!("it is exempt{limit}: {}", exemption.reason));
    }
    if approach == Approach::Kubelet {
        return told(
            Who::Node,
            Standing::Refused,
            "kubelet connects to a port that the pod does not declare for a probe",
        );
    }
    if from_here && declares {
        let why = "it is kubelet before its sockets were known, or another process of the pod's own node, which would be refused";
        return told(Who::Node, Standing::Unknown, why);
    }
    if from_here {
        return told(Who::Node, Standing::Refused, "it is a process of the pod's own node, which has no identity");
    }
    match target.snapshot.workload_at(client) {
        Some(peer) => pod(target.row, peer, approach),
        None if target.snapshot.captured_networks.iter().any(|network| network.contains(&client)) => {
            told(Who::Gone, Standing::Unknown, "no pod has this address now")
        }
        None => told(
            Who::Outside,
            Standing::Refused,
            "it is no pod: another node, or something outside of the cluster, which has no identity",
        ),
    }
}

fn pod(target: &Workload, peer: &Workload, approach: Approach) -> Judged {
    let told = |who, standing, why: String| Judged { who, standing, why };
    let near = peer.namespace().is_some() && peer.namespace() == target.namespace();
    match (&peer.not_capturable, approach) {
        (Some(reason), _) => told(Who::Uncaptured, Standing::Refused, format!("it cannot be captured: {reason}")),
        (None, Approach::Plaintext) if peer.mesh_capable => told(
            Who::Mesh,
            Standing::Refused,
            "it is captured and spoke plaintext all the same: it excludes the port, or was not captured then"
                .to_owned(),
        ),
        (None, _) if peer.mesh_capable => {
            told(Who::Mesh, Standing::Accepted, "it is captured and speaks mTLS".to_owned())
        }
        (None, Approach::Unknown) if near => {
            told(Who::Neighbour, Standing::Accepted, "it is captured together with its namespace".to_owned())
        }
        (None, _) => told(Who::Uncaptured, Standing::Refused, "it is not captured, so it speaks plaintext".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Authentication, Exemption, FailureMode, MtlsMode, Parts};

    const PROBED: u16 = 8081;
    const CALLED: u16 = 9443;

    fn workload(name: &str, address: &str) -> Workload {
        Workload {
            uid: name.replace('/', "-").parse().unwrap(),
            name: Arc::from(name),
            application: Arc::from(name),
            identity: None,
            node: None,
            addresses: vec![address.parse().unwrap()],
            mesh_capable: false,
            plaintext_permitted: false,
            mtls: MtlsMode::Permissive,
            takes_plaintext: true,
            excluded_inbound_ports: Vec::new(),
            not_capturable: None,
        }
    }

    fn enrolment(uid: &Workload) -> Enrolment {
        let api = Exemption {
            ports: vec![CALLED],
            networks: Vec::new(),
            anyone: true,
            tls_only: true,
            reason: Arc::from("the API server calls it (APIService v1.x)"),
        };
        let scraper = Exemption {
            networks: vec!["192.0.2.0/24".parse().unwrap()],
            ports: Vec::new(),
            anyone: false,
            tls_only: false,
            reason: Arc::from("metrics"),
        };
        Enrolment {
            uid: uid.uid.clone(),
            netns: None,
            on_agent_failure: FailureMode::Open,
            authentication: Authentication {
                default: MtlsMode::Permissive,
                ports: Vec::new(),
                exemptions: vec![api, scraper],
                decided_by: Arc::from("default"),
            },
            require_mesh_tls: false,
            excluded_inbound_ports: Vec::new(),
            excluded_outbound_ports: Vec::new(),
            excluded_outbound_networks: Vec::new(),
            probe_ports: vec![PROBED],
            policies: Vec::new(),
            refused: Vec::new(),
        }
    }

    #[test]
    fn every_kind_of_caller_is_told_with_what_strict_mode_would_do() {
        use Approach::{Kubelet, Plaintext, Unknown};
        use Standing::{Accepted, Refused};
        let web = Arc::new(workload("shop/web", "10.1.0.2"));
        let meshed = Workload { mesh_capable: true, ..workload("pay/bank", "10.1.0.3") };
        let host = Workload { not_capturable: Some(Arc::from("it is sandboxed")), ..workload("shop/vm", "10.1.0.6") };
        let rows = [meshed, workload("shop/cart", "10.1.0.4"), workload("old/app", "10.1.0.5"), host];
        let mut workloads: Vec<Arc<Workload>> = rows.into_iter().map(Arc::new).collect();
        workloads.push(Arc::clone(&web));
        let captured_networks = vec!["10.1.0.0/16".parse().unwrap()];
        let snapshot = Snapshot::new(Parts { captured_networks, workloads, ..Parts::empty() });
        let (own, node) = (enrolment(&web), ["10.9.0.1".parse().unwrap()]);
        let target = |probes_by_address| Target {
            snapshot: &snapshot,
            row: &web,
            enrolment: &own,
            from_here: &node,
            probes_by_address,
        };
        for (client, port, approach, who, standing) in [
            ("10.1.0.3", 80, Unknown, Who::Mesh, Accepted),
            ("10.1.0.3", 80, Plaintext, Who::Mesh, Refused),
            ("10.1.0.4", 80, Unknown, Who::Neighbour, Accepted),
            ("10.1.0.4", 80, Plaintext, Who::Uncaptured, Refused),
            ("10.1.0.5", 80, Unknown, Who::Uncaptured, Refused),
            ("10.1.0.6", 80, Unknown, Who::Uncaptured, Refused),
            ("10.1.0.99", 80, Unknown, Who::Gone, Standing::Unknown),
            ("10.9.0.1", PROBED, Kubelet, Who::Probe, Accepted),
            ("10.9.0.1", 80, Kubelet, Who::Node, Refused),
            ("10.9.0.1", PROBED, Unknown, Who::Node, Standing::Unknown),
            ("10.9.0.1", 80, Unknown, Who::Node, Refused),
            ("10.9.0.2", CALLED, Unknown, Who::Exempt, Accepted),
            ("192.0.2.7", 80, Plaintext, Who::Exempt, Accepted),
            ("198.51.100.7", 80, Unknown, Who::Outside, Refused),
        ] {
            let judged = judge(&target(false), client.parse().unwrap(), port, approach);
            assert_eq!((judged.who, judged.standing), (who, standing), "{client}:{port} {approach:?}: {}", judged.why);
        }
        let stands_in = judge(&target(true), node[0], PROBED, Unknown);
        assert_eq!((stands_in.who, stands_in.standing), (Who::Probe, Accepted));
    }
}
