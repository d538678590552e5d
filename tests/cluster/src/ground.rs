//! What every other test relies on: the cluster itself, without Weft.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::namespace::{Namespace, PORT, kubectl};

/// Probes come once a second.
const PROBES_LIMIT: Duration = Duration::from_mins(1);

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "both_nodes_are_ready", run: both_nodes_are_ready },
        Promise { name: "names_resolve_in_pods", run: names_resolve_in_pods },
        Promise { name: "services_reach_pods_of_both_nodes", run: services_reach_pods_of_both_nodes },
        Promise { name: "exec_and_logs_reach_a_container", run: exec_and_logs_reach_a_container },
        Promise { name: "a_readiness_probe_decides", run: a_readiness_probe_decides },
        Promise { name: "a_projected_token_is_reviewed", run: a_projected_token_is_reviewed },
        Promise { name: "the_api_server_asks_webhooks_in_pods", run: the_api_server_asks_webhooks_in_pods },
    ]
}

fn both_nodes_are_ready(_: &Namespace) -> Result<()> {
    let nodes: Value = serde_json::from_str(&kubectl(["get", "nodes", "--output=json"]).run()?.expect_success()?)?;
    let mut found = BTreeSet::new();
    for node in nodes["items"].as_array().context("no list of nodes")? {
        let name = node["metadata"]["name"].as_str().context("a node without a name")?;
        ensure!(condition(node, "Ready") == "True", "{name} is not ready: {}", node["status"]["conditions"]);
        let version = &node["status"]["nodeInfo"]["kubeletVersion"];
        ensure!(version.as_str().is_some_and(|version| version.starts_with("v1.36.")), "{name} runs {version}");
        found.insert((name, node["spec"]["podCIDR"].as_str().unwrap_or_default()));
    }
    let expected = BTreeSet::from([("node1", "10.91.1.0/24"), ("node2", "10.91.2.0/24")]);
    ensure!(found == expected, "the nodes and the addresses of their pods are {found:?}");
    Ok(())
}

fn names_resolve_in_pods(namespace: &Namespace) -> Result<()> {
    // Not the pod behind the Service: a pod finds its own name in its own hosts file.
    namespace.server("client", "node1")?;
    let address = namespace.service("web")?;
    let full = format!("web.{}.svc.cluster.local", namespace.name());
    let names = [("web", address.as_str()), (&full, &address), ("kubernetes.default", "10.96.0.1")];
    for (name, expected) in names {
        wait::until(&format!("{name} to resolve"), PROBES_LIMIT, || {
            let answer = namespace.exec("client", &["resolve", name])?.expect_success()?;
            ensure!(answer.trim() == expected, "{name} is {answer}, not {expected}");
            Ok(())
        })?;
    }
    // The DNS must say so itself: nothing is known either of a name that nobody answers for.
    let nobody = namespace.exec("client", &["resolve", &format!("nobody.{full}.")])?.expect_failure()?;
    ensure!(nobody.stderr.contains("no such host"), "a name that is not there is {}", nobody.stderr);
    Ok(())
}

fn services_reach_pods_of_both_nodes(namespace: &Namespace) -> Result<()> {
    namespace.server("server", "node2")?;
    let url = format!("http://{}/", namespace.service("server")?);
    for (client, node) in [("far", "node1"), ("near", "node2")] {
        namespace.server(client, node)?;
        let answer = namespace.ask(client, &url)?;
        let own = namespace.get(&format!("pod/{client}"))?["status"]["podIP"].clone();
        ensure!(answer == json!({"pod": "server", "client": own}), "{client} at {own} was answered {answer}");
    }
    Ok(())
}

fn exec_and_logs_reach_a_container(namespace: &Namespace) -> Result<()> {
    namespace.server("server", "node2")?;
    let copied = namespace.exec_with("server", &["copy"], "there and back\n")?.expect_success()?;
    ensure!(copied == "there and back\n", "the container gave {copied:?} back");
    namespace.exec("server", &["no-such-word"])?.expect_failure()?;
    namespace.ask("server", &format!("http://127.0.0.1:{PORT}/remember-me"))?;
    wait::until("the request in the log", PROBES_LIMIT, || {
        let log = namespace.kubectl(["logs", "server"]).run()?.expect_success()?;
        ensure!(log.contains("GET /remember-me from 127.0.0.1"), "the log is {log:?}");
        Ok(())
    })
}

