//! Connections that are routed as a whole: shared by weight (`TCPRoute`), or led by the name in their TLS (`TLSRoute`).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, MeshPlan, PodPlan, ServicePlan, wait};

use super::hostile::Forge;
use super::http::{self, WEB, answers, ask, ask_from, backend};
use crate::cast::{self, EFFECT_LIMIT};
use crate::scene::{Promise, Scene};

/// The port of the Services that speak TLS, and of the pods behind them.
const TLS: u16 = 8443;
/// curl's exit status for a TLS that was not answered.
const NO_TLS: i32 = 35;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("tcp_routes_share_connections_by_weight", shared),
        Promise::new("tls_routes_lead_by_the_name_and_leave_the_tls_alone", named),
        Promise::new("a_consumers_connections_follow_its_own_routes", consumed),
        Promise::new("routes_of_weaker_kinds_are_told_who_has_the_port", conflicting),
    ]
}

/// A route of `namespace` for `shop/web`; `more` is the rest of its `spec`.
fn route(kind: &str, name: &str, namespace: &str, port: u16, more: &Value) -> Value {
    let parent = json!({"group": "", "kind": "Service", "name": "web", "namespace": "shop", "port": port});
    let mut route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": {"parentRefs": [parent]},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        route["spec"][field] = value.clone();
    }
    route
}

fn tcp(name: &str, namespace: &str, backends: &[Value]) -> Value {
    route("TCPRoute", name, namespace, WEB, &json!({"rules": [{"backendRefs": backends}]}))
}

fn tls(name: &str, hostnames: &[&str], service: &str) -> Value {
    let rules = json!([{"backendRefs": [{"name": service, "port": TLS}]}]);
    route("TLSRoute", name, "shop", TLS, &json!({"hostnames": hostnames, "rules": rules}))
}

/// So many connections with one request each.
pub fn connections(mesh: &Mesh, pod: &str, count: u64) -> Result<(bool, Value)> {
    ask_from(mesh, pod, &["--count", &count.to_string(), "--connections", "4", "--header", "Connection: close"])
}

fn shared(scene: &Scene) -> Result<()> {
    let weighted = |first, second| tcp("web", "shop", &[backend("web-v1", first), backend("web-v2", second)]);
    let mut mesh = http::start(http::web(scene)?.object(weighted(1, 0)), scene)?;
    let count = 200_u64;
    for (first, second) in [(1, 0), (3, 1), (1, 1), (0, 7)] {
        mesh.directory().apply(weighted(first, second))?;
        wait::until("the weights to be in force", EFFECT_LIMIT, || {
            let (good, report) = connections(&mesh, "shop/client", count)?;
            ensure!(good, "{report}");
            let sum = u64::from(first + second);
            let wanted = u64::from(second) * count / sum;
            // Five standard deviations of the fairest of splits; a weight of nothing is nothing.
            let slack = if first == 0 || second == 0 { 0 } else { 5 * count.isqrt() / 2 };
            ensure!(answers(&report, "web-v2").abs_diff(wanted) <= slack, "{first}:{second}: {report}");
            Ok(())
        })?;
    }
    // It is the connection that is shared, whatever is in it.
    mesh.directory().apply(weighted(1, 1))?;
    for _ in 0..5 {
        let (good, report) = ask(&mesh, &["--count", "20"])?;
        ensure!(good && (answers(&report, "web-v1") == 20 || answers(&report, "web-v2") == 20), "{report}");
    }
    let records = cast::records(&mut mesh, 1, "a routed connection", |record| record["route"] == "TCPRoute shop/web")?;
    let record = records.iter().find(|record| record["reason"] == "completed").context("none was carried")?;
    ensure!(record["service"] == "shop/web" && record["security"] == "mtls", "{record}");
    ensure!(record["backend"].as_str().is_some_and(|backend| backend.starts_with("shop/web-v")), "{record}");

    mesh.directory().apply(weighted(0, 0))?;
    refused(&mut mesh, "all backends of the rule have weight 0")?;
    mesh.directory().apply(tcp("web", "shop", &[backend("nowhere", 1)]))?;
    refused(&mut mesh, "there is no Service shop/nowhere")?;
    // Half of the connections, and no more: a sibling never gets the share of what is broken.
    mesh.directory().apply(tcp("web", "shop", &[backend("nowhere", 1), backend("web-v1", 1)]))?;
    wait::until("half of them to be refused", EFFECT_LIMIT, || {
        let (_, report) = connections(&mesh, "shop/client", count)?;
        let slack = 5 * count.isqrt() / 2;
        ensure!(answers(&report, "web-v1").abs_diff(count / 2) <= slack, "{report}");
        Ok(())
    })?;
    // Without routes it is the Service again.
    mesh.directory().remove("TCPRoute", "shop", "web")?;
    wait::until("both to answer", EFFECT_LIMIT, || {
        let (good, report) = ask(&mesh, &["--count", "200"])?;
        ensure!(good && answers(&report, "web-v1") > 10 && answers(&report, "web-v2") > 10, "{report}");
        Ok(())
    })
}

