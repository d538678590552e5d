//! What a person sees of requests: `weft why` for faults that it was not told of, `weft top`, `weft tap`, and traces.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, PodPlan, ServicePlan, wait};

use super::http::{self, ANSWERS_LIMIT, WEB, backend, route};
use crate::cast::{self, EFFECT_LIMIT, authorization};
use crate::scene::{Promise, Scene};

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("why_requests", why)
            .proves("`weft why` names the true cause of every injected fault of a request, told its id alone"),
        Promise::new("why_tells_what_would_become_of_a_request", asked),
        Promise::new("top_shows_both_versions_of_a_canary", top),
        Promise::new("tap_shows_what_is_asked_for_and_tells_what_it_leaves_out", tap),
        Promise::new("http_traces_pass_unchanged", traces),
    ]
}

/// Routes of every kind of fault, a rule that denies, and a Service of one good pod and a broken one.
fn start(scene: &Scene) -> Result<Mesh> {
    let fits = |path: &str, more: Value| {
        let mut rule = json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [backend("web-v1", 1)]});
        if let (Some(rule), Some(more)) = (rule.as_object_mut(), more.as_object()) {
            rule.extend(more.clone());
        }
        rule
    };
    let rules = json!([
        fits("/v1", json!({})),
        fits("/drop", json!({})),
        fits("/none", json!({"backendRefs": [backend("none", 1)]})),
        fits("/delay", json!({"timeouts": {"request": "100ms"}})),
        fits("/status", json!({"retry": {"codes": [503], "attempts": 3, "backoff": "1ms"}})),
    ]);
    let mut deny = authorization("no-delete", "Deny", &json!([{"to": [{"methods": ["DELETE"]}]}]));
    deny["spec"]["targetRefs"] = json!([{"kind": "Pod", "selector": {"matchLabels": {"app": "web"}}}]);
    let frail = |name: &str| PodPlan::named(name).on(2).account("web").label("app", "frail");
    let plan = http::web(scene)?
        .service(ServicePlan::named("shop/none").port("web", WEB, WEB).selects("app", "nobody"))
        .service(ServicePlan::named("shop/frail").port("web", WEB, WEB).selects("app", "frail"))
        .pod(frail("shop/frail-good"))
        .pod(frail("shop/frail-broken"))
        .object(route(&rules))
        .object(deny)
        .object(policy("web", &json!({"retryBudget": {"percent": 0, "minPerSecond": 1}})))
        .object(policy("frail", &json!({"outlierDetection": {"consecutiveFailures": 3, "baseEjectionTime": "60s"}})));
    let mut mesh = http::start(plan, scene)?;
    for (name, broken) in [("shop/frail-good", &[][..]), ("shop/frail-broken", &["--broken", "500"])] {
        let pod = mesh.pod_mut(name)?;
        let launch = pod.command(cast::testapp()?).args(["http", "--port", &WEB.to_string(), "--name", name]);
        pod.serve("http", launch.args(broken))?;
        pod.await_listener(WEB, EFFECT_LIMIT)?;
    }
    wait::until("the routes to be in force", EFFECT_LIMIT, || {
        let (_, report) = http::ask(&mesh, &["--path", "/else"])?;
        ensure!(report["statuses"]["404"] == 1, "{report}");
        Ok(())
    })?;
    Ok(mesh)
}

fn policy(service: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["targetRefs"] = json!([{"kind": "Service", "name": service}]);
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": service, "namespace": "shop"}, "spec": spec,
    })
}

/// A header of the last answer.
fn header(report: &Value, wanted: &str) -> Option<String> {
    let headers = report["last"]["headers"].as_array()?;
    let pair = headers.iter().find(|pair| pair[0] == wanted)?;
    pair[1].as_str().map(str::to_owned)
}

/// Sends requests to a Service of the shop; the id that the last answer names, and its status.
fn send(mesh: &Mesh, service: &str, arguments: &[&str]) -> Result<(String, Value)> {
    let to = format!("{service}.shop:{WEB}");
    let arguments = [&["requests", "--to", &to], arguments].concat();
    let (_, report) = cast::client(mesh, "shop/client", &arguments, ANSWERS_LIMIT)?;
    let id = header(&report, "weft-request-id").with_context(|| format!("the answer names no request: {report}"))?;
    Ok((id, report["statuses"].clone()))
}