fn a_readiness_probe_decides(namespace: &Namespace) -> Result<()> {
    namespace.create_pod("server", "node1", &["serve", &format!(":{PORT}")], |pod| {
        pod["spec"]["containers"][0]["readinessProbe"] =
            json!({"httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 1});
    })?;
    namespace.await_field("server", "/status/phase", "Running")?;
    let own = format!("http://127.0.0.1:{PORT}");
    wait::until("the kubelet to ask twice", PROBES_LIMIT, || {
        let asked = namespace.exec("server", &["get", &format!("{own}/probes")])?.expect_success()?;
        ensure!(asked.trim().parse::<u64>()? >= 2, "it has asked {asked} times");
        Ok(())
    })?;
    let pod = namespace.get("pod/server")?;
    ensure!(condition(&pod, "Ready") == "False", "a pod that refuses its probes is ready: {}", pod["status"]);
    namespace.exec("server", &["post", &format!("{own}/ready")])?.expect_success()?;
    namespace.await_ready("server")
}

/// What the agent's identity rests on: a token for one audience, bound to a pod, is that pod's there and nobody's elsewhere.
fn a_projected_token_is_reviewed(namespace: &Namespace) -> Result<()> {
    namespace.create_pod("bearer", "node1", &["serve", &format!(":{PORT}")], |pod| {
        let token = json!({"serviceAccountToken": {"audience": "weft", "path": "token"}});
        pod["spec"]["volumes"] = json!([{"name": "token", "projected": {"sources": [token]}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "token", "mountPath": "/token"}]);
    })?;
    namespace.await_ready("bearer")?;
    let token = namespace.exec("bearer", &["read", "/token/token"])?.expect_success()?;
    let review = |audience: &str| {
        namespace.create_object(&json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }))
    };
    let status = &review("weft")?["status"];
    let expected = format!("system:serviceaccount:{}:default", namespace.name());
    ensure!(status["user"]["username"] == expected, "the token is reviewed as {status}");
    let extra = &status["user"]["extra"];
    ensure!(extra["authentication.kubernetes.io/pod-name"] == json!(["bearer"]), "the token names {extra}");
    ensure!(extra["authentication.kubernetes.io/node-name"] == json!(["node1"]), "the token names {extra}");
    let status = &review("somebody-else")?["status"];
    ensure!(status["authenticated"] != true, "a token is good for another audience: {status}");
    Ok(())
}

pub fn the_api_server_asks_webhooks_in_pods(namespace: &Namespace) -> Result<()> {
    let name = format!("webhook.{}.svc", namespace.name());
    namespace.create_pod("webhook", "node2", &["review", &format!(":{PORT}"), &name], |_| {})?;
    namespace.service("webhook")?;
    namespace.await_ready("webhook")?;
    let trusted = wait::until("the webhook's certificate", PROBES_LIMIT, || {
        let log = namespace.kubectl(["logs", "webhook"]).run()?.expect_success()?;
        Ok(log.lines().next().context("it has printed none")?.to_owned())
    })?;
    namespace.create_object(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace.name(), "labels": namespace.label()},
        "webhooks": [{
            "name": "webhook.tests.weft.dev",
            "clientConfig": {
                "service": {"name": "webhook", "namespace": namespace.name(), "port": 80},
                "caBundle": trusted,
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name()}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    }))?;
    // The API server sees the object, the Service and its endpoints each in its own time.
    wait::until("the webhook to deny an object", PROBES_LIMIT, || {
        let create = namespace.kubectl(["create", "configmap", "denied", "--dry-run=server"]).run()?;
        ensure!(create.stderr.contains("the webhook of a pod was asked"), "{}{}", create.stdout, create.stderr);
        Ok(())
    })
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or("Unknown")
}
