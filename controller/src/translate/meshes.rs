//! What an `XMesh` (GEP-3949) says of itself: those that name Weft's controller are answered, others are left alone.

use super::Facts;
use super::part::Draft;
use super::target;
use crate::object::{Kind, XMesh};
use crate::status::{Aspect, DEFAULT_NAME, PolicyCondition, Reason, Subject};
use crate::store::Objects;

pub fn answer(objects: &Objects, facts: &Facts, out: &mut Draft) {
    for mesh in objects.meshes.values() {
        let key = target::key(Kind::XMesh, &mesh.metadata);
        if mesh.is_ours() {
            let (reason, message) = if objects.is_removing() { leaving() } else { judge(mesh, facts) };
            let (aspect, generation) = (Aspect::Accepted, mesh.metadata.generation);
            let condition = PolicyCondition { subject: Subject::Itself, aspect, reason, message, generation };
            out.conditions.insert(key, vec![condition]);
        } else if mesh.metadata.name == DEFAULT_NAME {
            let whose = &mesh.controller_name;
            out.find(&key, format!("it is of {whose}, so nothing says what Weft can do; give that one another name"));
        }
    }
}

/// Nobody should build on it any more.
fn leaving() -> (Reason, String) {
    (Reason::Removing, "Weft is being removed: the MeshConfig default says spec.state: Removing".to_owned())
}

fn judge(mesh: &XMesh, facts: &Facts) -> (Reason, String) {
    if mesh.has_parameters {
        let message =
            "spec.parametersRef: Weft reads no parameters from there; remove it, and use the MeshConfig default";
        return (Reason::InvalidParameters, message.to_owned());
    }
    let place = facts.agents.as_ref().map(|agents| format!(" in namespace {}", agents.namespace));
    let version = env!("CARGO_PKG_VERSION");
    (Reason::Accepted, format!("accepted by Weft {version}{}", place.unwrap_or_default()))
}
