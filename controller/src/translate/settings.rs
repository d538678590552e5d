//! Facts for the whole mesh.

use std::collections::BTreeSet;

use weft_proto::v1;

use super::{Facts, Finding, World};

pub fn settings(world: &World<'_>, findings: &mut BTreeSet<Finding>) -> v1::Settings {
    let ours = &world.facts.trust_domain;
    let object = "MeshConfig default";
    if let Some(stated) = world.mesh.trust_domain.as_ref().filter(|stated| *stated != ours) {
        findings.insert(Finding {
            object: object.to_owned(),
            message: format!(
                "it states the trust domain {stated}, but the controller was started with {ours}, which is used"
            ),
        });
    }
    let captured: Vec<String> =
        world.mesh.pod_ranges.iter().chain(&world.mesh.service_ranges).map(ToString::to_string).collect();
    if captured.is_empty() {
        findings.insert(Finding {
            object: object.to_owned(),
            message: "it names no networks (spec.networks), so no outgoing connection is captured".to_owned(),
        });
    }
    v1::Settings {
        trust_domain: ours.to_string(),
        trust_domain_aliases: world.mesh.trust_domain_aliases.iter().map(ToString::to_string).collect(),
        captured_cidrs: captured,
        never_captured: world.mesh.never_capture.clone(),
        lease_ms: u32::try_from(world.facts.lease.as_millis()).unwrap_or(u32::MAX),
    }
}

pub fn trust(facts: &Facts) -> v1::Trust {
    v1::Trust { roots_der: facts.roots_der.clone() }
}
