//! What each agent should hold, and the differences to what it does hold.
//!
//! A subscription never queues: it compares what it has sent with the newest state, so what changes twice while a
//! message is in flight is sent once. Pure; sending is `serve`'s business.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use prost::Message as _;
use weft_proto::names::NodeName;
use weft_proto::resource::snapshot_version;
use weft_proto::v1::{DiscoveryResponse, Resource, ResourceVersion};

use crate::limits;
use crate::translate::Resources;

/// The state of the mesh at one generation. Generation 0 is before the first translation.
#[derive(Debug, Clone, Default)]
pub struct Published {
    pub generation: u64,
    pub shared: Resources,
    pub nodes: BTreeMap<NodeName, Resources>,
    /// The newest last.
    changes: VecDeque<Arc<Change>>,
}

/// Names that one generation touched.
#[derive(Debug)]
struct Change {
    generation: u64,
    shared: Vec<Arc<str>>,
    nodes: BTreeMap<NodeName, Vec<Arc<str>>>,
}

impl Published {
    /// The next generation, or None if nothing differs (and there was one before).
    #[must_use]
    pub fn next(&self, shared: Resources, nodes: BTreeMap<NodeName, Resources>) -> Option<Self> {
        let generation = self.generation + 1;
        let none = Resources::new();
        let mut change = Change { generation, shared: touched(&self.shared, &shared), nodes: BTreeMap::new() };
        for node in self.nodes.keys().chain(nodes.keys()).collect::<BTreeSet<_>>() {
            let names = touched(self.nodes.get(node).unwrap_or(&none), nodes.get(node).unwrap_or(&none));
            if !names.is_empty() {
                change.nodes.insert(node.clone(), names);
            }
        }
        if change.shared.is_empty() && change.nodes.is_empty() && self.generation > 0 {
            return None;
        }
        let mut changes = self.changes.clone();
        changes.push_back(Arc::new(change));
        if changes.len() > limits::REMEMBERED_CHANGES {
            changes.pop_front();
        }
        Some(Self { generation, shared, nodes, changes })
    }

    fn resource(&self, node: &NodeName, name: &str) -> Option<&Arc<Resource>> {
        self.nodes.get(node).and_then(|own| own.get(name)).or_else(|| self.shared.get(name))
    }

    /// Where several nodes have one of this name, one of them.
    #[must_use]
    pub fn of_any_node(&self, name: &str) -> Option<&Resource> {
        let own = || self.nodes.values().find_map(|resources| resources.get(name));
        self.shared.get(name).or_else(own).map(AsRef::as_ref)
    }

    fn names(&self, node: &NodeName) -> impl Iterator<Item = &Arc<str>> {
        self.shared.keys().chain(self.nodes.get(node).into_iter().flat_map(BTreeMap::keys))
    }

    /// Names touched for `node` after `generation`, or None if that is longer ago than is remembered.
    fn touched_since(&self, node: &NodeName, generation: u64) -> Option<BTreeSet<&Arc<str>>> {
        let oldest = self.changes.front()?.generation;
        if generation + 1 < oldest {
            return None;
        }
        let later = self.changes.iter().filter(|change| change.generation > generation);
        Some(
            later.flat_map(|change| change.shared.iter().chain(change.nodes.get(node).into_iter().flatten())).collect(),
        )
    }
}

fn touched(before: &Resources, after: &Resources) -> Vec<Arc<str>> {
    let differs = |(name, resource): &(&Arc<str>, &Arc<Resource>)| {
        before.get(*name).is_none_or(|known| known.version != resource.version)
    };
    let upserts = after.iter().filter(differs).map(|(name, _)| Arc::clone(name));
    let removals = before.keys().filter(|name| !after.contains_key(*name)).map(Arc::clone);
    upserts.chain(removals).collect()
}

/// What one agent holds.
#[derive(Debug)]
pub struct Subscription {
    node: NodeName,
    held: HashMap<Arc<str>, Vec<u8>>,
    /// None before the first comparison.
    generation: Option<u64>,
    /// The snapshot's name as a number: the exclusive-or of its resources' (see `weft_proto::resource`).
    fold: u64,
}

