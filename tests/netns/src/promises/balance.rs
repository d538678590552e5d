//! Which endpoint gets a request, and which gets none for a while.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, PodPlan, ServicePlan, wait};

use crate::cast::{self, EFFECT_LIMIT};
use crate::promises::http::{ANSWERS_LIMIT, answers};
use crate::scene::{Promise, Scene};

/// The port of the Service, and of the pods behind it.
const WEB: u16 = 8000;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("calls_of_one_connection_are_balanced_as_the_policy_says", balanced).proves(
            "10,000 gRPC calls of one connection: even by rounds, 15-35 % by Peak-EWMA, a slow pod under a quarter",
        ),
        Promise::new("an_endpoint_that_fails_is_ejected_and_comes_back", ejected),
    ]
}

/// Four pods of one Service, each with its own arguments.
fn start(scene: &Scene, arguments: [&[&str]; 4]) -> Result<Mesh> {
    let mut plan = cast::shop(scene)?;
    for number in 1..=4 {
        plan = plan.pod(PodPlan::named(&format!("shop/web-{number}")).on(2).account("web").label("app", "web"));
    }
    let service = ServicePlan::named("shop/web").port("web", WEB, WEB).selects("app", "web");
    let mut mesh = plan.service(service).start(&scene.sandbox)?;
    for (number, arguments) in (1..=4).zip(arguments) {
        let (name, port) = (format!("web-{number}"), WEB.to_string());
        let pod = mesh.pod_mut(&format!("shop/{name}"))?;
        let launch = pod.command(cast::testapp()?).args(["http", "--port", &port, "--name", &name]).args(arguments);
        pod.serve("http", launch)?;
        pod.await_listener(WEB, EFFECT_LIMIT)?;
    }
    Ok(mesh)
}

fn policy(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["targetRefs"] = json!([{"kind": "Service", "name": "web"}]);
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
    })
}

/// gRPC calls on one connection, `width` of them under way at a time: how many each pod has answered.
fn calls(mesh: &Mesh, count: u64, width: &str) -> Result<[u64; 4]> {
    let (to, count) = (format!("web.shop:{WEB}"), count.to_string());
    let arguments =
        ["requests", "--to", &to, "--grpc", "--path", "/shop.Cart/Add", "--count", &count, "--connections", width];
    let (good, report) = cast::client(mesh, "shop/client", &arguments, ANSWERS_LIMIT)?;
    ensure!(good, "{report}");
    Ok(["web-1", "web-2", "web-3", "web-4"].map(|name| answers(&report, name)))
}

fn balanced(scene: &Scene) -> Result<()> {
    let count = scene.pick(2000, 10_000);
    let quick: &[&str] = &["--delay", "2"];
    let mut mesh = start(scene, [&[], &[], &[], &[]])?;
    mesh.directory().apply(policy(&json!({"loadBalancer": "RoundRobin"})))?;
    wait::until("the rounds to be even", EFFECT_LIMIT, || {
        let shares = calls(&mesh, count, "8")?;
        scene.note(&format!("RoundRobin: {shares:?} of {count}"));
        ensure!(shares.iter().all(|share| share.abs_diff(count / 4) * 20 <= count / 4), "{shares:?}");
        Ok(())
    })?;
    drop(mesh);
    let mesh = start(scene, [quick; 4])?;
    let shares = calls(&mesh, count, "8")?;
    scene.note(&format!("Peak-EWMA among equals: {shares:?} of {count}"));
    ensure!(shares.iter().all(|share| (count * 15 / 100..=count * 35 / 100).contains(share)), "{shares:?}");
    drop(mesh);
    let mesh = start(scene, [&["--delay", "20"], quick, quick, quick])?;
    let shares = calls(&mesh, count, "8")?;
    scene.note(&format!("Peak-EWMA, the first at 20 ms beside 2 ms: {shares:?} of {count}"));
    ensure!(shares[0] * 16 < count, "the slow one got more than a quarter of its share: {shares:?}");
    Ok(())
}

fn ejected(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, [&["--broken", "500"], &[], &[], &[]])?;
    let rule = json!({"consecutiveFailures": 3, "baseEjectionTime": "3s", "maxEjectionTime": "3s"});
    mesh.directory().apply(policy(&json!({"loadBalancer": "RoundRobin", "outlierDetection": rule})))?;
    let to = format!("web.shop:{WEB}");
    let ask = |count: &str| -> Result<u64> {
        let arguments = ["requests", "--to", &to, "--count", count, "--allow", "500"];
        let (good, report) = cast::client(&mesh, "shop/client", &arguments, ANSWERS_LIMIT)?;
        ensure!(good, "{report}");
        Ok(answers(&report, "web-1"))
    };
    // One connection belongs to one worker, and the next one may belong to another: each learns by itself.
    wait::until("the broken one to get nothing", EFFECT_LIMIT, || {
        let broken = ask("200")?;
        ensure!(broken == 0, "it got {broken} of 200");
        Ok(())
    })?;
    wait::until("the broken one to be tried again", EFFECT_LIMIT, || {
        let broken = ask("40")?;
        ensure!((1..=3).contains(&broken), "it got {broken} of 40");
        Ok(())
    })
}
