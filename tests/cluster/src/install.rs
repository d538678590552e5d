//! What `weft install` prints, before a real API server: it takes all of it, and refuses what a schema is there to refuse.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_charts::{Chart, Object, Release, Values, stream};

use crate::Promise;
use crate::namespace::{Namespace, kubectl};

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "definitions_are_accepted", run: definitions_are_accepted },
        Promise { name: "what_says_nothing_is_refused", run: what_says_nothing_is_refused },
        Promise { name: "every_installed_object_is_accepted", run: every_installed_object_is_accepted },
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
    let release = Release { name: "weft".to_owned(), namespace: namespace.name().to_owned() };
    let chart = Chart::weft()?;
    for settings in ["logLevel=info", "agent.remove=true", "controller.networkPolicy.nodes={10.90.0.0/24}"] {
        let mut values = Values::default();
        values.set(settings)?;
        let objects = chart.render(&release, &values)?;
        let mut apply = vec!["apply", "--server-side", "--dry-run=server", "--filename=-"];
        // An unknown field is a warning to those who do not ask for more.
        apply.extend(["--validate=strict", "--warnings-as-errors"]);
        let accepted = kubectl(apply).input(&stream(&objects)).run()?.expect_success()?;
        ensure!(accepted.lines().count() == objects.len(), "{settings}: {accepted}");
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

fn try_to_create(namespace: &Namespace, kind: &str, spec: &Value) -> Result<weft_rig::place::Outcome> {
    let object = json!({"apiVersion": "weft.dev/v1alpha1", "kind": kind, "metadata": {"name": "tried"}, "spec": spec});
    let create = ["create", "--dry-run=server", "--validate=false", "--filename=-"];
    namespace.kubectl(create).input(&object.to_string()).run()
}
