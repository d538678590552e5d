//! Gateway API's routes: what they ask for is done, and they are told so.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::capture::await_accepted;
use crate::namespace::Namespace;
use crate::weft::{self, EFFECT_LIMIT};

/// Requests of one look at the weights.
const REQUESTS: u32 = 200;

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "a_route_divides_requests_by_weight", run: a_route_divides_requests_by_weight }]
}

fn a_route_divides_requests_by_weight(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    for (server, node) in [("blue", "node1"), ("green", "node2")] {
        namespace.server(server, node)?;
        namespace.service(server)?;
    }
    namespace.server("client", "node1")?;
    namespace.capture()?;
    weft::await_captured(namespace, &["blue", "client", "green"])?;
    let split = |blue: u32, green: u32| {
        json!({
            "parentRefs": [{"group": "", "kind": "Service", "name": "blue", "port": 80}],
            "rules": [{"backendRefs": [
                {"name": "blue", "port": 80, "weight": blue},
                {"name": "green", "port": 80, "weight": green},
            ]}],
        })
    };
    namespace.create_object(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "split"},
        "spec": split(3, 1),
    }))?;
    await_accepted(namespace, "httproute/split", "/status/parents/0")?;
    // Of 200 requests 50 are green, give or take 6 (standard deviation).
    await_split(namespace, |green| (20..=80).contains(&green))?;
    let patch = json!({"spec": split(0, 1)}).to_string();
    let patch = ["patch", "httproute/split", "--type=merge", &format!("--patch={patch}")];
    namespace.kubectl(patch).run()?.expect_success()?;
    await_split(namespace, |green| green == REQUESTS)
}

/// Waits until this many of the requests for the Service of `blue` are answered by `green`, and all others by `blue`.
fn await_split(namespace: &Namespace, wanted: impl Fn(u32) -> bool) -> Result<()> {
    wait::until("requests to be divided by weight", EFFECT_LIMIT, || {
        let answers = namespace.tally("client", "http://blue/", REQUESTS)?;
        ensure!(wanted(answers.get("green").copied().unwrap_or_default()), "answers: {answers:?}");
        ensure!(answers.values().sum::<u32>() == REQUESTS, "answers: {answers:?}");
        Ok(())
    })?;
    let status: Value = namespace.get("httproute/split")?["status"].clone();
    let parents = status["parents"].as_array().map_or(0, Vec::len);
    ensure!(parents == 1, "the route's status is {status}");
    Ok(())
}
