//! Agents are replaced one beside the other, by another build and back, and nobody who talks notices.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use weft_rig::wait;

use crate::Promise;
use crate::load::Load;
use crate::namespace::{Namespace, PORT, kubectl};
use crate::weft::{self, NAMESPACE};

/// Two nodes, one after the other, each with a pod that starts and one that ends when its connections have.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(4);

/// Requests a second, half of which must not be delivered twice.
const REQUESTS: u32 = 200;
/// Streams and opaque connections that begin in a second, of three seconds each.
const STREAMS: u32 = 4;

/// Conversations before the first upgrade and after each.
const AROUND: u64 = 20;

/// The tag of what xtask packs beside this version: the same, with programs and maps that cannot be shared.
const NEXT: &str = "next";

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "an_upgrade_and_its_way_back_harm_nobody", run: an_upgrade_and_its_way_back_harm_nobody }]
}

fn an_upgrade_and_its_way_back_harm_nobody(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.capture()?;
    let listen = format!(":{PORT}");
    let mut targets = Vec::new();
    for (server, words) in [("http", "serve"), ("grpc", "serve-grpc"), ("lines", "serve-lines")] {
        namespace.create_pod(server, "node2", &[words, &listen], |_| {})?;
        namespace.await_ready(server)?;
        targets.push(format!("{}:{PORT}", namespace.address(server)?));
    }
    weft::await_captured(namespace, &["grpc", "http", "lines"])?;
    let url = format!("http://{}", targets[0]);
    let loads = [
        Load::create(namespace, "asks", "node1", ("http", &url), REQUESTS)?,
        Load::create(namespace, "streams", "node1", ("grpc", &targets[1]), STREAMS)?,
        Load::create(namespace, "talks", "node1", ("tcp", &targets[2]), STREAMS)?,
    ];
    weft::await_captured(namespace, &["asks", "grpc", "http", "lines", "streams", "talks"])?;
    loads.iter().try_for_each(|load| load.goes_on(AROUND))?;
    for tag in [Some(NEXT), None] {
        let before = agents()?;
        weft::upgrade(tag)?;
        wait::until("every agent to be replaced", ROLLOUT_LIMIT, || expect_replaced(&before))?;
        for load in &loads {
            load.goes_on(AROUND)?;
            let report = load.expect_unharmed()?;
            namespace.note(&format!("{} conversations to {tag:?}, none failed", report.done));
        }
    }
    Ok(())
}

/// The agents' pods, and the images that they run.
fn agents() -> Result<String> {
    let list = ["--namespace", NAMESPACE, "get", "pods", "--selector=app.kubernetes.io/name=weft-agent"];
    let columns = "--output=custom-columns=POD:.metadata.name,IMAGE:.spec.containers[0].image";
    kubectl(list).args([columns, "--no-headers"]).run()?.expect_success()
}

fn expect_replaced(before: &str) -> Result<()> {
    let get = kubectl(["--namespace", NAMESPACE, "get", "daemonset/weft-agent", "--output=json"]);
    let status = serde_json::from_str::<Value>(&get.run()?.expect_success()?)?["status"].clone();
    let wanted = &status["desiredNumberScheduled"];
    for number in ["updatedNumberScheduled", "numberAvailable", "currentNumberScheduled"] {
        ensure!(status[number] == *wanted, "the rollout is at {status}");
    }
    let now = agents()?;
    match before.lines().find(|pod| now.lines().any(|other| other == *pod)) {
        Some(pod) => bail!("{pod} is still there"),
        None => Ok(()),
    }
}
