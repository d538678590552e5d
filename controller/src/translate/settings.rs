//! Facts for the whole mesh, and those of each node.

use std::collections::BTreeSet;

use weft_proto::names::NodeName;
use weft_proto::v1;

use super::{Facts, Finding};
use crate::object::MeshConfig;
use crate::store::Objects;

pub fn settings(mesh: &MeshConfig, facts: &Facts, findings: &mut BTreeSet<Finding>) -> v1::Settings {
    let ours = &facts.trust_domain;
    let object = "MeshConfig default";
    if let Some(stated) = mesh.trust_domain.as_ref().filter(|stated| *stated != ours) {
        findings.insert(Finding {
            object: object.to_owned(),
            message: format!(
                "it states the trust domain {stated}, but the controller was started with {ours}, which is used"
            ),
        });
    }
    let captured: Vec<String> = mesh.pod_ranges.iter().chain(&mesh.service_ranges).map(ToString::to_string).collect();
    if captured.is_empty() {
        findings.insert(Finding {
            object: object.to_owned(),
            message: "it names no networks (spec.networks), so no outgoing connection is captured".to_owned(),
        });
    }
    v1::Settings {
        trust_domain: ours.to_string(),
        trust_domain_aliases: mesh.trust_domain_aliases.iter().map(ToString::to_string).collect(),
        captured_cidrs: captured,
        never_captured: mesh.never_capture.clone(),
        lease_ms: u32::try_from(facts.lease.as_millis()).unwrap_or(u32::MAX),
    }
}

pub fn trust(facts: &Facts) -> v1::Trust {
    v1::Trust { roots_der: facts.roots_der.clone() }
}

/// Every node that is known, or that pods are on: where its clients are.
pub fn nodes(objects: &Objects) -> Vec<(NodeName, v1::Node)> {
    let known = objects.nodes.keys().filter_map(|name| name.parse().ok());
    let used = objects.pods().filter_map(|pod| pod.node.as_ref()).collect::<BTreeSet<_>>();
    let names: BTreeSet<NodeName> = known.chain(used.into_iter().cloned()).collect();
    let row = |name: NodeName| {
        let zone = objects.nodes.get(name.as_str()).and_then(|node| node.zone());
        let row = v1::Node { name: name.to_string(), zone: zone.unwrap_or_default().to_owned() };
        (name, row)
    };
    names.into_iter().map(row).collect()
}
