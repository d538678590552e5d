//! Pods of every kind in a namespace that takes no plaintext: Jobs, init containers, sidecars, stateful sets, debuggers; and
//! pods at their end: what they hold is answered, and what they leave behind is theirs no more.

use std::net::Ipv4Addr;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::capture::refuse_plaintext;
use crate::namespace::{IMAGE, Namespace, POD_LIMIT, PORT};
use crate::nodes::{ADDRESSES, inside};
use crate::weft::{self, EFFECT_LIMIT};

/// Where the sidecar of the Job listens.
const SIDECAR_PORT: u16 = 9090;
/// Longer than what follows the pod's deletion.
const LINGER_SECONDS: u64 = 45;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "containers_of_every_kind_are_captured", run: containers_of_every_kind_are_captured },
        Promise { name: "a_stateful_set_keeps_its_names", run: a_stateful_set_keeps_its_names },
        Promise { name: "a_finished_pod_owns_no_address", run: a_finished_pod_owns_no_address },
        Promise { name: "a_pod_that_ends_answers_what_it_holds", run: a_pod_that_ends_answers_what_it_holds },
    ]
}

/// A captured namespace without plaintext, with `client` on node1 and `server`, pod and Service, on node2.
fn prepare(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.capture()?;
    refuse_plaintext(namespace)?;
    for (pod, node) in [("client", "node1"), ("server", "node2")] {
        namespace.create_pod(pod, node, &["serve", &format!(":{PORT}")], |_| {})?;
    }
    namespace.service("server")?;
    ["client", "server"].iter().try_for_each(|pod| namespace.await_ready(pod))?;
    weft::await_captured(namespace, &["client", "server"])
}

fn container(name: &str, words: &[&str]) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "Never", "args": words})
}

/// What a container that asks with `podapp` has printed is the answer of the server, carried by Weft.
fn expect_carried(printed: &str) -> Result<()> {
    let answer: Value = serde_json::from_str(printed).with_context(|| printed.to_owned())?;
    ensure!(answer["pod"] == "server" && answer["request"].is_string(), "it was answered {answer}");
    Ok(())
}

fn containers_of_every_kind_are_captured(namespace: &Namespace) -> Result<()> {
    prepare(namespace)?;
    let mut sidecar = container("beside", &["serve", &format!(":{SIDECAR_PORT}")]);
    sidecar["restartPolicy"] = json!("Always");
    namespace.create_object(&json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work"},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": {"app": "work"}}, "spec": {
                "nodeName": "node1",
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "initContainers": [container("first", &["await", "http://server/first"]), sidecar],
                "containers": [container("app", &["await", "http://server/hold"])],
            }},
        },
    }))?;
    let pod = wait::until("the pod of the Job", POD_LIMIT, || {
        let list = namespace.kubectl(["get", "pods", "--selector=app=work", "--output=name"]);
        let names = list.run()?.expect_success()?;
        Ok(names.trim().strip_prefix("pod/").context("there is none")?.to_owned())
    })?;
    // The Job's own container asks for what is only answered when its sidecar has been seen at work.
    namespace.await_ready(&pod)?;
    let sidecar = format!("http://{}:{SIDECAR_PORT}/sidecar", namespace.address(&pod)?);
    let answer = namespace.ask("server", &sidecar)?;
    ensure!(answer["pod"] == *pod && answer["request"].is_string(), "the sidecar is {answer}");
    namespace.exec("server", &["post", &format!("http://127.0.0.1:{PORT}/release")])?.expect_success()?;
    let timeout = format!("--timeout={}s", POD_LIMIT.as_secs());
    let complete = namespace.kubectl(["wait", "--for=condition=complete", "job/work", &timeout]);
    complete.within(POD_LIMIT * 2).run()?.expect_success()?;
    for asked in ["first", "app"] {
        let log = namespace.kubectl(["logs", &pod, "--container", asked]).run()?.expect_success()?;
        let last = log.lines().last().with_context(|| format!("{asked} has printed nothing"))?;
        expect_carried(last).context(asked)?;
    }
    let own = format!("spiffe://cluster.local/ns/{}/sa/default", namespace.name());
    let record = weft::record("node2", "the init container's request", |record| record["path"] == "/first")?;
    ensure!(record["source"]["identity"] == *own && record["security"] == "mtls", "{record}");

    let words = ["debug", "client", "--image", IMAGE, "--image-pull-policy=Never", "--container=visitor", "--"];
    namespace.kubectl(words).args(["/podapp", "get", "http://server/visitor"]).run()?.expect_success()?;
    wait::until("the debugger to end", POD_LIMIT, || {
        let status = &namespace.get("pod/client")?["status"]["ephemeralContainerStatuses"][0];
        ensure!(status["state"]["terminated"]["reason"] == "Completed", "it is {status}");
        Ok(())
    })?;
    let printed = namespace.kubectl(["logs", "client", "--container=visitor"]).run()?.expect_success()?;
    expect_carried(&printed)
}

fn a_stateful_set_keeps_its_names(namespace: &Namespace) -> Result<()> {
    prepare(namespace)?;
    namespace.create_object(&json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": PORT}]},
    }))?;
    namespace.create_object(&json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web"},
        "spec": {
            "serviceName": "web",
            "replicas": 2,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [container("app", &["serve", &format!(":{PORT}")])],
            }},
        },
    }))?;
    await_own_answers(namespace, "old")?;
    let before = namespace.get("pod/web-0")?["metadata"]["uid"].clone();
    namespace.kubectl(["delete", "pod", "web-0"]).run()?.expect_success()?;
    wait::until("another web-0", POD_LIMIT, || {
        let now = &namespace.get("pod/web-0")?["metadata"]["uid"];
        ensure!(*now != before, "it is still there");
        Ok(())
    })?;
    await_own_answers(namespace, "new")
}

