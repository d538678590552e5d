//! Agents are replaced one beside the other, and nobody who asks notices.

use std::time::Duration;

use anyhow::{Error, Result, bail, ensure};
use serde_json::Value;
use weft_rig::place::Outcome;
use weft_rig::wait;

use crate::Promise;
use crate::capture::await_security;
use crate::namespace::{Namespace, PORT, kubectl};
use crate::weft::{self, NAMESPACE};

/// Two nodes, one after the other, each with a pod that starts and one that ends.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(3);

/// Requests between two looks at the rollout.
const REQUESTS: &str = "100";

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "agents_hand_over_and_no_request_fails", run: agents_hand_over_and_no_request_fails }]
}

fn agents_hand_over_and_no_request_fails(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.server("server", "node2")?;
    namespace.server("client", "node1")?;
    namespace.capture()?;
    weft::await_captured(namespace, &["client", "server"])?;
    let url = format!("http://{}:{PORT}/", namespace.address("server")?);
    await_security(namespace, "client", &url, "mtls")?;

    let before = kubectl(agents()).run()?.expect_success()?;
    kubectl(["--namespace", NAMESPACE, "rollout", "restart", "daemonset/weft-agent"]).run()?.expect_success()?;
    let mut failed: Option<Error> = None;
    wait::until("every agent to be replaced", ROLLOUT_LIMIT, || {
        let asked = namespace.exec("client", &["tally", &url, REQUESTS]).and_then(Outcome::expect_success);
        if let Err(error) = asked {
            failed = Some(error);
            return Ok(());
        }
        expect_replaced(&before)
    })?;
    if let Some(error) = failed {
        return Err(error.context("a request failed during the hand-over"));
    }
    await_security(namespace, "client", &url, "mtls")
}

fn agents() -> [&'static str; 6] {
    ["--namespace", NAMESPACE, "get", "pods", "--selector=app.kubernetes.io/name=weft-agent", "--output=name"]
}

fn expect_replaced(before: &str) -> Result<()> {
    let get = kubectl(["--namespace", NAMESPACE, "get", "daemonset/weft-agent", "--output=json"]);
    let status = serde_json::from_str::<Value>(&get.run()?.expect_success()?)?["status"].clone();
    let wanted = &status["desiredNumberScheduled"];
    for number in ["updatedNumberScheduled", "numberAvailable", "currentNumberScheduled"] {
        ensure!(status[number] == *wanted, "the rollout is at {status}");
    }
    let now = kubectl(agents()).run()?.expect_success()?;
    match before.lines().find(|pod| now.lines().any(|other| other == *pod)) {
        Some(pod) => bail!("{pod} is still there"),
        None => Ok(()),
    }
}
