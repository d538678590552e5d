//! What becomes of a namespace's new pods that their node hears nothing of, because no controller is there.

use weft_crd::{FailureMode, MeshState};
use weft_proto::v1;

use super::enrolment::{failure_code, failure_mode, mode};
use super::world::World;
use crate::object::{AuthenticationPolicy, Capture, Target};

/// The cluster's own: DNS, the API server's way to nodes.
const SYSTEM: &str = "kube-system";

/// None: its pods are not captured. A pod's labels are not known then, so no policy counts that speaks of some pods alone.
pub fn row(world: &World<'_>) -> Option<v1::Namespace> {
    let captured = world.own.namespace.as_ref().is_some_and(|own| own.capture == Some(Capture::Enabled));
    if !captured || world.mesh.state == MeshState::Removing {
        return None;
    }
    let policy = policy_of_all(world);
    let require_mesh_tls = policy.is_some_and(|policy| policy.authentication.require_mesh_tls);
    // Without them there might never be a controller again that could let them go on: it is found by DNS, and started by an
    // API server that asks its webhooks.
    let way = if world.namespace == SYSTEM || world.calls.any || world.is_own_namespace() {
        FailureMode::Open
    } else {
        failure_mode(world, mode(world, policy).0, require_mesh_tls)
    };
    Some(v1::Namespace { name: world.namespace.to_owned(), on_agent_failure: failure_code(way).into() })
}

/// As `authentication::decide` would choose for a pod of which nothing is known.
fn policy_of_all<'a>(world: &World<'a>) -> Option<&'a AuthenticationPolicy> {
    let everybody = |target: &Target| matches!(target, Target::Pods(labels) if labels.is_empty());
    let policies = world.own.authentication.values().filter(|policy| policy.targets.iter().any(everybody));
    policies.map(AsRef::as_ref).min_by_key(|policy| (!policy.stands_in, policy.metadata.age_order()))
}
