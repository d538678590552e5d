//! A node that is started anew while the controller is away: nobody can sign for its pods, and each namespace goes its way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_rig::wait;

use crate::Promise;
use crate::capture::await_security;
use crate::faults::{BACK_LIMIT, Ways, scale_controller};
use crate::namespace::{Namespace, PORT, kubectl};
use crate::nodes::{said, xtask};
use crate::removal::{expect_clean_kernel, pinned_on};
use crate::weft::{self, NAMESPACE};

/// The node that is started anew, and the other one.
const NODE: &str = "node2";
const OTHER: &str = "node1";

/// A node is ready after ten seconds on a free machine.
const REBOOT_LIMIT: Duration = Duration::from_mins(5);

/// Less than an agent waits for certificates where another one's hooks decide meanwhile (`ATTACH_PATIENCE`).
const GUARD_LIMIT: Duration = Duration::from_secs(3);

/// For how long refusals are looked at, so that none of them is one of a moment.
const REFUSAL: Duration = Duration::from_secs(5);

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "a_rebooted_node_waits_for_the_controller", run: a_rebooted_node_waits_for_the_controller }]
}

fn a_rebooted_node_waits_for_the_controller(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    let outcome = reboot_without_controller(namespace);
    // The next test has one, whatever became of this one.
    let back = scale_controller(2);
    outcome.and(back)
}

fn reboot_without_controller(namespace: &Namespace) -> Result<()> {
    let ways = Ways::create(namespace)?;
    for own in ways.each() {
        own.server("client", NODE)?;
        own.server("stays", OTHER)?;
        weft::await_captured(own, &["client", "server", "stays"])?;
        carried(own, "client", "stays")?;
    }
    scale_controller(0)?;
    let agent = weft::agent(NODE)?;
    let pods = || -> Result<Vec<Value>> {
        let get = |own: &Namespace, pod| own.get(&format!("pod/{pod}"));
        let mut pods = vec![agent_pod(&agent)?];
        for own in ways.each() {
            pods.extend([get(own, "client")?, get(own, "server")?]);
        }
        Ok(pods)
    };
    let before = pods()?;
    let pinned = pinned_on(NODE)?;
    ensure!(!pinned.is_empty() && !keys()?.is_empty(), "the node has nothing to lose");

    xtask(&["reboot", NODE])?.within(REBOOT_LIMIT).run()?.expect_success()?;
    // As soon as there is an agent, which is before it has looked for a controller in vain.
    wait::until("another start of the agent", BACK_LIMIT, || weft::status(NODE).map(drop))?;
    wait::until("the closed namespace to be refused", GUARD_LIMIT, || {
        expect_refusal(&ways.closed, "client", &ways.closed, "stays")
    })?;
    expect_clean_kernel(&pinned)?;
    wait::until("the same pods to run again", BACK_LIMIT, || {
        before.iter().zip(pods()?).try_for_each(|(before, after)| is_started_again(before, &after))
    })?;
    wait::until("the agent to know the pods from its disk", BACK_LIMIT, || is_without_certificates(&ways))?;

    // Of the open namespace all go on: those of the node past the agent, and those who ask them without a proof.
    for server in ["stays", "server"] {
        let answer = ways.open.ask("client", &url(&ways.open, server)?)?;
        ensure!(answer["pod"] == server && answer["request"].is_null(), "{server} answered {answer}");
    }
    await_security(&ways.open, "stays", &url(&ways.open, "server")?, "plaintext")?;
    // Of the closed one nobody gets out, and nobody in.
    let refusals = [
        (&ways.closed, "client", "stays"),
        (&ways.closed, "client", "server"),
        (&ways.closed, "stays", "server"),
        (&ways.open, "client", "server"),
        (&ways.open, "stays", "server"),
    ];
    wait::throughout("the closed namespace", REFUSAL, || {
        refusals.iter().try_for_each(|(from, client, server)| expect_refusal(from, client, &ways.closed, server))
    })?;
    ensure!(keys()?.is_empty(), "without a controller there are the keys {:?}", keys()?);

    scale_controller(2)?;
    for own in ways.each() {
        weft::await_captured(own, &["client", "server", "stays"])?;
        for (client, server) in [("client", "stays"), ("client", "server"), ("stays", "server")] {
            carried(own, client, server)?;
        }
    }
    ways.remove()
}

fn url(namespace: &Namespace, pod: &str) -> Result<String> {
    Ok(format!("http://{}:{PORT}", namespace.address(pod)?))
}

/// Fails unless the client's connection is ended at once.
fn expect_refusal(from: &Namespace, client: &str, to: &Namespace, server: &str) -> Result<()> {
    let refused = from.exec(client, &["get", &url(to, server)?])?.expect_failure()?;
    // As podapp says it, and nobody on the way to the pod.
    let dialled = format!("{}:{PORT}", to.address(server)?);
    let at_once = ["connection refused", "connection reset"].iter().any(|end| refused.stderr.contains(end));
    ensure!(at_once && refused.stderr.contains(&dialled), "{client} of {}: {}", from.name(), refused.stderr);
    Ok(())
}

fn carried(namespace: &Namespace, client: &str, server: &str) -> Result<()> {
    await_security(namespace, client, &url(namespace, server)?, "mtls")
}

fn agent_pod(name: &str) -> Result<Value> {
    let get = kubectl(["--namespace", NAMESPACE, "get", name, "--output=json"]);
    Ok(serde_json::from_str(&get.run()?.expect_success()?)?)
}

/// The files with keys of pods and of the node itself, which are in the node's memory.
fn keys() -> Result<String> {
    said(NODE, &["find", "/run/weft", "-name", "*.pem"])
}

fn is_started_again(before: &Value, after: &Value) -> Result<()> {
    let name = &before["metadata"]["name"];
    ensure!(before["metadata"]["uid"] == after["metadata"]["uid"], "{name} is another pod");
    let restarts = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64().with_context(|| format!("{name} has none"))
    };
    ensure!(restarts(after)? > restarts(before)?, "{name} was not started again: {}", after["status"]);
    let ready = &after["status"]["containerStatuses"][0]["ready"];
    ensure!(*ready == true, "{name} is not ready: {}", after["status"]);
    Ok(())
}

/// What the agent of the node says of all its captured pods until somebody signs for them.
fn is_without_certificates(ways: &Ways) -> Result<()> {
    let status = weft::status(NODE)?;
    ensure!(status["controller"]["connected"] == false, "its controller is {}", status["controller"]);
    for own in ways.each() {
        for pod in ["client", "server"] {
            let name = format!("{}/{pod}", own.name());
            let mut pods = status["pods"].as_array().into_iter().flatten();
            let told = pods.find(|told| told["name"] == *name).with_context(|| format!("no {name}: {status}"))?;
            let reason = told["reason"].as_str().unwrap_or_default();
            ensure!(told["enrolled"] == false && reason.contains("has not been issued"), "{told}");
        }
    }
    Ok(())
}
