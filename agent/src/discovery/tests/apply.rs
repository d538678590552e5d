//! Changes into snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use weft_policy::{Action, Asked, Ground, Peer, evaluate};
use weft_proto::resource::snapshot_version;
use weft_proto::v1::{self, resource::Body};

use super::super::apply::{Change, Resources, Unusable};
use super::super::parse::Features;
use super::super::snapshots::Nack;
use super::*;
use crate::limits;
use crate::model::{Destination, Snapshot};

fn change(messages: Vec<(Vec<v1::Resource>, &[&str])>) -> Change {
    let mut change = Change::default();
    for (upserts, removals) in messages {
        let (upserts, removals) = (encoded(upserts), removals.iter().map(ToString::to_string).collect());
        change
            .add(v1::DiscoveryResponse { upserts, removals, ..v1::DiscoveryResponse::default() })
            .expect("within the bounds");
    }
    change
}

/// One change of these resources.
fn upserts(bodies: Vec<Body>) -> Change {
    change(vec![(bodies.into_iter().map(resource).collect(), &[])])
}

fn world() -> Resources {
    let mut world = Resources::new(Features::own());
    world.fold(upserts(vec![
        // Before the settings in whose names its identity is written: the order in a message means nothing.
        Body::Workload(workload("u1")),
        Body::Settings(settings("mesh.local")),
        Body::Trust(v1::Trust { roots_der: vec![root()] }),
        Body::Service(service()),
        Body::Enrolment(enrolment("u1", &["web"])),
        Body::Authorization(policy("web", v1::Action::Allow)),
    ]));
    world
}

fn nacked(nacks: &[Nack]) -> Vec<&str> {
    nacks.iter().map(|nack| nack.resource.as_str()).collect()
}

fn identity_of(snapshot: &Snapshot, uid: &str) -> Option<String> {
    let workload = snapshot.workloads.get(&uid.parse().expect("a uid"))?;
    workload.identity.as_ref().map(ToString::to_string)
}

fn ground(snapshot: &Snapshot, uid: &str) -> Ground {
    let enrolment = &snapshot.enrolments[&uid.parse().expect("a uid")];
    let peer = Peer { identity: None, address: [10, 0, 0, 9].into(), port: 80, asked: Asked::Opaque };
    evaluate(enrolment.policies.iter().map(AsRef::as_ref), &peer).ground
}

#[test]
fn a_change_becomes_one_snapshot_under_the_name_that_the_controller_gives_it() {
    let world = world();
    let (snapshot, nacks) = world.snapshot();
    assert_eq!(nacks, []);
    let all = held(&world);
    let version = snapshot_version(all.iter().map(|held| (held.name.as_str(), held.version.as_slice())));
    assert_eq!(*snapshot.version.0, version);
    assert_eq!(identity_of(&snapshot, "u1").as_deref(), Some("spiffe://mesh.local/ns/shop/sa/web"));
    assert_eq!((snapshot.roots.len(), snapshot.captured_networks.len()), (1, 1));
    let asked = "10.96.0.1:80".parse().expect("an address");
    assert!(matches!(snapshot.destination(asked), Destination::Service { port, .. } if port.endpoints.len() == 1));
    assert_eq!(snapshot.enrolments[&"u1".parse().expect("a uid")].policies.len(), 1);
}

#[test]
fn a_removed_resource_is_removed() {
    let mut world = world();
    assert!(world.fold(change(vec![(vec![], &["workload/u1", "service/shop/web", "workload/never"])])));
    let (snapshot, _) = world.snapshot();
    assert!(snapshot.workloads.is_empty() && snapshot.services.is_empty());
    assert!(!world.fold(Change::default()));
}

#[test]
fn a_later_message_has_the_last_word() {
    let mut world = world();
    let again = resource(Body::Service(service()));
    world.fold(change(vec![(vec![], &["service/shop/web"]), (vec![again], &[])]));
    assert_eq!(world.snapshot().0.services.len(), 1);
}

#[test]
fn what_cannot_be_read_disturbs_nothing_else() {
    let mut world = world();
    let unknown = v1::Resource { name: "route/shop/web".to_owned(), version: vec![1], ..v1::Resource::default() };
    let bad = v1::Workload { addresses: vec![vec![1]], ..workload("u2") };
    world.fold(change(vec![(
        vec![unknown, resource(Body::Workload(bad)), resource(Body::Workload(workload("u3")))],
        &[],
    )]));
    let (snapshot, nacks) = world.snapshot();
    assert_eq!(nacked(&nacks), ["route/shop/web", "workload/u2"]);
    assert_eq!(nacks[0].version, [1]);
    assert_eq!(snapshot.workloads.len(), 2);
    // Nacked ones are held all the same: the controller need not send them again to this agent.
    assert_eq!(held(&world).len(), 9);
}

