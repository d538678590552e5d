//! Requests while backends are killed and weights change under them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::process::Process;
use weft_rig::{Mesh, PodPlan, ServicePlan, wait};

use crate::cast::{self, EFFECT_LIMIT};
use crate::scene::{Promise, Scene};

/// The port of the Services, and of the pods behind them.
const WEB: u16 = 8000;
const BACKENDS: [(&str, &str, usize); 4] = [("a1", "v1", 2), ("a2", "v1", 1), ("b1", "v2", 2), ("b2", "v2", 2)];
/// The weights of the second version, one after the other.
const WEIGHTS: [u32; 5] = [10, 70, 30, 90, 50];
/// A weight holds for this long.
const STEP: Duration = Duration::from_millis(100);
/// One backend is killed in so many steps, and is back after so many.
const KILL_EVERY: u32 = 10;
const AWAY: u32 = 3;
/// Of requests that nobody had worked on, beyond the first endpoint.
const PICKED_AGAIN_MAXIMUM: u64 = 3;
const CLIENTS_LIMIT: Duration = Duration::from_mins(20);

pub fn promises() -> Vec<Promise> {
    vec![Promise::new("requests_survive_killed_backends_and_changing_weights", upheaval).proves(
        "200,000 HTTP requests and 200,000 gRPC calls, a weight changed every 100 ms, a backend killed every second",
    )]
}

/// What one client sends, and whether its requests may be sent again.
struct Load {
    name: &'static str,
    arguments: Vec<String>,
    count: u64,
    retryable: bool,
}

impl Load {
    fn new(name: &'static str, count: u64, retryable: bool, to: &str, more: &[&str]) -> Self {
        let to = format!("{to}:{WEB}");
        let count_text = count.to_string();
        let arguments = [&["requests", "--to", &to, "--count", &count_text], more].concat();
        Self { name, arguments: arguments.into_iter().map(str::to_owned).collect(), count, retryable }
    }
}

/// A third of the requests must not be sent twice.
fn loads(count: u64) -> [Load; 4] {
    let (many, few) = (count - count / 3, count / 3);
    let calls = ["--grpc", "--connections", "8", "--path"];
    let numbered = ["--numbered", "1000000", "--allow", "grpc 14"];
    [
        Load::new("get", many, true, "web.shop", &["--connections", "8", "--path", "/get"]),
        Load::new(
            "post",
            few,
            false,
            "web.shop",
            &["--connections", "4", "--path", "/post", "--method", "POST", "--bytes", "100", "--numbered", "0"],
        ),
        Load::new("call-get", many, true, "cart.shop", &[&calls[..], &["/shop.Cart/Get"]].concat()),
        Load::new("call-add", few, false, "cart.shop", &[&calls[..], &["/shop.Cart/Add"], &numbered].concat()),
    ]
}

fn plan_backends(scene: &Scene) -> Result<Mesh> {
    let mut plan = cast::shop(scene)?;
    for (name, version, node) in BACKENDS {
        let pod = PodPlan::named(&format!("shop/web-{name}")).on(node).account("web");
        plan = plan.pod(pod.label("app", "web").label("version", version));
    }
    for (service, label, value) in
        [("web", "app", "web"), ("cart", "app", "web"), ("web-v1", "version", "v1"), ("web-v2", "version", "v2")]
    {
        plan = plan.service(ServicePlan::named(&format!("shop/{service}")).port("web", WEB, WEB).selects(label, value));
    }
    let calls = json!({
        "targetRefs": [{"kind": "Service", "name": "cart"}],
        "retry": {"attempts": 5, "backoff": "5ms", "grpcStatuses": ["UNAVAILABLE"], "grpc": [{"service": "shop.Cart", "method": "Get"}]},
    });
    let policy = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": "cart", "namespace": "shop"}, "spec": calls,
    });
    let [http, grpc] = weighted(WEIGHTS[0]);
    let mut mesh = plan.object(policy).object(http).object(grpc).start(&scene.sandbox)?;
    for (name, ..) in BACKENDS {
        serve(&mut mesh, name)?;
        mesh.pod_mut(&format!("shop/web-{name}"))?.await_listener(WEB, EFFECT_LIMIT)?;
    }
    Ok(mesh)
}

fn serve(mesh: &mut Mesh, name: &str) -> Result<()> {
    let pod = mesh.pod_mut(&format!("shop/web-{name}"))?;
    let journal = pod.scratch().join("journal").display().to_string();
    let arguments = ["http", "--port", &WEB.to_string(), "--name", name, "--journal", &journal];
    let launch = pod.command(cast::testapp()?).args(arguments);
    pod.serve("http", launch).map(drop)
}

/// The routes of both Services, whose rule is named after the weight of the second version.
fn weighted(weight: u32) -> [Value; 2] {
    let backend = |name: &str, weight: u32| json!({"name": name, "port": WEB, "weight": weight});
    ["HTTPRoute", "GRPCRoute"].map(|kind| {
        let service = if kind == "HTTPRoute" { "web" } else { "cart" };
        let mut rule = json!({
            "name": format!("w{weight}"),
            "backendRefs": [backend("web-v1", 100 - weight), backend("web-v2", weight)],
        });
        if kind == "HTTPRoute" {
            rule["retry"] = json!({"attempts": 5, "backoff": "5ms"});
        }
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": {"name": service, "namespace": "shop"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": service, "port": WEB}], "rules": [rule]},
        })
    })
}

