use kube::core::DynamicObject;
use serde_json::json;

use super::*;
use crate::object::Capture;
use crate::source::kept;
use crate::source::kubernetes::decode::found;
use crate::status::{Exceptions, Reports};

struct Api {
    folder: tempfile::TempDir,
    collection: Collection,
}

impl Api {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let collection = open(&folder);
        Self { folder, collection }
    }

    fn restart(&mut self) {
        if let Some(kept) = self.collection.keep() {
            kept::save(&kept_file(&self.folder), &kept);
        }
        self.collection = open(&self.folder);
    }

    /// Every kind is listed, and empty but for these.
    fn list(&mut self, objects: &[(Kind, serde_json::Value)]) -> Reading {
        for kind in Kind::ALL {
            let all = objects.iter().filter(|(own, _)| *own == kind);
            let all = all.map(|(kind, object)| read(*kind, object)).collect();
            self.collection.apply(Change::Listed(kind, all, BTreeSet::new()));
        }
        self.collection.reading()
    }

    fn apply(&mut self, kind: Kind, object: &serde_json::Value) -> bool {
        self.collection.apply(Change::Applied(Box::new(read(kind, object))))
    }
}

fn open(folder: &tempfile::TempDir) -> Collection {
    Collection::open(kept::load(&kept_file(folder)), Arc::default())
}

fn kept_file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("kept.json")
}

fn read(kind: Kind, object: &serde_json::Value) -> Found {
    found(kind, serde_json::from_value::<DynamicObject>(object.clone()).unwrap())
}

fn policy(range: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7"},
        "spec": {
            "targetRefs": [{"kind": "Pod"}], "action": "Deny", "rules": [{"from": [{"cidrs": [range]}]}],
        },
    })
}

fn pod(uid: &str, ready: bool) -> serde_json::Value {
    json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": uid,
            "annotations": {"weft.dev/netns": "/proc/1/ns/net", "weft.dev/exclude-inbound-ports": "9000"},
        },
        "spec": {"nodeName": "one", "serviceAccountName": "web"},
        "status": {"podIP": "10.1.0.2", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

#[test]
fn nothing_is_listed_before_everything_is() {
    let mut api = Api::new();
    for kind in Kind::ALL {
        assert!(!api.collection.reading().listed, "{}", kind.as_str());
        api.collection.apply(Change::Absent(kind));
    }
    assert!(api.collection.reading().listed);
}

#[test]
fn what_does_not_concern_us_is_no_change() {
    let mut api = Api::new();
    api.list(&[(Kind::Pod, pod("a", true))]);
    let mut noise = pod("a", true);
    noise["metadata"]["managedFields"] = json!([{"manager": "kubelet"}]);
    noise["status"]["startTime"] = json!("2026-01-01T00:00:00Z");
    assert!(!api.apply(Kind::Pod, &noise), "another reading follows from nothing");
    assert!(api.apply(Kind::Pod, &pod("a", false)));
}

#[test]
fn a_pod_that_is_made_anew_is_found_by_its_new_uid_alone() {
    let mut api = Api::new();
    api.list(&[(Kind::Pod, pod("a", true))]);
    api.apply(Kind::Pod, &pod("b", true));
    let objects = api.collection.reading().objects;
    assert!(objects.pod(&"a".parse().unwrap()).is_none());
    let pod = objects.pod(&"b".parse().unwrap()).unwrap();
    assert_eq!(pod.netns, None, "an annotation leads the agent to a network namespace");
    assert_eq!(pod.exclusions.inbound_ports, [9000]);
}

#[test]
fn a_pod_does_not_leave_the_mesh_by_a_word_that_nobody_can_read() {
    let mut api = Api::new();
    let mut escape = pod("a", true);
    escape["metadata"]["annotations"]["weft.dev/exclude-inbound-ports"] = json!("everything");
    escape["metadata"]["labels"] = json!({"weft.dev/capture": "of", "app": "web"});
    let reading = api.list(&[(Kind::Pod, escape.clone())]);
    let known = reading.objects.pod(&"a".parse().unwrap()).unwrap();
    assert_eq!((known.capture, known.exclusions.inbound_ports.len()), (None, 0));
    assert_eq!(known.metadata.labels["app"], "web");
    let told = reading.defects[0].to_string();
    assert!(told.starts_with("Pod shop/web: metadata.annotations[weft.dev/exclude-inbound-ports]: "), "{told}");
    let told = reading.defects[1].to_string();
    assert!(told.starts_with("Pod shop/web: metadata.labels[weft.dev/capture]: "), "{told}");
    // What can be read counts, whatever else is written.
    escape["metadata"]["labels"]["weft.dev/capture"] = json!("disabled");
    api.apply(Kind::Pod, &escape);
    let reading = api.collection.reading();
    let known = reading.objects.pod(&"a".parse().unwrap()).unwrap();
    assert_eq!((known.capture.map(Capture::as_str), reading.defects.len()), (Some("disabled"), 1));
    escape["status"]["phase"] = json!("Succeeded");
    assert!(api.apply(Kind::Pod, &escape), "its end went unseen");
    api.apply(Kind::Pod, &pod("a", true));
    assert!(api.collection.reading().defects.is_empty());
}

#[test]
fn a_namespace_that_nobody_can_read_is_as_it_was_or_at_its_strictest() {
    let space = |capture: &str| json!({"metadata": {"name": "shop", "labels": {"weft.dev/capture": capture}}});
    let capture = |reading: &Reading| reading.objects.namespace("shop").unwrap().capture.unwrap().as_str();
    let mut api = Api::new();
    let unknown = api.list(&[(Kind::Namespace, space("enabld"))]);
    assert_eq!((capture(&unknown), unknown.defects.len()), ("enabled", 1));
    api.apply(Kind::Namespace, &space("disabled"));
    api.apply(Kind::Namespace, &space("off"));
    let known = api.collection.reading();
    assert_eq!((capture(&known), known.defects.len()), ("disabled", 1));
    api.restart();
    let known = api.list(&[(Kind::Namespace, space("off"))]);
    assert_eq!((capture(&known), known.defects.len()), ("disabled", 1), "a restart has captured a namespace");
    // One label that cannot be read says nothing about the other.
    let mut half = space("disabled");
    half["metadata"]["labels"]["weft.dev/on-agent-failure"] = json!("clsed");
    let half = Api::new().list(&[(Kind::Namespace, half)]);
    let mode = half.objects.namespace("shop").unwrap().on_agent_failure;
    assert_eq!((capture(&half), mode), ("disabled", Some(weft_crd::FailureMode::Closed)));
}

#[test]
fn a_route_of_others_is_no_fault_of_anybody() {
    let route = |kind: &str| {
        json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"parentRefs": [{"group": "", "kind": kind, "name": "web"}], "fromTheFuture": true},
        })
    };
    let mut api = Api::new();
    assert!(api.list(&[(Kind::HttpRoute, route("Gateway"))]).defects.is_empty());
    assert_eq!(api.list(&[(Kind::HttpRoute, route("Service"))]).defects.len(), 1);
}