/// Waits until connections to the web are reset, for this reason.
fn refused(mesh: &mut Mesh, why: &str) -> Result<()> {
    cast::await_outcome(mesh, "shop/client", &format!("web.shop:{WEB}"), "refused")?;
    let told = |record: &Value| record["detail"].as_str().is_some_and(|detail| detail.contains(why));
    cast::records(mesh, 1, why, |record| record["reason"] == "broken_route" && told(record)).map(drop)
}

/// Two versions of a server for two names on node 2, a Service before both and one before each.
fn shops(scene: &Scene) -> Result<MeshPlan> {
    let mut plan =
        cast::shop(scene)?.service(ServicePlan::named("shop/web").port("tls", TLS, TLS).selects("app", "web"));
    for version in ["v1", "v2"] {
        let pod = PodPlan::named(&format!("shop/web-{version}")).on(2).account("web");
        let service = ServicePlan::named(&format!("shop/web-{version}")).port("tls", TLS, TLS);
        plan = plan.pod(pod.label("app", "web").label("version", version)).service(service.selects("version", version));
    }
    Ok(plan)
}

/// Gives the certificate of the authority that the servers' are of.
fn start_tls(mesh: &mut Mesh) -> Result<PathBuf> {
    let forge = Forge::with_own_key(mesh)?;
    let [cart, _] = forge.certificate("cart", "DNS:cart.example", "2")?;
    forge.certificate("blog", "DNS:blog.example", "2")?;
    let certificates = cart.parent().context("no folder")?.to_owned();
    for name in ["web-v1", "web-v2"] {
        let pod = mesh.pod_mut(&format!("shop/{name}"))?;
        let folder = pod.scratch().to_owned();
        let text = include_str!("../../witness/tls.conf").replace("FOLDER", &folder.display().to_string());
        let text = text.replace("CERTIFICATES", &certificates.display().to_string());
        let file = folder.join("nginx.conf");
        fs::write(&file, text.replace("PORT", &TLS.to_string()).replace("NAME", name))?;
        let launch = pod.command("nginx").arg("-c").arg(file);
        pod.serve("nginx", launch)?;
        pod.await_listener(TLS, EFFECT_LIMIT)?;
    }
    Ok(certificates.join("root.pem"))
}

/// What the server for `host` answers, under a certificate of its own; else curl's exit status.
fn asked(mesh: &Mesh, authority: &PathBuf, host: &str) -> Result<Result<String, i32>> {
    let to = format!("{host}:{TLS}:web.shop:{TLS}");
    let curl = mesh.pod("shop/client")?.command("curl").args(["-sS", "--max-time", "20", "--connect-to", &to]);
    let outcome = curl.arg("--cacert").arg(authority).arg(format!("https://{host}:{TLS}/")).run()?;
    if outcome.success() {
        return Ok(Ok(outcome.stdout.trim().to_owned()));
    }
    Ok(Err(outcome.status.code().with_context(|| format!("{outcome:?}"))?))
}

fn await_answer(mesh: &Mesh, authority: &PathBuf, host: &str, expected: &Result<String, i32>) -> Result<()> {
    wait::until(&format!("{host} to be answered {expected:?}"), EFFECT_LIMIT, || {
        let found = asked(mesh, authority, host)?;
        ensure!(found == *expected, "{found:?}");
        Ok(())
    })
}

