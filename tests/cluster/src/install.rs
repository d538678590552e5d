//! What `weft install` prints, before a real API server: it takes all of it, and refuses what a schema is there to refuse.

use std::env;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_charts::{Chart, Object, Release, Values, stream};
use weft_rig::place::Outcome;

use crate::Promise;
use crate::namespace::{Namespace, kubectl};
use crate::weft::{self, NAMESPACE};

/// The kinds of the Prometheus operator that the chart has objects of.
const MONITORING_KINDS: [&str; 2] = ["podmonitors", "prometheusrules"];

/// Where the API server says by which `FlowSchema` it has served a request.
const FLOW: &str = "x-kubernetes-pf-flowschema-uid: ";

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "definitions_are_accepted", run: definitions_are_accepted },
        Promise { name: "what_says_nothing_is_refused", run: what_says_nothing_is_refused },
        Promise { name: "every_installed_object_is_accepted", run: every_installed_object_is_accepted },
        Promise { name: "monitoring_is_what_its_operator_reads", run: monitoring_is_what_its_operator_reads },
        Promise { name: "the_controller_has_flows_of_its_own", run: the_controller_has_flows_of_its_own },
    ]
}

fn definitions_are_accepted(_: &Namespace) -> Result<()> {
    let definitions = define()?;
    let listed = kubectl(["api-resources", "--categories=weft", "--output=name"]).run()?.expect_success()?;
    for definition in &definitions {
        ensure!(listed.lines().any(|line| line == definition.name), "{} is not of the category weft", definition.name);
    }
    Ok(())
}

/// Each with what is said of it. Without the client's own validation, as other tools than kubectl send objects.
fn what_says_nothing_is_refused(namespace: &Namespace) -> Result<()> {
    define()?;
    let allow = |rules: Value| {
        let target = json!([{"kind": "Pod"}]);
        ("AuthorizationPolicy", json!({"targetRefs": target, "action": "Allow", "rules": rules}))
    };
    let authorize = |targets: Value| ("AuthorizationPolicy", json!({"targetRefs": targets, "action": "Allow"}));
    let exempt = json!({"from": {"any": true, "cidrs": ["10.0.0.0/8"]}, "reason": "x"});
    for ((kind, spec), said) in [
        (allow(json!([{"form": [{"namespaces": ["x"]}]}])), "should have at least 1 properties"),
        (allow(json!([{"from": [{"namespace": ["x"]}]}])), "should have at least 1 properties"),
        (allow(json!([{"from": null}])), "should have at least 1 properties"),
        (allow(json!([{"from": [{"namespaces": null}]}])), "should have at least 1 properties"),
        (allow(json!([{"to": [{"ports": [0]}]}])), "greater than or equal to 1"),
        (authorize(json!([{"kind": "Service"}])), "a target of kind Service has a name"),
        (authorize(json!([{"kind": "Pod"}, {"kind": "Service", "name": "x"}])), "targets of one kind"),
        (("TrafficPolicy", json!({"targetRefs": [{"kind": "Pod"}]})), "targets of kind Service"),
        (
            ("AuthenticationPolicy", json!({"targetRefs": [{"kind": "Pod"}], "server": {"exemptions": [exempt]}})),
            "not both",
        ),
        (("MeshConfig", json!({})), "its name is default"),
    ] {
        let outcome = try_to_create(namespace, kind, &spec)?.expect_failure()?.stderr;
        ensure!(outcome.contains(said), "{kind} {spec}: {outcome}");
    }
    let (kind, spec) = allow(json!([{"from": [{"namespaces": ["x"]}]}]));
    try_to_create(namespace, kind, &spec)?.expect_success().map(drop)
}

fn every_installed_object_is_accepted(namespace: &Namespace) -> Result<()> {
    define()?;
    for settings in ["logLevel=info", "agent.remove=true", "controller.networkPolicy.nodes={10.90.0.0/24}"] {
        expect_accepted(&rendered(namespace, settings)?).context(settings)?;
    }
    Ok(())
}

/// What is installed with these settings.
fn rendered(namespace: &Namespace, settings: &str) -> Result<Vec<Object>> {
    let release = Release { name: "weft".to_owned(), namespace: namespace.name().to_owned() };
    let mut values = Values::default();
    values.set(settings)?;
    Ok(Chart::weft()?.render(&release, &values)?)
}

fn expect_accepted(objects: &[Object]) -> Result<()> {
    let accepted = try_to_apply(&stream(objects))?.expect_success()?;
    ensure!(accepted.lines().count() == objects.len(), "{accepted}");
    Ok(())
}

fn try_to_apply(objects: &str) -> Result<Outcome> {
    let apply = ["apply", "--server-side", "--dry-run=server", "--filename=-"];
    // An unknown field is a warning to those who do not ask for more.
    kubectl(apply).args(["--validate=strict", "--warnings-as-errors"]).input(objects).run()
}

