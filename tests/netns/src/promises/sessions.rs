//! Sessions: clients that keep their endpoint by a cookie or a header, wherever they ask from and whatever comes and goes.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, PodPlan, ServicePlan, wait};

use super::http::{ANSWERS_LIMIT, WEB, backend, route};
use crate::cast::{self, EFFECT_LIMIT};
use crate::scene::{Promise, Scene};

/// Requests of one session: without it, all of them would go to one of two endpoints once in a million of millions.
pub const MANY: usize = 40;
/// Its requests are this one session's.
pub const COOKIE: &str = "sid";

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("sessions_stay_by_cookie_while_endpoints_come_and_go", by_cookie),
        Promise::new("sessions_stay_with_an_endpoint_of_each_backend_whatever_the_weights", weighted),
        Promise::new("sessions_that_are_forged_or_over_begin_anew", anew),
        Promise::new("sessions_leave_an_application_that_died_and_weft_why_says_so", died),
        Promise::new("sessions_of_grpc_stay_by_header_and_by_cookie", of_grpc),
    ]
}

fn web(number: usize) -> PodPlan {
    let version = if number % 2 == 1 { "v1" } else { "v2" };
    let pod = PodPlan::named(&format!("shop/web-{number}")).account("web").label("app", "web");
    // Of each version one on each node.
    pod.label("version", version).on(if (number - 1) % 4 < 2 { 1 } else { 2 })
}

/// Four web applications on two nodes, a Service before all and one before each version; a client on each node.
pub fn start(scene: &Scene, objects: &[Value]) -> Result<Mesh> {
    let mut plan = cast::shop(scene)?.pod(PodPlan::named("shop/far").on(2).account("client"));
    plan = (1..=4).fold(plan, |plan, number| plan.pod(web(number)));
    for (name, label, value) in [("web", "app", "web"), ("web-v1", "version", "v1"), ("web-v2", "version", "v2")] {
        let service = ServicePlan::named(&format!("shop/{name}"));
        plan = plan.service(service.port("web", WEB, WEB).selects(label, value));
    }
    plan = objects.iter().fold(plan, |plan, object| plan.object(object.clone()));
    let mut mesh = plan.start(&scene.sandbox)?;
    (1..=4).try_for_each(|number| serve(&mut mesh, number))?;
    Ok(mesh)
}

fn serve(mesh: &mut Mesh, number: usize) -> Result<()> {
    let name = format!("web-{number}");
    let pod = mesh.pod_mut(&format!("shop/{name}"))?;
    let launch = pod.command(cast::testapp()?).args(["http", "--port", &WEB.to_string(), "--name", &name]);
    pod.serve("http", launch)?;
    pod.await_listener(WEB, EFFECT_LIMIT)
}

/// A rule to all of them that keeps sessions.
fn keeping(session: &Value) -> Value {
    route(&json!([{"sessionPersistence": session, "backendRefs": [backend("web", 1)]}]))
}

#[derive(Debug)]
pub struct Answer {
    /// The pod's.
    pub name: String,
    /// Cookies that it sets.
    pub set: Vec<String>,
    id: String,
    /// What the application saw.
    pub body: String,
}

pub fn ask(mesh: &Mesh, pod: &str, arguments: &[&str]) -> Result<Answer> {
    let curl = mesh.pod(pod)?.command("curl").args(["-sSi", "--fail", "--max-time", "5"]).args(arguments);
    let answer = curl.arg(format!("http://web.shop:{WEB}/")).run()?.expect_success()?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let fields: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let all = |wanted: &str| -> Vec<String> {
        let named = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| (*value).to_owned()).collect()
    };
    let one = |wanted: &str| all(wanted).into_iter().next().with_context(|| format!("no {wanted}: {head}"));
    Ok(Answer { name: one("server-name")?, set: all("set-cookie"), id: one("weft-request-id")?, body: body.to_owned() })
}

