//! What differs between two states.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_proto::names::NodeName;
use weft_proto::resource::digest;

use crate::beside::beside;
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
        let [then, now] = both.map(|portion| portion.map(|portion| &portion.nodes));
        for (node, then, now) in beside(then, now) {
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
        for (_, then, now) in beside(before, now) {
            if then.map(|then| &then.version) != now.map(|now| &now.version) {
                self.old.extend(then.cloned());
                self.new.extend(now.cloned());
            }
        }
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