impl Subscription {
    /// An agent that says what it holds already.
    #[must_use]
    pub fn new(node: NodeName, held: Vec<ResourceVersion>) -> Self {
        let held: HashMap<Arc<str>, Vec<u8>> =
            held.into_iter().map(|resource| (Arc::from(resource.name), resource.version)).collect();
        let fold = held.iter().fold(0, |fold, (name, version)| fold ^ digest(name, version));
        Self { node, held, generation: None, fold }
    }

    /// The name that the agent will give to the snapshot that it has after everything was sent.
    #[must_use]
    pub fn snapshot(&self) -> String {
        format!("{:016x}", self.fold)
    }

    /// Messages that bring the agent to `published`; the last one completes the change. The first comparison always
    /// gives at least one message, so that an agent knows that it is up to date.
    pub fn advance(&mut self, published: &Published) -> Vec<DiscoveryResponse> {
        let first = self.generation.is_none();
        let since = self.generation.and_then(|generation| published.touched_since(&self.node, generation));
        let names: BTreeSet<Arc<str>> = match since {
            Some(touched) => touched.into_iter().cloned().collect(),
            None => published.names(&self.node).chain(self.held.keys()).cloned().collect(),
        };
        self.generation = Some(published.generation);
        let (mut upserts, mut removals) = (Vec::new(), Vec::new());
        for name in names {
            match published.resource(&self.node, &name) {
                Some(resource) => {
                    if self.held.get(&name) != Some(&resource.version) {
                        self.hold(&name, Some(resource.version.clone()));
                        upserts.push(Resource::clone(resource));
                    }
                }
                None => {
                    if self.hold(&name, None) {
                        removals.push(name.to_string());
                    }
                }
            }
        }
        if upserts.is_empty() && removals.is_empty() && !first {
            return Vec::new();
        }
        messages(upserts, removals)
    }

    /// True if there was something before.
    fn hold(&mut self, name: &Arc<str>, version: Option<Vec<u8>>) -> bool {
        if let Some(version) = &version {
            self.fold ^= digest(name, version);
        }
        let before = match version {
            Some(version) => self.held.insert(Arc::clone(name), version),
            None => self.held.remove(name),
        };
        if let Some(before) = &before {
            self.fold ^= digest(name, before);
        }
        before.is_some()
    }
}

fn digest(name: &str, version: &[u8]) -> u64 {
    // A set of one is named by its only member's digest, 16 hexadecimal digits.
    u64::from_str_radix(&snapshot_version([(name, version)].into_iter()), 16).unwrap_or_default()
}

/// In pieces of at most [`limits::RESOURCES_PER_MESSAGE`] and [`limits::MESSAGE_BYTES`]; a larger resource comes alone.
fn messages(upserts: Vec<Resource>, removals: Vec<String>) -> Vec<DiscoveryResponse> {
    let mut pieces = Pieces::default();
    for resource in upserts {
        pieces.piece_for(resource.encoded_len()).upserts.push(resource);
    }
    for name in removals {
        pieces.piece_for(name.len()).removals.push(name);
    }
    pieces.last.complete = true;
    pieces.full.push(pieces.last);
    pieces.full
}

#[derive(Default)]
struct Pieces {
    full: Vec<DiscoveryResponse>,
    last: DiscoveryResponse,
    /// Of `last`.
    bytes: usize,
}

