//! What differs between two states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_proto::names::NodeName;
use weft_proto::resource::digest;

use crate::translate::{Encoded, Portion, Resources};

/// What is another one, for every agent and for those of single nodes.
#[derive(Debug, Default)]
pub struct News {
    pub shared: Difference,
    pub nodes: BTreeMap<NodeName, Difference>,
}

/// Resources that are there now and were not in that version, and those that were and are not. A name may be in both.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    pub new: Vec<Arc<Encoded>>,
    pub old: Vec<Arc<Encoded>>,
}

impl News {
    /// Adds what differs between two portions. False: nothing does.
    pub fn add(&mut self, before: Option<&Portion>, now: Option<&Portion>) -> bool {
        let both = [before, now];
        let [then, now] = both.map(|portion| portion.map(|portion| &portion.shared));
        let mut differs = self.shared.add(then, now);
        let nodes: BTreeSet<&NodeName> = both.into_iter().flatten().flat_map(|portion| portion.nodes.keys()).collect();
        for node in nodes {
            let [then, now] = both.map(|portion| portion.and_then(|portion| portion.nodes.get(node)));
            let mut difference = Difference::default();
            if difference.add(then, now) {
                self.nodes.entry(node.clone()).or_default().extend(&difference);
                differs = true;
            }
        }
        differs
    }
}

impl Difference {
    /// Adds what differs between two sets. False: nothing does.
    pub fn add(&mut self, before: Option<&Resources>, now: Option<&Resources>) -> bool {
        let count = self.new.len() + self.old.len();
        self.new.extend(without(now, before));
        self.old.extend(without(before, now));
        self.new.len() + self.old.len() != count
    }

    pub fn extend(&mut self, more: &Self) {
        self.new.extend_from_slice(&more.new);
        self.old.extend_from_slice(&more.old);
    }

    /// The exclusive-or of all digests: what it adds to that of the whole.
    pub fn digest(&self) -> u64 {
        let all = self.new.iter().chain(&self.old);
        all.fold(0, |sum, resource| sum ^ digest(&resource.name, &resource.version))
    }
}

/// Of the first set, what the other one has not, or in another version.
fn without(these: Option<&Resources>, others: Option<&Resources>) -> impl Iterator<Item = Arc<Encoded>> {
    let is_same = move |(name, resource): &(&Arc<str>, &Arc<Encoded>)| {
        let other = others.and_then(|others| others.get(*name));
        other.is_some_and(|other| other.version == resource.version)
    };
    these.into_iter().flatten().filter(move |entry| !is_same(entry)).map(|(_, resource)| Arc::clone(resource))
}
