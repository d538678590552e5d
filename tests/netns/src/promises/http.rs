//! Requests: carried one by one, routed, split, refused and judged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, MeshPlan, PodPlan, ServicePlan, wait};

use crate::cast::{self, EFFECT_LIMIT, authorization};
use crate::scene::{Promise, Scene};

/// The port of the Services, and of the pods behind them.
pub const WEB: u16 = 8000;
/// One run of a client.
pub const ANSWERS_LIMIT: Duration = Duration::from_secs(30);

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("http_requests_are_carried_and_recorded_one_by_one", carried),
        Promise::new("http_weights_split_requests_and_change_under_way", split),
        Promise::new("http_matches_filters_and_errors_follow_the_route", routed),
        Promise::new("http_ten_thousand_rules_of_one_service_are_in_force", many),
        Promise::new("http_failures_are_retried_as_the_route_says", retried),
        Promise::new("http_requests_that_break_off_are_asked_of_another_pod_once", broken_off),
        Promise::new("grpc_calls_of_one_connection_are_balanced", grpc),
        Promise::new("http_policies_reach_connections_that_rest", revoked),
        Promise::new("http_requests_avoid_an_application_that_died", died),
        Promise::new("http_versions_are_translated_as_backends_declare", translated),
        Promise::new("http_upgrades_become_tunnels", upgraded),
        Promise::new("http_rules_judge_requests_and_refuse_other_bytes", judged),
    ]
}

/// Two versions of a web application on node 2, a Service before both and one before each.
pub fn web(scene: &Scene) -> Result<MeshPlan> {
    let mut plan = cast::shop(scene)?;
    for version in ["v1", "v2"] {
        plan = plan
            .pod(
                PodPlan::named(&format!("shop/web-{version}"))
                    .on(2)
                    .account("web")
                    .label("app", "web")
                    .label("version", version),
            )
            .service(
                ServicePlan::named(&format!("shop/web-{version}")).port("web", WEB, WEB).selects("version", version),
            );
    }
    Ok(plan.service(ServicePlan::named("shop/web").port("web", WEB, WEB).selects("app", "web")))
}

pub fn start(plan: MeshPlan, scene: &Scene) -> Result<Mesh> {
    let mut mesh = plan.start(&scene.sandbox)?;
    for name in ["web-v1", "web-v2"] {
        let pod = mesh.pod_mut(&format!("shop/{name}"))?;
        let launch = pod.command(cast::testapp()?).args(["http", "--port", &WEB.to_string(), "--name", name]);
        pod.serve("http", launch)?;
        pod.await_listener(WEB, EFFECT_LIMIT)?;
    }
    Ok(mesh)
}

/// Sends requests from the client to `web.shop`; returns the report and whether every answer was a good one.
pub fn ask(mesh: &Mesh, arguments: &[&str]) -> Result<(bool, Value)> {
    ask_from(mesh, "shop/client", arguments)
}

pub fn ask_from(mesh: &Mesh, pod: &str, arguments: &[&str]) -> Result<(bool, Value)> {
    let to = format!("web.shop:{WEB}");
    let arguments = [&["requests", "--to", &to], arguments].concat();
    cast::client(mesh, pod, &arguments, ANSWERS_LIMIT)
}

/// The one answer that came: its status and its reason, if this mesh gave it.
fn one_from(mesh: &Mesh, pod: &str, arguments: &[&str]) -> Result<(String, String)> {
    let (_, report) = ask_from(mesh, pod, arguments)?;
    let key = |field: &str| report[field].as_object().and_then(|map| map.keys().next().cloned()).unwrap_or_default();
    ensure!(report["answered"] == 1, "{report}");
    Ok((key("statuses"), key("reasons")))
}

/// Waits until the one answer is this status with this reason.
fn expect(mesh: &Mesh, arguments: &[&str], status: &str, reason: &str) -> Result<()> {
    expect_from(mesh, "shop/client", arguments, status, reason)
}

