//! What a Service means to captured clients: which pods answer there, and that Weft carried what they answered.
//!
//! The rows are what Kubernetes documents of a Service's fields; kube-proxy reads them beside Weft, so each is asked for
//! under mutual TLS. The cluster has IPv4 alone: Services of two families are a matter of the netns tier.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::namespace::{Namespace, PORT, kubectl};
use crate::nodes::NODES;
use crate::weft::{self, EFFECT_LIMIT};

/// Requests that show where a Service leads: by chance alone, one of two would answer all of them once in half a million.
const MANY: u32 = 20;
/// Addresses that belong to nobody (RFC 5737).
const EXTERNAL: &str = "192.0.2.7";
const BALANCER: &str = "192.0.2.8";
/// What the pod of node2 calls `http`.
const OTHER_PORT: u16 = 8181;
/// How long a Service remembers whom a client had, in seconds.
const MEMORY: u64 = 10;
/// The zones that the nodes are put into.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Longer than what follows a pod's deletion: it goes on answering while it is terminating.
const LINGER_SECONDS: u64 = 45;

const BOTH: &[&str] = &["far", "near"];
const NEAR: &[&str] = &["near"];
const FAR: &[&str] = &["far"];

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "a_service_leads_where_kubernetes_says", run: a_service_leads_where_kubernetes_says },
        Promise { name: "readiness_decides_who_answers", run: readiness_decides_who_answers },
    ]
}

/// A Service with these fields, and who answers a client of node1 at this host.
struct Row {
    name: &'static str,
    spec: Value,
    host: String,
    answerers: &'static [&'static str],
}

impl Row {
    fn new(name: &'static str, spec: Value, answerers: &'static [&'static str]) -> Self {
        Self { name, spec, host: name.to_owned(), answerers }
    }

    fn at(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }
}

/// Of the pods `near` on node1 and `far` on node2, whose ports of the name `http` have different numbers.
fn rows(namespace: &Namespace) -> Vec<Row> {
    let alias = format!("numbers.{}.svc.cluster.local", namespace.name());
    vec![
        Row::new("numbers", json!({}), BOTH),
        Row::new("external", json!({"externalIPs": [EXTERNAL]}), BOTH).at(EXTERNAL),
        Row::new("balanced", json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false}), BOTH)
            .at(BALANCER),
        Row::new("local", json!({"internalTrafficPolicy": "Local"}), NEAR),
        Row::new("same-node", json!({"trafficDistribution": "PreferSameNode"}), NEAR),
        Row::new("same-zone", json!({"trafficDistribution": "PreferSameZone"}), NEAR),
        // Its endpoints are written by hand.
        Row::new("by-hand", json!({"selector": null, "ports": [{"name": "http", "port": 80}]}), FAR),
        Row::new("alias", json!({"type": "ExternalName", "externalName": alias, "selector": null}), BOTH),
    ]
}

fn a_service_leads_where_kubernetes_says(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    // Before there are endpoints: theirs is the zone that their node had.
    for (node, zone) in NODES.iter().zip(["west", "east"]) {
        kubectl(["label", "node", node, "--overwrite", &format!("{ZONE}={zone}")]).run()?.expect_success()?;
    }
    namespace.capture()?;
    namespace.create_pod("client", "node1", &["serve", &format!(":{PORT}")], |_| {})?;
    for (pod, node, port) in [("near", "node1", PORT), ("far", "node2", OTHER_PORT)] {
        namespace.create_pod(pod, node, &["serve", &format!(":{port}")], |pod| {
            pod["metadata"]["labels"]["role"] = json!("server");
            pod["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": port}]);
        })?;
    }
    ["client", "near", "far"].iter().try_for_each(|pod| namespace.await_ready(pod))?;
    weft::await_captured(namespace, &["client", "far", "near"])?;

    let rows = rows(namespace);
    for row in &rows {
        create(namespace, row.name, &row.spec)?;
    }
    let balancer = json!({"status": {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}});
    let patch = ["patch", "service/balanced", "--subresource=status", &format!("--patch={balancer}")];
    namespace.kubectl(patch).run()?.expect_success()?;
    namespace.create_object(&json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "by-hand-1", "labels": {"kubernetes.io/service-name": "by-hand"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": OTHER_PORT}],
        "endpoints": [{"addresses": [namespace.address("far")?]}],
    }))?;
    for row in &rows {
        check(namespace, row).with_context(|| format!("{} {}", row.name, row.spec))?;
    }
    // Local alone, and nobody is there: kube-proxy would drop what Weft refuses.
    create(namespace, "elsewhere", &json!({"internalTrafficPolicy": "Local", "selector": {"app": "far"}}))?;
    await_refused(namespace, "http://elsewhere")?;
    headless(namespace)?;
    for node in NODES {
        kubectl(["label", "node", node, &format!("{ZONE}-")]).run()?.expect_success()?;
    }
    Ok(())
}

