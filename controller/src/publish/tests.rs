//! Whatever happens between two looks, an agent ends with the newest state.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message as _;
use weft_proto::resource::{SHARD_DIGEST_LENGTH, SHARDS, shard, shards, snapshot_version, versioned};
use weft_proto::v1::{DiscoveryResponse, ResourceVersion, Settings, resource::Body};

use super::*;
use crate::limits;

/// What an agent holds: names and versions.
type Held = BTreeMap<String, Vec<u8>>;

fn resource(name: &str, value: u8) -> Resource {
    let body = Body::Settings(Settings { lease_ms: u32::from(value), ..Settings::default() });
    versioned(name.to_owned(), vec![], body)
}

fn resources(content: &[(u8, u8)]) -> Resources {
    let all = content.iter().map(|(name, value)| resource(&format!("r{name}"), *value));
    all.map(|resource| (Arc::from(resource.name.as_str()), Arc::new(resource.into()))).collect()
}

fn node() -> NodeName {
    "a".parse().unwrap()
}

fn pairs(held: &Held) -> impl Iterator<Item = (&str, &[u8])> {
    held.iter().map(|(name, version)| (name.as_str(), version.as_slice()))
}

/// What an agent does that holds this, up to its first change; and how many names it was asked for.
fn subscribe(held: &mut Held, published: &Arc<Published>) -> (Subscription, usize) {
    let claim = Claim::new(node(), &shards(pairs(held)), published).unwrap();
    let asked = pairs(held).filter(|(name, _)| claim.unclear().contains(&shard(name)));
    let named: Vec<_> =
        asked.map(|(name, version)| ResourceVersion { name: name.to_owned(), version: version.to_vec() }).collect();
    let count = named.len();
    let (subscription, messages) = claim.settle(named);
    apply(held, messages.collect());
    (subscription, count)
}

fn apply(state: &mut Held, messages: Vec<DiscoveryResponse>) {
    let last = messages.len().saturating_sub(1);
    for (index, message) in messages.into_iter().enumerate() {
        assert_eq!(message.complete, index == last);
        for resource in message.upserts {
            let resource = Resource::decode(resource).unwrap();
            state.insert(resource.name, resource.version);
        }
        for name in message.removals {
            assert!(state.remove(&name).is_some(), "{name} was removed and never there");
        }
    }
}

fn expected(published: &Published) -> Held {
    let portions = || published.portions().map(|(_, portion)| portion);
    let own = portions().filter_map(|portion| portion.nodes.get(&node()));
    let all = portions().map(|portion| &portion.shared).chain(own).flatten();
    all.map(|(name, resource)| (name.to_string(), resource.version.clone())).collect()
}

/// Of these resources alone, for every node, in one namespace.
fn published(all: &Held) -> Arc<Published> {
    let shared = all.iter().map(|(name, version)| {
        let resource = Resource { name: name.clone(), version: version.clone(), ..Resource::default() };
        (Arc::from(name.as_str()), Arc::new(resource.into()))
    });
    let portion = Arc::new(Portion { shared: shared.collect(), nodes: BTreeMap::new() });
    Arc::new(Published::default().next(Portions::from([(Arc::from("shop"), portion)])).unwrap())
}

/// Names that are all in a few shards, so that some of one shard are right and others are not; and few digests to make.
fn crowded() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let all = (0_u32..).map(|number| format!("workload/{number}"));
        all.filter(|name| shard(name) < 4).take(24).collect()
    });
    &NAMES
}

fn crowd() -> impl Strategy<Value = Held> {
    let versions = proptest::collection::vec(proptest::option::of(0_u8..2), crowded().len());
    versions.prop_map(|versions| {
        let all = crowded().iter().zip(versions);
        all.filter_map(|(name, version)| Some((name.clone(), vec![version?; 16]))).collect()
    })
}

/// In two namespaces, the even ones and the odd ones; an empty one is not there.
fn portions(shared: &[(u8, u8)], own: &[(u8, u8)]) -> Portions {
    split(shared, own, 1)
}

/// The same, told apart by this bit: what is in one namespace at first may be in the other one later.
fn split(shared: &[(u8, u8)], own: &[(u8, u8)], bit: u8) -> Portions {
    let of = |parity: u8, all: &[(u8, u8)]| {
        resources(&all.iter().copied().filter(|(name, _)| u8::from(name & bit > 0) == parity).collect::<Vec<_>>())
    };
    let portion = |parity: u8| {
        let nodes =
            BTreeMap::from([(node(), of(parity, own)), ("b".parse().unwrap(), of(parity, &[(98, 1), (99, 1)]))]);
        Arc::new(Portion { shared: of(parity, shared), nodes })
    };
    let namespaces = [(Arc::from("even"), portion(0)), (Arc::from("odd"), portion(1))];
    let of_each = |portion: &Portion| portion.shared.len() + portion.nodes[&node()].len();
    namespaces.into_iter().filter(|(_, portion)| of_each(portion) > 0).collect()
}

