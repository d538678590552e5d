//! Serves two invented nodes until Enter is pressed, so that the tables of `weft` can be looked at.
//!
//! `cargo run -p weft --example fixture`, then in another terminal what it prints.

#![expect(
    clippy::unwrap_used,
    clippy::assigning_clones,
    clippy::print_stdout,
    reason = "a tool for developers, never installed"
)]

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fixture::World;
use http::StatusCode;
use weft_agent::error::{ConnectionError, Reason, Side};
use weft_agent::http::retry::Outcome;
use weft_agent::telemetry::{ConnectionId, Direction, FailedAttempt};

fn main() {
    let mut world = World::whole();
    let good = world.record(Direction::Outbound);
    let mut arrived = world.record(Direction::Inbound);
    arrived.id = good.id;
    let mut refused = world.record(Direction::Outbound);
    refused.started = jiff::Timestamp::now() - Duration::from_secs(1);
    refused.fail(
        &ConnectionError::new(Side::Upstream, Reason::IdentityMismatch).with_detail(
            "expected spiffe://cluster.local/ns/shop/sa/web, proven spiffe://cluster.local/ns/shop/sa/other",
        ),
    );
    world.nodes[0].records = vec![good, refused];
    world.nodes[1].records = vec![arrived];
    world.nodes[1].certificates[0].not_after = Some(SystemTime::now() + Duration::from_secs(20));
    world.nodes[1].certificates[0].last_error = Some("the controller does not answer".to_owned());
    world.nodes[1].status.controller.connected = false;
    world.nodes[1].status.controller.last_error = Some("connect to 10.0.0.1:15010: connection refused".to_owned());
    let mut second = world.nodes[0].status.pods[0].clone();
    second.name = "shop/batch-7c9d".to_owned();
    second.uid = fixture::uid("shop/batch-7c9d");
    second.enrolled = false;
    second.reason = Some("/proc/4711/ns/net is no network namespace: the process has ended".to_owned());
    world.nodes[0].status.pods.push(second);
    world.nodes[1].enrolments[0].policies = vec![Arc::new(weft_policy::Policy {
        name: weft_policy::PolicyName::Object("shop/allow-other".parse().unwrap()),
        action: weft_policy::Action::Allow,
        dry_run: false,
        enforced: false,
        target_ports: vec![],
        rules: vec![weft_policy::Rule {
            from: Some(vec![weft_policy::Source {
                identities: Some(vec!["spiffe://cluster.local/ns/shop/sa/other".parse().unwrap()]),
                ..weft_policy::Source::default()
            }]),
            ..weft_policy::Rule::ANY
        }],
        unread: None,
    })];
    let requests = requests(&world);
    world.nodes[0].requests = vec![requests[3].clone()];
    let running = world.start();
    println!("export WEFT_RUN_DIR={}", running.directory().display());
    println!("weft status; weft check; weft why shop/client web.shop:80; weft config dump; weft top; weft tap");
    println!("weft why {}", requests[3].id);
    let asking = std::thread::spawn(|| std::io::stdin().read_line(&mut String::new()));
    for request in requests.iter().cycle() {
        if asking.is_finished() {
            return;
        }
        let mut next = weft_agent::telemetry::RequestRecord { id: ConnectionId::random(), ..request.clone() };
        next.started = jiff::Timestamp::now();
        running.agents[0].request(Box::new(next));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Both versions of a canary, of which the second fails now and then.
fn requests(world: &World) -> Vec<weft_agent::telemetry::RequestRecord> {
    let versions = ["v1", "v1", "v1", "v2", "v1", "v1", "v1", "v2"].into_iter().enumerate();
    let request = |(number, version): (usize, &str)| {
        let mut request = world.request(Direction::Outbound);
        request.route = Some("HTTPRoute shop/web[0]".into());
        request.backend = Some((format!("shop/web-{version}").parse().unwrap(), 80));
        if number == 3 {
            (request.status, request.attempts, request.retries) = (Some(503), 3, 2);
            let outcome = Outcome::Answered(StatusCode::SERVICE_UNAVAILABLE, None);
            for took in [3, 4, 5].map(Duration::from_millis) {
                let (endpoint, workload) = ("10.1.1.9:8080".parse().unwrap(), request.destination.workload.clone());
                request.failed_attempt(FailedAttempt { endpoint, workload, outcome, took, ejected: None });
            }
            request.fail(
                &ConnectionError::new(Side::Local, Reason::RetryBudgetSpent)
                    .with_detail("the budget for retries was spent after the last attempt"),
            );
        }
        request
    };
    versions.map(request).collect()
}