pub fn expect_from(mesh: &Mesh, pod: &str, arguments: &[&str], status: &str, reason: &str) -> Result<()> {
    wait::until(&format!("{arguments:?} from {pod} to be answered {status} {reason}"), EFFECT_LIMIT, || {
        let (seen, why) = one_from(mesh, pod, arguments)?;
        ensure!((seen.as_str(), why.as_str()) == (status, reason), "{seen} {why}");
        Ok(())
    })
}

pub fn route(rules: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": WEB}], "rules": rules},
    })
}

pub fn backend(name: &str, weight: u32) -> Value {
    json!({"name": name, "port": WEB, "weight": weight})
}

fn weighted(first: u32, second: u32) -> Value {
    route(&json!([{"backendRefs": [backend("web-v1", first), backend("web-v2", second)]}]))
}

/// The number of answers that each backend gave.
pub fn answers(report: &Value, name: &str) -> u64 {
    report["names"][name].as_u64().unwrap_or(0)
}

fn carried(scene: &Scene) -> Result<()> {
    let mut mesh = start(web(scene)?, scene)?;
    let tap = mesh.fabric().listen(1)?;
    let (good, report) =
        ask(&mesh, &["--count", "200", "--path", "/marker-request?secret=1", "--header", "X-Case: kept"])?;
    ensure!(good, "{report}");
    // One connection, and both backends have answered: each request has a way of its own. How many each is the balancer's
    // affair: it prefers the one that answers faster at the moment.
    ensure!(answers(&report, "web-v1") > 10 && answers(&report, "web-v2") > 10, "{report}");
    ensure!(tap.find("marker-request")?.is_none(), "readable on the wire");
    for http2 in [&["--http2"][..], &[]] {
        let post = [&["--method", "POST", "--bytes", "100000", "--count", "20", "--connections", "4"], http2].concat();
        let (good, report) = ask(&mesh, &post)?;
        ensure!(good, "{report}");
    }
    let records = cast::records(&mut mesh, 1, "one record for each request", |record| {
        record["path"] == "/marker-request" && record["status"] == 200 && record["security"] == "mtls"
    })?;
    let record = records.first().context("no record")?;
    ensure!(record["service"] == "shop/web" && record["method"] == "GET", "{record}");
    ensure!(!record.to_string().contains("secret"), "a query is in the log: {record}");
    Ok(())
}

fn split(scene: &Scene) -> Result<()> {
    let mut mesh = start(web(scene)?.object(weighted(100, 0)), scene)?;
    let count = scene.pick(1000_u64, 10_000);
    let text = count.to_string();
    for (first, second) in [(100, 0), (95, 5), (50, 50), (0, 100)] {
        mesh.directory().apply(weighted(first, second))?;
        wait::until("the weights to be in force", EFFECT_LIMIT, || {
            let (good, report) = ask(&mesh, &["--count", &text, "--connections", "4"])?;
            ensure!(good, "{report}");
            let share = answers(&report, "web-v2") * 100;
            let wanted = u64::from(second) * count;
            // Five standard deviations of the fairest of splits.
            ensure!(share.abs_diff(wanted) <= 250 * count.isqrt(), "{second} %: {report}");
            Ok(())
        })?;
    }
    Ok(())
}

