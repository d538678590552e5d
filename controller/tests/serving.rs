//! A controller on loopback and a real gRPC client: joining, certificates, snapshots and deltas, reports.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its ground is missing")]

mod rig;

use std::time::Duration;

use rig::{Controller, Key, pod};
use tonic::Code;
use weft_proto::v1::agent_report::Kind;
use weft_proto::v1::resource::Body;
use weft_proto::v1::{Acknowledgement, Enrolled, Nack, ResourceVersion};

const LEASE: Duration = Duration::from_secs(2);

fn mesh() -> String {
    let head = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec:\n  networks: {pods: [10.1.0.0/16]}\n---\n\
                apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {weft.dev/capture: enabled}}\n";
    format!("{head}---\n{}---\n{}", pod("web", "one", "10.1.0.2"), pod("db", "two", "10.1.0.3"))
}

#[tokio::test]
async fn a_node_joins_with_its_token_and_with_nothing_else() {
    let controller = Controller::start(&mesh(), LEASE).await;
    let token = controller.token("one", Duration::from_mins(1));
    let expired = controller.token("late", Duration::ZERO);
    let key = Key::generate();
    for (node, token, part) in [
        ("one", "0".repeat(64), "wrong"),
        ("two", token.clone(), "not good for node two"),
        ("late", expired, "expired"),
        ("one", String::new(), "join first"),
        ("../one", token.clone(), "node name"),
    ] {
        let mut client = controller.identity(None).await;
        let error = client.join(key.join(node, &token)).await.expect_err("it joined");
        assert!(error.code() == Code::Unauthenticated && error.message().contains(part), "{node}: {error}");
    }
    let certificate = controller.identity(None).await.join(key.join("one", &token)).await.unwrap().into_inner();
    assert_eq!(rig::names(&certificate), ["spiffe://cluster.local/weft/node/one"]);
    let node = key.with(&certificate);
    let renewed = controller.identity(Some(&node)).await.join(Key::generate().join("one", "")).await.unwrap();
    assert_eq!(rig::names(renewed.get_ref()), ["spiffe://cluster.local/weft/node/one"]);
    let other = controller.identity(Some(&node)).await.join(Key::generate().join("two", "")).await;
    assert_eq!(other.expect_err("it became another node").code(), Code::PermissionDenied);
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_is_issued_for_a_live_pod_of_the_calling_node_alone() {
    let own = pod("web", "one", "10.1.0.2");
    let text = [
        mesh(),
        own.replace("name: web", "name: leaving")
            .replace("uid: web", "uid: leaving\n  deletionTimestamp: 2026-01-01T00:00:00Z"),
        own.replace("name: web", "name: done")
            .replace("uid: web", "uid: done")
            .replace("podIP", "phase: Succeeded, podIP"),
        own.replace("name: web", "name: nobody")
            .replace("uid: web", "uid: nobody")
            .replace("serviceAccountName: web,", ""),
        own.replace("name: web", "name: mirror")
            .replace("uid: web", "uid: mirror")
            .replace("annotations: {", "annotations: {kubernetes.io/config.mirror: x, "),
    ];
    let controller = Controller::start(&text.join("---\n"), LEASE).await;
    let node = controller.join("one").await;
    let key = Key::generate();
    let mut client = controller.identity(Some(&node)).await;
    for (uid, identity) in
        [("web", "spiffe://cluster.local/ns/shop/sa/web"), ("leaving", "spiffe://cluster.local/ns/shop/sa/web")]
    {
        let certificate = client.issue(key.issue(uid)).await.unwrap().into_inner();
        assert_eq!(rig::names(&certificate), [identity], "{uid}");
        let life = certificate.not_after_unix_seconds - certificate.not_before_unix_seconds;
        assert!((24 * 3600..25 * 3600).contains(&life), "{life}");
        // A workload is not a node: its certificate opens nothing here.
        let workload = key.with(&certificate);
        let error = controller
            .identity(Some(&workload))
            .await
            .issue(key.issue(uid))
            .await
            .expect_err("a workload was taken for a node");
        assert!(error.message().contains("not a node"), "{error}");
    }
    for (uid, code, part) in [
        ("db", Code::NotFound, "no pod with uid"),
        ("unknown", Code::NotFound, "no pod with uid"),
        ("done", Code::FailedPrecondition, "finished"),
        ("nobody", Code::FailedPrecondition, "no service account"),
        ("mirror", Code::FailedPrecondition, "mirror"),
    ] {
        let error = client.issue(key.issue(uid)).await.expect_err("it was issued");
        assert!(error.code() == code && error.message().contains(part), "{uid}: {error}");
    }
    let error = controller.identity(None).await.issue(key.issue("web")).await.expect_err("anybody is issued");
    assert_eq!(error.code(), Code::Unauthenticated);
    let error = client.issue(Key::p384().issue("web")).await.expect_err("another curve was signed");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let error = client.issue(rig::broken_request("web")).await.expect_err("a broken request was signed");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    controller.stop().await;
}

#[tokio::test]
async fn configuration_and_reports_need_a_node() {
    let controller = Controller::start(&mesh(), LEASE).await;
    assert_eq!(
        controller.discover(None, vec![]).await.err().expect("anybody is configured").code(),
        Code::Unauthenticated
    );
    assert_eq!(controller.report(None).await.err().expect("anybody may report").code(), Code::Unauthenticated);
    controller.stop().await;
}

#[tokio::test]
async fn an_agent_receives_its_node_then_differences_and_resumes_by_hash() {
    let controller = Controller::start(&mesh(), LEASE).await;
    let node = controller.join("one").await;
    let mut agent = controller.discover(Some(&node), vec![]).await.unwrap();
    agent.change().await;
    let names = ["authorization", "enrolment/db", "enrolment/web", "settings", "trust", "workload/db", "workload/web"];
    for name in names {
        let expected = !matches!(name, "authorization" | "enrolment/db");
        assert_eq!(agent.held.contains_key(name), expected, "{name} in {:?}", agent.held.keys());
    }

    agent.close_own_half();
    let changed = mesh().replace("app: db", "app: database");
    controller.write("mesh.yaml", &changed);
    let (upserts, removals) = agent.change().await;
    assert_eq!((upserts, removals), (vec!["workload/db".to_owned()], vec![]));

    let mut resumed = controller.discover(Some(&node), agent.versions()).await.unwrap();
    assert_eq!(resumed.change().await, (vec![], vec![]), "what is held was sent again");

    let without: String = mesh().split("---\n").take(3).collect::<Vec<_>>().join("---\n");
    controller.write("mesh.yaml", &without);
    assert_eq!(resumed.change().await, (vec![], vec!["workload/db".to_owned()]));
    let mut behind = controller.discover(Some(&node), agent.versions()).await.unwrap();
    assert_eq!(behind.change().await, (vec![], vec!["workload/db".to_owned()]), "a removal was missed while away");
    controller.stop().await;
}

#[tokio::test]
async fn an_agent_names_what_differs_and_drops_what_nobody_knows() {
    let controller = Controller::start(&mesh(), LEASE).await;
    let node = controller.join("one").await;
    let mut agent = controller.discover(Some(&node), vec![]).await.unwrap();
    agent.change().await;
    assert_eq!(agent.asked, [""; 0], "whoever holds nothing has nothing to name");
    let right = agent.versions();
    let ghost = ResourceVersion { name: "workload/ghost".to_owned(), version: vec![1; 16] };
    let mut held = [right.as_slice(), &[ghost]].concat();
    held.iter_mut().find(|held| held.name == "workload/db").expect("it is there").version[0] ^= 1;
    let mut returned = controller.discover(Some(&node), held.clone()).await.unwrap();
    assert_eq!(returned.change().await, (vec!["workload/db".to_owned()], vec!["workload/ghost".to_owned()]));
    assert_eq!(returned.asked, ["workload/db", "workload/ghost"], "what is right was asked for as well");
    assert_eq!(returned.versions(), right);

    let mut deaf = controller.discover(Some(&node), held).await.unwrap();
    deaf.misunderstand().await;
    let refused = deaf.refusal().await;
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("must be a Held"), "{refused}");
    controller.stop().await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_objects_and_says_what_to_repair() {
    let controller = Controller::start(&mesh(), LEASE).await;
    controller.write("more.yaml", &pod("api", "one", "10.1.0.9"));
    let node = controller.join("one").await;
    let mut agent = controller.discover(Some(&node), vec![]).await.unwrap();
    agent.until(|held| held.contains_key("workload/api")).await;

    controller.write("more.yaml", &pod("api", "one", "10.1.0.999"));
    let status = controller.status_until(|status| !status["errors"].as_array().unwrap().is_empty()).await;
    let error = &status["errors"][0];
    assert_eq!(error["file"], "more.yaml");
    assert_eq!(error["object"], "Pod shop/api");
    assert_eq!(error["field"], "status.podIP");
    assert_eq!(error["line"], 10, "{error}");
    assert!(error["fix"].as_str().unwrap().contains("10.0.0.7"), "{error}");
    controller.file_until(".status/errors.yaml", |text| text.contains("Pod shop/api")).await;

    // The rest of the mesh goes on changing, and the broken pod stays as it was.
    controller.write("mesh.yaml", &mesh().replace("app: db", "app: database"));
    assert_eq!(agent.change().await, (vec!["workload/db".to_owned()], vec![]));
    assert!(agent.held.contains_key("workload/api"));
    controller.write("more.yaml", &pod("api", "one", "10.1.0.10"));
    assert_eq!(agent.change().await, (vec!["workload/api".to_owned()], vec![]));
    controller.status_until(|status| status["errors"].as_array().unwrap().is_empty()).await;
    controller.stop().await;
}

#[tokio::test]
async fn files_are_edited_in_place_and_removed_like_any_other() {
    let controller = Controller::start(&mesh(), LEASE).await;
    let node = controller.join("one").await;
    let mut agent = controller.discover(Some(&node), vec![]).await.unwrap();
    agent.change().await;
    let file = controller.directory().join("more.yaml");
    for address in ["10.1.0.9", "10.1.0.10", "10.1.0.11"] {
        std::fs::write(&file, pod("api", "two", address)).unwrap();
        let octets: std::net::Ipv4Addr = address.parse().unwrap();
        let there = |held: &std::collections::BTreeMap<_, _>| held.contains_key("workload/api");
        agent.until(|held| there(held) && rig::workload(held, "api").addresses == [octets.octets()]).await;
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(agent.change().await, (vec![], vec!["workload/api".to_owned()]));
    controller.stop().await;
}

#[tokio::test]
async fn a_workload_is_mesh_capable_by_its_own_agents_word_and_plaintext_follows_the_lease() {
    let controller = Controller::start(&mesh(), LEASE).await;
    let (one, two) = (controller.join("one").await, controller.join("two").await);
    let mut agent = controller.discover(Some(&one), vec![]).await.unwrap();
    agent.change().await;
    let enrolled = |uids: &[&str]| {
        let workloads = uids.iter().map(ToString::to_string).collect();
        Kind::Enrolled(Enrolled { workloads, failed: vec![] })
    };
    let mut first = controller.report(Some(&one)).await.unwrap();
    let mut second = controller.report(Some(&two)).await.unwrap();
    // Another node's word about a pod counts for nothing.
    first.say(enrolled(&["web", "db"])).await;
    agent.until(|held| rig::workload(held, "web").mesh_capable).await;
    assert!(!rig::workload(&agent.held, "db").mesh_capable);
    let spoken = std::time::Instant::now();
    second.say(enrolled(&["db"])).await;
    agent.until(|held| rig::workload(held, "db").mesh_capable).await;

    // Node two falls silent with its stream open, node one goes on: after a lease, and not before, db may be reached in plaintext.
    let beating = first.beat(LEASE / 4);
    agent.until(|held| rig::workload(held, "db").plaintext_permitted).await;
    assert!(spoken.elapsed() >= LEASE, "after {:?}", spoken.elapsed());
    assert!(!rig::workload(&agent.held, "web").plaintext_permitted);
    assert!(rig::workload(&agent.held, "db").mesh_capable, "a silent agent is not one that said it had disenrolled");
    second.say(enrolled(&["db"])).await;
    agent.until(|held| !rig::workload(held, "db").plaintext_permitted).await;
    drop(beating);
    controller.stop().await;
}

#[tokio::test]
async fn a_restart_forgets_no_mesh_peer() {
    let mut controller = Controller::start(&mesh(), LEASE).await;
    let one = controller.join("one").await;
    let mut agent = controller.discover(Some(&one), vec![]).await.unwrap();
    let mut reports = controller.report(Some(&one)).await.unwrap();
    reports.say(Kind::Enrolled(Enrolled { workloads: vec!["web".to_owned()], failed: vec![] })).await;
    agent.until(|held| held.contains_key("workload/web") && rig::workload(held, "web").mesh_capable).await;
    let held = agent.versions();
    drop(reports);
    controller.restart().await;
    let mut again = controller.discover(Some(&one), held).await.unwrap();
    assert_eq!(again.change().await, (vec![], vec![]), "the new controller took something back");
    controller.stop().await;
}

#[tokio::test]
async fn a_nack_is_kept_and_shown() {
    let controller = Controller::start(&mesh(), LEASE).await;
    let one = controller.join("one").await;
    let mut reports = controller.report(Some(&one)).await.unwrap();
    let nack = Nack {
        resource: "enrolment/web".to_owned(),
        version: vec![1],
        reason: "lacks authentication.ports".to_owned(),
    };
    reports.say(Kind::Acknowledgement(Acknowledgement { snapshot: "abc".to_owned(), nacks: vec![nack] })).await;
    let status = controller.status_until(|status| status["agents"][0]["nacks"][0]["resource"] == "enrolment/web").await;
    assert_eq!(status["agents"][0]["node"], "one");
    assert_eq!(status["agents"][0]["snapshot"], "abc");
    assert_eq!(status["agents"][0]["nacks"][0]["reason"], "lacks authentication.ports");
    controller.stop().await;
}

#[tokio::test]
async fn a_policy_that_an_agent_could_not_apply_says_so_in_its_status() {
    let policy = "---\napiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: web, namespace: shop}\n\
                  spec: {targetRefs: [{kind: Pod}], action: Deny, rules: [{to: [{ports: [80]}]}]}\n";
    let controller = Controller::start(&format!("{}{policy}", mesh()), LEASE).await;
    let one = controller.join("one").await;
    let mut agent = controller.discover(Some(&one), vec![]).await.unwrap();
    agent.until(|held| held.contains_key("authorization/shop/web")).await;
    let file = ".status/AuthorizationPolicy/shop/web.yaml";
    controller.file_until(file, |text| text.contains("reason: Accepted") && !text.contains("Programmed")).await;
    let mut reports = controller.report(Some(&one)).await.unwrap();
    let nack = Nack {
        resource: "authorization/shop/web".to_owned(),
        version: agent.held["authorization/shop/web"].version.clone(),
        reason: "this agent lacks it".to_owned(),
    };
    let acknowledge = |nacks| Kind::Acknowledgement(Acknowledgement { snapshot: agent.snapshot(), nacks });
    reports.say(acknowledge(vec![nack])).await;
    controller.file_until(file, |text| text.contains("Programmed") && text.contains("RefusedByAgent")).await;
    reports.say(acknowledge(vec![])).await;
    controller.file_until(file, |text| !text.contains("Programmed")).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_workload_leaves_when_the_other_agents_know() {
    let controller = Controller::start(&mesh(), LEASE * 5).await;
    let (one, two) = (controller.join("one").await, controller.join("two").await);
    let mut agent = controller.discover(Some(&one), vec![]).await.unwrap();
    let mut other = controller.discover(Some(&two), vec![]).await.unwrap();
    let mut first = controller.report(Some(&one)).await.unwrap();
    let mut second = controller.report(Some(&two)).await.unwrap();
    first.say(Kind::Enrolled(Enrolled { workloads: vec!["web".to_owned()], failed: vec![] })).await;
    for agent in [&mut agent, &mut other] {
        agent.until(|held| held.contains_key("workload/web") && rig::workload(held, "web").mesh_capable).await;
    }
    let acknowledge = |snapshot: String| Kind::Acknowledgement(Acknowledgement { snapshot, nacks: vec![] });
    controller.write("mesh.yaml", &mesh().replace("capture: enabled", "capture: disabled"));
    for agent in [&mut agent, &mut other] {
        agent.until(|held| !rig::workload(held, "web").mesh_capable).await;
    }
    assert!(agent.held.contains_key("enrolment/web"), "the listener would go while others still dial it");
    first.say(acknowledge(agent.snapshot())).await;
    second.say(acknowledge("an older one".to_owned())).await;
    controller.status_until(|status| status["agents"][1]["snapshot"] == "an older one").await;
    assert!(agent.held.contains_key("enrolment/web"));
    second.say(acknowledge(other.snapshot())).await;
    agent.until(|held| !held.contains_key("enrolment/web")).await;
    controller.stop().await;
}

#[tokio::test]
async fn an_agent_of_another_time_is_told_so() {
    let controller = Controller::start(&mesh(), LEASE).await;
    let one = controller.join("one").await;
    let mut agent = controller.discover_as(Some(&one), 99, vec![]).await.unwrap();
    let error = agent.refusal().await;
    assert!(error.code() == Code::FailedPrecondition && error.message().contains("protocol version 99"), "{error}");
    controller.stop().await;
}

/// A body is what its name says.
#[tokio::test]
async fn names_and_bodies_agree() {
    let controller = Controller::start(&mesh(), LEASE).await;
    let one = controller.join("one").await;
    let mut agent = controller.discover(Some(&one), vec![]).await.unwrap();
    agent.change().await;
    for (name, resource) in &agent.held {
        let kind = match resource.body.as_ref().expect("a body") {
            Body::Workload(_) => "workload",
            Body::Enrolment(_) => "enrolment",
            Body::Observation(_) => "observation",
            Body::Service(_) => "service",
            Body::Namespace(_) => "namespace",
            Body::Node(_) => "node",
            Body::Authorization(_) => "authorization",
            Body::Settings(_) => "settings",
            Body::Trust(_) => "trust",
            Body::Routes(_) => "routes",
            Body::Traffic(_) => "traffic",
        };
        assert_eq!(name.split('/').next(), Some(kind));
        assert_eq!(resource.version, weft_proto::resource::content_version(resource), "{name}");
    }
    controller.stop().await;
}
