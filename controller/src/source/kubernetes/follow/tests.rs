//! What a follower makes of definitions that come and go; the rest needs an API server and is told by `tests/control`.

use kube::core::Status;
use serde_json::json;

use super::*;

fn follower(kind: Kind) -> (Follower, mpsc::Receiver<Change>) {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let (changes, receiver) = mpsc::channel(4);
    let client = Client::try_from(config).unwrap();
    (Follower::new(kind, client, changes, Troubles::default(), Arc::default(), BTreeSet::new()), receiver)
}

fn keys(names: &[&str]) -> BTreeSet<Key> {
    let key = |name: &&str| Key { kind: Kind::HttpRoute, namespace: "shop".to_owned(), name: (*name).to_owned() };
    names.iter().map(key).collect()
}

fn told(follower: &Follower) -> String {
    follower.troubles.all().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_another_definition_had_stays_until_somebody_speaks_of_it() {
    let (mut follower, _changes) = follower(Kind::HttpRoute);
    follower.take_in(keys(&["a", "b"]), "first".to_owned());
    follower.take_in(keys(&["a"]), "first".to_owned());
    assert_eq!(follower.orphans, keys(&[]), "under one definition a list is believed");
    follower.take_in(keys(&["c"]), "second".to_owned());
    assert_eq!(follower.orphans, keys(&["a"]));
    follower.take_in(keys(&["c"]), "third".to_owned());
    follower.tell_of_orphans();
    assert_eq!((&follower.orphans, &follower.known), (&keys(&["a"]), &keys(&["c"])), "c was created again");
    assert!(told(&follower).contains("1 HTTPRoute of an earlier definition stay in force"), "{}", told(&follower));
    follower.note(&keys(&["a"]).pop_first().unwrap());
    assert_eq!((follower.orphans.len(), told(&follower).as_str()), (0, ""));
}

#[tokio::test]
async fn only_a_kind_of_others_without_a_version_of_ours_is_taken_for_empty() {
    for (kind, why, empty) in [
        (Kind::HttpRoute, Missing::Undefined, true),
        (Kind::HttpRoute, Missing::Foreign, true),
        (Kind::HttpRoute, Missing::Unready, false),
        (Kind::TrafficPolicy, Missing::Undefined, false),
        (Kind::TrafficPolicy, Missing::Unready, false),
    ] {
        let (mut follower, mut changes) = follower(kind);
        follower.miss(why).await.unwrap();
        assert_eq!(changes.try_recv().is_ok(), empty, "{kind:?} {why:?}");
        assert_eq!(
            told(&follower).is_empty(),
            (kind, why) == (Kind::HttpRoute, Missing::Undefined),
            "{kind:?} {why:?}"
        );
    }
    let (mut follower, mut changes) = follower(Kind::HttpRoute);
    follower.take_in(keys(&["a"]), "first".to_owned());
    follower.miss(Missing::Undefined).await.unwrap();
    assert!(matches!(changes.try_recv(), Ok(Change::Lost(Kind::HttpRoute))), "it is taken for empty");
    assert!(told(&follower).contains("the last 1 stay in force"));
    follower.miss(Missing::Undefined).await.unwrap();
    assert!(changes.try_recv().is_err(), "it is lost once");
}

#[test]
fn a_core_kind_that_is_not_found_is_a_failure_and_not_an_absence() {
    let access = Access { verb: "list", group: "", resource: "pods" };
    let missing = || Error::Api(Box::new(Status { code: 404, ..Status::default() }));
    assert!(matches!(Stop::at(access, Kind::Pod)(missing()), Stop::Failed(..)));
    assert!(matches!(Stop::at(access, Kind::HttpRoute)(missing()), Stop::Forgotten));
}

#[test]
fn a_definition_defines_what_it_serves() {
    let definition = |name: &str, served: bool| json!({"spec": {"versions": [{"name": name, "served": served}]}});
    assert!(defines(&definition("v1beta1", true), &["v1", "v1beta1"]));
    assert!(!defines(&definition("v1", false), &["v1", "v1beta1"]));
    assert!(!defines(&definition("v1alpha2", true), &["v1"]));
    assert!(!defines(&json!({}), &["v1"]));
}

#[tokio::test]
async fn what_an_earlier_controller_knew_of_a_definition_that_is_gone_is_told_and_keeps_nobody_waiting() {
    let (mut follower, mut changes) = follower(Kind::HttpRoute);
    follower.orphans = keys(&["a"]);
    follower.miss(Missing::Undefined).await.unwrap();
    assert!(matches!(changes.try_recv(), Ok(Change::Absent(Kind::HttpRoute))));
    assert!(told(&follower).contains("the last 1 stay in force"), "{}", told(&follower));
}
