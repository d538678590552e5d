//! Faults of the network, of the machine and of the applications, each injected with the means of a test.
//!
//! There is no test of a stale pooled connection: this version keeps no pool, every connection of an
//! application has one of its own between the agents.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_rig::process::Signal;
use weft_rig::{Mesh, PodPlan, wait};

use crate::cast::{self, ECHO, EFFECT_LIMIT, at, at_v6};
use crate::scene::{Promise, Scene};

/// Where the server says goodbye first.
const FAREWELL: u16 = 7004;
/// One lost segment costs a retransmission, of a second at most, and the attempt goes on.
const ONE_LOSS: Duration = Duration::from_millis(3500);
/// More connections than one pod may have between SYN and accept.
const CROWD: &str = "4000";
/// How many it may have.
const SHARE: u32 = 2048;
/// Loses every first packet of a connection on a pod's loopback, over which it reaches its agent.
const LOSE_BEGINNINGS: &str = "table inet weft-beginnings {
    chain input {
        type filter hook input priority 0; policy accept;
        iifname lo tcp flags & (syn | ack) == syn drop
    }
}
";

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("a_lost_first_segment_of_a_handshake_is_waited_for", lost_first_segment),
        Promise::new("a_server_that_closes_first_hears_the_client_to_its_end", server_closes_first),
        Promise::new("a_reset_by_the_client_reaches_the_server_as_a_reset", client_resets),
        Promise::new("a_dead_peer_agent_cuts_its_connections_with_a_reset", peer_dies_mid_stream),
        Promise::new("an_agent_that_is_asked_to_end_lets_its_connections_end", asked_to_end),
        Promise::new("connections_in_flight_are_bounded_and_others_unharmed", crowd),
        Promise::new("a_pod_that_excludes_too_much_is_refused_that_and_harms_nobody", too_many_rules),
        Promise::new("a_node_is_issued_its_own_pods_and_no_others", issue),
    ]
}

/// Loses the first segment with data of every connection, in one direction.
fn lose_first_segments(mesh: &mut Mesh, direction: &str) -> Result<()> {
    let sets = "set seen4 { type ipv4_addr . inet_service . inet_service; flags dynamic; }\n\
                set seen6 { type ipv6_addr . inet_service . inet_service; flags dynamic; }\n";
    let lose = |family: &str, set: &str| {
        let connection = format!("{family} saddr . tcp sport . tcp dport");
        format!(
            "tcp {direction} {ECHO} meta length > 120 {connection} != @{set} add @{set} {{ {connection} }} counter drop\n"
        )
    };
    let ruleset = format!(
        "table inet weft-loss {{\n{sets} chain pass {{ type filter hook forward priority 0; policy accept;\n{}{} }}\n}}\n",
        lose("ip", "seen4"),
        lose("ip6", "seen6")
    );
    mesh.node(1)?.load_rules(&ruleset)
}

/// How many segments were lost.
fn lost(mesh: &mut Mesh) -> Result<u64> {
    let listed = mesh.node(1)?.place().command("nft").args(["-j", "list", "table", "inet", "weft-loss"]).run()?;
    let listed: Value = serde_json::from_str(&listed.expect_success()?)?;
    let expressions =
        listed["nftables"].as_array().into_iter().flatten().filter_map(|item| item["rule"]["expr"].as_array());
    Ok(expressions.flatten().filter_map(|expression| expression["counter"]["packets"].as_u64()).sum())
}

fn lost_first_segment(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let tap = mesh.fabric().listen(1)?;
    let ways = [at(&mesh, "shop/server", ECHO)?, at_v6(&mesh, "shop/server", ECHO)?];
    for direction in ["dport", "sport"] {
        lose_first_segments(&mut mesh, direction)?;
        for to in &ways {
            let before = lost(&mut mesh)?;
            let start = Instant::now();
            cast::speak(&mesh, "shop/client", to, "marker-after-loss").with_context(|| format!("{direction} {to}"))?;
            let time = start.elapsed();
            ensure!(lost(&mut mesh)? > before, "nothing was lost on the way to {to}");
            ensure!(time < ONE_LOSS, "{direction} {to}: only after {time:?}");
        }
        mesh.node(1)?.load_rules("delete table inet weft-loss\n")?;
    }
    ensure!(tap.find("marker-after-loss")?.is_none(), "a loss led to plaintext");
    cast::speak(&mesh, "outside/stranger", &ways[0], "marker-stranger")?;
    tap.find("marker-stranger")?.context("the control is missing")?;
    Ok(())
}

/// Starts the server that says goodbye first, near and far.
fn start_farewells(mesh: &mut Mesh) -> Result<[String; 3]> {
    for name in ["shop/server", "shop/near"] {
        let pod = mesh.pod_mut(name)?;
        let launch = pod.command(cast::testapp()?).args(["farewell", "--port", &FAREWELL.to_string()]);
        pod.serve("farewell", launch)?;
        pod.await_listener(FAREWELL, EFFECT_LIMIT)?;
    }
    Ok([at(mesh, "shop/server", FAREWELL)?, at(mesh, "shop/near", FAREWELL)?, at_v6(mesh, "shop/server", FAREWELL)?])
}

