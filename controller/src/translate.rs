//! Objects in, mesh resources out: pure, without IO, clock or randomness.
//!
//! One part for each namespace, and one for the mesh. A part is made again only when something is another one now that
//! it was made of (`stale`); a test holds that against the whole mesh made anew. Absent: who holds what (`publish`), and
//! how objects are read (`source`).

mod address;
mod authentication;
mod authorization;
mod calls;
mod encoded;
mod enrolment;
mod meshes;
mod namespace;
mod part;
mod protocol;
mod routes;
mod service;
mod settings;
mod stale;
mod target;
mod traffic;
mod workload;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use weft_proto::names::{NodeName, TrustDomain, WorkloadUid};

use crate::status::Conditions;
use crate::store::Objects;

pub use encoded::Encoded;
use world::{Mesh, Read, World};

/// Resources by name.
pub type Resources = BTreeMap<Arc<str>, Arc<Encoded>>;

/// What the controller itself knows, beside objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub trust_domain: TrustDomain,
    pub lease: Duration,
    pub roots_der: Vec<Vec<u8>>,
    /// None: there are no pods of agents.
    pub agents: Option<Agents>,
    /// Workloads that were there when agents began to speak to this very controller: of any other all is known, because
    /// nobody else has had it enrolled. None: nothing has been read yet.
    pub inherited: Option<Arc<BTreeSet<WorkloadUid>>>,
}

/// As whom agents run in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agents {
    pub namespace: String,
    pub service_account: String,
}

/// What the agent of each node serves, as it has reported.
pub type Workloads = BTreeMap<NodeName, Arc<BTreeSet<WorkloadUid>>>;

/// What agents have said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub capable: Workloads,
    /// Nodes whose agent has told this very controller what it serves.
    pub spoken: BTreeSet<NodeName>,
    /// Nodes whose agent is gone for a whole lease, within the cap.
    pub gone: BTreeSet<NodeName>,
}

/// Something that a person should know about an object that was read well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub object: String,
    pub message: String,
}

/// What one namespace, or the mesh as such, comes to.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub portion: Arc<Portion>,
    pub conditions: Arc<Conditions>,
    pub findings: BTreeSet<Finding>,
}

/// What agents receive of one part. No name is in two portions.
#[derive(Debug, Clone, Default)]
pub struct Portion {
    /// For every node.
    pub shared: Resources,
    /// For one node alone: its enrolments and the policies that these name.
    pub nodes: BTreeMap<NodeName, Resources>,
}

/// By namespace; [`MESH`] is the mesh's own.
pub type Parts = BTreeMap<Arc<str>, Arc<Part>>;

/// No namespace has this name.
pub const MESH: &str = "";

/// Translates, and remembers what came of it.
#[derive(Debug, Default)]
pub struct Translator {
    last: Option<Last>,
}

/// Everything that the parts were made of.
#[derive(Debug)]
struct Last {
    objects: Objects,
    observed: Observed,
    facts: Facts,
    mesh: Mesh,
    parts: BTreeMap<Arc<str>, (Arc<Part>, Read)>,
}

impl Translator {
    #[must_use]
    pub fn translate(&mut self, objects: &Objects, observed: &Observed, facts: &Facts) -> Parts {
        let mesh = Mesh::of(objects, observed, facts, self.last.as_ref());
        let stale = self.last.as_ref().map(|last| stale::namespaces(last, objects, observed, facts, &mesh));
        let mut parts = BTreeMap::new();
        for (namespace, contents) in objects.namespaces.iter() {
            let known = self.last.as_mut().and_then(|last| last.parts.remove(namespace));
            let known = known.filter(|_| stale.as_ref().is_some_and(|stale| !stale.contains(namespace)));
            let part = known.unwrap_or_else(|| {
                let world = World::new((namespace, contents), objects, observed, &mesh);
                let part = Arc::new(part::of(&world));
                (part, world.into_read())
            });
            parts.insert(Arc::clone(namespace), part);
        }
        let all = parts.iter().map(|(namespace, (part, _))| (Arc::clone(namespace), Arc::clone(part)));
        let own = (Arc::from(MESH), Arc::new(part::of_mesh(objects, facts, &mesh)));
        let all = all.chain([own]).collect();
        let (objects, observed, facts) = (objects.clone(), observed.clone(), facts.clone());
        self.last = Some(Last { objects, observed, facts, mesh, parts });
        all
    }
}

#[cfg(test)]
mod tests;