#[test]
fn a_route_that_cannot_be_read_is_answered_under_its_services_alone() {
    let mut route = json!({
        "metadata": {"name": "web", "namespace": "shop", "generation": 7},
        "spec": {
            "parentRefs": [
                {"name": "public"}, {"group": "", "kind": "Service", "name": "web", "port": 80},
                {"group": "", "kind": "Service", "name": "web", "port": 80},
                {"group": "core", "kind": "Service", "name": "api", "namespace": "other", "sectionName": "http"},
            ],
            "rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": -1}]}],
        },
    });
    let mut api = Api::new();
    let reading = api.list(&[(Kind::HttpRoute, route.clone())]);
    let key = Key::checked(Kind::HttpRoute, "shop", "web").unwrap();
    let reports = Reports::default().but(&Exceptions::of(&reading, BTreeMap::new()));
    let told: Vec<_> =
        reports.get(&key).unwrap().iter().map(|report| (report.target.as_str(), report.generation)).collect();
    assert_eq!(told, [("Service shop/web port 80", Some(7)), ("Service other/api port http", Some(7))]);
    route["spec"]["parentRefs"].as_array_mut().unwrap().truncate(1);
    api.apply(Kind::HttpRoute, &route);
    let reading = api.collection.reading();
    assert!(reading.defects.is_empty() && reading.broken.is_empty(), "it is another controller's by now");
}

#[test]
fn an_undecodable_object_is_named_and_keeps_its_last_good_version() {
    let mut api = Api::new();
    let before = api.list(&[(Kind::AuthorizationPolicy, policy("10.0.0.0/8")), (Kind::Pod, pod("a", true))]);
    assert!(before.defects.is_empty(), "{:?}", before.defects);
    assert!(api.apply(Kind::AuthorizationPolicy, &policy("10.0.0/8")));
    let after = api.collection.reading();
    assert_eq!(after.objects, before.objects);
    let told = after.defects[0].to_string();
    assert!(
        told.starts_with("AuthorizationPolicy shop/web: spec.rules[0].from[0].cidrs[0]: \"10.0.0/8\" is not"),
        "{told}"
    );
    assert!(after.stand_ins.is_empty(), "its last good version is in force");

    api.restart();
    let restarted = api.list(&[(Kind::AuthorizationPolicy, policy("10.0.0/8")), (Kind::Pod, pod("a", true))]);
    assert_eq!(restarted.objects, before.objects, "the last good version did not outlive the controller");
    api.apply(Kind::AuthorizationPolicy, &policy("10.0.0.0/8"));
    assert!(api.collection.reading().defects.is_empty());
}