#[test]
fn a_policy_that_is_named_and_absent_denies_until_it_comes() {
    let mut world = world();
    assert_eq!(ground(&world.snapshot().0, "u1"), Ground::NoAllowMatched);
    world.fold(upserts(vec![Body::Enrolment(enrolment("u1", &["web", "lost"]))]));
    let (snapshot, nacks) = world.snapshot();
    assert_eq!(ground(&snapshot, "u1"), Ground::Deny);
    assert_eq!(nacked(&nacks), ["enrolment/u1"]);
    let open =
        v1::AuthorizationPolicy { rules: vec![v1::AuthorizationRule::default()], ..policy("lost", v1::Action::Allow) };
    world.fold(upserts(vec![Body::Authorization(open)]));
    let (snapshot, nacks) = world.snapshot();
    assert_eq!((ground(&snapshot, "u1"), nacks), (Ground::AllowMatched, vec![]));
}

#[test]
fn a_changed_policy_reaches_the_pods_it_selects() {
    let mut world = world();
    world.fold(upserts(vec![Body::Authorization(policy("web", v1::Action::Audit))]));
    assert_eq!(ground(&world.snapshot().0, "u1"), Ground::NoPolicy);
}

#[test]
fn enforced_policies_come_first() {
    let mut world = world();
    let enforced = v1::AuthorizationPolicy { enforced: true, ..policy("floor", v1::Action::Deny) };
    world.fold(upserts(vec![Body::Enrolment(enrolment("u1", &["web", "floor"])), Body::Authorization(enforced)]));
    let (snapshot, _) = world.snapshot();
    let policies = &snapshot.enrolments[&"u1".parse().expect("a uid")].policies;
    assert_eq!((policies[0].action, policies[1].action), (Action::Deny, Action::Allow));
}

#[test]
fn bad_settings_leave_the_last_good_ones_in_force_now_and_after_a_restart() {
    let mut world = world();
    let good = held(&world).into_iter().find(|held| held.name == "settings").expect("held");
    let bad =
        resource(Body::Settings(v1::Settings { captured_cidrs: vec!["all".to_owned()], ..settings("other.local") }));
    world.fold(change(vec![(vec![bad.clone()], &[])]));
    let check = |world: &Resources, version: &[u8], nacks: &[&str]| {
        let (snapshot, nacked_now) = world.snapshot();
        assert_eq!((snapshot.trust_domain.as_str(), snapshot.captured_networks.len()), ("mesh.local", 1));
        assert_eq!(nacked(&nacked_now), nacks);
        let settings = held(world).into_iter().find(|held| held.name == "settings").expect("held");
        assert_eq!(settings.version, version);
    };
    check(&world, &bad.version, &["settings"]);
    // The old version again, so that the controller sends the bad one once more and hears of it.
    check(&restarted(&world, true), &good.version, &[]);
}

#[test]
fn settings_and_trust_are_never_removed() {
    let mut world = world();
    world.fold(change(vec![(vec![], &["settings", "trust"])]));
    let (snapshot, _) = world.snapshot();
    assert_eq!((snapshot.trust_domain.as_str(), snapshot.roots.len()), ("mesh.local", 1));
}

#[test]
fn a_renamed_mesh_renames_every_identity() {
    let mut world = world();
    let renamed = v1::Settings {
        trust_domain_aliases: vec!["mesh.local".to_owned(), "old.local".to_owned()],
        ..settings("new.local")
    };
    world.fold(upserts(vec![Body::Settings(renamed)]));
    let (snapshot, _) = world.snapshot();
    assert_eq!(identity_of(&snapshot, "u1").as_deref(), Some("spiffe://new.local/ns/shop/sa/web"));
    let source =
        snapshot.enrolments[&"u1".parse().expect("a uid")].policies[0].rules[0].from.as_ref().expect("sources")[0]
            .clone();
    assert_eq!(source.identities.expect("identities")[0].trust_domain.as_str(), "new.local");
    let old = "spiffe://old.local/ns/shop/sa/web".parse().expect("an identity");
    assert_eq!(
        snapshot.canonical(&old).map(|own| own.to_string()).as_deref(),
        Some("spiffe://new.local/ns/shop/sa/web")
    );
    let foreign = "spiffe://evil.local/ns/shop/sa/web".parse().expect("an identity");
    assert_eq!(snapshot.canonical(&foreign), None);
}

#[test]
fn an_address_claimed_twice_is_nobodys() {
    let mut world = world();
    world.fold(upserts(vec![Body::Workload(workload("u2"))]));
    let (snapshot, _) = world.snapshot();
    assert!(snapshot.workload_at([10, 0, 0, 7].into()).is_none());
    world.fold(change(vec![(vec![], &["workload/u1"])]));
    let (snapshot, _) = world.snapshot();
    assert_eq!(snapshot.workload_at([10, 0, 0, 7].into()).map(|row| row.uid.as_str()), Some("u2"));
}

