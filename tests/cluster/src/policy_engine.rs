//! Kubernetes' `NetworkPolicy` goes on meaning what it means: Weft leaves a connection its addresses and its port, so whoever
//! filters packets between nodes decides as before.
//!
//! The engine is a small one of the tier's own, on the node of the pods that a policy selects: it reads `podSelector` and
//! `ports` of one policy's `ingress`, and passes what that allows and drops the rest. Absent: policies of pods that come
//! later, and packets that stay on a node, which not every kernel shows to such a filter.

use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::Promise;
use crate::capture::await_security;
use crate::namespace::{IMAGE, Namespace, PORT};
use crate::nodes::{inside, said};
use crate::weft;

/// The port of the server that nobody may reach.
const OTHER_PORT: u16 = 8181;

/// What the engine has in the packet filter of its node.
const TABLE: &str = "weft-test-policies";

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "network_policies_decide_as_before", run: network_policies_decide_as_before }]
}

fn network_policies_decide_as_before(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.create_pod("server", "node2", &["serve", &format!(":{PORT}")], |pod| {
        let other = format!(":{OTHER_PORT}");
        let other = json!({"name": "other", "image": IMAGE, "imagePullPolicy": "Never", "args": ["serve", other]});
        if let Some(containers) = pod["spec"]["containers"].as_array_mut() {
            containers.push(other);
        }
    })?;
    for client in ["friend", "stranger"] {
        namespace.create_pod(client, "node1", &["serve", &format!(":{PORT}")], |_| {})?;
    }
    ["server", "friend", "stranger"].iter().try_for_each(|pod| namespace.await_ready(pod))?;
    let policy = namespace.create_object(&json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"app": "friend"}}}],
                "ports": [{"protocol": "TCP", "port": PORT}],
            }],
        },
    }))?;
    expect_open(namespace).context("without the engine")?;
    let engine = Engine::start(namespace, "node2", &policy)?;
    expect_decided(namespace, &engine).context("before capture")?;

    namespace.capture()?;
    weft::await_captured(namespace, &["friend", "server", "stranger"])?;
    let url = format!("http://{}:{PORT}/friend", namespace.address("server")?);
    await_security(namespace, "friend", &url, "mtls")?;
    expect_decided(namespace, &engine).context("captured")?;

    namespace.kubectl(["label", "namespace", namespace.name(), "weft.dev/capture-"]).run()?.expect_success()?;
    weft::await_captured(namespace, &[])?;
    expect_decided(namespace, &engine).context("after capture")?;
    engine.stop()?;
    expect_open(namespace).context("without the engine again")
}

/// Nobody decides.
fn expect_open(namespace: &Namespace) -> Result<()> {
    let address = namespace.address("server")?;
    for (client, port) in [("friend", PORT), ("friend", OTHER_PORT), ("stranger", PORT)] {
        namespace.ask(client, &format!("http://{address}:{port}/"))?;
    }
    Ok(())
}

/// The port that is allowed answers who is allowed; all else is lost, and the engine has seen it where it was meant to go.
fn expect_decided(namespace: &Namespace, engine: &Engine) -> Result<()> {
    let address = namespace.address("server")?;
    let get = |client: &str, port: u16| namespace.exec(client, &["get", &format!("http://{address}:{port}/")]);
    get("friend", PORT)?.expect_success()?;
    engine.forget()?;
    let lost = [("friend", OTHER_PORT), ("stranger", PORT)];
    thread::scope(|scope| {
        let asking = lost.map(|(client, port)| scope.spawn(move || get(client, port)?.expect_failure()));
        asking.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a client panicked"))?.map(drop))
    })?;
    let dropped = engine.dropped()?;
    for (client, port) in lost {
        let from = namespace.address(client)?;
        ensure!(dropped.contains(&json!({"concat": [from, port]})), "nothing from {from} to {port} among {dropped:?}");
    }
    ensure!(dropped.len() == lost.len(), "dropped was {dropped:?}");
    get("friend", PORT)?.expect_success().map(drop)
}

/// One policy in the packet filter of one node, until it ends.
struct Engine {
    node: &'static str,
}

impl Engine {
    fn start(namespace: &Namespace, node: &'static str, policy: &Value) -> Result<Self> {
        let spec = &policy["spec"];
        let selected = addresses(namespace, &spec["podSelector"])?;
        let mut allowed = Vec::new();
        for rule in spec["ingress"].as_array().context("no ingress")? {
            for (peer, port) in pairs(rule)? {
                let (from, number) = (addresses(namespace, &peer["podSelector"])?, &port["port"]);
                allowed.push(format!("ip daddr {selected} ip saddr {from} tcp dport {number} accept"));
            }
        }
        let allowed = allowed.join("\n");
        let ruleset = format!(
            "table ip {TABLE} {{
                set dropped {{ type ipv4_addr . inet_service; flags dynamic; }}
                chain pass {{
                    type filter hook forward priority filter; policy accept;
                    ct state established,related accept
                    {allowed}
                    ip daddr {selected} add @dropped {{ ip saddr . tcp dport }}
                    ip daddr {selected} drop
                }}
            }}"
        );
        inside(node, &["nft", "--file", "-"])?.input(&ruleset).run()?.expect_success()?;
        Ok(Self { node })
    }

    /// From whom to which port packets were dropped, since that was last forgotten.
    fn dropped(&self) -> Result<Vec<Value>> {
        let listed = said(self.node, &["nft", "--json", "list", "set", "ip", TABLE, "dropped"])?;
        let listed: Value = serde_json::from_str(&listed)?;
        let sets = listed["nftables"].as_array().context("nothing is listed")?;
        let set = sets.iter().find_map(|item| item.get("set")).context("there is no set")?;
        Ok(set["elem"].as_array().cloned().unwrap_or_default())
    }

    fn forget(&self) -> Result<()> {
        said(self.node, &["nft", "flush", "set", "ip", TABLE, "dropped"]).map(drop)
    }

    fn stop(self) -> Result<()> {
        let node = self.node;
        drop(self);
        let left = inside(node, &["nft", "list", "table", "ip", TABLE])?.run()?;
        left.expect_failure().context("the engine has left its rules").map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A test that failed has its own words; one that did not looks.
        said(self.node, &["nft", "delete", "table", "ip", TABLE]).ok();
    }
}

/// Every source of a rule with every port.
fn pairs(rule: &Value) -> Result<Vec<(&Value, &Value)>> {
    let peers = rule["from"].as_array().context("a rule for everybody")?;
    let ports = rule["ports"].as_array().context("a rule for every port")?;
    Ok(peers.iter().flat_map(|peer| ports.iter().map(move |port| (peer, port))).collect())
}

/// The addresses of the pods that a selector of labels means, as the packet filter reads them.
fn addresses(namespace: &Namespace, selector: &Value) -> Result<String> {
    let labels = selector["matchLabels"].as_object().context("a selector without labels")?;
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
    let list = format!("--selector={}", labels.join(","));
    let pods = namespace.kubectl(["get", "pods", &list, "--output=jsonpath={.items[*].status.podIP}"]);
    let pods = pods.run()?.expect_success()?;
    let found: Vec<&str> = pods.split_whitespace().collect();
    ensure!(!found.is_empty(), "no pod has the labels {labels:?}");
    Ok(format!("{{ {} }}", found.join(", ")))
}
