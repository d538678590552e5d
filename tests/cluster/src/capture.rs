//! Pods that run are captured by a label and let go without it; who is in the mesh is known by its certificate.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::namespace::{Namespace, PORT, kubectl};
use crate::nodes::NODES;
use crate::weft::{self, EFFECT_LIMIT};

/// Answers that a connection gives after a change, before it counts as unharmed.
const MORE_ANSWERS: u64 = 10;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "an_installed_weft_is_ready", run: an_installed_weft_is_ready },
        Promise { name: "a_label_captures_running_pods", run: a_label_captures_running_pods },
        Promise { name: "strict_pods_refuse_plaintext", run: strict_pods_refuse_plaintext },
        Promise { name: "service_accounts_decide_who_may_ask", run: service_accounts_decide_who_may_ask },
    ]
}

fn an_installed_weft_is_ready(_: &Namespace) -> Result<()> {
    weft::need()?;
    let get = |object: &str| -> Result<Value> {
        let get = kubectl(["--namespace", weft::NAMESPACE, "get", object, "--output=json"]);
        Ok(serde_json::from_str(&get.run()?.expect_success()?)?)
    };
    let controller = &get("deployment/weft-controller")?["status"];
    ensure!(controller["availableReplicas"] == 2, "the controller is {controller}");
    for node in NODES {
        // One has the whole mesh's say, and another takes it over when that one's node is lost.
        let field = format!("--field-selector=spec.nodeName={node}");
        let list = ["--namespace", weft::NAMESPACE, "get", "pods", "--selector=app.kubernetes.io/name=weft-controller"];
        let there = kubectl(list).arg(&field).arg("--output=name").run()?.expect_success()?;
        ensure!(there.lines().count() == 1, "on {node} are the controllers {there:?}");
        let status = weft::status(node)?;
        ensure!(status["ready"] == true && status["node"] == node, "the agent of {node} is {status}");
        ensure!(status["controller"]["connected"] == true, "the agent of {node} has {}", status["controller"]);
    }
    let holder = &get("lease/weft-controller")?["spec"]["holderIdentity"];
    ensure!(holder.as_str().is_some_and(|holder| holder.starts_with("weft-controller-")), "{holder} leads");
    let root = &get("meshconfig/default")?["status"]["rootFingerprint"];
    ensure!(root.as_str().is_some_and(|root| root.len() == 64), "the mesh's root is {root}");
    // What was applied once and is applied again is the same.
    let again = weft::install()?;
    ensure!(again.contains("daemonset.apps/weft-agent serverside-applied"), "it printed {again}");
    for node in NODES {
        let restarts = &get(&weft::agent(node)?)?["status"]["containerStatuses"][0]["restartCount"];
        ensure!(*restarts == 0, "the agent of {node} was started again {restarts} times");
    }
    Ok(())
}

fn a_label_captures_running_pods(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.server("server", "node2")?;
    namespace.server("client", "node1")?;
    let url = format!("http://{}:{PORT}", namespace.address("server")?);
    let old = Talker::create(namespace, "old", &format!("{url}/old"))?;
    old.goes_on(namespace)?;
    ensure!(request(namespace, "client", &format!("{url}/before"))?.is_none(), "nobody has asked for capture");

    namespace.capture()?;
    weft::await_captured(namespace, &["client", "old", "server"])?;
    await_security(namespace, "client", &format!("{url}/captured"), "mtls")?;
    old.goes_on(namespace)?;
    let new = Talker::create(namespace, "new", &format!("{url}/new"))?;
    weft::await_captured(namespace, &["client", "new", "old", "server"])?;
    new.goes_on(namespace)?;
    let record = weft::record("node1", "a request of the new talker", |record| record["path"] == "/new")?;
    ensure!(record["security"] == "mtls", "{record}");

    namespace.kubectl(["label", "namespace", namespace.name(), "weft.dev/capture-"]).run()?.expect_success()?;
    weft::await_captured(namespace, &[])?;
    wait::until("requests to go their own way", EFFECT_LIMIT, || {
        let carried = request(namespace, "client", &format!("{url}/after"))?;
        ensure!(carried.is_none(), "Weft carried {carried:?}");
        Ok(())
    })?;
    for talker in [old, new] {
        talker.goes_on(namespace)?;
    }
    for pod in ["client", "server"] {
        let restarts = &namespace.get(&format!("pod/{pod}"))?["status"]["containerStatuses"][0]["restartCount"];
        ensure!(*restarts == 0, "{pod} was started again");
    }
    Ok(())
}

/// A pod that begins when it is asked how it goes: asks again and again over one connection, and ends with it.
struct Talker {
    name: &'static str,
}

impl Talker {
    fn create(namespace: &Namespace, name: &'static str, url: &str) -> Result<Self> {
        namespace.create_pod(name, "node1", &["talk", url, &format!(":{PORT}")], |pod| {
            pod["spec"]["restartPolicy"] = json!("Never");
        })?;
        namespace.await_ready(name)?;
        Ok(Self { name })
    }