#[test]
fn two_services_may_share_an_address() {
    let mut world = world();
    let mut other = v1::Service { name: "api".to_owned(), ..service() };
    other.ports[0].port = 443;
    world.fold(upserts(vec![Body::Service(other)]));
    let (snapshot, _) = world.snapshot();
    for (port, name) in [(80, "shop/web"), (443, "shop/api")] {
        let asked = ([10, 96, 0, 1], port).into();
        assert!(
            matches!(snapshot.destination(asked), Destination::Service { service, .. } if service.name.to_string() == name)
        );
    }
    let asked = ([10, 96, 0, 1], 8080).into();
    assert!(matches!(snapshot.destination(asked), Destination::UnknownPort { .. }));
}

/// Written to disk and read by an agent of the same build, or of another one with fewer features.
fn restarted(world: &Resources, same_build: bool) -> Resources {
    let resources = world.kept().into_iter().map(|kept| v1::Resource::decode(kept).expect("readable")).collect();
    Resources::restored(Features::own(), resources, same_build)
}

#[test]
fn a_restart_changes_nothing() {
    let world = world();
    let again = restarted(&world, true);
    assert_eq!(again.snapshot().0.version, world.snapshot().0.version);
    assert_eq!(held(&again), held(&world));
}

#[test]
fn an_upgraded_agent_asks_for_everything_and_forgets_what_is_gone() {
    let mut again = restarted(&world(), false);
    assert_eq!(held(&again), []);
    assert_eq!(again.snapshot().0.workloads.len(), 1);
    let resent = vec![Body::Settings(settings("mesh.local")), Body::Service(service())];
    assert!(again.fold(upserts(resent)));
    let (snapshot, _) = again.snapshot();
    assert_eq!((snapshot.workloads.len(), snapshot.services.len()), (0, 1));
    assert_eq!(held(&again).len(), 2);
}

#[test]
fn a_restored_policy_that_its_writer_could_not_read_stays_shut() {
    // Both builds can read the policy that needs no feature; only the reader has the feature of the other one.
    let l4 = vec!["authorization.l4".to_owned()];
    let newer = resource(Body::Authorization(policy("web", v1::Action::Allow)));
    let newer = versioned(newer.name, l4, newer.body.expect("a body"));
    let shared = Features::own().shared(&Features::new(vec!["opaque".to_owned()]));
    let plain = resource(Body::Authorization(policy("plain", v1::Action::Allow)));
    let before = Resources::restored(shared, vec![newer, plain], false);
    let (_, nacks) = before.snapshot();
    assert_eq!(nacked(&nacks), ["authorization/shop/web"]);
}

#[test]
fn an_endless_change_is_refused() {
    let mut change = Change::default();
    let message = || v1::DiscoveryResponse {
        removals: vec![String::new(); limits::RESOURCES_MAXIMUM / 2],
        ..v1::DiscoveryResponse::default()
    };
    assert_eq!(change.add(message()), Ok(false));
    assert_eq!(change.add(message()), Ok(false));
    let one_more = v1::DiscoveryResponse { removals: vec![String::new()], ..v1::DiscoveryResponse::default() };
    assert_eq!(change.add(one_more), Err(Unusable::TooLarge));
}

#[test]
fn what_is_no_resource_is_refused() {
    let upserts = vec![Bytes::from_static(b"\xff")];
    let message = v1::DiscoveryResponse { upserts, ..v1::DiscoveryResponse::default() };
    assert_eq!(Change::default().add(message), Err(Unusable::Undecodable));
}

proptest! {
    /// However changes are cut into messages, what is held at last is what the last word about each name was.
    #[test]
    fn folding_is_the_last_word_on_each_name(words in vec((0_u32..6, 0_u32..3), 0..60), cut in 1_usize..7) {
        let mut world = Resources::new(Features::own());
        let mut expected = BTreeMap::new();
        for part in words.chunks(cut) {
            let mut messages = Vec::new();
            for (number, content) in part {
                let name = format!("workload/u{number}");
                if *content == 0 {
                    expected.remove(&name);
                    messages.push((vec![], vec![name]));
                } else {
                    let row = v1::Workload { application: content.to_string(), ..workload(&format!("u{number}")) };
                    let resource = resource(Body::Workload(row));
                    expected.insert(name, resource.version.clone());
                    messages.push((vec![resource], vec![]));
                }
            }
            let mut change = Change::default();
            for (upserts, removals) in messages {
                let upserts = encoded(upserts);
                change.add(v1::DiscoveryResponse { upserts, removals, ..v1::DiscoveryResponse::default() }).expect("within the bounds");
            }
            world.fold(change);
        }
        let at_last: BTreeMap<_, _> = held(&world).into_iter().map(|held| (held.name, held.version)).collect();
        prop_assert_eq!(at_last, expected);
    }
}