/// Waits until each pod of the set answers at its name, as Weft carries it.
fn await_own_answers(namespace: &Namespace, age: &str) -> Result<()> {
    for pod in ["web-0", "web-1"] {
        wait::until(pod, POD_LIMIT, || namespace.get(&format!("pod/{pod}")))?;
        namespace.await_ready(pod)?;
        let path = format!("/{age}-{pod}");
        let answer = namespace.ask("client", &format!("http://{pod}.web:{PORT}{path}"))?;
        ensure!(answer["pod"] == *pod && answer["request"].is_string(), "at the name of {pod} answers {answer}");
        let record = weft::record("node1", &path, |record| record["path"] == *path && record["status"] == 200)?;
        let workload = format!("{}/{pod}", namespace.name());
        ensure!(record["destination"]["workload"] == *workload && record["security"] == "mtls", "{record}");
    }
    Ok(())
}

fn a_finished_pod_owns_no_address(namespace: &Namespace) -> Result<()> {
    prepare(namespace)?;
    for account in ["worker", "heir"] {
        namespace.kubectl(["create", "serviceaccount", account]).run()?.expect_success()?;
    }
    namespace.create_pod("worker", "node2", &["await", "http://server/worker"], |pod| {
        pod["spec"]["restartPolicy"] = json!("Never");
        pod["spec"]["serviceAccountName"] = json!("worker");
    })?;
    namespace.await_field("worker", "/status/phase", "Succeeded")?;
    let address: Ipv4Addr = namespace.address("worker")?.parse()?;
    wait::until(&format!("{address} to be free"), POD_LIMIT, || {
        inside("node2", &["test", "-e", &format!("{ADDRESSES}/{address}")])?.run()?.expect_failure().map(drop)
    })?;
    let before = Ipv4Addr::from_bits(address.to_bits() - 1);
    let write = inside("node2", &["tee", &format!("{ADDRESSES}/last_reserved_ip.0")])?;
    write.input(&before.to_string()).run()?.expect_success()?;
    namespace.create_pod("heir", "node2", &["serve", &format!(":{PORT}")], |pod| {
        pod["spec"]["serviceAccountName"] = json!("heir");
    })?;
    namespace.await_ready("heir")?;
    let both = [namespace.address("worker")?, namespace.address("heir")?];
    ensure!(both.iter().all(|one| *one == address.to_string()), "the addresses of worker and heir are {both:?}");

    let answer = namespace.ask("client", &format!("http://{address}:{PORT}/asks-heir"))?;
    ensure!(answer["pod"] == "heir", "at {address} answers {answer}");
    namespace.ask("heir", "http://server/heir-asks")?;
    let heir = format!("spiffe://cluster.local/ns/{}/sa/heir", namespace.name());
    for (node, path, party) in [("node1", "/asks-heir", "destination"), ("node2", "/heir-asks", "source")] {
        let record = weft::record(node, path, |record| record["path"] == path && record["status"] == 200)?;
        ensure!(record[party]["identity"] == *heir, "{record}");
    }
    let phase = &namespace.get("pod/worker")?["status"]["phase"];
    ensure!(phase == "Succeeded", "the finished pod is {phase}");
    Ok(())
}

fn a_pod_that_ends_answers_what_it_holds(namespace: &Namespace) -> Result<()> {
    prepare(namespace)?;
    namespace.create_pod("leaving", "node2", &["serve", &format!(":{PORT}")], |pod| {
        pod["spec"]["terminationGracePeriodSeconds"] = json!(2 * LINGER_SECONDS);
        pod["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": LINGER_SECONDS}}});
    })?;
    namespace.service("leaving")?;
    namespace.await_ready("leaving")?;
    weft::await_captured(namespace, &["client", "leaving", "server"])?;
    namespace.ask("client", "http://leaving/before")?;
    let answer = thread::scope(|scope| {
        let asking = scope.spawn(|| namespace.exec("client", &["get", "http://leaving/hold"])?.expect_success());
        let ended = end_while_it_holds(namespace);
        let answer = asking.join().map_err(|_| anyhow!("the client panicked"))?;
        ended.and(answer)
    })?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(answer["pod"] == "leaving" && answer["request"].is_string(), "it was answered {answer}");
    Ok(())
}

/// Has the pod deleted while it has a request in its hands, and lets it answer when all know that it is terminating.
fn end_while_it_holds(namespace: &Namespace) -> Result<()> {
    wait::until("the pod to hold a request", EFFECT_LIMIT, || {
        let log = namespace.kubectl(["logs", "leaving"]).run()?.expect_success()?;
        ensure!(log.lines().any(|line| line == "holding"), "its log is {log}");
        Ok(())
    })?;
    namespace.kubectl(["delete", "pod", "leaving", "--wait=false"]).run()?.expect_success()?;
    wait::until("its endpoint to be terminating", EFFECT_LIMIT, || {
        let list = ["get", "endpointslices", "--selector=kubernetes.io/service-name=leaving", "--output=json"];
        let slices: Value = serde_json::from_str(&namespace.kubectl(list).run()?.expect_success()?)?;
        let conditions = &slices["items"][0]["endpoints"][0]["conditions"];
        ensure!(conditions["terminating"] == true, "its conditions are {conditions}");
        Ok(())
    })?;
    namespace.exec("leaving", &["post", &format!("http://127.0.0.1:{PORT}/release")])?.expect_success().map(drop)
}