    fn answers(&self, namespace: &Namespace) -> Result<u64> {
        let told = namespace.exec(self.name, &["get", &format!("http://127.0.0.1:{PORT}/")])?;
        Ok(told.expect_success()?.trim().parse()?)
    }

    /// Waits until it has got more answers than it had.
    fn goes_on(&self, namespace: &Namespace) -> Result<()> {
        let before = self.answers(namespace)?;
        wait::until(&format!("more than {before} answers for {}", self.name), EFFECT_LIMIT, || {
            let answers = self.answers(namespace)?;
            ensure!(answers >= before + MORE_ANSWERS, "it has {answers}");
            Ok(())
        })
    }
}

fn strict_pods_refuse_plaintext(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    let outside = Namespace::create(&format!("{}_outside", namespace.name()))?;
    namespace.server("server", "node2")?;
    namespace.server("client", "node1")?;
    outside.server("stranger", "node1")?;
    namespace.capture()?;
    weft::await_captured(namespace, &["client", "server"])?;
    let url = format!("http://{}:{PORT}/strict", namespace.address("server")?);
    outside.ask("stranger", &url)?;
    refuse_plaintext(namespace)?;
    wait::until("a client without a certificate to be refused", EFFECT_LIMIT, || {
        outside.exec("stranger", &["get", &url])?.expect_failure().map(drop)
    })?;
    await_security(namespace, "client", &url, "mtls")?;
    outside.remove()
}

fn service_accounts_decide_who_may_ask(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.server("server", "node2")?;
    for client in ["welcome", "other"] {
        namespace.kubectl(["create", "serviceaccount", client]).run()?.expect_success()?;
        namespace.create_pod(client, "node1", &["serve", &format!(":{PORT}")], |pod| {
            pod["spec"]["serviceAccountName"] = json!(client);
        })?;
        namespace.await_ready(client)?;
    }
    namespace.capture()?;
    weft::await_captured(namespace, &["other", "server", "welcome"])?;
    let url = format!("http://{}:{PORT}/guarded", namespace.address("server")?);
    for client in ["welcome", "other"] {
        await_security(namespace, client, &url, "mtls")?;
    }
    namespace.create_object(&json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "guard"},
        "spec": {
            "targetRefs": [{"kind": "Pod", "selector": {"matchLabels": {"app": "server"}}}],
            "action": "Allow",
            "rules": [{"from": [{"serviceAccounts": ["welcome"]}]}],
        },
    }))?;
    await_accepted(namespace, "authorizationpolicy/guard", "/status/ancestors/0")?;
    wait::until("a client of another account to be denied", EFFECT_LIMIT, || {
        namespace.exec("other", &["get", &url])?.expect_failure().map(drop)
    })?;
    let own = format!("spiffe://cluster.local/ns/{}/sa/other", namespace.name());
    weft::record("node2", "the denial", |record| {
        record["verdict"] == "deny" && record["source"]["identity"] == *own && record["direction"] == "inbound"
    })?;
    await_security(namespace, "welcome", &url, "mtls")
}

/// Lets the namespace's pods be spoken to by mutual TLS alone, and waits until Weft has accepted that.
pub fn refuse_plaintext(namespace: &Namespace) -> Result<()> {
    namespace.create_object(&json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "AuthenticationPolicy",
        "metadata": {"name": "strict"},
        "spec": {"targetRefs": [{"kind": "Pod"}], "server": {"mtls": "Strict"}},
    }))?;
    await_accepted(namespace, "authenticationpolicy/strict", "/status/ancestors/0")
}

/// Waits until Weft has accepted an object, for the ancestor or parent that the pointer names.
pub fn await_accepted(namespace: &Namespace, object: &str, pointer: &str) -> Result<()> {
    wait::until(&format!("{object} to be accepted"), EFFECT_LIMIT, || {
        let status = namespace.get(object)?;
        let told = status.pointer(pointer).with_context(|| format!("its status is {}", status["status"]))?;
        ensure!(told["controllerName"] == "weft.dev/controller", "it was told {told}");
        let conditions = told["conditions"].as_array().context("there is no condition")?;
        let accepted = conditions.iter().any(|one| one["type"] == "Accepted" && one["status"] == "True");
        ensure!(accepted, "it was told {told}");
        Ok(())
    })
}

/// What Weft calls a request that it carries; None where it carries none.
fn request(namespace: &Namespace, pod: &str, url: &str) -> Result<Option<String>> {
    let answer = namespace.ask(pod, url)?;
    Ok(answer["request"].as_str().map(str::to_owned))
}

/// Waits until a request from a pod is carried in this way, as the agent of its node writes.
pub fn await_security(namespace: &Namespace, pod: &str, url: &str, wanted: &str) -> Result<()> {
    let node = namespace.get(&format!("pod/{pod}"))?["spec"]["nodeName"].clone();
    let node = node.as_str().context("a pod without a node")?;
    wait::until(&format!("a request of {pod} under {wanted}"), EFFECT_LIMIT, || {
        let name = request(namespace, pod, url)?.context("Weft did not carry it")?;
        let record = weft::record(node, &name, |record| record["request"] == *name)?;
        ensure!(record["security"] == wanted && record["status"] == 200, "{record}");
        Ok(())
    })
}