/// By the operator's own definitions, which are not the cluster's afterwards.
fn monitoring_is_what_its_operator_reads(namespace: &Namespace) -> Result<()> {
    define()?;
    let folder = env::var("WEFT_PROMETHEUS_OPERATOR").context("WEFT_PROMETHEUS_OPERATOR is not set")?;
    let files = MONITORING_KINDS.map(|kind| format!("--filename={folder}/monitoring.coreos.com_{kind}.yaml"));
    let files = files.iter().map(String::as_str);
    kubectl(["apply", "--server-side"]).args(files.clone()).run()?.expect_success()?;
    let outcome = try_monitoring(namespace);
    let removed = kubectl(["delete"]).args(files).run()?.expect_success();
    outcome.and(removed.map(drop))
}

fn try_monitoring(namespace: &Namespace) -> Result<()> {
    for kind in MONITORING_KINDS {
        let name = format!("crd/{kind}.monitoring.coreos.com");
        kubectl(["wait", "--for=condition=Established", &name]).run()?.expect_success()?;
    }
    let settings = "monitoring.podMonitor=true,monitoring.rules=true,monitoring.labels.prometheus=main";
    let objects = rendered(namespace, settings)?;
    let with = stream(&objects);
    for kind in ["PodMonitor", "PrometheusRule"] {
        ensure!(with.contains(kind), "no {kind} is installed");
    }
    expect_accepted(&objects)?;
    // A definition that took anything would prove nothing.
    for (right, wrong) in [("podMetricsEndpoints:", "podMetricEndpoints:"), ("expr:", "expression:")] {
        ensure!(with.contains(right), "no {right} in {with}");
        let refused = try_to_apply(&with.replace(right, wrong))?.expect_failure()?;
        ensure!(refused.stderr.contains("field not declared in schema"), "{wrong}: {}", refused.stderr);
    }
    Ok(())
}

/// By the API server's word: its objects lead somewhere, and requests of the controller's account are sorted by them.
fn the_controller_has_flows_of_its_own(_: &Namespace) -> Result<()> {
    weft::need()?;
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/weft-controller");
    for (name, level, asked) in [
        ("weft-leases", "leader-election", leases.as_str()),
        ("weft-controller", "workload-high", "/api/v1/pods?limit=1"),
    ] {
        let get = kubectl(["get", "flowschema", name, "--output=json"]).run()?.expect_success()?;
        let schema: Value = serde_json::from_str(&get)?;
        let conditions = schema["status"]["conditions"].as_array().context("no condition")?;
        let dangling = conditions.iter().find(|condition| condition["type"] == "Dangling");
        ensure!(dangling.is_some_and(|dangling| dangling["status"] == "False"), "{name} is {}", schema["status"]);

        let account = format!("--as=system:serviceaccount:{NAMESPACE}:weft-controller");
        let shown = kubectl(["get", "--raw", asked, &account, "--v=8"]).run()?;
        let told = shown.stderr.to_ascii_lowercase();
        let uid = told.lines().find_map(|line| line.split_once(FLOW)).map(|(_, uid)| uid.trim());
        ensure!(uid == schema["metadata"]["uid"].as_str(), "{asked} is of {uid:?}, not {}", schema["metadata"]);

        // The installed controller's own, since the API server counts.
        let counted = format!(
            "apiserver_flowcontrol_dispatched_requests_total{{flow_schema=\"{name}\",priority_level=\"{level}\"}}"
        );
        let metrics = kubectl(["get", "--raw", "/metrics"]).run()?.expect_success()?;
        let count = metrics.lines().find_map(|line| line.strip_prefix(&counted)).context(counted.clone())?;
        // One is that of this test.
        ensure!(count.trim().parse::<f64>()? > 1.0, "{level} has dispatched {count} of {name}");
    }
    Ok(())
}

/// Makes the API server know Weft's kinds.
fn define() -> Result<Vec<Object>> {
    let release = Release { name: "weft-crds".to_owned(), namespace: "default".to_owned() };
    let definitions = Chart::definitions()?.render(&release, &Values::default())?;
    kubectl(["apply", "--server-side", "--filename=-"]).input(&stream(&definitions)).run()?.expect_success()?;
    for definition in &definitions {
        let name = format!("crd/{}", definition.name);
        kubectl(["wait", "--for=condition=Established", &name]).run()?.expect_success().context(name)?;
    }
    Ok(definitions)
}

fn try_to_create(namespace: &Namespace, kind: &str, spec: &Value) -> Result<Outcome> {
    let object = json!({"apiVersion": "weft.dev/v1alpha1", "kind": kind, "metadata": {"name": "tried"}, "spec": spec});
    let create = ["create", "--dry-run=server", "--validate=false", "--filename=-"];
    namespace.kubectl(create).input(&object.to_string()).run()
}
