//! One part of the translation: a namespace's, or the mesh's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message as _;
use weft_proto::names::NodeName;
use weft_proto::resource;
use weft_proto::v1::{Observation, Resource, resource::Body};

use super::enrolment::{self, Guarded};
use super::workload;
use super::world::{Mesh, World};
use super::{
    Encoded, Facts, Finding, Part, Portion, Resources, authentication, authorization, meshes, namespace, routes,
    service, settings, traffic,
};
use crate::limits;
use crate::object::{Capture, Pod};
use crate::status::Conditions;
use crate::store::Objects;

/// A part that is being made; every step adds to it.
#[derive(Debug, Default)]
pub struct Draft {
    shared: Resources,
    nodes: BTreeMap<NodeName, Resources>,
    pub conditions: Conditions,
    pub findings: BTreeSet<Finding>,
}

pub fn of(world: &World<'_>) -> Part {
    let mut out = Draft::default();
    let authentication = authentication::decide(world, &mut out);
    let authorization = authorization::select(world, &mut out);
    for (name, pod) in world.own.pods.iter() {
        let Some(node) = pod.node.as_ref().filter(|_| !pod.finished) else { continue };
        let guarded =
            enrolment::guard(world, pod, authentication.get(name), &authorization.locked(name), &mut out.findings);
        out.share(resource::workload(pod.uid.as_str()), vec![], Body::Workload(workload::row(world, pod, &guarded)));
        match guarded.capture {
            Capture::Disabled => {}
            Capture::Observe => out.observe(node, pod, guarded),
            Capture::Enabled => out.enrol(world, node, pod, guarded, authorization.of(name)),
        }
    }
    if let Some(row) = namespace::row(world) {
        out.share(resource::namespace(world.namespace), vec![], Body::Namespace(row));
    }
    authorization.report_unenforced(world, &mut out);
    for (name, body) in service::rows(world, &mut out.findings) {
        out.share(name, vec![], Body::Service(body));
    }
    let traffic = traffic::share(world, &mut out);
    routes::share(world, traffic, &mut out);
    out.into_part()
}

pub fn of_mesh(objects: &Objects, facts: &Facts, mesh: &Mesh) -> Part {
    let mut out = Draft { findings: mesh.owners.findings.clone(), ..Draft::default() };
    let settings = settings::settings(&mesh.config, facts, &mut out.findings);
    out.share(resource::SETTINGS.to_owned(), vec![], Body::Settings(settings));
    out.share(resource::TRUST.to_owned(), vec![], Body::Trust(settings::trust(facts)));
    for (node, body) in settings::nodes(objects) {
        let place = resource::versioned(resource::node(node.as_str()), vec![], Body::Node(body));
        out.nodes.entry(node).or_default().insert(Arc::from(place.name.as_str()), Arc::new(place.into()));
    }
    if let Some(enforced) = &mesh.enforced {
        // To everybody: in the portions of those who enrol somebody it would be in several.
        out.shared.insert(Arc::from(enforced.name.as_str()), Arc::clone(enforced));
    }
    out.findings.extend(mesh.findings.iter().cloned());
    meshes::answer(objects, facts, &mut out);
    out.into_part()
}

impl Draft {
    pub fn share(&mut self, name: String, requires: Vec<String>, body: Body) {
        let resource = bounded(resource::versioned(name, requires, body), &mut self.findings);
        self.shared.insert(Arc::from(resource.name.as_str()), Arc::new(resource.into()));
    }

    fn observe(&mut self, node: &NodeName, pod: &Pod, guarded: Guarded) {
        let requires = guarded.requires();
        let body = Body::Observation(Observation { enrolment: Some(guarded.enrolment(pod, Vec::new())) });
        self.tell(node, resource::versioned(resource::observation(pod.uid.as_str()), requires, body));
    }

    fn enrol(&mut self, world: &World<'_>, node: &NodeName, pod: &Pod, guarded: Guarded, policies: &[Arc<Encoded>]) {
        let requires = guarded.requires();
        let names = policies.iter().map(|policy| policy.name.clone()).collect();
        let body = Body::Enrolment(guarded.enrolment(pod, names));
        self.tell(node, resource::versioned(resource::enrolment(pod.uid.as_str()), requires, body));
        let own = self.nodes.entry(node.clone()).or_default();
        for policy in
            policies.iter().filter(|policy| world.enforced.is_none_or(|enforced| enforced.name != policy.name))
        {
            own.insert(Arc::from(policy.name.as_str()), Arc::clone(policy));
        }
    }

    /// What one node alone receives.
    fn tell(&mut self, node: &NodeName, whole: Resource) {
        let resource = bounded(whole, &mut self.findings);
        let own = self.nodes.entry(node.clone()).or_default();
        own.insert(Arc::from(resource.name.as_str()), Arc::new(resource.into()));
    }

    pub fn is_enrolled(&self, pod: &Pod) -> bool {
        let own = pod.node.as_ref().and_then(|node| self.nodes.get(node));
        own.is_some_and(|own| own.contains_key(resource::enrolment(pod.uid.as_str()).as_str()))
    }

    pub fn find(&mut self, object: &impl ToString, message: impl Into<String>) {
        self.findings.insert(Finding { object: object.to_string(), message: message.into() });
    }

    fn into_part(self) -> Part {
        let Self { shared, nodes, conditions, findings } = self;
        Part { portion: Arc::new(Portion { shared, nodes }), conditions: Arc::new(conditions), findings }
    }
}

/// A resource that no agent could receive goes without its body, which every agent reads safely: it stays in force as
/// the strictest of its kind, and does not stop what comes after it.
pub fn bounded(whole: Resource, findings: &mut BTreeSet<Finding>) -> Resource {
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