/// What `weft why` says in JSON.
fn ask(scene: &Scene, mesh: &Mesh, question: &[&str]) -> Result<Value> {
    let outcome = mesh.weft(&scene.binaries()?.cli)?.args(["-o", "json", "why"]).args(question).run()?;
    serde_json::from_str(&outcome.stdout).with_context(|| format!("no answer: {outcome:?}"))
}

/// Asks until the cause that is named first is this one; records are kept a moment after the answer.
fn expect_cause(scene: &Scene, mesh: &Mesh, question: &[&str], cause: &str) -> Result<Value> {
    let answer = wait::until(&format!("weft why {question:?} to say {cause}"), EFFECT_LIMIT, || {
        let answer = ask(scene, mesh, question)?;
        ensure!(answer["cause"] == cause, "{answer:#}");
        Ok(answer)
    })?;
    scene.note(&format!("{}: {cause}: {}", question.join(" "), answer["findings"][0]["summary"]));
    Ok(answer)
}

/// Every fault is injected and felt, and explained by a command that is told the id in the answer's header and nothing else;
/// where no answer came, the pair of pods.
fn why(scene: &Scene) -> Result<()> {
    let mesh = start(scene)?;
    let faults: [(&str, &[&str], &str, &str); 7] = [
        ("web", &["--path", "/else"], "404", "no_route"),
        ("web", &["--path", "/none"], "503", "no_endpoint"),
        ("web", &["--path", "/delay/1000"], "504", "request_timeout"),
        ("web", &["--path", "/status/503"], "503", "retry_budget_spent"),
        ("web", &["--path", "/v1/x", "--method", "DELETE"], "403", "denied_by_rule"),
        ("web", &["--path", "/drop"], "502", "upstream_reset"),
        ("web", &["--path", "/status/418"], "418", "answered_by_application"),
    ];
    for (service, arguments, status, cause) in faults {
        let (id, statuses) = send(&mesh, service, arguments)?;
        ensure!(statuses[status] == 1, "{cause}: {statuses}");
        let answer = expect_cause(scene, &mesh, &[&id], cause)?;
        let finding = answer["findings"][0].to_string();
        let named = match cause {
            "denied_by_rule" => "shop/no-delete[0]",
            "no_endpoint" => "shop/none",
            "no_route" => "HTTPRoute shop/web[0]",
            "request_timeout" => "HTTPRoute shop/web[3]",
            _ => "",
        };
        ensure!(finding.contains(named), "{named} is not named: {answer:#}");
    }
    // Many requests of one connection, and so of one worker: the last ones are served by the good pod alone.
    let (id, statuses) = send(&mesh, "frail", &["--count", "100"])?;
    ensure!(statuses["500"].as_u64().is_some_and(|broken| broken >= 3), "{statuses}");
    let answer = expect_cause(scene, &mesh, &[&id], "endpoint_ejected")?;
    ensure!(answer["findings"][0].to_string().contains("shop/frail-broken"), "{answer:#}");
    expect_cause(scene, &mesh, &["shop/client", &format!("frail.shop:{WEB}")], "endpoint_ejected")?;
    // Bytes that are no requests: refused by the rules of the pod, and by the routes of the Service.
    let pod = cast::at(&mesh, "shop/web-v1", WEB)?;
    cast::expect_refused(&mesh, "shop/client", &pod, EFFECT_LIMIT)?;
    expect_cause(scene, &mesh, &["shop/client", &format!("shop/web-v1:{WEB}")], "protocol_refused")?;
    cast::expect_refused(&mesh, "shop/other", &format!("web.shop:{WEB}"), EFFECT_LIMIT)?;
    expect_cause(scene, &mesh, &["shop/other", &format!("web.shop:{WEB}")], "protocol_refused")?;
    both_sides(scene, &mesh)
}

