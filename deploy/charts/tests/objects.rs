//! What the charts become, as those who install them rely on it. `cargo xtask lint charts` holds the same against Helm.

#![expect(clippy::expect_used, reason = "a test ends where its ground is missing")]

use serde_json::{Value, json};
use weft_charts::{Chart, Object, Release, Values};

fn render(settings: &[&str]) -> Result<Vec<Object>, String> {
    let mut values = Values::default();
    for setting in settings {
        values.set(setting).map_err(|error| error.to_string())?;
    }
    let release = Release { name: "weft".to_owned(), namespace: "mesh".to_owned() };
    let chart = Chart::weft().expect("the chart is whole");
    chart.render(&release, &values).map_err(|error| error.to_string())
}

fn one(settings: &[&str], kind: &str, name: &str) -> Value {
    let objects = render(settings).expect("it renders");
    let mut found = objects.into_iter().filter(|object| object.kind == kind && object.name == name);
    found.next().map(|object| object.value).unwrap_or_default()
}

#[test]
fn a_mistyped_value_is_refused_by_its_name() {
    for (setting, named) in [
        ("controller.replica=3", "replica"),
        ("controller.replicas=many", "controller.replicas"),
        ("agent.metricsAddress=15020", "agent.metricsAddress"),
        ("image.pullPolicy=Sometimes", "image.pullPolicy"),
    ] {
        let refused = render(&[setting]).expect_err(setting);
        assert!(refused.contains(named), "{setting}: {refused}");
    }
}

#[test]
fn every_object_is_labelled_and_in_the_releases_namespace() {
    let cluster_scoped = [
        "ClusterRole",
        "ClusterRoleBinding",
        "FlowSchema",
        "MeshConfig",
        "Namespace",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    let all = render(&[
        "namespace.create=true,monitoring.podMonitor=true,monitoring.rules=true",
        "controller.networkPolicy.nodes={10.0.0.0/24}",
    ]);
    let all = all.expect("it renders");
    assert!(all.len() > 20, "{} objects", all.len());
    for object in &all {
        let metadata = &object.value["metadata"];
        assert_eq!(metadata["labels"]["app.kubernetes.io/part-of"], "weft", "{} {}", object.kind, object.name);
        let expected = if cluster_scoped.contains(&object.kind.as_str()) { Value::Null } else { json!("mesh") };
        assert_eq!(metadata["namespace"], expected, "{} {}", object.kind, object.name);
    }
}

#[test]
fn an_agent_is_not_privileged_and_a_successor_fits_beside_it() {
    let agent = one(&[], "DaemonSet", "weft-agent");
    let pod = &agent["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["privileged"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["ports"], Value::Null, "a declared port of the host's network has room for one pod");
    assert_eq!(agent["spec"]["updateStrategy"]["rollingUpdate"], json!({ "maxSurge": 1, "maxUnavailable": 0 }));
    assert_eq!(pod["automountServiceAccountToken"], false);
}

#[test]
fn an_agents_service_account_may_do_nothing() {
    let all = render(&[]).expect("it renders");
    let bindings = all.iter().filter(|object| object.kind.ends_with("RoleBinding"));
    assert!(bindings.clone().count() > 0);
    assert!(bindings.clone().all(|binding| binding.value["subjects"][0]["name"] == "weft-controller"));
}

/// tests/control takes each permission of that file away and sees the controller name it.
#[test]
fn the_controller_may_do_what_was_proven_to_be_the_least() {
    let proven: Vec<Value> = include_str!("../../../controller/rbac.yaml")
        .split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).expect("it is YAML"))
        .collect();
    assert_eq!(proven.len(), 4);
    let mut values = Values::default();
    values.set("aggregatedRoles=false").expect("it is a value");
    let release = Release { name: "weft".to_owned(), namespace: "weft-system".to_owned() };
    let objects = Chart::weft().and_then(|chart| chart.render(&release, &values)).expect("it renders");
    let granted = objects.iter().filter(|object| object.value["apiVersion"] == "rbac.authorization.k8s.io/v1");
    assert_eq!(granted.clone().count(), proven.len());
    for object in granted {
        let same = |one: &&Value| one["kind"] == *object.kind && one["metadata"]["name"] == *object.name;
        let proven = proven.iter().find(same).expect("it was proven");
        assert_eq!(object.value["metadata"]["namespace"], proven["metadata"]["namespace"]);
        for part in ["rules", "roleRef", "subjects"] {
            assert_eq!(object.value[part], proven[part], "{part} of {} {}", object.kind, object.name);
        }
    }
}

#[test]
fn taking_weft_off_nodes_takes_the_agents_place() {
    let removal = one(&["agent.remove=true"], "DaemonSet", "weft-agent");
    let pod = &removal["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][0]["args"][0], "remove");
    assert_eq!(pod["containers"][0]["args"][0], "remove");
    assert_eq!(removal["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"], 0);
}

#[test]
fn the_mesh_is_configured_by_values() {
    let mesh = one(&["meshConfig.networks.pods={10.1.0.0/16}"], "MeshConfig", "default");
    assert_eq!(mesh["spec"], json!({ "networks": { "pods": ["10.1.0.0/16"] } }));
    assert_eq!(one(&[], "MeshConfig", "default")["spec"], json!({}));
}

#[test]
fn definitions_are_the_crates_own() {
    let release = Release { name: "weft-crds".to_owned(), namespace: "mesh".to_owned() };
    let chart = Chart::definitions().expect("the chart is whole");
    let objects = chart.render(&release, &Values::default()).expect("it renders");
    assert_eq!(objects.len(), 4);
    assert!(objects.iter().all(|object| object.kind == "CustomResourceDefinition"));
}

#[test]
fn charts_and_programs_have_one_version() {
    for chart in [Chart::weft(), Chart::definitions()] {
        assert_eq!(chart.expect("the chart is whole").version(), env!("CARGO_PKG_VERSION"));
    }
}
