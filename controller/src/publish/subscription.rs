//! What one agent holds, and the messages that bring it to the newest state.
//!
//! A subscription never queues: it compares what the agent has with the newest state, so what changes twice while a
//! message is in flight is sent once. Messages are made one after the other, as the agent takes them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use prost::Message as _;
use weft_proto::names::NodeName;
use weft_proto::v1::{DiscoveryResponse, Resource, ResourceVersion};

use super::{Published, differences};
use crate::limits;

#[derive(Debug)]
pub struct Subscription {
    node: NodeName,
    held: Held,
    /// It has been told something.
    is_greeted: bool,
}

#[derive(Debug)]
enum Held {
    /// What the agent says that it has: names and versions.
    Claimed(HashMap<String, Vec<u8>>),
    /// All that was its at that moment.
    Sent(Arc<Published>),
}

/// Messages that bring an agent to a state; the last one completes the change.
#[derive(Debug)]
pub struct Advance<'a> {
    subscription: &'a mut Subscription,
    to: Arc<Published>,
    /// Namespaces that are still to be compared.
    left: VecDeque<Arc<str>>,
    /// Names that are new or another one in some namespace, and those that are gone from one: perhaps to another.
    new: HashSet<Arc<str>>,
    gone: Vec<Arc<str>>,
    pieces: Pieces,
    is_done: bool,
}

impl Subscription {
    /// An agent that says what it holds already. Where that is all of `newest`, as after a restart of ours, nothing of it
    /// has to be remembered.
    #[must_use]
    pub fn new(node: NodeName, held: Vec<ResourceVersion>, newest: &Arc<Published>) -> Self {
        let claimed: HashMap<String, Vec<u8>> =
            held.into_iter().map(|resource| (resource.name, resource.version)).collect();
        let held = if newest.generation > 0 && newest.is_all_that(&node, &claimed) {
            Held::Sent(Arc::clone(newest))
        } else {
            Held::Claimed(claimed)
        };
        Self { node, held, is_greeted: false }
    }

    /// The first one always gives at least one message, so that an agent knows that it is up to date. To be taken to its end.
    pub fn advance(&mut self, to: &Arc<Published>) -> Advance<'_> {
        let left = match &self.held {
            Held::Claimed(_) => to.portions.keys().cloned().collect(),
            Held::Sent(before) => to.others(before).into(),
        };
        let (new, gone, pieces) = (HashSet::new(), Vec::new(), Pieces::default());
        Advance { subscription: self, to: Arc::clone(to), left, new, gone, pieces, is_done: false }
    }
}

impl Advance<'_> {
    fn compare(&mut self, namespace: &str) {
        let Subscription { node, held, .. } = &mut *self.subscription;
        let now = self.to.portion(namespace);
        let own = now.and_then(|portion| portion.nodes.get(node));
        match held {
            Held::Claimed(claimed) => {
                let all = now.map(|portion| &portion.shared).into_iter().chain(own).flatten();
                for (name, resource) in all {
                    if claimed.remove(name.as_ref()).as_ref() != Some(&resource.version) {
                        self.pieces.add(resource);
                    }
                }
            }
            Held::Sent(before) => {
                let before = before.portion(namespace);
                let shared = differences(before.map(|portion| &portion.shared), now.map(|portion| &portion.shared));
                let own = differences(before.and_then(|portion| portion.nodes.get(node)), own);
                for (name, resource) in shared.into_iter().chain(own) {
                    match resource {
                        Some(resource) => {
                            self.new.insert(Arc::clone(name));
                            self.pieces.add(resource);
                        }
                        None => self.gone.push(Arc::clone(name)),
                    }
                }
            }
        }
    }

    /// The last message, unless there is nothing to say.
    fn end(&mut self) -> Option<DiscoveryResponse> {
        self.is_done = true;
        for name in self.gone.iter().filter(|name| !self.new.contains(*name)) {
            self.pieces.remove(name.to_string());
        }
        let before = std::mem::replace(&mut self.subscription.held, Held::Sent(Arc::clone(&self.to)));
        if let Held::Claimed(unknown) = before {
            // What is left of them is nobody's.
            for name in unknown.into_keys() {
                self.pieces.remove(name);
            }
        }
        self.pieces.close(!std::mem::replace(&mut self.subscription.is_greeted, true));
        self.pieces.full.pop_front()
    }
}

impl Iterator for Advance<'_> {
    type Item = DiscoveryResponse;

    fn next(&mut self) -> Option<DiscoveryResponse> {
        loop {
            if let Some(full) = self.pieces.full.pop_front() {
                return Some(full);
            }
            match self.left.pop_front() {
                Some(namespace) => self.compare(&namespace),
                None if self.is_done => return None,
                None => return self.end(),
            }
        }
    }
}

/// Pieces of at most [`limits::RESOURCES_PER_MESSAGE`] and [`limits::MESSAGE_BYTES`]; a larger resource comes alone.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pub(super) full: VecDeque<DiscoveryResponse>,
    last: DiscoveryResponse,
    /// Of `last`.
    bytes: usize,
    is_any: bool,
}

impl Pieces {
    pub(super) fn add(&mut self, resource: &Arc<Resource>) {
        self.piece_for(resource.encoded_len()).upserts.push(Resource::clone(resource));
    }

    pub(super) fn remove(&mut self, name: String) {
        self.piece_for(name.len()).removals.push(name);
    }

    /// The piece that has room for one more entry of that many bytes, which are counted.
    fn piece_for(&mut self, bytes: usize) -> &mut DiscoveryResponse {
        let count = self.last.upserts.len() + self.last.removals.len();
        let full = self.bytes + bytes > limits::MESSAGE_BYTES || count >= limits::RESOURCES_PER_MESSAGE;
        if full && count > 0 {
            self.full.push_back(std::mem::take(&mut self.last));
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.is_any = true;
        &mut self.last
    }

    /// The last one completes the change. An empty one only where something has to be said.
    pub(super) fn close(&mut self, even_if_empty: bool) {
        if self.is_any || even_if_empty {
            self.last.complete = true;
            self.full.push_back(std::mem::take(&mut self.last));
        }
    }
}
