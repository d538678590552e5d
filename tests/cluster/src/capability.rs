//! What an agent may do on its node is what it needs: without any part of it no agent takes over from the one that runs.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::namespace::{Namespace, POD_LIMIT, kubectl};
use crate::nodes::NODES;
use crate::weft::{self, NAMESPACE};

/// Each capability with what the agent cannot do without it. Not here: `NET_ADMIN`, without which kernels before 6.5 refuse
/// the map of listening sockets, and later ones refuse nothing.
const NEEDED: [(&str, &str); 2] = [("SYS_ADMIN", "not permitted"), ("SYS_PTRACE", "cannot be opened")];

/// Where the agent's capabilities are in its `DaemonSet`.
const ADDED: &str = "/spec/template/spec/containers/0/securityContext/capabilities/add";

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "an_agent_needs_its_capabilities", run: an_agent_needs_its_capabilities }]
}

fn an_agent_needs_its_capabilities(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    for node in NODES {
        namespace.server(&format!("on-{node}"), node)?;
    }
    namespace.capture()?;
    weft::await_captured(namespace, &["on-node1", "on-node2"])?;
    let installed = daemon_set()?;
    let listed = installed.pointer(ADDED).and_then(Value::as_array).context("the agent has no capability")?.clone();
    let running = pods()?;
    for (capability, missed) in NEEDED {
        let fewer: Vec<&Value> = listed.iter().filter(|one| **one != *capability).collect();
        ensure!(fewer.len() + 1 == listed.len(), "{capability} is not among {listed:?}");
        change(&json!(fewer))?;
        let without = wait::until("an agent with fewer capabilities", POD_LIMIT, || {
            let pods = pods()?;
            pods.into_iter().find(|pod| !running.contains(pod) && has(pod, &json!(fewer))).context("there is none")
        })?;
        wait::until(&format!("the agent without {capability} to say what it misses"), POD_LIMIT, || {
            let log = kubectl(["--namespace", NAMESPACE, "logs", &without]).run()?;
            ensure!(log.stdout.contains(missed), "{}{}", log.stdout, log.stderr);
            Ok(())
        })?;
        let ready = condition(&without, "Ready")?;
        ensure!(ready != "True", "an agent is ready without {capability}");
        for pod in &running {
            ensure!(condition(pod, "Ready")? == "True", "{pod} ended for an agent without {capability}");
        }
    }
    change(&json!(listed))?;
    let rollout = ["--namespace", NAMESPACE, "rollout", "status", "daemonset/weft-agent", "--timeout=120s"];
    kubectl(rollout).within(POD_LIMIT * 2).run()?.expect_success()?;
    weft::await_captured(namespace, &["on-node1", "on-node2"])
}

fn daemon_set() -> Result<Value> {
    let get = kubectl(["--namespace", NAMESPACE, "get", "daemonset/weft-agent", "--output=json"]);
    Ok(serde_json::from_str(&get.run()?.expect_success()?)?)
}

fn change(capabilities: &Value) -> Result<()> {
    let patch = json!([{"op": "replace", "path": ADDED, "value": capabilities}]);
    let patch = format!("--patch={patch}");
    let patch = ["--namespace", NAMESPACE, "patch", "daemonset/weft-agent", "--type=json", &patch];
    kubectl(patch).run()?.expect_success().map(drop)
}

/// The agents' pods, those too that are not ready.
fn pods() -> Result<Vec<String>> {
    let list = ["--namespace", NAMESPACE, "get", "pods", "--selector=app.kubernetes.io/name=weft-agent"];
    let names = kubectl(list).arg("--output=name").run()?.expect_success()?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn pod(name: &str) -> Result<Value> {
    let get = kubectl(["--namespace", NAMESPACE, "get", name, "--output=json"]);
    Ok(serde_json::from_str(&get.run()?.expect_success()?)?)
}

/// Whether a pod has exactly these capabilities; one that is gone has not.
fn has(name: &str, capabilities: &Value) -> bool {
    let added = ADDED.trim_start_matches("/spec/template");
    pod(name).is_ok_and(|pod| pod.pointer(added) == Some(capabilities))
}

fn condition(name: &str, kind: &str) -> Result<String> {
    let pod = pod(name)?;
    let conditions = pod["status"]["conditions"].as_array().context("a pod without conditions")?;
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    Ok(found.and_then(|condition| condition["status"].as_str()).unwrap_or("Unknown").to_owned())
}