/// The ends that the servers have printed so far.
fn ends(mesh: &Mesh) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for name in ["shop/server", "shop/near"] {
        let text = fs::read_to_string(mesh.pod(name)?.scratch().join("farewell.log"))?;
        all.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
    }
    Ok(all)
}

/// Runs a client against every farewell server and waits for what each of them says of the end.
fn each_end(scene: &Scene, client: &str) -> Result<Vec<Value>> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let ways = start_farewells(&mut mesh)?;
    for to in &ways {
        cast::expect_client(&mesh, "shop/client", &[client, "--to", to], EFFECT_LIMIT).with_context(|| to.clone())?;
    }
    wait::until("every server to see the end", EFFECT_LIMIT, || {
        let ends = ends(&mesh)?;
        ensure!(ends.len() == ways.len(), "so far: {ends:?}");
        Ok(ends)
    })
}

fn server_closes_first(scene: &Scene) -> Result<()> {
    let ends = each_end(scene, "speak-last")?;
    ensure!(ends.iter().all(|end| end["end"] == "closed" && end["bytes"] == 300_000), "{ends:?}");
    Ok(())
}

fn client_resets(scene: &Scene) -> Result<()> {
    let ends = each_end(scene, "abort")?;
    ensure!(ends.iter().all(|end| end["end"] == "ConnectionReset"), "{ends:?}");
    Ok(())
}

fn peer_dies_mid_stream(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    let arguments = ["hold", "--to", &to, "--count", "20", "--seconds", "60", "--beat", "50"];
    let mut held = cast::start_client(&mesh, "shop/client", "held", &arguments)?;
    held.await_output("beat", EFFECT_LIMIT)?;
    mesh.node(2)?.kill_agent();
    let (status, output) = held.finish(EFFECT_LIMIT).context("its clients were never told")?;
    // An end in order would tell an application that it has everything.
    ensure!(!status.success() && output.contains("reset"), "{output}");
    Ok(())
}

fn asked_to_end(scene: &Scene) -> Result<()> {
    let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "closed")];
    let mut mesh = cast::start(cast::shop_labelled(scene, &labels)?, scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    let arguments = ["hold", "--to", &to, "--count", "20", "--seconds", "4", "--beat", "50"];
    let mut held = cast::start_client(&mesh, "shop/client", "held", &arguments)?;
    held.await_output("beat", EFFECT_LIMIT)?;
    mesh.node(1)?.agent()?.signal(Signal::TERM)?;
    // Its pods follow their failure mode for what is new, from when it no longer accepts.
    cast::await_outcome(&mesh, "shop/client", &to, "refused")?;
    let (status, output) = held.finish(EFFECT_LIMIT)?;
    ensure!(status.success(), "a connection was cut while the agent had time: {output}");
    wait::until("the agent to end", EFFECT_LIMIT, || {
        let ended = mesh.node(1)?.agent()?.ended()?.context("it still runs")?;
        ensure!(ended.success(), "it ended with {ended}");
        Ok(())
    })?;
    let left = mesh.node(1)?.serving_pids();
    ensure!(left.is_empty(), "processes are left: {left:?}");
    mesh.restart_agent(1)?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::await_outcome(&mesh, "shop/client", &to, "ok")
}

fn crowd(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop_labelled(scene, &[("weft.dev/on-agent-failure", "closed")])?, scene)?;
    mesh.directory().label("Namespace", "", "shop", "weft.dev/capture", Some("enabled"))?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    // No connection of the pod gets to its agent, and each stays in flight as long as that lasts.
    let place = mesh.pod("shop/client")?.place();
    place.load_rules(LOSE_BEGINNINGS)?;
    // Who waits asks again after 1, 3, 7 and 15 seconds.
    let arguments =
        ["connect", "--to", &to, "--rate", CROWD, "--seconds", "1", "--refusals-allowed", "--patience", "30"];
    let mut load = cast::start_client(&mesh, "shop/client", "crowd", &arguments)?;
    let waiting = wait::until("the pod's whole share to wait", EFFECT_LIMIT, || {
        load.expect_running()?;
        let listed = mesh.pod("shop/client")?.shell("ss -Htn state syn-sent | wc -l")?.expect_success()?;
        let waiting: u32 = listed.trim().parse()?;
        ensure!(waiting >= SHARE, "only {waiting} wait");
        Ok(waiting)
    })
    .and_then(|waiting| cast::await_outcome(&mesh, "shop/other", &to, "ok").map(|()| waiting));
    place.load_rules("delete table inet weft-beginnings\n")?;
    let (status, report) = load.finish(Duration::from_secs(45))?;
    let waiting = waiting.with_context(|| report.clone())?;
    ensure!(status.success(), "{report}");
    scene.note(&format!("{waiting} connections waited: {}", report.trim()));
    let report: Value = serde_json::from_str(report.lines().next().unwrap_or_default())?;
    let refused = report["failures"]["ConnectionRefused"].as_u64().unwrap_or(0);
    ensure!(refused > 0 && report["ok"].as_u64() >= Some(u64::from(SHARE)), "{report}");
    for pod in ["shop/client", "shop/other"] {
        cast::await_outcome(&mesh, pod, &to, "ok")?;
    }
    Ok(())
}