impl Pieces {
    /// The piece that has room for one more entry of that many bytes, which are counted.
    fn piece_for(&mut self, bytes: usize) -> &mut DiscoveryResponse {
        let count = self.last.upserts.len() + self.last.removals.len();
        let full = self.bytes + bytes > limits::MESSAGE_BYTES || count >= limits::RESOURCES_PER_MESSAGE;
        if full && count > 0 {
            self.full.push(std::mem::take(&mut self.last));
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weft_proto::resource::versioned;
    use weft_proto::v1::{Settings, resource::Body};

    use super::*;

    fn resources(content: &[(u8, u8)]) -> Resources {
        content
            .iter()
            .map(|(name, value)| {
                let body = Body::Settings(Settings { lease_ms: u32::from(*value), ..Settings::default() });
                let resource = versioned(format!("r{name}"), vec![], body);
                (Arc::from(resource.name.as_str()), Arc::new(resource))
            })
            .collect()
    }

    fn node() -> NodeName {
        "a".parse().unwrap()
    }

    fn apply(state: &mut BTreeMap<String, Vec<u8>>, messages: Vec<DiscoveryResponse>) {
        let last = messages.len().saturating_sub(1);
        for (index, message) in messages.into_iter().enumerate() {
            assert_eq!(message.complete, index == last);
            for resource in message.upserts {
                state.insert(resource.name, resource.version);
            }
            for name in message.removals {
                assert!(state.remove(&name).is_some(), "{name} was removed and never there");
            }
        }
    }

    fn expected(published: &Published) -> BTreeMap<String, Vec<u8>> {
        published
            .names(&node())
            .filter_map(|name| published.resource(&node(), name).map(|found| (name.to_string(), found.version.clone())))
            .collect()
    }

    proptest! {
        /// Whatever changed, and however many generations a subscription missed, the agent ends with exactly the newest state.
        #[test]
        fn an_agent_always_ends_with_the_newest_state(
            generations in proptest::collection::vec(
                (proptest::collection::vec((0_u8..12, 0_u8..3), 0..12), proptest::collection::vec((12_u8..16, 0_u8..3), 0..4), any::<bool>()),
                1..100,
            ),
        ) {
            let mut published = Published::default();
            let mut subscription = Subscription::new(node(), vec![ResourceVersion { name: "stale".to_owned(), version: vec![1] }]);
            let mut state = BTreeMap::from([("stale".to_owned(), vec![1])]);
            for (shared, own, look) in generations {
                let nodes = BTreeMap::from([(node(), resources(&own)), ("b".parse().unwrap(), resources(&[(99, 1)]))]);
                if let Some(next) = published.next(resources(&shared), nodes) {
                    published = next;
                }
                if look {
                    apply(&mut state, subscription.advance(&published));
                    prop_assert_eq!(&state, &expected(&published));
                    let named = snapshot_version(state.iter().map(|(name, version)| (name.as_str(), version.as_slice())));
                    prop_assert_eq!(subscription.snapshot(), named);
                }
            }
        }
    }

    #[test]
    fn an_agent_that_holds_everything_is_sent_one_empty_message() {
        let published = Published::default().next(resources(&[(1, 1), (2, 2)]), BTreeMap::new()).unwrap();
        let held = published
            .shared
            .values()
            .map(|found| ResourceVersion { name: found.name.clone(), version: found.version.clone() });
        let mut subscription = Subscription::new(node(), held.collect());
        assert_eq!(
            subscription.advance(&published),
            [DiscoveryResponse { complete: true, ..DiscoveryResponse::default() }]
        );
        assert!(subscription.advance(&published).is_empty());
    }

    #[test]
    fn large_changes_come_in_pieces() {
        let content: Vec<Resource> = (0..600).map(|_| Resource::default()).collect();
        let pieces = messages(content, vec![String::new(); 10]);
        assert_eq!(
            pieces.iter().map(|piece| piece.upserts.len() + piece.removals.len()).collect::<Vec<_>>(),
            [256, 256, 98]
        );
        assert_eq!(pieces.iter().map(|piece| piece.complete).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn no_message_is_larger_than_an_agent_takes() {
        let of = |bytes: usize| Resource { name: "x".repeat(bytes), ..Resource::default() };
        let sizes = [300_000, 400_000, 300_000, 100_000, 2 << 20, 5, 700_000];
        let names = vec!["y".repeat(600_000); 3];
        let pieces = messages(sizes.into_iter().map(of).collect(), names);
        let sent: Vec<usize> = pieces.iter().flat_map(|piece| &piece.upserts).map(|found| found.name.len()).collect();
        assert_eq!(sent, sizes);
        assert_eq!(pieces.iter().map(|piece| piece.removals.len()).sum::<usize>(), 3);
        for piece in &pieces {
            let count = piece.upserts.len() + piece.removals.len();
            let small = piece.encoded_len() <= limits::MESSAGE_BYTES + 1024;
            assert!(count == 1 || (count > 0 && small), "{count} entries of {} bytes", piece.encoded_len());
        }
        assert_eq!(pieces.iter().filter(|piece| piece.complete).count(), 1);
        assert!(pieces.last().unwrap().complete);
    }
}