/// The two agents tell of one request under one id, and nobody without an identity can choose it.
fn both_sides(scene: &Scene, mesh: &Mesh) -> Result<()> {
    let (id, _) = send(mesh, "web", &["--path", "/v1/x"])?;
    wait::until("both sides' records", EFFECT_LIMIT, || {
        let answer = ask(scene, mesh, &[&id])?;
        let directions: Vec<_> = answer["records"].as_array().into_iter().flatten().collect();
        let directions: Vec<_> = directions.iter().map(|record| record["direction"].as_str()).collect();
        ensure!(directions == [Some("outbound"), Some("inbound")] && answer["cause"].is_null(), "{answer:#}");
        Ok(())
    })?;
    let forged = "00c0ffee00c0ffee";
    let name = format!("weft-request-id: {forged}");
    for pod in ["outside/stranger", "shop/client"] {
        let to = format!("web-v1.shop:{WEB}").replace("web-v1.shop", &mesh.pod("shop/web-v1")?.ipv4().to_string());
        let arguments = ["requests", "--to", &to, "--path", "/v1/x", "--header", &name];
        let (good, report) = cast::client(mesh, pod, &arguments, ANSWERS_LIMIT)?;
        let own = header(&report, "weft-request-id").context("the answer names no request")?;
        ensure!(good && own != forged, "{pod} named its own request: {report}");
    }
    let answer = ask(scene, mesh, &[forged])?;
    ensure!(answer["cause"].is_null() && answer["records"] == json!([]), "{answer:#}");
    Ok(())
}

/// Nobody has sent these: the routes and rules in force are asked.
fn asked(scene: &Scene) -> Result<()> {
    let mesh = start(scene)?;
    let to = format!("web.shop:{WEB}");
    let question = |words: &[&str], cause: &str| {
        let words = [&["shop/client", &to], words].concat();
        expect_cause(scene, &mesh, &words, cause)
    };
    // What was asked last has failed; that is told where nothing stands in the way of what is asked about.
    send(&mesh, "web", &["--path", "/v1/x"])?;
    let answer = wait::until("the good request to be known", EFFECT_LIMIT, || {
        let answer = ask(scene, &mesh, &["shop/client", &to, "--path", "/v1/x"])?;
        ensure!(answer["cause"].is_null(), "{answer:#}");
        Ok(answer)
    })?;
    let facts = answer["facts"].to_string();
    ensure!(facts.contains("HTTPRoute shop/web[0] takes it") && facts.contains("shop/web-v1"), "{facts}");
    let answer = question(&["--path", "/v1/x", "--method", "DELETE"], "denied_by_rule")?;
    ensure!(answer["findings"][0].to_string().contains("shop/no-delete[0]"), "{answer:#}");
    question(&["--path", "/none"], "no_endpoint")?;
    question(&["--path", "/else"], "no_route")?;
    question(&["--path", "/v1/%2e%2e%2fx"], "bad_request")?;
    Ok(())
}

fn top(scene: &Scene) -> Result<()> {
    let weights = json!([{"backendRefs": [backend("web-v1", 3), backend("web-v2", 1)]}]);
    let mesh = http::start(http::web(scene)?.object(route(&weights)), scene)?;
    let mut client = cast::start_client(
        &mesh,
        "shop/client",
        "asking",
        &["requests", "--to", &format!("web.shop:{WEB}"), "--path", "/delay/2", "--count", "1000000"],
    )?;
    wait::until("both versions in one table", EFFECT_LIMIT, || {
        client.expect_running()?;
        let top =
            mesh.weft(&scene.binaries()?.cli)?.args(["-o", "json", "top", "shop/web", "--once", "--interval", "1"]);
        let shown: Value = serde_json::from_str(&top.run()?.expect_success()?)?;
        let rows = shown["rows"].as_array().context("no rows")?;
        let names = |name: &str| rows.iter().map(|row| row[name].as_str().unwrap_or_default()).collect::<Vec<_>>();
        let backends = [format!("shop/web-v1:{WEB}"), format!("shop/web-v2:{WEB}")];
        ensure!(names("backend") == backends && names("route") == ["HTTPRoute shop/web[0]"; 2], "{shown:#}");
        for row in rows {
            let number = |name: &str| row[name].as_f64().with_context(|| format!("no {name}: {row}"));
            ensure!(number("requests_per_second")? > 0.0 && number("success_percent")? > 99.99, "{row}");
            // Each answer takes two milliseconds at least, and a histogram's step is as wide as its bounds are apart.
            ensure!(number("p50_seconds")? >= 0.001 && number("p99_seconds")? >= number("p50_seconds")?, "{row}");
        }
        let share = rows[0]["share_percent"].as_f64().context("no share")?;
        ensure!((60.0..90.0).contains(&share), "{shown:#}");
        Ok(())
    })?;
    client.kill();
    let plain =
        mesh.weft(&scene.binaries()?.cli)?.args(["top", "--once", "--interval", "1"]).run()?.expect_success()?;
    ensure!(plain.contains("shop/web-v2") && plain.contains("SUCCESS") && !plain.contains('\x1b'), "{plain}");
    Ok(())
}

