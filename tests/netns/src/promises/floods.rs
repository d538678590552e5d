//! Clients and servers that flood, dawdle or bomb: they are cut, the agents' memory stays what it was, and a neighbour on the
//! same agents notices nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::process::Process;
use weft_rig::{Mesh, MeshPlan, PodPlan, ServicePlan, wait};

use crate::cast::{self, EFFECT_LIMIT, authorization};
use crate::scene::{Promise, Scene};

pub const WEB: u16 = 8000;
/// Clients that are cut at once have long been by then.
const FLOOD_LIMIT: Duration = Duration::from_secs(40);
/// A minute of silence, and a busy machine.
const SLOW_LIMIT: Duration = Duration::from_secs(110);
/// What the agents may take more of at their worst: a fraction of what each of the floods would fill in a second.
const MEMORY: u64 = 96 << 20;

pub fn promises() -> Vec<Promise> {
    let slow = Promise::new("http_peers_that_dawdle_are_cut_and_harm_nobody", dawdlers);
    vec![
        Promise { limit: Duration::from_mins(3), ..Promise::new("http_floods_are_cut_and_harm_nobody", floods) },
        Promise { limit: Duration::from_mins(3), ..slow },
        Promise::new("http_streams_without_a_window_hold_up_nobody", zero_windows),
        Promise::new("http_servers_that_flood_are_cut", flooding_server),
    ]
}

/// A web application on node 2 that rules about requests speak of, so that both agents read what comes.
pub fn web(scene: &Scene) -> Result<MeshPlan> {
    let mut policy = authorization("no-delete", "Deny", &json!([{"to": [{"methods": ["DELETE"]}]}]));
    policy["spec"]["targetRefs"] = json!([{"kind": "Pod", "selector": {"matchLabels": {"app": "web"}}}]);
    Ok(cast::shop(scene)?
        .pod(PodPlan::named("shop/web").on(2).account("web").label("app", "web"))
        .service(ServicePlan::named("shop/web").port("web", WEB, WEB).selects("app", "web"))
        .object(policy))
}

fn start(scene: &Scene) -> Result<Mesh> {
    let mut mesh = web(scene)?.start(&scene.sandbox)?;
    let pod = mesh.pod_mut("shop/web")?;
    let launch = pod.command(cast::testapp()?).args(["http", "--port", &WEB.to_string(), "--name", "web"]);
    pod.serve("http", launch)?;
    pod.await_listener(WEB, EFFECT_LIMIT)?;
    Ok(mesh)
}

/// Another pod of the same agents, which goes on asking.
struct Neighbours(Vec<Process>);

impl Neighbours {
    fn start(mesh: &Mesh, to: &str) -> Result<Self> {
        let ends = mesh.scratch().join("enough");
        let ends = ends.to_str().context("no path")?;
        let request = ["requests", "--to", to, "--connections", "2", "--until", ends];
        let processes = [("of-http1", &[][..]), ("of-http2", &["--http2"][..])]
            .into_iter()
            .map(|(name, version)| cast::start_client(mesh, "shop/other", name, &[&request, version].concat()))
            .collect::<Result<_>>()?;
        Ok(Self(processes))
    }

    /// Fails unless each of their requests was answered.
    fn finish(self, mesh: &Mesh) -> Result<()> {
        std::fs::write(mesh.scratch().join("enough"), "")?;
        for process in self.0 {
            let (status, output) = process.finish(EFFECT_LIMIT)?;
            ensure!(status.success(), "a neighbour was harmed: {output}");
            let report: Value = serde_json::from_str(output.lines().last().unwrap_or_default())?;
            ensure!(report["answered"].as_u64().is_some_and(|answered| answered > 100), "it hardly asked: {report}");
        }
        Ok(())
    }
}

/// The most memory of both agents.
fn peaks(mesh: &mut Mesh) -> Result<[u64; 2]> {
    Ok([mesh.node(1)?.agent_peak_bytes()?, mesh.node(2)?.agent_peak_bytes()?])
}

/// Fails if an agent has ever had much more than `before`, or is another process.
fn expect_bounded(mesh: &mut Mesh, what: &str, before: [u64; 2]) -> Result<()> {
    for (node, (now, before)) in peaks(mesh)?.into_iter().zip(before).enumerate() {
        ensure!(now < before + MEMORY, "{what}: the agent of node {} went from {before} to {now} bytes", node + 1);
    }
    Ok(())
}