fn upheaval(scene: &Scene) -> Result<()> {
    let mut mesh = plan_backends(scene)?;
    let loads = loads(scene.pick(12_000, 200_000));
    let started = loads.iter().map(|load| {
        let arguments: Vec<&str> = load.arguments.iter().map(String::as_str).collect();
        cast::start_client(&mesh, "shop/client", load.name, &arguments)
    });
    let mut clients = started.collect::<Result<Vec<Process>>>()?;
    let kills = disturb(&mut mesh, &mut clients)?;
    scene.note(&format!("{kills} backends were killed"));
    let mut delivered = HashSet::new();
    for (load, client) in loads.iter().zip(clients) {
        let (status, output) = client.finish(EFFECT_LIMIT)?;
        let report: Value = serde_json::from_str(output.lines().next().context("no report")?)?;
        let counts: BTreeMap<String, u64> = serde_json::from_value(report["statuses"].clone())?;
        scene.note(&format!("{}: {counts:?} p50 {} µs p99 {} µs", load.name, report["p50_us"], report["p99_us"]));
        ensure!(report["failures"] == json!({}), "{}: {report}", load.name);
        ensure!(counts.values().sum::<u64>() == load.count, "{}: {report}", load.name);
        ensure!(!load.retryable || status.success(), "{}: {report}", load.name);
    }
    for (name, ..) in BACKENDS {
        let journal = mesh.pod(&format!("shop/web-{name}"))?.scratch().join("journal");
        for line in BufReader::new(File::open(journal)?).lines() {
            let number = line?;
            ensure!(delivered.insert(number.clone()), "request {number} was delivered twice");
        }
    }
    scene.note(&format!("{} requests that must not be sent twice were delivered, each once", delivered.len()));
    judge_records(scene, &mut mesh)
}

/// Changes the weights and kills backends until every client has ended; returns the number of kills.
fn disturb(mesh: &mut Mesh, clients: &mut [Process]) -> Result<u32> {
    let begun = Instant::now();
    let (mut done, mut kills) = (0, 0);
    wait::until("the clients to end", CLIENTS_LIMIT, || {
        let due = u32::try_from(begun.elapsed().as_millis() / STEP.as_millis())?;
        if done < due {
            done += 1;
            for route in weighted(WEIGHTS[done as usize % WEIGHTS.len()]) {
                mesh.directory().apply(route)?;
            }
            let name = BACKENDS[(done / KILL_EVERY) as usize % BACKENDS.len()].0;
            if done % KILL_EVERY == 0 {
                mesh.pod_mut(&format!("shop/web-{name}"))?.kill_programs();
                kills += 1;
            } else if done > KILL_EVERY && done % KILL_EVERY == AWAY {
                serve(mesh, name)?;
            }
        }
        for client in &mut *clients {
            ensure!(client.ended()?.is_some(), "{} still runs", client.line());
        }
        Ok(kills)
    })
}

/// First attempts by the weight that was in force, and what was sent more than once.
fn judge_records(scene: &Scene, mesh: &mut Mesh) -> Result<()> {
    let (mut requests, mut retries, mut picked_again, mut worst) = (0_u64, 0, 0, 0);
    let mut windows = HashMap::<u32, (u64, u64)>::new();
    for line in BufReader::new(File::open(mesh.node(1)?.access_log())?).lines() {
        let record: Value = serde_json::from_str(&line?)?;
        let (Some(route), Some(attempts)) = (record["route"].as_str(), record["attempts"].as_u64()) else { continue };
        let again = attempts - 1 - record["retries"].as_u64().context("no retries")?;
        requests += 1;
        retries += record["retries"].as_u64().unwrap_or_default();
        picked_again += again;
        worst = worst.max(again);
        let weight = route.rsplit_once("(w").and_then(|(_, weight)| weight.trim_end_matches(')').parse().ok());
        let window = windows.entry(weight.with_context(|| format!("no weight: {record}"))?).or_default();
        window.0 += 1;
        window.1 += u64::from(record["backend"] == format!("shop/web-v2:{WEB}"));
    }
    scene.note(&format!(
        "{requests} recorded requests, {retries} retries (the budget is a fifth of requests), {picked_again} picked again, \
         at most {worst} times"
    ));
    ensure!(worst <= PICKED_AGAIN_MAXIMUM, "a request that nobody worked on was offered {worst} times more");
    ensure!(retries * 5 <= requests, "{retries} retries of {requests} requests");
    ensure!(windows.len() == WEIGHTS.len(), "{windows:?}");
    for (weight, (count, second)) in windows {
        // Two points where there are enough; five standard deviations of the fairest of splits before.
        let allowed = if count >= 10_000 { 200 * count } else { 25_000 * count.isqrt() };
        let wanted = u64::from(weight) * 100 * count;
        scene.note(&format!("weight {weight}: {second} of {count} first attempts, {:.2} %", percent(second, count)));
        ensure!((second * 10_000).abs_diff(wanted) <= allowed, "{second} of {count} at {weight} %");
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}
