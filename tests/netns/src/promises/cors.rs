//! What browsers are told of pages of other origins: by a rule's CORS filter, whatever its backend says or does not say.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, wait};

use super::http::{WEB, backend, route, start, web};
use crate::cast::{self, EFFECT_LIMIT};
use crate::scene::{Promise, Scene};

const PAGE: &str = "https://app.example";
const STRANGER: &str = "https://evil.example";

pub fn promises() -> Vec<Promise> {
    vec![Promise::new("http_cors_is_answered_by_the_rule_alone", shared)]
}

fn rules() -> Value {
    let listed = json!({"type": "CORS", "cors": {
        "allowOrigins": [PAGE, "https://*.shop.example"], "allowCredentials": true, "allowMethods": ["GET", "PUT"],
        "allowHeaders": ["x-user"], "exposeHeaders": ["server-name"], "maxAge": 600,
    }});
    let any = json!({"type": "CORS", "cors": {"allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"]}});
    let redirect = json!({"type": "RequestRedirect", "requestRedirect": {"hostname": "new.example", "port": 80}});
    let another = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {
        "set": [{"name": "access-control-allow-origin", "value": STRANGER}, {"name": "vary", "value": "x-user"}],
    }});
    let under = |path: &str| json!([{"path": {"value": path}}]);
    json!([
        {"matches": [{"path": {"value": "/api"}, "method": "GET"}], "filters": [listed], "backendRefs": [backend("web-v1", 1)]},
        {"matches": under("/shared"), "filters": [listed, another], "backendRefs": [backend("web-v1", 1)]},
        {"matches": under("/any"), "filters": [any], "backendRefs": [backend("web-v1", 1)]},
        {"matches": under("/old"), "filters": [redirect, listed]},
        {"matches": under("/broken"), "filters": [listed], "backendRefs": [backend("nowhere", 1)]},
        {"matches": under("/delay"), "filters": [listed], "timeouts": {"request": "100ms"}, "backendRefs": [backend("web-v1", 1)]},
        {"matches": under("/plain/shared"), "filters": [{"type": "URLRewrite", "urlRewrite": {
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/shared"}}}], "backendRefs": [backend("web-v1", 1)]},
    ])
}

/// The status, and what concerns browsers and caches, in lower case and sorted.
fn told(mesh: &Mesh, arguments: &[&str]) -> Result<Vec<String>> {
    let (path, arguments) = arguments.split_first().context("no path")?;
    let asked = mesh.pod("shop/client")?.command("curl").args(["-sSi", "--max-time", "5"]).args(arguments);
    let answer = asked.args([&format!("http://web.shop:{WEB}{path}")]).run()?.expect_success()?;
    let head = answer.split("\r\n\r\n").next().context("no head")?.to_lowercase();
    let (first, fields) = head.split_once("\r\n").context("no fields")?;
    let is_told = |line: &&str| {
        ["access-control-", "vary:", "weft-reason:", "location:"].iter().any(|name| line.starts_with(name))
    };
    let mut lines: Vec<_> = fields.lines().filter(is_told).map(str::to_owned).collect();
    lines.sort();
    lines.insert(0, first.split(' ').nth(1).context("no status")?.to_owned());
    Ok(lines)
}

fn expect(mesh: &Mesh, arguments: &[&str], expected: &[&str]) -> Result<()> {
    wait::until(&format!("{arguments:?} to be answered {expected:?}"), EFFECT_LIMIT, || {
        let lines = told(mesh, arguments)?;
        ensure!(lines == expected, "{lines:?}");
        Ok(())
    })
}

fn shared(scene: &Scene) -> Result<()> {
    let mut mesh = start(web(scene)?.object(route(&rules())), scene)?;
    let header = |name: &str, value: &str| format!("{name}: {value}");
    let (page, stranger) = (header("Origin", PAGE), header("Origin", STRANGER));
    let (page, stranger) = (["-H", &page], ["-H", &stranger]);
    let get = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: GET"];
    let put = [
        "-X",
        "OPTIONS",
        "-H",
        "Access-Control-Request-Method: PUT",
        "-H",
        "Access-Control-Request-Headers: a, authorization",
    ];
    let origin = format!("access-control-allow-origin: {PAGE}");
    let allowed = [
        "access-control-allow-credentials: true",
        "access-control-allow-headers: x-user",
        "access-control-allow-methods: get, put",
        &origin,
        "access-control-expose-headers: server-name",
        "access-control-max-age: 600",
        "vary: origin",
        "weft-reason: preflight",
    ];
    let sharing = [allowed[0], allowed[3], allowed[4], "vary: origin"];
    // Preflights: the rule is for GET alone, and answers what asks for a GET, in either version.
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        expect(&mesh, &[&["/api", version], &page[..], &get].concat(), &[&["204"], &allowed[..]].concat())?;
    }
    expect(&mesh, &[&["/api"], &stranger[..], &get].concat(), &["204", "vary: origin", "weft-reason: preflight"])?;
    expect(&mesh, &[&["/api"], &page[..], &put].concat(), &["404", "weft-reason: no_route"])?;
    let wildcards = [
        "204",
        "access-control-allow-headers: a, authorization",
        "access-control-allow-methods: put",
        "access-control-allow-origin: *",
        "access-control-max-age: 5",
        "weft-reason: preflight",
    ];
    expect(&mesh, &[&["/any"], &stranger[..], &put].concat(), &wildcards)?;
    // Requests: what the application and the other filter say of it counts for nothing.
    let also = [sharing[0], sharing[1], sharing[2], "vary: origin", "vary: x-user"];
    expect(&mesh, &[&["/shared"], &page[..]].concat(), &[&["200"], &also[..]].concat())?;
    expect(&mesh, &[&["/shared"], &stranger[..]].concat(), &["200", "vary: origin", "vary: x-user"])?;
    expect(&mesh, &["/any"], &["200", "access-control-allow-origin: *"])?;
    // Weft's own answers can be read by the page too.
    let redirected = ["location: http://new.example/old", "vary: origin", "weft-reason: redirected"];
    expect(&mesh, &[&["/old"], &page[..]].concat(), &[&["302"], &sharing[..3], &redirected].concat())?;
    expect(&mesh, &[&["/old"], &page[..], &get].concat(), &[&["204"], &allowed[..]].concat())?;
    for (path, status, reason) in
        [("/broken", "500", "weft-reason: broken_route"), ("/delay/1000", "504", "weft-reason: request_timeout")]
    {
        expect(&mesh, &[&[path], &page[..]].concat(), &[&[status], &sharing[..], &[reason]].concat())?;
    }
    // A rule without the filter: everything is the application's, preflights too.
    let own = ["200", "access-control-allow-methods: *", "access-control-allow-origin: *"];
    expect(&mesh, &[&["/plain/shared"], &page[..]].concat(), &own)?;
    expect(&mesh, &[&["/plain/shared"], &page[..], &get].concat(), &own)?;
    recorded(scene, &mut mesh)?;
    // Nobody has to be there for a preflight.
    for name in ["shop/web-v1", "shop/web-v2"] {
        mesh.set_ready(name, false)?;
    }
    let nobody = [&["503"], &sharing[..], &["weft-reason: no_endpoint"]].concat();
    expect(&mesh, &[&["/api"], &page[..]].concat(), &nobody)?;
    expect(&mesh, &[&["/api"], &page[..], &get].concat(), &[&["204"], &allowed[..]].concat())
}

/// A preflight has a record of its own on the client's node, and none where the application is.
fn recorded(scene: &Scene, mesh: &mut Mesh) -> Result<()> {
    let detail = format!("the rule's CORS filter does not allow the origin {STRANGER}");
    cast::records(mesh, 1, "the stranger's preflight", |record| {
        record["reason"] == "preflight"
            && record["detail"] == detail
            && record["verdict"] == "allow"
            && record["status"] == 204
            && record["route"] == "HTTPRoute shop/web[0]"
            && record["attempts"] == 0
    })?;
    let arrived = cast::records(mesh, 2, "preflights that arrived", |record| record["method"] == "OPTIONS")?;
    ensure!(arrived.iter().all(|record| record["path"] == "/shared"), "{arrived:?}");
    let (to, origin) = (format!("web.shop:{WEB}"), format!("origin: {STRANGER}"));
    let asked = ["-o", "json", "why", "shop/client", &to, "--path", "/api", "--method", "OPTIONS", "--header", &origin];
    let asked = mesh.weft(&scene.binaries()?.cli)?.args(asked).args(["--header", "access-control-request-method: GET"]);
    let answer: Value = serde_json::from_str(&asked.run()?.stdout)?;
    let facts = answer["facts"].to_string();
    ensure!(facts.contains("The rule answers it itself: 204") && facts.contains(&detail), "{answer:#}");
    Ok(())
}