fn routed(scene: &Scene) -> Result<()> {
    let rules = json!([
        {"matches": [{"headers": [{"name": "X-User", "value": "tester"}]}], "backendRefs": [backend("web-v2", 1)]},
        {"matches": [{"path": {"type": "Exact", "value": "/old"}}],
         "filters": [{"type": "RequestRedirect", "requestRedirect": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}, "statusCode": 301}}]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/shop"}}],
         "filters": [
            {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/store"}}},
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-added", "value": "yes"}]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x-answered", "value": "yes"}]}}],
         "backendRefs": [backend("web-v1", 1)]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/broken"}}], "backendRefs": [backend("nowhere", 1)]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/delay"}}], "timeouts": {"request": "100ms"},
         "backendRefs": [backend("web-v1", 1)]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}], "backendRefs": [backend("web-v1", 1)]},
        {"matches": [{"path": {"type": "Exact", "value": "/mirrored"}}],
         "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "web-v2", "port": WEB}}}],
         "backendRefs": [backend("web-v1", 1)]},
    ]);
    let mut mesh = start(web(scene)?.object(route(&rules)), scene)?;
    expect(&mesh, &["--path", "/v1/x"], "200", "")?;
    expect(&mesh, &["--path", "/else"], "404", "no_route")?;
    expect(&mesh, &["--path", "/broken"], "500", "broken_route")?;
    expect(&mesh, &["--path", "/delay/1000"], "504", "request_timeout")?;
    expect(&mesh, &["--path", "/old"], "301", "redirected")?;
    expect(&mesh, &["--grpc", "--path", "/else/Call"], "grpc 12", "no_route")?;
    let (good, report) = ask(&mesh, &["--header", "x-user: tester", "--count", "20"])?;
    ensure!(good && answers(&report, "web-v2") == 20, "{report}");
    let (good, report) = ask(&mesh, &["--path", "/shop/cart"])?;
    let answer = report["last"].to_string();
    ensure!(
        good && answer.contains("/store/cart") && answer.contains("x-added") && answer.contains("x-answered"),
        "{report}"
    );
    let mirrored =
        ["--path", "/mirrored", "--method", "POST", "--bytes", "1000", "--count", "50", "--connections", "5"];
    let (good, report) = ask(&mesh, &mirrored)?;
    ensure!(good && answers(&report, "web-v1") == 50, "{report}");
    cast::records(&mut mesh, 1, "the mirror's copy", |record| {
        record["path"] == "/mirrored" && record["backend"] == format!("shop/web-v2:{WEB}") && record["status"] == 200
    })?;
    for name in ["shop/web-v1", "shop/web-v2"] {
        mesh.set_ready(name, false)?;
    }
    expect(&mesh, &["--path", "/v1/x"], "503", "no_endpoint")
}

fn many(scene: &Scene) -> Result<()> {
    // As many rules in one route as Gateway API permits.
    let written = |number: usize, last: &str| {
        let rule = |rule: usize| {
            let path = json!({"type": "Exact", "value": format!("/{number}/{rule}")});
            let to = if rule == 15 { last } else { "web-v1" };
            json!({"matches": [{"path": path}], "backendRefs": [backend(to, 1)]})
        };
        let mut route = route(&(0..16).map(rule).collect());
        route["metadata"]["name"] = json!(format!("web-{number}"));
        route
    };
    let plan = (0..625).fold(web(scene)?, |plan, number| plan.object(written(number, "web-v1")));
    let mut mesh = start(plan, scene)?;
    expect(&mesh, &["--path", "/0/0"], "200", "")?;
    expect(&mesh, &["--path", "/624/15"], "200", "")?;
    expect(&mesh, &["--path", "/624/16"], "404", "no_route")?;
    mesh.directory().apply(written(624, "web-v2"))?;
    wait::until("the last rule to lead to its new backend", EFFECT_LIMIT, || {
        let (good, report) = ask(&mesh, &["--path", "/624/15"])?;
        ensure!(good && answers(&report, "web-v2") == 1, "{report}");
        Ok(())
    })
}

fn retried(scene: &Scene) -> Result<()> {
    let retry = json!({"codes": [503], "attempts": 2, "backoff": "1ms"});
    let rules = json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": "/status/503"}}], "retry": retry, "backendRefs": [backend("web-v1", 1)]},
        {"backendRefs": [backend("web-v1", 1)]},
    ]);
    let mut mesh = start(web(scene)?.object(route(&rules)), scene)?;
    expect(&mesh, &["--path", "/status/503"], "503", "")?;
    let records = cast::records(&mut mesh, 1, "an attempt and two retries", |record| record["retries"] == 2)?;
    ensure!(records.iter().all(|record| record["attempts"] == 3), "{records:?}");
    // A request that is not idempotent, and has left, is never sent again.
    expect(&mesh, &["--path", "/drop", "--method", "POST", "--bytes", "3"], "502", "upstream_reset")?;
    let records = cast::records(&mut mesh, 1, "one attempt", |record| record["path"] == "/drop")?;
    ensure!(records.iter().all(|record| record["attempts"] == 1), "{records:?}");
    Ok(())
}

