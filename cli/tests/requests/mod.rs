//! What `weft` tells of requests, asked of two real admin servers.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;
use weft_agent::error::{ConnectionError, Reason, Side};
use weft_agent::telemetry::{Direction, RequestRecord};

use super::fixture::{CLIENT, WEB, World};
use super::{command, json, text, weft};

/// A denied request, as each side has it.
fn denied(world: &World) -> [RequestRecord; 2] {
    let [mut outbound, mut inbound] = [Direction::Outbound, Direction::Inbound].map(|side| world.request(side));
    inbound.id = outbound.id;
    (outbound.status, outbound.told) = (Some(403), Some(Reason::DeniedByRule));
    inbound.status = Some(403);
    inbound.fail(&ConnectionError::new(Side::Local, Reason::DeniedByRule).with_rule("shop/no-carts[0]"));
    [outbound, inbound]
}

#[test]
fn a_request_is_told_by_its_id_with_the_cause_first_and_both_sides_below() {
    let mut world = World::whole();
    let [outbound, inbound] = denied(&world);
    let id = outbound.id.to_string();
    world.nodes[0].requests = vec![outbound];
    world.nodes[1].requests = vec![inbound];
    let running = world.start();
    let answer = weft(&running, &["why", &id, "-o", "json"]);
    let told = json(&answer);
    assert_eq!((&told["cause"], answer.status.code()), (&Value::from("denied_by_rule"), Some(1)), "{told:#}");
    assert_eq!(told["findings"].as_array().map(Vec::len), Some(1), "both sides tell of one cause: {told:#}");
    assert_eq!((&told["records"][0]["node"], &told["records"][1]["node"]), (&Value::from("a"), &Value::from("b")));
    let table = text(&weft(&running, &["why", &id]));
    let place = |words: &str| table.find(words).unwrap_or_else(|| panic!("{words} is missing in\n{table}"));
    assert!(place("✗ denied_by_rule") < place("Source's side, node a"));
    assert!(place("Rule shop/no-carts[0] denied shop/client") < place("Destination's side, node b"));
    assert!(table.lines().count() <= 24, "more than a screen:\n{table}");
}

#[test]
fn a_request_whose_other_side_is_dead_says_so() {
    let mut world = World::whole();
    let [outbound, _] = denied(&world);
    let id = outbound.id.to_string();
    world.nodes[0].requests = vec![outbound];
    world.nodes[1].alive = false;
    let running = world.start();
    let told = json(&weft(&running, &["why", &id, "-o", "json"]));
    let causes: Vec<_> = told["findings"].as_array().unwrap().iter().map(|finding| &finding["cause"]).collect();
    assert_eq!(causes, ["agent_down", "denied_by_rule"], "{told:#}");
}

#[test]
fn the_last_requests_of_a_pair_are_listed_and_a_good_one_is_no_cause() {
    let mut world = World::whole();
    world.nodes[0].requests = vec![world.request(Direction::Outbound)];
    let running = world.start();
    let answer = weft(&running, &["why", CLIENT, "web.shop:80", "--path", "/cart", "-o", "json"]);
    let told = json(&answer);
    assert_eq!((&told["cause"], answer.status.code()), (&Value::Null, Some(0)), "{told:#}");
    assert_eq!(told["requests"][0]["path"], "/cart");
    let table = text(&weft(&running, &["why", CLIENT, "web.shop:80"]));
    assert!(table.contains("Last requests") && table.contains("GET /cart"), "{table}");
    assert_eq!(weft(&running, &["why", CLIENT, "web.shop:80", "--path", "cart"]).status.code(), Some(2));
}

#[test]
fn top_tells_what_was_counted_between_two_readings() {
    let running = World::whole().start();
    let record = World::whole().request(Direction::Outbound);
    // Requests that end while the command waits between its readings; it cannot be told when these are.
    let mut top = command(&running, &["top", "--interval", "1", "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let shown: Value = loop {
        running.agents[0].request(Box::new(record.clone()));
        let shown: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let moved = shown["rows"].as_array().is_some_and(|rows| rows.iter().any(|row| row["success_percent"] == 100.0));
        if moved {
            break shown;
        }
    };
    top.kill().unwrap();
    top.wait().unwrap();
    assert_eq!(shown["rows"][0]["service"], "shop/web", "{shown:#}");
    let table = text(&weft(&running, &["top", "--once", "--interval", "1", "shop"]));
    assert!(table.contains("SUCCESS") && table.contains("shop/web"), "{table}");
}

#[test]
fn tap_shows_a_line_for_each_request_that_is_wanted() {
    let running = World::whole().start();
    let good = World::whole().request(Direction::Outbound);
    let mut bad = good.clone();
    bad.status = Some(503);
    let mut tap =
        command(&running, &["tap", "--status", "5xx", "--count", "3"]).stdout(Stdio::piped()).spawn().unwrap();
    // Requests go on until enough have been shown: nobody can tell from outside when the tap is open.
    while tap.try_wait().unwrap().is_none() {
        running.agents[0].request(Box::new(good.clone()));
        running.agents[0].request(Box::new(bad.clone()));
        std::thread::yield_now();
    }
    let shown = text(&tap.wait_with_output().unwrap());
    let requests: Vec<_> = shown.lines().filter(|line| !line.starts_with('…')).collect();
    assert_eq!(requests.len(), 3, "{shown}");
    assert!(requests.iter().all(|line| line.contains("503") && line.contains(&format!("{CLIENT} → {WEB}"))), "{shown}");
    assert_eq!(weft(&running, &["tap", "--status", "9xx"]).status.code(), Some(2));
    assert_eq!(weft(&running, &["tap", "--sample", "0"]).status.code(), Some(2));
}
