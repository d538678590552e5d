//! The state of the mesh at each moment, and what differs between two of them.
//!
//! Invariant: a portion that did not change is the same allocation in both, so a difference costs what changed. Pure;
//! what one agent holds is `claim`'s and `subscription`'s, and sending is `serve`'s business.

mod claim;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_proto::names::NodeName;
use weft_proto::resource::{digest, snapshot_name};
use weft_proto::v1::Resource;

use crate::translate::{Portion, Resources};

pub use claim::Claim;
pub use subscription::{Messages, Subscription};

/// By namespace.
pub type Portions = BTreeMap<Arc<str>, Arc<Portion>>;

/// The state of the mesh at one generation. Generation 0 is before the first translation.
#[derive(Debug, Clone, Default)]
pub struct Published {
    pub generation: u64,
    portions: BTreeMap<Arc<str>, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    portion: Arc<Portion>,
    digests: Arc<Digests>,
}

/// Exclusive-or of the digests of resources (see `weft_proto::resource`).
#[derive(Debug)]
struct Digests {
    shared: u64,
    nodes: BTreeMap<NodeName, u64>,
}

/// A name that differs, and what it is now.
pub type Difference<'a> = (&'a Arc<str>, Option<&'a Arc<Resource>>);

impl Published {
    /// The next generation, or None if nothing differs (and there was one before).
    #[must_use]
    pub fn next(&self, portions: Portions) -> Option<Self> {
        let mut differs = self.generation == 0 || self.portions.len() != portions.len();
        let mut next = Self { generation: self.generation + 1, portions: BTreeMap::new() };
        for (namespace, portion) in portions {
            let known = self.portions.get(&namespace).filter(|known| is_same(&known.portion, &portion)).cloned();
            differs |= known.is_none();
            next.portions.insert(namespace, known.unwrap_or_else(|| Known::new(portion)));
        }
        differs.then_some(next)
    }

    #[must_use]
    pub fn portion(&self, namespace: &str) -> Option<&Arc<Portion>> {
        self.portions.get(namespace).map(|known| &known.portion)
    }

    pub fn portions(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Portion>)> {
        self.portions.iter().map(|(namespace, known)| (namespace, &known.portion))
    }

    /// Where several nodes have one of this name, one of them.
    #[must_use]
    pub fn of_any_node(&self, name: &str) -> Option<&Resource> {
        let all = || self.portions.values().map(|known| &known.portion);
        let shared = all().find_map(|portion| portion.shared.get(name));
        let own = || all().flat_map(|portion| portion.nodes.values()).find_map(|resources| resources.get(name));
        shared.or_else(own).map(AsRef::as_ref)
    }

    /// The name of the snapshot that an agent has when it has everything that is its.
    #[must_use]
    pub fn snapshot(&self, node: &NodeName) -> String {
        let own = |digests: &Digests| digests.shared ^ digests.nodes.get(node).copied().unwrap_or_default();
        snapshot_name(self.portions.values().fold(0, |sum, known| sum ^ own(&known.digests)))
    }

    /// What the node's agent should hold, each name once.
    fn of<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Resource>)> {
        let portions = self.portions.values().map(|known| &known.portion);
        portions.flat_map(|portion| portion.shared.iter().chain(portion.nodes.get(node).into_iter().flatten()))
    }

    /// Namespaces of which agents may have something else than before.
    fn others(&self, before: &Self) -> Vec<Arc<str>> {
        let names: BTreeSet<&Arc<str>> = self.portions.keys().chain(before.portions.keys()).collect();
        let is_other = |name: &&&Arc<str>| match (self.portion(name), before.portion(name)) {
            (Some(now), Some(then)) => !Arc::ptr_eq(now, then),
            _ => true,
        };
        names.iter().filter(is_other).map(|name| Arc::clone(name)).collect()
    }
}

impl Known {
    fn new(portion: Arc<Portion>) -> Self {
        Self { digests: Arc::new(Digests::of(&portion)), portion }
    }
}

impl Digests {
    fn of(portion: &Portion) -> Self {
        let all = |resources: &Resources| {
            resources.iter().fold(0, |sum, (name, resource)| sum ^ digest(name, &resource.version))
        };
        let nodes = portion.nodes.iter().map(|(node, own)| (node.clone(), all(own))).collect();
        Self { shared: all(&portion.shared), nodes }
    }
}

fn is_same(one: &Arc<Portion>, other: &Arc<Portion>) -> bool {
    let same = |one: &Resources, other: &Resources| differences(Some(one), Some(other)).is_empty();
    Arc::ptr_eq(one, other)
        || (one.nodes.keys().eq(other.nodes.keys())
            && same(&one.shared, &other.shared)
            && one.nodes.iter().all(|(node, own)| other.nodes.get(node).is_some_and(|known| same(own, known))))
}

/// What is new or another one in `now`, and what is not in it any more.
fn differences<'a>(before: Option<&'a Resources>, now: Option<&'a Resources>) -> Vec<Difference<'a>> {
    let known = |resources: Option<&'a Resources>, name: &str| resources.and_then(|resources| resources.get(name));
    let is_new = |(name, resource): &(&Arc<str>, &Arc<Resource>)| {
        known(before, name).is_none_or(|known| known.version != resource.version)
    };
    let new = now.into_iter().flatten().filter(is_new).map(|(name, resource)| (name, Some(resource)));
    let gone = before.into_iter().flat_map(BTreeMap::keys).filter(|name| known(now, name).is_none());
    new.chain(gone.map(|name| (name, None))).collect()
}

#[cfg(test)]
mod tests;