/// The maps of the kernel have room for every pod's fair share, so nobody may have more. (What happens when one is
/// full all the same is the kernel tier's.)
fn too_many_rules(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let tap = mesh.fabric().listen(1)?;
    let ports: Vec<String> = (1..=30_000).map(|port: u32| port.to_string()).collect();
    let greedy = PodPlan::named("shop/greedy").on(1).annotation("weft.dev/exclude-outbound-ports", &ports.join(","));
    mesh.add_pod(&greedy)?;
    mesh.add_pod(&PodPlan::named("shop/modest").on(1).account("modest"))?;
    wait::until("the controller to name the pod that wants too much", EFFECT_LIMIT, || {
        let log = mesh.controller()?.log()?;
        ensure!(log.lines().any(|line| line.contains("shop/greedy") && line.contains("more than")), "{log}");
        Ok(())
    })?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    for pod in ["shop/greedy", "shop/modest", "shop/client"] {
        cast::speak(&mesh, pod, &to, &format!("marker-{}", &pod[5..]))?;
    }
    // What was refused is refused as a whole: no port of it is left alone.
    for marker in ["marker-greedy", "marker-modest", "marker-client"] {
        ensure!(tap.find(marker)?.is_none(), "{marker} is readable");
    }
    Ok(())
}

// ---- identities -------------------------------------------------------------------------------

/// gRPC's words for how a call ended.
const GRANTED: &str = "0";
const NOT_FOUND: &str = "5";
const UNAUTHENTICATED: &str = "16";

fn issue(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let key = mesh.scratch().join("ask.key");
    let request = mesh.scratch().join("ask.der");
    let made = format!(
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -outform DER -keyout {} -out {}",
        key.display(),
        request.display()
    );
    mesh.node(1)?.place().shell(&made).run()?.expect_success()?;
    let request = fs::read(request)?;
    let own = mesh.pod("shop/client")?.uid().to_owned();
    let foreign = mesh.pod("shop/server")?.uid().to_owned();
    for (what, uid, with_credential, expected) in [
        ("its own pod", own.as_str(), true, GRANTED),
        ("another node's pod", foreign.as_str(), true, NOT_FOUND),
        ("a pod that is nowhere", "00000000-0000-4000-8000-000000000000", true, NOT_FOUND),
        ("its own pod, without a credential", own.as_str(), false, UNAUTHENTICATED),
    ] {
        let answer = ask_for(&mut mesh, uid, &request, with_credential)?;
        let line = format!("grpc-status: {expected}");
        ensure!(answer.lines().any(|one| one.trim() == line), "{what}: {answer}");
    }
    Ok(())
}

/// Calls `Identity/Issue` from node 1, with the node's own credential or without; returns the headers and trailers.
fn ask_for(mesh: &mut Mesh, uid: &str, request: &[u8], with_credential: bool) -> Result<String> {
    let message = [field(1, uid.as_bytes()), field(2, request)].concat();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len())?.to_be_bytes());
    body.extend(message);
    let file = mesh.scratch().join("ask.body");
    fs::write(&file, body)?;
    let credential = mesh.node(1)?.run_dir().join("keys/node.pem").display().to_string();
    let address = mesh.controller()?.address();
    let mut command = mesh.node(1)?.place().command("curl");
    command = command.args(["-sS", "--http2", "--insecure", "--max-time", "5", "--output", "/dev/null"]);
    command = command.args(["--dump-header", "-", "-H", "content-type: application/grpc", "-H", "te: trailers"]);
    command = command.arg("--data-binary").arg(format!("@{}", file.display()));
    if with_credential {
        command = command.args(["--cert", &credential, "--key", &credential]);
    }
    command.arg(format!("https://{address}/weft.v1.Identity/Issue")).run()?.expect_success()
}

/// A field of bytes in protobuf's encoding.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![number << 3 | 2];
    encoded.extend(varint(bytes.len()));
    encoded.extend(bytes);
    encoded
}

/// A number in protobuf's encoding.
pub fn varint(number: usize) -> Vec<u8> {
    let groups = (usize::BITS - number.leading_zeros()).div_ceil(7).max(1);
    let group = |at: u32| {
        let more = if at + 1 < groups { 0x80 } else { 0 };
        u8::try_from(number >> (7 * at) & 0x7f).unwrap_or_default() | more
    };
    (0..groups).map(group).collect()
}
