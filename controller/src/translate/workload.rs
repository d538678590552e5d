//! What every agent knows about a pod.

use weft_crd::{FailureMode, MtlsMode};
use weft_proto::v1;

use super::address::octets;
use super::enrolment::{Guarded, mtls_code};
use super::world::World;
use crate::object::Pod;

/// Labels by which owners name an application (Kubernetes: "Recommended Labels"), best first.
const APPLICATION_LABELS: [&str; 2] = ["app.kubernetes.io/name", "app"];

pub fn row(world: &World<'_>, pod: &Pod, guarded: &Guarded) -> v1::Workload {
    let node = pod.node.as_ref();
    // Only the agent of the pod's own node can know; a report about a pod of another node counts for nothing.
    let reported = node.and_then(|node| world.observed.capable.get(node));
    let mesh_capable =
        guarded.is_captured() && (reported.is_some_and(|uids| uids.contains(&pod.uid)) || world.is_unknown(pod));
    let strict = guarded.is_strict_everywhere();
    // Who dials knows one word for all ports: where one is strict, none is dialled in plaintext.
    let takes_plaintext = !guarded.is_strict_anywhere();
    let plaintext_permitted = mesh_capable
        && takes_plaintext
        && guarded.on_agent_failure == FailureMode::Open
        && node.is_some_and(|node| world.observed.gone.contains(node));
    let labels = &pod.metadata.labels;
    let application = APPLICATION_LABELS.iter().find_map(|label| labels.get(*label)).unwrap_or(&pod.metadata.name);
    v1::Workload {
        uid: pod.uid.to_string(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        service_account: pod.service_account.clone(),
        node: node.map(ToString::to_string).unwrap_or_default(),
        addresses: world.addresses(pod).into_iter().map(octets).collect(),
        mesh_capable,
        plaintext_permitted,
        excluded_inbound_ports: if guarded.is_captured() {
            guarded.exclusions.inbound_ports.iter().copied().map(u32::from).collect()
        } else {
            Vec::new()
        },
        not_capturable: guarded.not_capturable.clone(),
        application: application.clone(),
        mtls: mtls_code(if strict { MtlsMode::Strict } else { MtlsMode::Permissive }).into(),
        takes_plaintext,
    }
}