/// Makes a Service for the servers, with these fields.
fn create(namespace: &Namespace, name: &str, fields: &Value) -> Result<()> {
    let mut spec =
        json!({"selector": {"role": "server"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]});
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    namespace.create_object(&service).map(drop)
}

fn check(namespace: &Namespace, row: &Row) -> Result<()> {
    let url = format!("http://{}/row-{}", row.host, row.name);
    await_answerers(namespace, &url, row.answerers)?;
    let path = format!("/row-{}", row.name);
    let record = weft::record("node1", &format!("a request of {path}"), |record| record["path"] == *path)?;
    ensure!(record["direction"] == "outbound" && record["security"] == "mtls" && record["status"] == 200, "{record}");
    Ok(())
}

/// DNS says where its pods are, and they are carried to as such.
fn headless(namespace: &Namespace) -> Result<()> {
    create(namespace, "headless", &json!({"clusterIP": "None"}))?;
    let ports = [("near", PORT), ("far", OTHER_PORT)];
    let addresses = ports.map(|(pod, _)| namespace.address(pod));
    let addresses: BTreeSet<String> = addresses.into_iter().collect::<Result<_>>()?;
    wait::until("DNS to name the pods of headless", EFFECT_LIMIT, || {
        let told = namespace.exec("client", &["resolve", "headless"])?.expect_success()?;
        let told: BTreeSet<String> = told.lines().map(str::to_owned).collect();
        ensure!(told == addresses, "it names {told:?}, not {addresses:?}");
        Ok(())
    })?;
    for (pod, port) in ports {
        let path = format!("/headless-{pod}");
        let url = format!("http://{}:{port}{path}", namespace.address(pod)?);
        await_answerers(namespace, &url, &[pod])?;
        let record = weft::record("node1", &format!("a request of {path}"), |record| record["path"] == *path)?;
        ensure!(record["direction"] == "outbound" && record["security"] == "mtls", "{record}");
    }
    Ok(())
}

/// Who answers a captured client, and be it once of many times.
fn answerers(namespace: &Namespace, url: &str) -> Result<BTreeSet<String>> {
    Ok(namespace.tally("client", url, MANY)?.into_keys().collect())
}

/// Waits until these and no others answer, and all of that is carried by Weft.
fn await_answerers(namespace: &Namespace, url: &str, expected: &[&str]) -> Result<()> {
    wait::until(&format!("{expected:?} to answer at {url}"), EFFECT_LIMIT, || {
        let found = answerers(namespace, url)?;
        ensure!(found.iter().eq(expected), "{found:?} answered");
        Ok(())
    })
}

/// Waits until nobody answers and a client knows at once.
fn await_refused(namespace: &Namespace, url: &str) -> Result<()> {
    wait::until(&format!("{url} to refuse"), EFFECT_LIMIT, || {
        let refused = namespace.exec("client", &["get", url])?.expect_failure()?;
        ensure!(refused.stderr.contains("connection refused"), "{}", refused.stderr);
        Ok(())
    })
}