fn named(scene: &Scene) -> Result<()> {
    let plan =
        shops(scene)?.object(tls("cart", &["cart.example"], "web-v1")).object(tls("rest", &["*.example"], "web-v2"));
    let mut mesh = plan.start(&scene.sandbox)?;
    let authority = start_tls(&mut mesh)?;
    // curl has checked the server's own certificate: nobody between them has answered.
    await_answer(&mesh, &authority, "cart.example", &Ok("cart.example of web-v1".to_owned()))?;
    await_answer(&mesh, &authority, "blog.example", &Ok("blog.example of web-v2".to_owned()))?;
    let records = cast::records(&mut mesh, 1, "the connection", |record| record["route"] == "TLSRoute shop/cart")?;
    let record = records.last().context("none")?;
    ensure!(record["backend"] == format!("shop/web-v1:{TLS}") && record["security"] == "mtls", "{record}");
    ensure!(record["destination"]["workload"] == "shop/web-v1" && record["reason"] == "completed", "{record}");

    // Nobody's name, no name at all, and no TLS.
    await_answer(&mesh, &authority, "other.test", &Err(NO_TLS))?;
    let address = mesh.service_ipv4("shop/web")?.to_string();
    let url = format!("https://{address}:{TLS}/");
    let nameless = mesh.pod("shop/client")?.command("curl").args(["-sSk", "--max-time", "20", &url]).run()?;
    ensure!(nameless.status.code() == Some(NO_TLS), "{nameless:?}");
    cast::await_outcome(&mesh, "shop/client", &format!("web.shop:{TLS}"), "refused")?;
    for (reason, why) in
        [("no_route", "fits the server other.test"), ("no_route", "names no server"), ("protocol_refused", "no TLS")]
    {
        let told = |record: &Value| record["detail"].as_str().is_some_and(|detail| detail.contains(why));
        let records = cast::records(&mut mesh, 1, why, |record| record["reason"] == reason && told(record))?;
        ensure!(records[0]["destination"]["address"].is_null(), "somebody was dialled: {}", records[0]);
    }

    // Another route changes its mind at once.
    mesh.directory().apply(tls("cart", &["cart.example"], "web-v2"))?;
    await_answer(&mesh, &authority, "cart.example", &Ok("cart.example of web-v2".to_owned()))?;
    mesh.directory().remove("TLSRoute", "shop", "rest")?;
    await_answer(&mesh, &authority, "blog.example", &Err(NO_TLS))
}

fn consumed(scene: &Scene) -> Result<()> {
    let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "open")];
    let backend = |name: &str| json!({"name": name, "namespace": "shop", "port": WEB});
    let plan = http::web(scene)?
        .namespace("blog", &labels)
        .pod(PodPlan::named("blog/client").on(1).account("client"))
        .object(tcp("web", "shop", &[backend("web-v1")]))
        .object(tcp("web", "blog", &[backend("web-v2")]));
    let mut mesh = http::start(plan, scene)?;
    let only = |mesh: &Mesh, pod: &str, name: &str| {
        wait::until(&format!("{name} alone to answer {pod}"), EFFECT_LIMIT, || {
            let (good, report) = connections(mesh, pod, 20)?;
            ensure!(good && answers(&report, name) == 20, "{report}");
            Ok(())
        })
    };
    only(&mesh, "shop/client", "web-v1")?;
    only(&mesh, "blog/client", "web-v2")?;
    mesh.directory().remove("TCPRoute", "blog", "web")?;
    only(&mesh, "blog/client", "web-v1")
}

/// What the owner of a `TCPRoute` is told, in one line.
fn answer_to(mesh: &mut Mesh, name: &str) -> Result<String> {
    let file = mesh.directory().path().join(".status/TCPRoute/shop").join(format!("{name}.yaml"));
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn conflicting(scene: &Scene) -> Result<()> {
    let requests = http::route(&json!([{"backendRefs": [backend("web-v1", 1)]}]));
    let lost = tcp("lost", "shop", &[backend("web-v2", 1)]);
    let mut mesh = http::start(http::web(scene)?.object(requests).object(lost), scene)?;
    wait::until("the weaker kind to be told", EFFECT_LIMIT, || {
        let told = answer_to(&mut mesh, "lost")?;
        let why =
            "HTTPRoute shop/web speaks for Service shop/web port 8000, and HTTPRoutes are stronger than TCPRoutes";
        ensure!(told.contains("Conflicted") && told.contains(why), "{told}");
        Ok(())
    })?;
    let (good, report) = connections(&mesh, "shop/client", 20)?;
    ensure!(good && answers(&report, "web-v1") == 20, "{report}");
    mesh.directory().remove("HTTPRoute", "shop", "web")?;
    wait::until("the weaker kind to have the port", EFFECT_LIMIT, || {
        let told = answer_to(&mut mesh, "lost")?;
        ensure!(told.contains("the route is in force") && !told.contains("Conflicted"), "{told}");
        let (good, report) = connections(&mesh, "shop/client", 20)?;
        ensure!(good && answers(&report, "web-v2") == 20, "{report}");
        Ok(())
    })?;
    // A second one of its kind is accepted, and told that it gets nothing.
    mesh.directory().apply(tcp("second", "shop", &[backend("web-v1", 1)]))?;
    wait::until("the younger one to be told", EFFECT_LIMIT, || {
        let told = answer_to(&mut mesh, "second")?;
        ensure!(told.contains("follow TCPRoute shop/lost, which is older"), "{told}");
        Ok(())
    })?;
    let (good, report) = connections(&mesh, "shop/client", 20)?;
    ensure!(good && answers(&report, "web-v2") == 20, "{report}");
    Ok(())
}
