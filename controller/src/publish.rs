//! The state of the mesh at each moment, and what differs between two of them.
//!
//! Invariant: a portion that did not change is the same allocation in both, so a difference costs what changed. Pure;
//! what one agent holds is `claim`'s and `subscription`'s, and sending is `serve`'s business.

mod claim;
mod news;
mod subscription;

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use weft_proto::names::NodeName;
use weft_proto::resource::snapshot_name;
use weft_proto::v1::Resource;

use crate::beside::beside;
use crate::translate::{Encoded, Portion, Resources};

pub use claim::Claim;
use news::{Difference, News};
pub use subscription::{Messages, Subscription};

/// By namespace.
pub type Portions = BTreeMap<Arc<str>, Arc<Portion>>;

/// The state of the mesh at one generation. Generation 0 is before the first translation.
#[derive(Debug, Default)]
pub struct Published {
    pub generation: u64,
    portions: Portions,
    digests: Digests,
    /// Since the generation before, where nearly every agent comes from: looked for once, and not by each of them.
    news: News,
}

/// Exclusive-or of the digests of resources (see `weft_proto::resource`).
#[derive(Debug, Clone, Default)]
struct Digests {
    shared: u64,
    nodes: BTreeMap<NodeName, u64>,
}

impl Published {
    /// The next generation, or None if nothing differs (and there was one before).
    #[must_use]
    pub fn next(&self, mut portions: Portions) -> Option<Self> {
        let mut news = News::default();
        let mut differs = self.generation == 0;
        for namespace in self.others(&portions) {
            let (before, now) = (self.portion(&namespace), portions.get(&namespace));
            let is_other = news.add(before.map(AsRef::as_ref), now.map(AsRef::as_ref));
            differs |= is_other;
            if let Some(before) = before.filter(|_| !is_other && now.is_some()) {
                portions.insert(namespace, Arc::clone(before));
            }
        }
        if !differs {
            return None;
        }
        let digests = self.digests.with(&news);
        Some(Self { generation: self.generation + 1, portions, digests, news })
    }

    #[must_use]
    pub fn portion(&self, namespace: &str) -> Option<&Arc<Portion>> {
        self.portions.get(namespace)
    }

    pub fn portions(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Portion>)> {
        self.portions.iter()
    }

    /// The one of this name that the node's agent should hold.
    #[must_use]
    pub fn find(&self, node: &NodeName, name: &str) -> Option<&Resource> {
        self.sets(node).find_map(|resources| resources.get(name)).map(|resource| &***resource)
    }

    /// The name of the snapshot that an agent has when it has everything that is its.
    #[must_use]
    pub fn snapshot(&self, node: &NodeName) -> String {
        snapshot_name(self.digests.shared ^ self.digests.nodes.get(node).copied().unwrap_or_default())
    }

    /// What the node's agent should hold, each name once.
    fn of(&self, node: &NodeName) -> impl Iterator<Item = (&Arc<str>, &Arc<Encoded>)> {
        self.sets(node).flatten()
    }

    fn sets(&self, node: &NodeName) -> impl Iterator<Item = &Resources> {
        self.portions.values().flat_map(move |portion| iter::once(&portion.shared).chain(portion.nodes.get(node)))
    }

    /// What differs for the node's agent, if it has its part of `before`.
    fn since(&self, before: &Self, node: &NodeName) -> Difference {
        let mut all = Difference::default();
        if self.generation == before.generation + 1 {
            all.extend(&self.news.shared);
            if let Some(own) = self.news.nodes.get(node) {
                all.extend(own);
            }
            return all;
        }
        for namespace in before.others(&self.portions) {
            let [then, now] = [before, self].map(|state| state.portion(&namespace));
            all.add(then.map(|portion| &portion.shared), now.map(|portion| &portion.shared));
            let [then, now] = [then, now].map(|portion| portion.and_then(|portion| portion.nodes.get(node)));
            all.add(then, now);
        }
        all
    }

    /// Namespaces that may be other ones in these portions.
    fn others(&self, portions: &Portions) -> Vec<Arc<str>> {
        let all = beside(Some(&self.portions), Some(portions));
        let others = all.filter(|(_, then, now)| !then.zip(*now).is_some_and(|(then, now)| Arc::ptr_eq(then, now)));
        others.map(|(name, ..)| Arc::clone(name)).collect()
    }
}

impl Digests {
    fn with(&self, news: &News) -> Self {
        let mut next = self.clone();
        next.shared ^= news.shared.digest();
        for (node, difference) in &news.nodes {
            *next.nodes.entry(node.clone()).or_default() ^= difference.digest();
        }
        next.nodes.retain(|_, digest| *digest != 0);
        next
    }
}

#[cfg(test)]
mod tests;