#[test]
fn what_is_broken_at_the_start_denies_and_what_breaks_later_does_not() {
    let mut api = Api::new();
    let reading = api.list(&[(Kind::AuthorizationPolicy, policy("10.0.0/8"))]);
    assert_eq!((reading.stand_ins.len(), reading.objects.keys(Kind::AuthorizationPolicy).len()), (1, 1));
    let mut later = policy("10.0.0/8");
    later["metadata"]["name"] = json!("later");
    api.apply(Kind::AuthorizationPolicy, &later);
    let reading = api.collection.reading();
    assert_eq!(
        (reading.stand_ins.len(), reading.objects.keys(Kind::AuthorizationPolicy).len(), reading.defects.len()),
        (1, 1, 2)
    );
}

#[test]
fn an_authentication_that_is_broken_at_the_start_makes_its_namespace_strict() {
    let broken = json!({
        "metadata": {"name": "web", "namespace": "shop", "generation": 3},
        "spec": {"targetRefs": [{"kind": "Pod"}], "server": {"mtls": "Strikt"}},
    });
    let reading = Api::new().list(&[(Kind::AuthenticationPolicy, broken)]);
    let stand_in = &reading.objects.of("shop").unwrap().authentication[&("shop".to_owned(), "web".to_owned())];
    assert!(stand_in.stands_in && stand_in.authentication.mtls == Some(weft_crd::MtlsMode::Strict));
    let reports = Reports::default().but(&Exceptions::of(&reading, BTreeMap::new()));
    let key = Key::checked(Kind::AuthenticationPolicy, "shop", "web").unwrap();
    let report = &reports.get(&key).unwrap()[0];
    assert!(report.message.contains("every pod of its namespace is strict") && report.generation == Some(3));
}

#[test]
fn a_new_list_takes_away_what_is_not_in_it() {
    let mut api = Api::new();
    api.list(&[(Kind::AuthorizationPolicy, policy("10.0.0.0/8")), (Kind::Pod, pod("a", true))]);
    let mut broken = policy("10.0.0/8");
    broken["metadata"]["name"] = json!("broken");
    api.apply(Kind::AuthorizationPolicy, &broken);
    let reading = api.list(&[(Kind::Pod, pod("a", true))]);
    assert!(
        reading.objects.keys(Kind::AuthorizationPolicy).is_empty() && reading.defects.is_empty(),
        "{:?}",
        reading.defects
    );
    assert_eq!(reading.objects.pods().count(), 1);
}

#[test]
fn without_a_readable_mesh_nothing_follows() {
    let mesh = |name: &str, range: &str| json!({"metadata": {"name": name}, "spec": {"networks": {"pods": [range]}}});
    let mut api = Api::new();
    assert!(api.list(&[(Kind::MeshConfig, mesh("default", "10.0/8"))]).withheld);
    api.apply(Kind::MeshConfig, &mesh("default", "10.0.0.0/8"));
    assert!(!api.collection.reading().withheld);
    api.apply(Kind::MeshConfig, &mesh("default", "10.0/8"));
    assert!(!api.collection.reading().withheld, "its last good version is in force");
    api.collection.apply(Change::Removed(Key::checked(Kind::MeshConfig, "", "default").unwrap()));
    let reading = api.collection.reading();
    assert!(reading.objects.mesh_config.is_none() && !reading.withheld);
}

fn space() -> serde_json::Value {
    json!({"metadata": {"name": "shop"}})
}

/// Where the route leads, which is all that tells one version from another.
fn route(name: &str, port: u16) -> serde_json::Value {
    json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "rules": [{"backendRefs": [{"name": "web", "port": port}]}],
        },
    })
}