/// Without any route or policy: an application that ends resets what it was asked, and what may be asked twice is.
fn broken_off(scene: &Scene) -> Result<()> {
    let mut mesh = start(web(scene)?, scene)?;
    for (method, attempts) in [("GET", 2), ("POST", 1)] {
        expect(&mesh, &["--path", "/drop", "--method", method, "--bytes", "3"], "502", "upstream_reset")?;
        let made = |record: &serde_json::Value| record["method"] == method && record["attempts"] == attempts;
        cast::records(&mut mesh, 1, &format!("{attempts} attempts of {method}"), made)?;
    }
    Ok(())
}

fn grpc(scene: &Scene) -> Result<()> {
    let mesh = start(web(scene)?, scene)?;
    let (good, report) = ask(&mesh, &["--grpc", "--path", "/shop.Cart/Add", "--count", "400", "--connections", "8"])?;
    ensure!(good, "{report}");
    for name in ["web-v1", "web-v2"] {
        ensure!((100..=300).contains(&answers(&report, name)), "not balanced: {report}");
    }
    expect(&mesh, &["--grpc", "--path", "/shop.Cart/Add", "--header", "want-grpc-status: 9"], "grpc 9", "")
}

fn judged(scene: &Scene) -> Result<()> {
    let rules = json!([{"to": [{"methods": ["DELETE"]}]}]);
    let mut policy = authorization("no-delete", "Deny", &rules);
    policy["spec"]["targetRefs"] = json!([{"kind": "Pod", "selector": {"matchLabels": {"app": "web"}}}]);
    let mut mesh = start(web(scene)?.object(policy), scene)?;
    expect(&mesh, &["--path", "/x"], "200", "")?;
    for http2 in [&["--http2"][..], &[]] {
        let delete = [&["--path", "/x", "--method", "DELETE"], http2].concat();
        expect(&mesh, &delete, "403", "denied_by_rule")?;
    }
    let records = cast::records(&mut mesh, 2, "the rule that denied", |record| record["reason"] == "denied_by_rule")?;
    ensure!(
        records.iter().all(|record| record["rule"] == "shop/no-delete[0]" && record["method"] == "DELETE"),
        "{records:?}"
    );
    // Who is not captured is judged too, and bytes that are no requests are refused.
    expect_from(&mesh, "outside/stranger", &["--path", "/x"], "200", "")?;
    expect_from(&mesh, "outside/stranger", &["--path", "/x", "--method", "DELETE"], "403", "denied_by_rule")?;
    let to = cast::at(&mesh, "shop/web-v1", WEB)?;
    for pod in ["shop/client", "outside/stranger"] {
        cast::expect_refused(&mesh, pod, &to, EFFECT_LIMIT)?;
    }
    Ok(())
}

/// The source's agent keeps its connections to web while requests go on: a policy that comes later is about each request.
fn revoked(scene: &Scene) -> Result<()> {
    let mut mesh = start(web(scene)?.object(weighted(1, 1)), scene)?;
    for http2 in [&["--http2"][..], &[]] {
        let (good, report) = ask(&mesh, &[&["--count", "20"], http2].concat())?;
        ensure!(good, "{report}");
    }
    let mut deny = authorization("no-client", "Deny", &json!([{"from": [{"serviceAccounts": ["shop/client"]}]}]));
    deny["spec"]["targetRefs"] = json!([{"kind": "Pod", "selector": {"matchLabels": {"app": "web"}}}]);
    mesh.directory().apply(deny)?;
    for http2 in [&["--http2"][..], &[]] {
        expect(&mesh, http2, "403", "denied_by_rule")?;
        let (_, report) = ask(&mesh, &[&["--count", "40", "--connections", "4"], http2].concat())?;
        ensure!(report["statuses"] == json!({"403": 40}), "{report}");
    }
    Ok(())
}