proptest! {
    /// Whatever changed, and however many generations a subscription missed, the agent ends with exactly the newest state.
    #[test]
    fn an_agent_always_ends_with_the_newest_state(
        generations in proptest::collection::vec(
            (proptest::collection::vec((0_u8..12, 0_u8..3), 0..12), proptest::collection::vec((12_u8..16, 0_u8..3), 0..4), 0_u8..3, any::<bool>()),
            1..100,
        ),
    ) {
        let mut state = Held::from([("stale".to_owned(), vec![1])]);
        let mut published = Arc::new(Published::default().next(Portions::new()).unwrap());
        let (mut subscription, _) = subscribe(&mut state, &published);
        prop_assert_eq!(&state, &Held::new());
        for (shared, own, bit, look) in generations {
            if let Some(next) = published.next(split(&shared, &own, 1 << bit)) {
                published = Arc::new(next);
            }
            if look {
                apply(&mut state, subscription.advance(&published).collect());
                prop_assert_eq!(&state, &expected(&published));
                prop_assert_eq!(published.snapshot(&node()), snapshot_version(pairs(&state)));
            }
        }
    }

    /// Whatever an agent brings and whatever it should hold, it ends with exactly that, and names no more than shards in
    /// which something differs.
    #[test]
    fn an_agent_that_returns_ends_with_exactly_what_it_should_hold(brought in crowd(), wanted in crowd()) {
        let mut held = brought.clone();
        let (mut subscription, named) = subscribe(&mut held, &published(&wanted));
        prop_assert_eq!(&held, &wanted);
        let differs = |number: u8| {
            let of = |all: &Held| pairs(all).filter(|(name, _)| shard(name) == number).map(|(name, version)| (name.to_owned(), version.to_vec())).collect::<Held>();
            of(&brought) != of(&wanted)
        };
        prop_assert_eq!(named, brought.keys().filter(|name| differs(shard(name))).count());
        prop_assert_eq!(subscription.advance(&published(&wanted)).next(), None);
    }
}

#[test]
fn an_agent_that_holds_everything_is_asked_nothing_and_sent_one_empty_message() {
    let published = Arc::new(Published::default().next(portions(&[(1, 1), (2, 2)], &[(12, 1)])).unwrap());
    let held = expected(&published);
    let claim = Claim::new(node(), &shards(pairs(&held)), &published).unwrap();
    assert_eq!(claim.unclear(), [0_u8; 0]);
    let (mut subscription, first) = claim.settle(Vec::new());
    assert_eq!(first.collect::<Vec<_>>(), [DiscoveryResponse { complete: true, ..DiscoveryResponse::default() }]);
    assert_eq!(subscription.advance(&published).next(), None);
}

#[test]
fn an_agent_that_holds_nothing_is_sent_all_at_once() {
    let published = Arc::new(Published::default().next(portions(&[(1, 1), (2, 2)], &[])).unwrap());
    for digests in [vec![], shards(std::iter::empty())] {
        let claim = Claim::new(node(), &digests, &published).unwrap();
        assert_eq!(claim.unclear(), [0_u8; 0]);
        let mut held = Held::new();
        apply(&mut held, claim.settle(Vec::new()).1.collect());
        assert_eq!(held, expected(&published));
    }
}

/// It would be told to drop what nobody asked about, and what it must hold.
#[test]
fn what_an_agent_names_unasked_counts_for_nothing() {
    let published = Arc::new(Published::default().next(portions(&[(1, 1), (2, 2)], &[])).unwrap());
    let held = expected(&published);
    let claim = Claim::new(node(), &shards(pairs(&held)), &published).unwrap();
    let named = held.keys().map(|name| ResourceVersion { name: name.clone(), version: vec![0] });
    let (_, first) = claim.settle(named.collect());
    assert_eq!(first.collect::<Vec<_>>(), [DiscoveryResponse { complete: true, ..DiscoveryResponse::default() }]);
}

#[test]
fn what_is_no_digest_is_refused() {
    let refused = |digests: Vec<Vec<u8>>| Claim::new(node(), &digests, &Arc::default()).is_err();
    assert!(!refused(vec![vec![1; SHARD_DIGEST_LENGTH]; SHARDS]));
    assert!(refused(vec![vec![]; SHARDS + 1]));
    // A name and its version, as agents once said what they hold.
    assert!(refused(vec![b"\n\x08settings\x12\x101234567890123456".to_vec()]));
}

#[test]
fn what_did_not_change_is_the_same_allocation_and_no_generation() {
    let published = Published::default().next(portions(&[(1, 1), (2, 2)], &[])).unwrap();
    assert!(published.next(portions(&[(1, 1), (2, 2)], &[])).is_none());
    let next = published.next(portions(&[(1, 1), (2, 3)], &[])).unwrap();
    let same = |namespace: &str| Arc::ptr_eq(next.portion(namespace).unwrap(), published.portion(namespace).unwrap());
    assert_eq!((same("odd"), same("even")), (true, false));
    assert_eq!(published.others(&next.portions), [Arc::from("even")]);
}

fn messages(upserts: Vec<Resource>, removals: Vec<String>) -> Vec<DiscoveryResponse> {
    Messages::of(upserts.into_iter().map(|resource| Arc::new(resource.into())).collect(), removals).collect()
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
    let sent: Vec<usize> = pieces
        .iter()
        .flat_map(|piece| piece.upserts.clone())
        .map(|found| Resource::decode(found).unwrap().name.len())
        .collect();
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
