//! Retries are kept within what the backend's own policy constrains them to (GEP-3388).

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, wait};

use super::http::{self, ask, backend};
use crate::cast::EFFECT_LIMIT;
use crate::scene::{Promise, Scene};

const CLIENT: &str = "shop/client";
const REQUESTS: u64 = 200;
/// One, and some that ended as they do on a busy machine.
const CONNECTIONS: u64 = 5;
/// What the application answers 500.
const PATH: &str = "/status/500";

pub fn promises() -> Vec<Promise> {
    vec![Promise::new("retries_stay_within_the_backends_constraint_and_what_is_beyond_is_answered_503", constrained)]
}

/// What the application's agent has taken so far.
fn connections(mesh: &mut Mesh) -> Result<u64> {
    let metrics = mesh.node(2)?.metrics()?;
    let counts =
        metrics.lines().filter(|line| line.starts_with(r#"weft_connections_opened_total{direction="inbound""#));
    let counts = counts.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<u64>()?));
    counts.sum()
}

/// For the Service that the route leads to; nothing else counts within this test's hour.
fn constraint(percent: u64, minimum: u64) -> Value {
    json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackendTrafficPolicy",
        "metadata": {"name": "calm", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web-v1"}],
            "retryConstraint": {
                "budget": {"percent": percent, "interval": "1h"}, "minRetryRate": {"count": minimum, "interval": "1h"},
            },
        },
    })
}

/// Requests on one connection: their statuses, and how many retries all of them took together.
fn retries(mesh: &mut Mesh, known: &mut u64) -> Result<(Value, u64)> {
    let before = connections(mesh)?;
    let (_, report) = ask(mesh, &["--path", PATH, "--count", &REQUESTS.to_string()])?;
    *known += REQUESTS;
    // Neither an answer that is asked for again nor one that nobody is given costs a connection.
    let opened = connections(mesh)? - before;
    ensure!(opened <= CONNECTIONS, "{opened} connections for {REQUESTS} requests, one after another");
    ensure!(before + opened > 0, "nobody has counted connections");
    let log = mesh.node(1)?.access_log();
    let last = wait::until("a record of each request", EFFECT_LIMIT, || {
        let text = std::fs::read_to_string(&log)?;
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let own: Vec<Value> = records.filter(|record| record["path"] == PATH).collect();
        ensure!(own.len() as u64 == *known, "{} of {known}", own.len());
        Ok(own)
    })?;
    let own = &last[last.len() - usize::try_from(REQUESTS)?..];
    Ok((report["statuses"].clone(), own.iter().filter_map(|record| record["retries"].as_u64()).sum()))
}

fn constrained(scene: &Scene) -> Result<()> {
    let retry = json!({"codes": [500], "attempts": 2, "backoff": "1ms"});
    let rules = json!([{"retry": retry, "backendRefs": [backend("web-v1", 1)]}]);
    // A budget is each worker's own.
    let plan = http::web(scene)?.workers(1).object(http::route(&rules)).object(constraint(0, 3));
    let mut mesh = http::start(plan, scene)?;
    let mut known = 0;
    let (statuses, made) = retries(&mut mesh, &mut known)?;
    // The first of all had both of its retries, and the second one of them; nobody else is told 500 for want of one.
    ensure!(statuses["503"] == REQUESTS - 1 && statuses["500"] == 1, "{statuses}");
    ensure!(made == 3, "{made} retries");
    mesh.directory().apply(constraint(20, 1))?;
    wait::until("a fifth of the requests to be retries", EFFECT_LIMIT, || {
        let (statuses, made) = retries(&mut mesh, &mut known)?;
        ensure!((30..=REQUESTS / 5 + 1).contains(&made), "{made} retries: {statuses}");
        Ok(())
    })?;
    let told = std::fs::read_to_string(mesh.directory().path().join(".status/XBackendTrafficPolicy/shop/calm.yaml"))?;
    ensure!(told.contains("the policy is in force"), "{told}");
    mesh.directory().apply(constraint(0, 1))?;
    http::expect_from(&mesh, CLIENT, &["--path", PATH], "503", "retry_budget_spent")?;
    // What asks for no retry is answered as it was.
    http::expect_from(&mesh, CLIENT, &["--path", "/status/502"], "502", "")?;
    expect_calls_constrained(&mut mesh)?;
    mesh.directory().remove("XBackendTrafficPolicy", "shop", "calm")?;
    http::expect_from(&mesh, CLIENT, &CALL, "grpc 14", "")
}

/// Its call is answered UNAVAILABLE by the application.
const CALL: [&str; 5] = ["--grpc", "--path", "/shop.Cart/Get", "--header", "want-grpc-status: 14"];

/// Calls have their statuses in trailers, which only a `TrafficPolicy` can name.
fn expect_calls_constrained(mesh: &mut Mesh) -> Result<()> {
    mesh.directory().apply(http::route(&json!([{"backendRefs": [backend("web-v1", 1)]}])))?;
    mesh.directory().apply(json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "calls", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"kind": "Service", "name": "web"}],
            "retry": {
                "attempts": 2, "backoff": "1ms", "grpcStatuses": ["UNAVAILABLE"],
                "grpc": [{"service": "shop.Cart", "method": "Get"}],
            },
        },
    }))?;
    http::expect_from(mesh, CLIENT, &CALL, "grpc 14", "retry_budget_spent")
}