#[test]
fn what_a_lost_definition_had_goes_with_its_namespace() {
    let gone = Key::checked(Kind::Namespace, "", "shop").unwrap();
    let mut api = Api::new();
    api.list(&[(Kind::Namespace, space()), (Kind::HttpRoute, route("a", 80))]);
    api.collection.apply(Change::Lost(Kind::HttpRoute));
    assert_eq!(api.collection.orphans(Kind::HttpRoute).len(), 1);
    assert!(api.collection.apply(Change::Removed(gone)));
    assert!(api.collection.reading().objects.keys(Kind::HttpRoute).is_empty());

    // Or while no controller was there.
    api.list(&[(Kind::Namespace, space()), (Kind::HttpRoute, route("a", 80))]);
    api.collection.apply(Change::Lost(Kind::HttpRoute));
    api.restart();
    api.collection.apply(Change::Listed(Kind::Namespace, vec![read(Kind::Namespace, &space())], BTreeSet::new()));
    assert_eq!(api.collection.orphans(Kind::HttpRoute).len(), 1);
    api.collection.apply(Change::Listed(Kind::Namespace, vec![], BTreeSet::new()));
    assert!(api.collection.orphans(Kind::HttpRoute).is_empty());

    // Or just before the definition.
    api.list(&[(Kind::HttpRoute, route("a", 80))]);
    assert!(!api.collection.apply(Change::Lost(Kind::HttpRoute)));
    assert!(api.collection.reading().objects.keys(Kind::HttpRoute).is_empty());

    // Or has had a successor since.
    let made = |mut object: serde_json::Value, hour: u32| {
        object["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T0{hour}:00:00Z"));
        object
    };
    api.list(&[(Kind::Namespace, made(space(), 1)), (Kind::HttpRoute, made(route("a", 80), 2))]);
    api.collection.apply(Change::Lost(Kind::HttpRoute));
    assert_eq!(api.collection.orphans(Kind::HttpRoute).len(), 1);
    let successor = read(Kind::Namespace, &made(space(), 3));
    assert!(api.collection.apply(Change::Listed(Kind::Namespace, vec![successor], BTreeSet::new())));
    assert!(api.collection.orphans(Kind::HttpRoute).is_empty());
}

#[test]
fn what_a_lost_definition_had_outlives_the_controller_until_somebody_speaks_of_it() {
    let routes = |reading: &Reading| -> Vec<String> {
        reading.objects.keys(Kind::HttpRoute).into_iter().map(|key| key.name).collect()
    };
    let mut api = Api::new();
    let shop = (Kind::Namespace, space());
    let before = api.list(&[shop, (Kind::HttpRoute, route("a", 80)), (Kind::HttpRoute, route("b", 80))]);
    assert!(api.collection.apply(Change::Lost(Kind::HttpRoute)));
    assert_eq!(api.collection.reading().objects, before.objects);

    // While the kind is away.
    api.restart();
    let orphans = api.collection.orphans(Kind::HttpRoute);
    assert_eq!(orphans.len(), 2);
    let others = |kind| if kind == Kind::Namespace { vec![read(kind, &space())] } else { vec![] };
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_of_gateway_api()) {
        api.collection.apply(Change::Listed(kind, others(kind), BTreeSet::new()));
    }
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_of_gateway_api() && *kind != Kind::HttpRoute) {
        assert!(api.collection.awaited().contains(&kind));
        api.collection.apply(Change::Absent(kind));
    }
    assert_eq!(api.collection.awaited(), [Kind::HttpRoute]);
    assert!(api.collection.apply(Change::Absent(Kind::HttpRoute)));
    let reading = api.collection.reading();
    assert!(reading.listed && reading.objects == before.objects, "a restart has forgotten them");

    // Under another definition, in which one of them has been made again.
    api.restart();
    let stay: BTreeSet<Key> = orphans.iter().filter(|key| key.name == "b").cloned().collect();
    let list = |api: &mut Api, stay: &BTreeSet<Key>| {
        for kind in Kind::ALL {
            let is_route = kind == Kind::HttpRoute;
            let all = if is_route { vec![read(kind, &route("a", 81))] } else { others(kind) };
            let stay = if is_route { stay.clone() } else { BTreeSet::new() };
            api.collection.apply(Change::Listed(kind, all, stay));
        }
        api.collection.reading()
    };
    assert_eq!(routes(&list(&mut api, &stay)), ["a", "b"]);
    api.restart();
    assert_eq!(api.collection.orphans(Kind::HttpRoute), stay, "only b is not spoken of");
    assert_eq!(routes(&list(&mut api, &stay)), ["a", "b"]);
    api.apply(Kind::HttpRoute, &route("b", 80));
    api.collection.reading();
    api.restart();
    assert_eq!(api.collection.orphans(Kind::HttpRoute), BTreeSet::new());
    assert_eq!(routes(&list(&mut api, &BTreeSet::new())), ["a"]);
}

#[test]
fn what_is_kept_of_a_kind_that_cannot_be_read_stays_kept() {
    let mut api = Api::new();
    api.list(&[(Kind::HttpRoute, route("a", 80))]);
    let mut broken = route("a", 80);
    broken["spec"]["fromTheFuture"] = json!(true);
    api.apply(Kind::HttpRoute, &broken);
    api.collection.reading();
    for _ in 0..2 {
        api.restart();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::HttpRoute) {
            api.collection.apply(Change::Listed(kind, vec![], BTreeSet::new()));
        }
        api.collection.apply(Change::Absent(Kind::HttpRoute));
        api.collection.reading();
    }
    let reading = api.list(&[(Kind::HttpRoute, broken)]);
    assert_eq!(reading.objects.keys(Kind::HttpRoute).len(), 1, "its last good version was dropped meanwhile");
}