/// An application that dies takes the agents' connections to it along: no request is sent into nothing.
fn died(scene: &Scene) -> Result<()> {
    let mut mesh = start(web(scene)?, scene)?;
    let (good, report) = ask(&mesh, &["--count", "40", "--connections", "8"])?;
    ensure!(good && answers(&report, "web-v1") > 0, "{report}");
    mesh.pod_mut("shop/web-v1")?.kill_programs();
    let (good, report) = ask(&mesh, &["--count", "100", "--connections", "8", "--method", "POST", "--bytes", "10"])?;
    ensure!(good && answers(&report, "web-v2") == 100, "{report}");
    Ok(())
}

/// A WebSocket through routes, through a port that nobody declared, and under rules about requests.
fn upgraded(scene: &Scene) -> Result<()> {
    const CHAT: u16 = 8100;
    let chat = ServicePlan::named("shop/chat").port("http-chat", CHAT, CHAT).selects("version", "v1");
    let mut mesh = start(web(scene)?.service(chat), scene)?;
    let pod = mesh.pod_mut("shop/web-v1")?;
    let launch = pod.command(cast::testapp()?).args(["websocket-serve", "--port", &CHAT.to_string()]);
    pod.serve("chat", launch)?;
    pod.await_listener(CHAT, EFFECT_LIMIT)?;
    let direct = cast::at(&mesh, "shop/web-v1", CHAT)?;
    let talk = |mesh: &Mesh| -> Result<()> {
        for to in [direct.clone(), format!("chat.shop:{CHAT}")] {
            let to = format!("ws://{to}/");
            let arguments = ["websocket-talk", "--to", &to, "--seconds", "1", "--beat", "20"];
            cast::expect_client(mesh, "shop/client", &arguments, ANSWERS_LIMIT)?;
        }
        Ok(())
    };
    talk(&mesh)?;
    let mut routed = route(&json!([{"backendRefs": [{"name": "chat", "port": CHAT}]}]));
    routed["spec"]["parentRefs"][0] = json!({"group": "", "kind": "Service", "name": "chat", "port": CHAT});
    mesh.directory().apply(routed)?;
    let mut policy = authorization("no-delete", "Deny", &json!([{"to": [{"methods": ["DELETE"]}]}]));
    policy["spec"]["targetRefs"] = json!([{"kind": "Pod", "selector": {"matchLabels": {"app": "web"}}}]);
    mesh.directory().apply(policy)?;
    cast::records(&mut mesh, 1, "an upgrade", |record| record["status"] == 101)?;
    talk(&mesh)?;
    let what = "an upgrade by the route";
    cast::records(&mut mesh, 1, what, |record| record["status"] == 101 && record["route"] == "HTTPRoute shop/web[0]")?;
    Ok(())
}

/// What the client speaks and what the backend declares are two things.
fn translated(scene: &Scene) -> Result<()> {
    let mut plan = web(scene)?;
    for (name, port) in [("one", "http-web"), ("two", "http2-web")] {
        plan = plan.service(ServicePlan::named(&format!("shop/{name}")).port(port, WEB, WEB).selects("version", "v1"));
    }
    let mesh = start(plan, scene)?;
    for (to, wanted) in [("one.shop", "HTTP/1.1"), ("two.shop", "HTTP/2.0")] {
        for spoken in [&[][..], &["--http2"]] {
            let to = format!("{to}:{WEB}");
            let arguments = ["requests", "--to", &to, "--method", "POST", "--bytes", "70000", "--count", "3"];
            let arguments = [&arguments[..], spoken].concat();
            let report = cast::expect_client(&mesh, "shop/client", &arguments, ANSWERS_LIMIT)?;
            let body = report["last"]["body"].as_str().context("no body")?;
            let seen: Value = serde_json::from_str(body)?;
            ensure!(seen["version"] == wanted && seen["bytes"] == 70_000, "{to} {spoken:?}: {seen}");
        }
    }
    Ok(())
}
