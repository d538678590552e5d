//! Whom a strict pod hears that has no certificate: its node's kubelet, where the pod declares probes and hooks, and the API
//! server, where it calls the pod. Nobody else.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::capture::refuse_plaintext;
use crate::ground;
use crate::namespace::{Namespace, PORT, kubectl};
use crate::nodes::NODES;
use crate::weft::{self, EFFECT_LIMIT};

/// The port of a second container, which kubelet calls by gRPC.
const GRPC_PORT: u16 = 9090;

/// Probes after capture that pass before the pod counts as unharmed.
const MORE_PROBES: u64 = 5;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "strict_pods_are_probed_by_kubelet_alone", run: strict_pods_are_probed_by_kubelet_alone },
        Promise { name: "a_strict_webhook_still_answers", run: a_strict_webhook_still_answers },
    ]
}

/// Captured, and no plaintext is accepted.
fn enforce(namespace: &Namespace) -> Result<()> {
    namespace.capture()?;
    refuse_plaintext(namespace)
}

fn strict_pods_are_probed_by_kubelet_alone(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    let outside = Namespace::create(&format!("{}_outside", namespace.name()))?;
    for (stranger, node) in [("far", "node1"), ("near", "node2")] {
        outside.server(stranger, node)?;
    }
    enforce(namespace)?;
    let each_second = |action: &Value| {
        let mut probe = action.clone();
        probe["periodSeconds"] = json!(1);
        probe
    };
    let get = |path: &str| json!({"httpGet": {"path": path, "port": PORT}});
    namespace.create_pod("probed", "node2", &["serve", &format!(":{PORT}")], |pod| {
        let own = format!("http://127.0.0.1:{PORT}/");
        let container = &mut pod["spec"]["containers"][0];
        container["startupProbe"] = each_second(&json!({"exec": {"command": ["/podapp", "get", own]}}));
        container["livenessProbe"] = each_second(&json!({"tcpSocket": {"port": PORT}}));
        container["readinessProbe"] = each_second(&get("/ready"));
        container["lifecycle"] = json!({"preStop": get("/")});
        let mut calls = container.clone();
        calls["name"] = json!("calls");
        calls["args"] = json!(["serve-grpc", format!(":{GRPC_PORT}")]);
        let called = each_second(&json!({"grpc": {"port": GRPC_PORT}}));
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            calls[probe] = called.clone();
        }
        calls["lifecycle"] = Value::Null;
        pod["spec"]["containers"] = json!([container, calls]);
    })?;
    weft::await_captured(namespace, &["probed"])?;
    let own = format!("http://127.0.0.1:{PORT}");
    let probes = || -> Result<u64> {
        let told = namespace.exec("probed", &["get", &format!("{own}/probes")])?.expect_success()?;
        told.trim().parse().with_context(|| format!("it has counted {told:?}"))
    };
    namespace.exec("probed", &["post", &format!("{own}/ready")])?.expect_success()?;
    namespace.await_ready("probed")?;
    let before = probes()?;
    wait::until(&format!("more than {before} probes"), EFFECT_LIMIT, || {
        let now = probes()?;
        ensure!(now >= before + MORE_PROBES, "kubelet has asked {now} times");
        Ok(())
    })?;
    let status = &namespace.get("pod/probed")?["status"];
    let containers = status["containerStatuses"].as_array().context("no containers")?;
    ensure!(containers.len() == 2, "{status}");
    ensure!(containers.iter().all(|container| container["restartCount"] == 0), "it was started again: {status}");

    // A node's port is rewritten to come from the node's own address, as kubelet does.
    let service = namespace.create_object(&json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "probed"},
        "spec": {"type": "NodePort", "selector": {"app": "probed"}, "ports": [{"port": 80, "targetPort": PORT}]},
    }))?;
    let number = service["spec"]["ports"][0]["nodePort"].as_u64().context("a Service without a port of nodes")?;
    let mut urls = vec![format!("http://{}:{PORT}/", namespace.address("probed")?)];
    for node in NODES {
        urls.push(format!("http://{}:{number}/", address_of(node)?));
    }
    for stranger in ["far", "near"] {
        for url in &urls {
            let refused = outside.exec(stranger, &["get", url])?.expect_failure();
            refused.with_context(|| format!("{stranger} was let in at {url}"))?;
        }
    }
    outside.remove()
}

fn address_of(node: &str) -> Result<String> {
    let get = kubectl(["get", "node", node, "--output=json"]);
    let node: Value = serde_json::from_str(&get.run()?.expect_success()?)?;
    let addresses = node["status"]["addresses"].as_array().context("a node without addresses")?;
    let own = addresses.iter().find(|address| address["type"] == "InternalIP").context("a node without an address")?;
    Ok(own["address"].as_str().context("an address is text")?.to_owned())
}

fn a_strict_webhook_still_answers(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    enforce(namespace)?;
    ground::the_api_server_asks_webhooks_in_pods(namespace)?;
    weft::await_captured(namespace, &["webhook"])
}
