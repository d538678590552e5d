//! Objects in, mesh resources out: pure, without IO, clock or randomness.
//!
//! The whole mesh is translated at each change; what did not change keeps its content hash and is not sent again.
//! Absent: who holds what (`publish`), and how objects are read (`source`).

mod address;
mod authentication;
mod authorization;
mod enrolment;
mod protocol;
mod routes;
mod service;
mod settings;
mod target;
mod traffic;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use serde::Serialize;
use weft_proto::names::{NodeName, TrustDomain, WorkloadUid};
use weft_proto::resource;
use weft_proto::v1::{Resource, resource::Body};

use crate::limits;
use crate::object::{Key, MeshConfig, Pod};
use crate::status::PolicyCondition;
use crate::store::Objects;

use address::Owners;
use enrolment::Guarded;

/// Resources by name.
pub type Resources = BTreeMap<Arc<str>, Arc<Resource>>;

/// What the controller itself knows, beside objects.
#[derive(Debug, Clone)]
pub struct Facts {
    pub trust_domain: TrustDomain,
    pub lease: Duration,
    pub roots_der: Vec<Vec<u8>>,
}

/// What agents have said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Reported as enrolled and serving by the agent of their own node.
    pub capable: BTreeMap<NodeName, BTreeSet<WorkloadUid>>,
    /// Nodes whose agent is gone for a whole lease, within the cap.
    pub gone: BTreeSet<NodeName>,
}

/// Something that a person should know about an object that was read well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub object: String,
    pub message: String,
}

#[derive(Debug, Clone, Default)]
pub struct Translation {
    /// For every node.
    pub shared: Resources,
    /// For one node alone: its enrolments and the policies that these name.
    pub nodes: BTreeMap<NodeName, Resources>,
    pub conditions: BTreeMap<Key, Vec<PolicyCondition>>,
    pub findings: BTreeSet<Finding>,
}

/// The world as one value; every step reads it and adds to the translation.
struct World<'a> {
    objects: &'a Objects,
    observed: &'a Observed,
    facts: &'a Facts,
    mesh: &'a MeshConfig,
    owners: Owners,
}

#[must_use]
pub fn translate(objects: &Objects, observed: &Observed, facts: &Facts) -> Translation {
    let fallback = MeshConfig::default();
    let mesh = objects.mesh_config.as_deref().unwrap_or(&fallback);
    let mut out = Translation::default();
    let owners = Owners::of(objects, &mut out.findings);
    let world = World { objects, observed, facts, mesh, owners };

    let authentication = authentication::decide(&world, &mut out);
    let authorization = authorization::select(&world, &mut out);
    for (name, pod) in &objects.pods {
        let Some(node) = pod.node.as_ref().filter(|_| !pod.finished) else { continue };
        let guarded =
            enrolment::guard(&world, pod, authentication.get(name), &authorization.locked(name), &mut out.findings);
        out.share(resource::workload(pod.uid.as_str()), vec![], Body::Workload(workload::row(&world, pod, &guarded)));
        if guarded.captured {
            enrol(&mut out, node, pod, guarded, authorization.of(name));
        }
    }
    authorization.report_unenforced(&world, &mut out);
    for (name, body) in service::rows(&world, &mut out.findings) {
        out.share(name, vec![], Body::Service(body));
    }
    let traffic = traffic::share(&world, &mut out);
    routes::share(&world, &traffic, &mut out);
    let settings = settings::settings(&world, &mut out.findings);
    out.share(resource::SETTINGS.to_owned(), vec![], Body::Settings(settings));
    out.share(resource::TRUST.to_owned(), vec![], Body::Trust(settings::trust(facts)));
    out
}

fn enrol(out: &mut Translation, node: &NodeName, pod: &Pod, guarded: Guarded, policies: &[Arc<Resource>]) {
    let requires = guarded.requires();
    let names = policies.iter().map(|policy| policy.name.clone()).collect();
    let body = Body::Enrolment(guarded.enrolment(pod, names));
    let enrolment = resource::versioned(resource::enrolment(pod.uid.as_str()), requires, body);
    let enrolment = bounded(enrolment, &mut out.findings);
    let own = out.nodes.entry(node.clone()).or_default();
    own.insert(Arc::from(enrolment.name.as_str()), Arc::new(enrolment));
    for policy in policies {
        own.insert(Arc::from(policy.name.as_str()), Arc::clone(policy));
    }
}

/// A resource that no agent could receive goes without its body, which every agent reads safely: it stays in force as
/// the strictest of its kind, and does not stop what comes after it.
fn bounded(whole: Resource, findings: &mut BTreeSet<Finding>) -> Resource {
    let bytes = whole.encoded_len();
    if bytes <= limits::RESOURCE_BYTES {
        return whole;
    }
    let limit = limits::RESOURCE_BYTES;
    let message = format!("it takes {bytes} bytes, more than {limit}, so agents receive its safe reading instead");
    findings.insert(Finding { object: whole.name.clone(), message });
    let mut empty = Resource { body: None, ..whole };
    empty.version = resource::content_version(&empty);
    empty
}

impl Translation {
    fn share(&mut self, name: String, requires: Vec<String>, body: Body) {
        let resource = bounded(resource::versioned(name, requires, body), &mut self.findings);
        self.shared.insert(Arc::from(resource.name.as_str()), Arc::new(resource));
    }

    fn find(&mut self, object: &impl ToString, message: impl Into<String>) {
        self.findings.insert(Finding { object: object.to_string(), message: message.into() });
    }
}

#[cfg(test)]
mod tests;
