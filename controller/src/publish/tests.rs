//! Whatever happens between two looks, an agent ends with the newest state.

use std::collections::BTreeSet;

use proptest::prelude::*;
use prost::Message as _;
use weft_proto::resource::{snapshot_version, versioned};
use weft_proto::v1::{DiscoveryResponse, ResourceVersion, Settings, resource::Body};

use super::subscription::Pieces;
use super::*;
use crate::limits;

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
    let portions = || published.portions().map(|(_, portion)| portion);
    let own = portions().filter_map(|portion| portion.nodes.get(&node()));
    let all = portions().map(|portion| &portion.shared).chain(own).flatten();
    all.map(|(name, resource)| (name.to_string(), resource.version.clone())).collect()
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
        let mut published = Arc::new(Published::default());
        let mut subscription = Subscription::new(node(), vec![ResourceVersion { name: "stale".to_owned(), version: vec![1] }], &published);
        let mut state = BTreeMap::from([("stale".to_owned(), vec![1])]);
        for (shared, own, bit, look) in generations {
            if let Some(next) = published.next(split(&shared, &own, 1 << bit)) {
                published = Arc::new(next);
            }
            if look {
                apply(&mut state, subscription.advance(&published).collect());
                prop_assert_eq!(&state, &expected(&published));
                let named = snapshot_version(state.iter().map(|(name, version)| (name.as_str(), version.as_slice())));
                prop_assert_eq!(published.snapshot(&node()), named);
            }
        }
    }
}

#[test]
fn an_agent_that_holds_everything_is_sent_one_empty_message() {
    let published = Arc::new(Published::default().next(portions(&[(1, 1), (2, 2)], &[])).unwrap());
    let held = expected(&published).into_iter().map(|(name, version)| ResourceVersion { name, version });
    let mut subscription = Subscription::new(node(), held.collect(), &published);
    assert_eq!(
        subscription.advance(&published).collect::<Vec<_>>(),
        [DiscoveryResponse { complete: true, ..DiscoveryResponse::default() }]
    );
    assert_eq!(subscription.advance(&published).next(), None);
}

#[test]
fn what_did_not_change_is_the_same_allocation_and_no_generation() {
    let published = Published::default().next(portions(&[(1, 1), (2, 2)], &[])).unwrap();
    assert!(published.next(portions(&[(1, 1), (2, 2)], &[])).is_none());
    let next = published.next(portions(&[(1, 1), (2, 3)], &[])).unwrap();
    let same = |namespace: &str| Arc::ptr_eq(next.portion(namespace).unwrap(), published.portion(namespace).unwrap());
    assert_eq!((same("odd"), same("even")), (true, false));
    assert_eq!(next.others(&published).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([Arc::from("even")]));
}

fn messages(upserts: Vec<Resource>, removals: Vec<String>) -> Vec<DiscoveryResponse> {
    let mut pieces = Pieces::default();
    for resource in upserts {
        pieces.add(&Arc::new(resource));
    }
    for name in removals {
        pieces.remove(name);
    }
    pieces.close(false);
    pieces.full.into()
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