/// Who answers many requests of one client, and the cookie that it sets; "" where it sets none.
pub fn ask_often(mesh: &Mesh, pod: &str, arguments: &[&str], count: usize) -> Result<Vec<(String, String)>> {
    let told = ["-w", "%header{server-name} %header{set-cookie}\n", "-o", "/dev/null"];
    let curl = mesh.pod(pod)?.command("curl").args(["-sS", "--fail", "--max-time", "20"]).args(told).args(arguments);
    let answers = curl.arg(format!("http://web.shop:{WEB}/?number=[1-{count}]")).run()?.expect_success()?;
    let pairs = answers.lines().filter_map(|line| line.split_once(' '));
    let pairs: Vec<_> = pairs.map(|(name, set)| (name.to_owned(), set.to_owned())).collect();
    ensure!(pairs.len() == count, "{answers}");
    Ok(pairs)
}

/// The answers to many requests of one session: all are from there, and none gives another token.
pub fn stays(mesh: &Mesh, pod: &str, arguments: &[&str], with: &str) -> Result<()> {
    let answers = ask_often(mesh, pod, arguments, MANY)?;
    let strange = answers.iter().find(|(name, set)| name != with || !set.is_empty());
    ensure!(strange.is_none(), "{pod} has a session with {with}: {strange:?}");
    Ok(())
}

pub fn names(answers: &[(String, String)]) -> BTreeSet<&str> {
    answers.iter().map(|(name, _)| name.as_str()).collect()
}

/// Waits until the route keeps sessions, and begins one; the cookie's pair is given as curl shows it.
pub fn begin(mesh: &Mesh, pod: &str, arguments: &[&str]) -> Result<(Answer, String)> {
    wait::until("a session to begin", EFFECT_LIMIT, || {
        let answer = ask(mesh, pod, arguments)?;
        let pair = answer.set.first().and_then(|set| set.split(';').next()).context("no cookie")?.to_owned();
        Ok((answer, pair))
    })
}

fn by_cookie(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, &[keeping(&json!({"cookie": {"name": COOKIE}}))])?;
    let jar = mesh.scratch().join("jar");
    let jar = ["-c", path(&jar)?, "-b", path(&jar)?];
    let (first, pair) = begin(&mesh, "shop/client", &jar)?;
    let token = first.set.first().context("no cookie")?;
    ensure!(token.ends_with("; Path=/; HttpOnly; SameSite=Strict") && first.set.len() == 1, "{token}");
    let address = mesh.pod(&format!("shop/{}", first.name))?.ipv4().to_string();
    ensure!(!token.contains(&address), "{token} says where the pod is");
    // A browser's jar, and from the other node, whose agent has never seen the session. (This curl sends one request on a
    // connection of HTTP/2 alone.)
    for pod in ["shop/client", "shop/far"] {
        stays(&mesh, pod, &jar, &first.name)?;
        let answer = ask(&mesh, pod, &[&jar[..], &["--http2-prior-knowledge"]].concat())?;
        ensure!(answer.name == first.name && answer.set.is_empty(), "{answer:?}");
    }
    ensure!(ask(&mesh, "shop/client", &jar)?.body.contains(&pair), "the application does not see the cookie");
    // Whoever shows none is balanced.
    let others = ask_often(&mesh, "shop/client", &[], MANY)?;
    ensure!(names(&others).len() > 1 && others.iter().all(|(_, set)| !set.is_empty()), "{others:?}");
    // An agent that remembers nothing, and endpoints that come.
    mesh.restart_agent(1)?;
    mesh.add_pod(&web(5))?;
    serve(&mut mesh, 5)?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    wait::until("the new pod to answer", EFFECT_LIMIT, || {
        let answer = ask(&mesh, "shop/client", &[])?;
        ensure!(answer.name == "web-5", "{answer:?}");
        Ok(())
    })?;
    stays(&mesh, "shop/client", &jar, &first.name)?;
    // One that goes: another one, which keeps the session when the first is back.
    mesh.set_ready(&format!("shop/{}", first.name), false)?;
    let second = wait::until("the session to move", EFFECT_LIMIT, || {
        let answer = ask(&mesh, "shop/client", &jar)?;
        ensure!(answer.name != first.name && answer.set.len() == 1, "{answer:?}");
        Ok(answer.name)
    })?;
    stays(&mesh, "shop/client", &jar, &second)?;
    mesh.set_ready(&format!("shop/{}", first.name), true)?;
    wait::until("the first one to answer others", EFFECT_LIMIT, || {
        let answer = ask(&mesh, "shop/client", &[])?;
        ensure!(answer.name == first.name, "{answer:?}");
        Ok(())
    })?;
    stays(&mesh, "shop/client", &jar, &second)
}