fn tap(scene: &Scene) -> Result<()> {
    let mesh = http::start(http::web(scene)?, scene)?;
    let cli = scene.binaries()?.cli;
    let watch = |name: &str, arguments: &[&str]| {
        let log = mesh.pod("shop/client")?.scratch().join(name);
        mesh.weft(&cli)?.args(["-o", "json", "tap"]).args(arguments).start(&log)
    };
    let mut failures = watch("failures.log", &["--failed", "--source", "shop/client", "--path", "/status"])?;
    let mut bounded = watch("bounded.log", &["--rate", "5"])?;
    // Nobody can tell from outside when a tap is open: it is once it shows something.
    wait::until("both taps to be open", EFFECT_LIMIT, || {
        http::ask(&mesh, &["--path", "/status/501"])?;
        ensure!(failures.output().contains("501") && !bounded.output().is_empty(), "nothing yet");
        Ok(())
    })?;
    let (_, report) = http::ask(&mesh, &["--path", "/fine", "--count", "200"])?;
    ensure!(report["answered"] == 200, "{report}");
    http::ask(&mesh, &["--path", "/status/502", "--method", "POST"])?;
    failures.await_output("502", EFFECT_LIMIT)?;
    let shown: Vec<Value> = failures.output().lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let fits =
        |line: &Value| line["path"].as_str().is_some_and(|path| path.starts_with("/status")) && line["node"] == "node1";
    ensure!(shown.iter().all(fits), "{shown:?}");
    wait::until("the slow one to say what it leaves out", EFFECT_LIMIT, || {
        http::ask(&mesh, &["--path", "/fine", "--count", "20"])?;
        let lines: Vec<Value> = bounded.output().lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let lost: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
        ensure!(lost >= 100, "lost so far: {lost}");
        Ok(())
    })?;
    failures.expect_running()?;
    bounded.expect_running()?;
    failures.kill();
    bounded.kill();
    Ok(())
}

/// W3C Trace Context and both forms of B3, through routes, rules and either version of HTTP.
fn traces(scene: &Scene) -> Result<()> {
    let trace = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "vendor=opaque,other=00f067c10dc902b7"),
        ("baggage", "key=value"),
        ("b3", "80f198ee56343bb864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
        ("x-b3-traceid", "80f198ee56343bb864fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-sampled", "1"),
        ("x-request-id", "of-the-application"),
    ];
    let written: Vec<_> = trace.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let headers: Vec<_> = written.iter().flat_map(|line| ["--header", line.as_str()]).collect();
    let mesh = start(scene)?;
    for more in [&[][..], &["--http2"], &["--count", "5"]] {
        let (good, report) = http::ask(&mesh, &[&["--path", "/v1/x"], headers.as_slice(), more].concat())?;
        let seen: Value = serde_json::from_str(report["last"]["body"].as_str().context("no body")?)?;
        for (name, value) in trace {
            let same: Vec<_> =
                seen["headers"].as_array().into_iter().flatten().filter(|pair| pair[0] == name).collect();
            ensure!(good && same.len() == 1 && same[0][1] == value, "{name} was {same:?}: {report}");
        }
    }
    Ok(())
}
