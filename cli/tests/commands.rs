//! What `weft` prints and returns, asked of two real admin servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]

mod fixture;
mod requests;

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fixture::{CLIENT, Running, WEB, World, uid};
use serde_json::Value;
use weft_agent::error::{ConnectionError, Reason, Side};
use weft_agent::model::MtlsMode;
use weft_agent::telemetry::{Direction, PlaintextCall, Security};
use weft_policy::{Action, Policy, Rule, Source};

/// The command, asking these agents alone.
fn command(running: &Running, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).arg("--run-dir").arg(running.directory());
    command.env_remove("WEFT_RUN_DIR").env_remove("WEFT_CONTROLLER_SOCKET");
    command
}

fn weft(running: &Running, arguments: &[&str]) -> Output {
    command(running, arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The cause that `weft why` gives; it must be the first word of the table too, with a fix.
#[track_caller]
fn check(world: World, source: &str, cause: &str) {
    let running = world.start();
    let answer = weft(&running, &["why", source, "web.shop:80", "-o", "json"]);
    let told = json(&answer);
    assert_eq!(told["cause"], cause, "{told:#}");
    assert_eq!(answer.status.code(), Some(1));
    let table = text(&weft(&running, &["why", source, "web.shop:80"]));
    assert!(table.contains(&format!("✗ {cause}")) || table.contains(&format!("! {cause}")), "{table}");
    assert!(table.contains("fix") && table.contains("What would be decided now"), "{table}");
}

fn fail(world: &World, direction: Direction, reason: Reason) -> weft_agent::telemetry::ConnectionRecord {
    let mut record = world.record(direction);
    record.fail(&ConnectionError::new(Side::Upstream, reason).with_detail("what was seen"));
    record
}

#[test]
fn a_healthy_pair_has_no_cause_and_exits_zero() {
    let mut world = World::whole();
    world.nodes[0].records = vec![world.record(Direction::Outbound)];
    let running = world.start();
    let answer = weft(&running, &["why", CLIENT, "web.shop:80", "-o", "json"]);
    let told = json(&answer);
    assert_eq!((&told["cause"], answer.status.code()), (&Value::Null, Some(0)), "{told:#}");
    assert_eq!(told["records"].as_array().map(Vec::len), Some(1));
    assert!(told["facts"].to_string().contains("strict"), "{told:#}");
}

#[test]
fn not_captured() {
    let mut world = World::whole();
    world.nodes[0].enrolments.clear();
    world.nodes[0].status.pods.clear();
    world.workloads[0].mesh_capable = false;
    world.nodes[1].enrolments[0].authentication.default = MtlsMode::Permissive;
    check(world, CLIENT, "not_captured");
}

#[test]
fn plaintext_refused_even_where_the_controller_still_says_captured() {
    let mut world = World::whole();
    world.nodes[0].status.pods[0].enrolled = false;
    world.nodes[0].status.pods[0].reason = Some("its network namespace is gone".to_owned());
    check(world, CLIENT, "plaintext_refused");
    check(World::whole(), "10.9.9.9", "plaintext_refused");
}

#[test]
fn identity_mismatch() {
    let mut world = World::whole();
    world.nodes[0].records = vec![fail(&world, Direction::Outbound, Reason::IdentityMismatch)];
    check(world, CLIENT, "identity_mismatch");
}

#[test]
fn denied_by_rule() {
    let mut world = World::whole();
    let identities = Some(vec![world.workloads[0].identity.clone().unwrap()]);
    world.nodes[1].enrolments[0].policies = vec![Arc::new(Policy {
        name: weft_policy::PolicyName::Object("shop/no-client".parse().unwrap()),
        action: Action::Deny,
        dry_run: false,
        enforced: false,
        target_ports: vec![],
        rules: vec![Rule { from: Some(vec![Source { identities, ..Source::default() }]), ..Rule::ANY }],
        unread: None,
    })];
    let running = world.start();
    let table = text(&weft(&running, &["why", CLIENT, "web.shop:80"]));
    assert!(table.contains("✗ denied_by_rule") && table.contains("shop/no-client[0]"), "{table}");
}

#[test]
fn no_endpoint() {
    let mut world = World::whole();
    world.endpoints.clear();
    check(world, CLIENT, "no_endpoint");
}

#[test]
fn upstream_refused() {
    let mut world = World::whole();
    world.nodes[0].records = vec![fail(&world, Direction::Outbound, Reason::UpstreamRefused)];
    check(world, CLIENT, "upstream_refused");
}

#[test]
fn a_dead_agent_on_either_side() {
    let mut world = World::whole();
    world.nodes[1].alive = false;
    // What the source saw of it is vaguer than that its socket is stale.
    world.nodes[0].records = vec![fail(&world, Direction::Outbound, Reason::UpstreamRefused)];
    check(world, CLIENT, "peer_agent_down");
    let mut world = World::whole();
    world.nodes[0].alive = false;
    check(world, CLIENT, "agent_down");
}

#[test]
fn strict_names_who_spoke_plaintext_and_says_where_nobody_has_looked() {
    let mut world = World::whole();
    world.nodes[1].enrolments[0].authentication.default = MtlsMode::Permissive;
    let running = world.start();
    let (workload, client) = (uid(WEB), "198.51.100.7".parse().unwrap());
    running.agents[1].plaintext(PlaintextCall { workload, port: 80, client });
    while running.agents[1].plaintext_calls().1.is_empty() {
        std::thread::yield_now();
    }
    let answer = weft(&running, &["check", "--strict", "shop", "-o", "json"]);
    let told = json(&answer);
    assert_eq!((&told["verdict"], answer.status.code()), (&Value::from("somebody"), Some(1)), "{told:#}");
    let refused = &told["refused"][0];
    assert_eq!((&refused["address"], &refused["pod"]), (&Value::from("198.51.100.7"), &Value::from(WEB)), "{told:#}");
    let table = text(&weft(&running, &["check", "--strict", "shop"]));
    assert!(
        table.contains("✗") && table.contains("198.51.100.7") && table.contains("1 callers would be refused"),
        "{table}"
    );
    let nobody = weft(&running, &["check", "--strict", "nowhere"]);
    assert_eq!(nobody.status.code(), Some(2), "{}", text(&nobody));
}

#[test]
fn all_agents_dead() {
    let mut world = World::whole();
    for node in &mut world.nodes {
        node.alive = false;
    }
    let running = world.start();
    let answer = weft(&running, &["why", CLIENT, "web.shop:80", "-o", "json"]);
    assert_eq!((&json(&answer)["cause"], answer.status.code()), (&Value::from("agent_down"), Some(1)));
    let status = weft(&running, &["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status).contains("stale"), "{}", text(&status));
}

#[test]
fn certificate_expired() {
    let mut world = World::whole();
    world.nodes[1].certificates[0].not_after = Some(SystemTime::now() - Duration::from_secs(90));
    world.nodes[1].certificates[0].last_error = Some("the controller does not answer".to_owned());
    world.nodes[0].records = vec![fail(&world, Direction::Outbound, Reason::HandshakeFailed)];
    check(world, CLIENT, "certificate_expired");
}

#[test]
fn one_connection_is_told_from_both_sides() {
    let mut world = World::whole();
    let outbound = fail(&world, Direction::Outbound, Reason::UpstreamRefused);
    let mut inbound = fail(&world, Direction::Inbound, Reason::DeniedByRule);
    inbound.id = outbound.id;
    inbound.rule = Some("shop/no-client[0]".to_owned());
    let id = outbound.id.to_string();
    world.nodes[0].records = vec![outbound];
    world.nodes[1].records = vec![inbound];
    let running = world.start();
    let answer = weft(&running, &["why", &id, "-o", "json"]);
    let told = json(&answer);
    assert_eq!((&told["cause"], answer.status.code()), (&Value::from("denied_by_rule"), Some(1)), "{told:#}");
    assert_eq!((&told["records"][0]["node"], &told["records"][1]["node"]), (&Value::from("a"), &Value::from("b")));
    let table = text(&weft(&running, &["why", &id]));
    assert!(table.contains("outbound side, node a") && table.contains("refused by shop/no-client[0]"), "{table}");
}

#[test]
fn a_handshake_that_never_told_its_id_finds_its_other_side() {
    let mut world = World::whole();
    let outbound = fail(&world, Direction::Outbound, Reason::HandshakeFailed);
    let id = outbound.id.to_string();
    let mut inbound = fail(&world, Direction::Inbound, Reason::CertificateExpired);
    inbound.security = Security::None;
    world.nodes[0].records = vec![outbound];
    world.nodes[1].records = vec![inbound];
    let running = world.start();
    assert_eq!(json(&weft(&running, &["why", &id, "-o", "json"]))["cause"], "certificate_expired");
}

#[test]
fn an_unknown_connection_is_a_problem_and_a_bad_word_is_usage() {
    let running = World::whole().start();
    assert_eq!(weft(&running, &["why", "0123456789abcdef"]).status.code(), Some(1));
    let unknown = weft(&running, &["why", "clients", "web.shop:80"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(weft(&running, &["why"]).status.code(), Some(2));
    assert_eq!(weft(&running, &["why", "not-an-id"]).status.code(), Some(2));
}

#[test]
fn status_and_check_and_dump_tell_of_a_healthy_mesh() {
    let running = World::whole().start();
    let status = weft(&running, &["status"]);
    assert_eq!(status.status.code(), Some(0));
    for word in [CLIENT, WEB, "ready", "2/2", "connected", "7f3a09c2"] {
        assert!(text(&status).contains(word), "{word} is missing in\n{}", text(&status));
    }
    assert!(!text(&status).contains('\u{1b}'), "no colours where nobody looks");
    let dump = json(&weft(&running, &["config", "dump", "-o", "json"]));
    assert_eq!(dump["a"]["workloads"][uid(WEB).as_str()]["name"], WEB);
    let table = text(&weft(&running, &["config", "dump", "--node", "b"]));
    assert!(table.contains("10.96.0.10") && table.contains("shop/strict"), "{table}");
    assert_eq!(weft(&running, &["config", "dump", "--node", "c"]).status.code(), Some(2));
}

#[test]
fn check_names_each_problem_with_cause_and_fix() {
    let mut world = World::whole();
    world.nodes[0].status.controller.connected = false;
    world.nodes[0].status.controller.last_error = Some("connection refused".to_owned());
    world.nodes[0].status.kernel.hooks[1].attached = false;
    world.nodes[0].certificates[0].not_after = None;
    world.nodes[1].status.pods[0].enrolled = false;
    world.nodes[1].status.pods[0].reason = Some("the self-test connect was not captured".to_owned());
    world.nodes[1].enrolments[0].refused = vec!["The namespace does not permit exclusions.".to_owned()];
    let running = world.start();
    let answer = weft(&running, &["check", "--quiet"]);
    assert_eq!(answer.status.code(), Some(1));
    let table = text(&answer);
    for word in [
        "connection refused",
        "hook flow_ops",
        "certificate of shop/client",
        "self-test",
        "does not permit exclusions",
        "4 to mend, 1 to know of",
    ] {
        assert!(table.contains(word), "{word} is missing in\n{table}");
    }
    let listed = json(&weft(&running, &["check", "-o", "json"]));
    let problems = listed.as_array().unwrap().iter().filter(|check| check["verdict"] == "problem");
    assert!(problems.clone().count() >= 4 && problems.into_iter().all(|check| check["fix"].is_string()));
}

#[test]
fn a_shell_gets_its_completion() {
    let running = World::whole().start();
    let script = weft(&running, &["completion", "bash"]);
    assert!(script.status.success() && text(&script).contains("_weft"));
}