pub fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

fn weighted(scene: &Scene) -> Result<()> {
    let split = |first: u32, second: u32| {
        let backends = [backend("web-v1", first), backend("web-v2", second)];
        route(&json!([{"sessionPersistence": {"cookie": {"name": COOKIE}}, "backendRefs": backends}]))
    };
    let mut mesh = start(scene, &[split(1, 1)])?;
    let jar = mesh.scratch().join("jar");
    let jar = ["-c", path(&jar)?, "-b", path(&jar)?];
    begin(&mesh, "shop/client", &jar)?;
    let begun = ask_often(&mesh, "shop/client", &jar, MANY)?;
    let own = names(&begun);
    let of_second = own.iter().find(|name| ["web-2", "web-4"].contains(*name)).context("none of the second backend")?;
    ensure!(own.len() == 2, "one session has {own:?}");
    let count = 200;
    for (first, second) in [(1, 1), (3, 1), (0, 1), (1, 3), (1, 1)] {
        mesh.directory().apply(split(first, second))?;
        wait::until(&format!("a split of {first} to {second}"), EFFECT_LIMIT, || {
            let answers = ask_often(&mesh, "shop/client", &jar, count)?;
            let seconds = answers.iter().filter(|(name, _)| name == of_second).count();
            let wanted = count * second as usize / (first + second) as usize;
            // Five standard deviations of the fairest of splits; a weight of nothing is nothing.
            let slack = if first == 0 { 0 } else { 5 * count.isqrt() / 2 };
            ensure!(seconds.abs_diff(wanted) <= slack, "{seconds} of {count}");
            let strange = answers.iter().find(|(name, set)| !own.contains(name.as_str()) || !set.is_empty());
            ensure!(strange.is_none(), "the session has {own:?}: {strange:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn anew(scene: &Scene) -> Result<()> {
    let session =
        json!({"absoluteTimeout": "3s", "cookie": {"name": COOKIE, "path": "/", "lifetimeType": "Permanent"}});
    let mesh = start(scene, &[keeping(&session)])?;
    let (first, pair) = begin(&mesh, "shop/client", &[])?;
    ensure!(first.set.first().is_some_and(|set| set.ends_with("; Max-Age=3")), "{first:?}");
    let shown = ["-b", &pair];
    let mut kept = 0;
    // A client that keeps the cookie longer than it may: the agent ends the session.
    wait::until("the session to be over", EFFECT_LIMIT, || {
        let answer = ask(&mesh, "shop/client", &shown)?;
        kept += usize::from(answer.set.is_empty() && answer.name == first.name);
        ensure!(!answer.set.is_empty(), "it goes on");
        Ok(())
    })?;
    ensure!(kept > 0, "it was over at once");
    let long = [26, 266, 60_000].map(|length| "A".repeat(length));
    for forged in ["AX", "AAAA", "", "=", "%00"].into_iter().chain(long.iter().map(String::as_str)) {
        let answer = ask(&mesh, "shop/client", &["-H", &format!("cookie: {COOKIE}={forged}")])?;
        ensure!(answer.set.len() == 1, "{} was taken for a session: {answer:?}", &forged[..forged.len().min(40)]);
    }
    // Behind a proxy that speaks HTTPS with browsers.
    let answer = ask(&mesh, "shop/client", &["-H", "x-forwarded-proto: https"])?;
    ensure!(answer.set.first().is_some_and(|set| set.ends_with("; Secure")), "{answer:?}");
    Ok(())
}

fn died(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, &[keeping(&json!({"cookie": {}}))])?;
    let jar = mesh.scratch().join("jar");
    let jar = ["-c", path(&jar)?, "-b", path(&jar)?];
    let (first, pair) = begin(&mesh, "shop/client", &jar)?;
    ensure!(pair.starts_with("weft-session-"), "a cookie without a name is called {pair}");
    let kept = ask(&mesh, "shop/client", &jar)?;
    mesh.pod_mut(&format!("shop/{}", first.name))?.kill_programs();
    // It is still among the endpoints, and no request fails for it.
    let moved = ask(&mesh, "shop/client", &jar)?;
    ensure!(moved.name != first.name && moved.set.len() == 1, "{moved:?}");
    stays(&mesh, "shop/client", &jar, &moved.name)?;
    for (id, word) in [(&first.id, "begun"), (&kept.id, "kept"), (&moved.id, "moved")] {
        let is_own = |record: &Value| record["request"] == **id && record["direction"] == "outbound";
        let record = cast::records(&mut mesh, 1, word, is_own)?;
        ensure!(record[0]["session"] == word, "{}", record[0]);
    }
    let told = wait::until("weft why to know the request", EFFECT_LIMIT, || {
        let told = mesh.weft(&scene.binaries()?.cli)?.args(["why", &moved.id]).run()?.stdout;
        ensure!(told.contains("Its session has moved"), "{told}");
        Ok(told)
    })?;
    ensure!(told.contains(&moved.name), "{told}");
    let asked = ["why", "shop/client", &format!("web.shop:{WEB}"), "--path", "/"];
    let told = mesh.weft(&scene.binaries()?.cli)?.args(asked).run()?.stdout;
    ensure!(told.contains("by the cookie weft-session-"), "{told}");
    Ok(())
}

/// A client of gRPC shows what it was told in metadata.
fn of_grpc(scene: &Scene) -> Result<()> {
    let grpc = |session: &Value| {
        let mut route = keeping(session);
        route["kind"] = json!("GRPCRoute");
        route
    };
    let mut mesh = start(scene, &[grpc(&json!({"type": "Header", "header": {"name": "X-Session"}}))])?;
    let calls = |mesh: &Mesh, pod: &str, header: &[&str], count: usize| {
        let (to, count) = (format!("web.shop:{WEB}"), count.to_string());
        let arguments = ["requests", "--to", &to, "--grpc", "--path", "/shop.Cart/Add", "--count", &count];
        cast::client(mesh, pod, &[&arguments[..], header].concat(), ANSWERS_LIMIT)
    };
    for (told, shown) in [("x-session", "x-session"), ("set-cookie", "cookie")] {
        let token = wait::until(&format!("a session by {told}"), EFFECT_LIMIT, || {
            let (good, report) = calls(&mesh, "shop/client", &[], 1)?;
            let headers = report["last"]["headers"].as_array().context("no headers")?;
            let token = headers.iter().find(|pair| pair[0] == *told).and_then(|pair| pair[1].as_str());
            ensure!(good && token.is_some(), "{report}");
            Ok(token.unwrap_or_default().split(';').next().unwrap_or_default().to_owned())
        })?;
        let header = format!("{shown}: {token}");
        let mut names = BTreeSet::new();
        for pod in ["shop/client", "shop/far"] {
            let (good, report) = calls(&mesh, pod, &["--header", &header], MANY)?;
            ensure!(good, "{report}");
            names.extend(report["names"].as_object().context("no names")?.keys().cloned());
        }
        ensure!(names.len() == 1, "calls of one session went to {names:?}");
        let (good, report) = calls(&mesh, "shop/client", &[], MANY)?;
        ensure!(good && report["names"].as_object().is_some_and(|names| names.len() > 1), "{report}");
        mesh.directory().apply(grpc(&json!({"cookie": {"name": COOKIE}})))?;
    }
    Ok(())
}