fn readiness_decides_who_answers(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.capture()?;
    namespace.create_pod("client", "node1", &["serve", &format!(":{PORT}")], |_| {})?;
    for (pod, node) in [("one", "node1"), ("two", "node2")] {
        namespace.create_pod(pod, node, &["serve", &format!(":{PORT}")], |pod| {
            pod["metadata"]["labels"]["role"] = json!("server");
            let container = &mut pod["spec"]["containers"][0];
            container["ports"] = json!([{"name": "http", "containerPort": PORT}]);
            container["readinessProbe"] =
                json!({"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1});
            container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": LINGER_SECONDS}}});
            pod["spec"]["terminationGracePeriodSeconds"] = json!(2 * LINGER_SECONDS);
        })?;
    }
    create(namespace, "ready", &json!({}))?;
    create(namespace, "published", &json!({"publishNotReadyAddresses": true}))?;
    let memory = json!({"clientIP": {"timeoutSeconds": MEMORY}});
    create(namespace, "kept", &json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": memory}))?;
    namespace.await_ready("client")?;
    for pod in ["one", "two"] {
        namespace.await_field(pod, "/status/phase", "Running")?;
    }
    weft::await_captured(namespace, &["client", "one", "two"])?;

    await_answerers(namespace, "http://published", &["one", "two"])?;
    await_refused(namespace, "http://ready")?;
    set_ready(namespace, "one", true)?;
    await_answerers(namespace, "http://ready", &["one"])?;
    set_ready(namespace, "two", true)?;
    await_answerers(namespace, "http://ready", &["one", "two"])?;
    a_client_keeps_whom_it_had(namespace)?;
    who_ends_answers_where_nobody_else_does(namespace)
}

fn set_ready(namespace: &Namespace, pod: &str, ready: bool) -> Result<()> {
    let path = if ready { "ready" } else { "unready" };
    let post = namespace.exec(pod, &["post", &format!("http://127.0.0.1:{PORT}/{path}")])?;
    post.expect_success().map(drop)
}

fn a_client_keeps_whom_it_had(namespace: &Namespace) -> Result<()> {
    let only = || {
        let found: Vec<String> = answerers(namespace, "http://kept")?.into_iter().collect();
        match &found[..] {
            [one] => Ok(one.clone()),
            _ => bail!("{found:?} answered"),
        }
    };
    let first = wait::until("one of two to answer at http://kept", EFFECT_LIMIT, only)?;
    set_ready(namespace, &first, false)?;
    let second = wait::until("the other to answer at http://kept", EFFECT_LIMIT, || {
        let found = only()?;
        ensure!(found != first, "{found} still answers");
        Ok(found)
    })?;
    set_ready(namespace, &first, true)?;
    wait::until("both to be ready", EFFECT_LIMIT, || {
        let found = only()?;
        ensure!(found == second, "it had {second}, and got {found} when {first} came back");
        let ready = answerers(namespace, "http://ready")?;
        ensure!(ready.len() == 2, "{ready:?} are ready");
        Ok(())
    })?;
    let found = only()?;
    ensure!(found == second, "it had {second}, and got {found} when {first} came back");
    // Forgotten is whom a client had that has not asked for so long, and the choice is what it was at first.
    wait::throughout("two pods to be ready and nobody to ask", Duration::from_secs(MEMORY + 1), || {
        let slices = namespace.kubectl(["get", "endpointslices", "--selector=kubernetes.io/service-name=kept"]);
        let slices: Value = serde_json::from_str(&slices.arg("--output=json").run()?.expect_success()?)?;
        let endpoints = slices["items"][0]["endpoints"].as_array().context("no endpoint")?;
        let ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ensure!(ready.count() == 2, "the endpoints are {endpoints:?}");
        Ok(())
    })?;
    let found = only()?;
    ensure!(found == first, "after {MEMORY} s it should have forgotten {second}, and got {found}");
    Ok(())
}

/// Ready, else serving and terminating (KEP-1669).
fn who_ends_answers_where_nobody_else_does(namespace: &Namespace) -> Result<()> {
    let delete = |pod: &str| namespace.kubectl(["delete", "pod", pod, "--wait=false"]).run()?.expect_success();
    delete("two")?;
    await_answerers(namespace, "http://ready", &["one"])?;
    delete("one")?;
    await_answerers(namespace, "http://ready", &["one", "two"])?;
    set_ready(namespace, "one", false)?;
    await_answerers(namespace, "http://ready", &["two"])?;
    set_ready(namespace, "two", false)?;
    await_refused(namespace, "http://ready")
}
