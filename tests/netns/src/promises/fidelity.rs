//! What HTTP may say besides requests and answers, between a client and a server of the same version and of two: nothing of it
//! is lost on the way, or it is said to be (docs/protocols.md).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, PodPlan, ServicePlan, wait};

use crate::cast::{self, EFFECT_LIMIT, authorization};
use crate::scene::{Promise, Scene};

/// Where the application speaks HTTP/1, and HTTP/2.
const ONE: u16 = 8001;
const TWO: u16 = 8002;
/// A port with routes, to the second one.
const ROUTED: u16 = 8003;
/// Of a Service without endpoints.
const NONE: u16 = 8004;
/// All rows of one client, each of which has eight seconds.
const RUN_LIMIT: Duration = Duration::from_mins(1);

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("what_http_may_say_passes_between_all_versions", passed).proves(
            "1xx, Expect, trailers, HEAD, WebSocket and 64 KiB of fields, from Node's client to Node's server: HTTP/1 and 2, each to each",
        ),
        Promise::new("grpc_calls_are_told_in_their_own_terms_why_they_are_refused", told),
    ]
}

/// What comes of a row: to which server, by which client. None: everywhere.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    client: Option<&'static str>,
    server: Option<u16>,
    outcome: &'static str,
}

const fn row(name: &'static str, outcome: &'static str) -> Row {
    Row { name, client: None, server: None, outcome }
}

const fn by(client: &'static str, row: Row) -> Row {
    Row { client: Some(client), ..row }
}

const fn to(server: u16, row: Row) -> Row {
    Row { server: Some(server), ..row }
}

const ROWS: &[Row] = &[
    row("hints", "103 103 200 ok 1"),
    row("expected", "200 5"),
    row("unwanted", "417 no"),
    row("upload", "POST 7 no length 1"),
    row("fields", "/echo?q=1 a=1; b=2 trailers no hop none"),
    row("authority", "true"),
    row("head", "200 5 \"\""),
    row("empty", "204 no length \"\", 304 no length \"\""),
    row("asterisk", "OPTIONS *"),
    row("early", "413 no"),
    row("cut", "200 half broken"),
    row("large", "65536"),
    row("larger", "431 head_too_long"),
    row("forbidden", "403 denied_by_rule"),
    by("http1", to(ONE, row("tunnel", "101 GET /chat word s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))),
    by("http1", to(TWO, row("tunnel", "101 CONNECT /chat word s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))),
    by("http2", to(ONE, row("tunnel", "200 GET /chat word no accept"))),
    by("http2", to(TWO, row("tunnel", "200 CONNECT /chat word no accept"))),
    // Any success would be the beginning of a tunnel to this client.
    by("http2", to(ONE, row("page", "502 upstream_reset"))),
    by("http2", row("connect", "501 tunnel_refused")),
    by("http2", row("foreign", "501 tunnel_refused")),
];

/// Node on node 2, and a Deny of GET and POST to one path: the agents read and judge everything.
fn start(scene: &Scene) -> Result<Mesh> {
    let rules = json!([{"to": [{"methods": ["GET", "POST"], "paths": [{"type": "Exact", "value": "/forbidden"}]}]}]);
    let mut rule = authorization("forbidden", "Deny", &rules);
    rule["spec"]["targetRefs"][0]["selector"]["matchLabels"]["app"] = "web".into();
    let path = |path: &str| json!([{"path": {"type": "Exact", "value": path}}]);
    let rules = json!([
        {"matches": path("/slow"), "timeouts": {"request": "300ms"}, "backendRefs": [{"name": "web", "port": TWO}]},
        {"matches": path("/none"), "backendRefs": [{"name": "none", "port": NONE}]},
    ]);
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": ROUTED}], "rules": rules},
    });
    let service = ServicePlan::named("shop/web")
        .port("http-one", ONE, ONE)
        .port("http2-two", TWO, TWO)
        .port("http2-routed", ROUTED, TWO)
        .selects("app", "web");
    let none = ServicePlan::named("shop/none").port("http2-none", NONE, NONE).selects("app", "nobody");
    let plan = cast::shop(scene)?
        .pod(PodPlan::named("shop/web").on(2).account("web").label("app", "web"))
        .service(service)
        .service(none)
        .object(rule)
        .object(route);
    let mut mesh = plan.start(&scene.sandbox)?;
    let pod = mesh.pod_mut("shop/web")?;
    let file = pod.scratch().join("origin.js");
    fs::write(&file, include_str!("../../witness/origin.js"))?;
    let launch = pod.command("node").arg(file).args([ONE.to_string(), TWO.to_string()]);
    pod.serve("origin", launch)?;
    pod.await_listener(ONE, EFFECT_LIMIT)?;
    pod.await_listener(TWO, EFFECT_LIMIT)?;
    Ok(mesh)
}

/// What came of these rows.
fn ask(mesh: &Mesh, version: &str, port: u16, rows: &[&str]) -> Result<Value> {
    let client = mesh.pod("shop/client")?;
    let file = client.scratch().join("asker.js");
    fs::write(&file, include_str!("../../witness/asker.js"))?;
    let url = format!("http://{}:{port}", mesh.service_ipv4("shop/web")?);
    let launch = client.command("node").arg("--max-http-header-size=262144").arg(file).args([version, &url]);
    let printed = launch.args(rows).within(RUN_LIMIT).run()?.expect_success()?;
    serde_json::from_str(&printed).with_context(|| printed.clone())
}

fn await_rules(mesh: &Mesh) -> Result<()> {
    wait::until("the rule to be in force", EFFECT_LIMIT, || {
        let told = ask(mesh, "http2", TWO, &["plain/forbidden"])?;
        ensure!(told["plain/forbidden"] == "403 - - denied_by_rule", "{told}");
        Ok(())
    })
}

fn passed(scene: &Scene) -> Result<()> {
    let mesh = start(scene)?;
    await_rules(&mesh)?;
    let mut wrong = Vec::new();
    for (version, server) in [("http1", ONE), ("http1", TWO), ("http2", ONE), ("http2", TWO)] {
        let asked = |row: &&Row| {
            row.client.is_none_or(|client| client == version) && row.server.is_none_or(|port| port == server)
        };
        let rows: Vec<&Row> = ROWS.iter().filter(asked).collect();
        let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        let came = ask(&mesh, version, server, &names)?;
        for row in rows.iter().filter(|row| came[row.name] != row.outcome) {
            wrong.push(format!("{version} to {server}, {}: {} and not {}", row.name, came[row.name], row.outcome));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// Who is no gRPC client gets what HTTP has for it, of the same reason.
fn told(scene: &Scene) -> Result<()> {
    let mesh = start(scene)?;
    await_rules(&mesh)?;
    let rows = [
        (TWO, "/forbidden", "7", "403", "denied_by_rule"),
        (ROUTED, "/unrouted", "12", "404", "no_route"),
        (ROUTED, "/slow", "4", "504", "request_timeout"),
        (ROUTED, "/none", "14", "503", "no_endpoint"),
    ];
    for (port, path, code, status, reason) in rows {
        let (grpc, plain) = (format!("grpc{path}"), format!("plain{path}"));
        let told = ask(&mesh, "http2", port, &[&grpc, &plain])?;
        ensure!(told[&grpc] == format!("200 {code} {reason} {reason}"), "{told}");
        ensure!(told[&plain] == format!("{status} - - {reason}"), "{told}");
    }
    Ok(())
}