/// Each attack from a captured pod meets both agents, and from an uncaptured one the server's.
fn attackers(mesh: &Mesh) -> Result<[(&'static str, String); 2]> {
    Ok([("shop/client", format!("web.shop:{WEB}")), ("outside/stranger", cast::at(mesh, "shop/web", WEB)?)])
}

fn floods(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene)?;
    let neighbours = Neighbours::start(&mesh, &format!("web.shop:{WEB}"))?;
    let before = peaks(&mut mesh)?;
    // What the client is told: an answer, or GOAWAY's code (RFC 9113, section 7). Others are reset without a word.
    let kinds = [
        ("header-bomb", "431"),
        ("table-bomb", ""),
        ("continuation", "\"11\":"),
        ("settings", ""),
        ("ping", ""),
        ("windows", ""),
        ("empty-data", "\"11\":"),
        ("rapid-reset", ""),
    ];
    for (kind, told) in kinds {
        for (pod, to) in attackers(&mesh)? {
            let attack = ["attack", "--to", &to, "--kind", kind, "--connections", "4", "--seconds", "30"];
            let report = cast::expect_client(&mesh, pod, &attack, FLOOD_LIMIT).with_context(|| kind.to_owned())?;
            ensure!(report.to_string().contains(told), "{kind} from {pod} was not told {told}: {report}");
            expect_bounded(&mut mesh, kind, before)?;
        }
    }
    cast::records(&mut mesh, 1, "the floods", |record| record["reason"] == "flooded")?;
    cast::records(&mut mesh, 2, "the floods", |record| record["reason"] == "flooded")?;
    neighbours.finish(&mesh)
}

fn dawdlers(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene)?;
    let neighbours = Neighbours::start(&mesh, &format!("web.shop:{WEB}"))?;
    let before = peaks(&mut mesh)?;
    let mut dawdlers = Vec::new();
    for (pod, to) in attackers(&mesh)? {
        for kind in ["slow-head", "slow-body", "slow-read"] {
            let attack = ["attack", "--to", &to, "--kind", kind, "--connections", "10", "--seconds", "100"];
            dawdlers.push(cast::start_client(&mesh, pod, kind, &attack)?);
        }
    }
    for dawdler in dawdlers {
        let line = dawdler.line().to_owned();
        let (status, output) = dawdler.finish(SLOW_LIMIT)?;
        ensure!(status.success(), "{line} was not cut: {output}");
    }
    expect_bounded(&mut mesh, "slowness", before)?;
    for node in [1, 2] {
        cast::records(&mut mesh, node, "who was too slow", |record| record["reason"] == "too_slow")?;
    }
    neighbours.finish(&mesh)
}

fn zero_windows(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene)?;
    let before = peaks(&mut mesh)?;
    let mut stuck = Vec::new();
    for (pod, to) in attackers(&mesh)? {
        let attack = ["attack", "--to", &to, "--kind", "zero-window", "--connections", "3", "--seconds", "60"];
        stuck.push(cast::start_client(&mesh, pod, "zero-window", &attack)?);
    }
    // 300 answers of a megabyte each wait for windows that never come: also others of the same pod are answered.
    wait::until("the streams to be stuck", EFFECT_LIMIT, || {
        let resident = mesh.node(1)?.agent_resident_bytes()?;
        ensure!(resident > before[0] + (3 << 20), "{resident} after {}", before[0]);
        Ok(())
    })?;
    for pod in ["shop/client", "shop/other", "outside/stranger"] {
        let to = if pod == "outside/stranger" { cast::at(&mesh, "shop/web", WEB)? } else { format!("web.shop:{WEB}") };
        for version in [&["--http2"][..], &[]] {
            let asked = [&["requests", "--to", &to, "--path", "/bytes/300000", "--count", "100"], version].concat();
            cast::expect_client(&mesh, pod, &asked, FLOOD_LIMIT)?;
        }
    }
    expect_bounded(&mut mesh, "windows of zero", before)
}

fn flooding_server(scene: &Scene) -> Result<()> {
    let mut mesh = web(scene)?.start(&scene.sandbox)?;
    let pod = mesh.pod_mut("shop/web")?;
    let launch = pod.command(cast::testapp()?).args(["hostile", "--port", &WEB.to_string(), "--kind", "settings"]);
    pod.serve("hostile", launch)?;
    pod.await_listener(WEB, EFFECT_LIMIT)?;
    cast::start_servers(&mut mesh, "shop/server")?;
    let neighbours = Neighbours::start(&mesh, "server.shop:80")?;
    let before = peaks(&mut mesh)?;
    let to = format!("web.shop:{WEB}");
    let asked = ["requests", "--to", &to, "--http2", "--count", "20", "--allow", "502"];
    let report = cast::expect_client(&mesh, "shop/client", &asked, FLOOD_LIMIT)?;
    ensure!(report["reasons"]["upstream_reset"] == 20, "{report}");
    let server = mesh.pod_mut("shop/web")?.programs().first().context("no server")?.output();
    ensure!(server.contains("end"), "the server was not cut: {server}");
    expect_bounded(&mut mesh, "a server's settings", before)?;
    neighbours.finish(&mesh)
}
