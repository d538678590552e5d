//! Which traffic policy decides for a Service's ports, and what agents receive of it.

use super::*;
use crate::status::Aspect;

/// Two ports, no selector: it is about those who connect.
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  \
     clusterIP: 10.96.0.2\n  ports: [{name: http, port: 80}, {name: admin, port: 81}]\n";

fn traffic(name: &str, created: &str, target: &str, spec: &str) -> String {
    policy("TrafficPolicy", name, created, &format!("  targetRefs: [{{kind: Service, name: {target}}}]\n{spec}"))
}

/// `more` is the rest of the spec.
pub fn constraint(name: &str, created: &str, target: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
         metadata: {{name: {name}, namespace: shop{created}}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: {target}}}]\n  \
         retryConstraint: {{budget: {{percent: 10, interval: 1m}}, minRetryRate: {{count: 2, interval: 500ms}}}}\n{more}"
    )
}

impl Translation {
    /// The policies that decide for the ports 80 and 81.
    fn deciding(&self) -> [String; 2] {
        [80, 81].map(|port| {
            let found = &self.shared[format!("traffic/shop/web/{port}").as_str()];
            assert_eq!(found.requires, ["traffic"]);
            match found.body.clone() {
                Some(Body::Traffic(traffic)) => traffic.policy,
                other => panic!("{port} is {other:?}"),
            }
        })
    }
}

fn named(name: &str) -> String {
    format!("TrafficPolicy shop/{name}")
}

#[test]
fn agents_receive_what_the_policy_says() {
    let full = traffic(
        "full",
        "",
        "web",
        "  loadBalancer: LeastRequest\n  retryBudget: {percent: 20, minPerSecond: 5}\n  requestTimeout: 2s\n  \
         retry: {attempts: 3, httpStatuses: [503, 502], grpcStatuses: [UNAVAILABLE], grpc: [{service: shop.Cart}], backoff: 25ms}\n  \
         outlierDetection: {consecutiveFailures: 7, baseEjectionTime: 1s, maxEjectionTime: 1m, maxEjectionPercent: 30}",
    );
    let out = all(&[SERVICE, &full]);
    let expected = v1::Traffic {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: 80,
        audience: String::new(),
        policy: "TrafficPolicy shop/full".to_owned(),
        balancing: v1::Balancing::LeastRequest.into(),
        retry_budget_percent: Some(20),
        retry_budget_minimum_per_second: Some(5),
        ejection: Some(v1::Ejection {
            consecutive_failures: 7,
            base_time_ms: 1_000,
            maximum_time_ms: 60_000,
            maximum_percent: 30,
        }),
        retry: Some(v1::RetryPolicy {
            attempts: 3,
            statuses: vec![502, 503],
            grpc_statuses: vec![14],
            backoff_ms: 25,
            grpc_calls: vec![v1::GrpcCall { service: "shop.Cart".into(), method: String::new() }],
        }),
        request_timeout_ms: 2_000,
        retry_constraint: None,
    };
    assert_eq!(out.shared["traffic/shop/web/80"].body, Some(Body::Traffic(expected)));
    assert_eq!(out.deciding(), [named("full"), named("full")]);
    assert_eq!(out.reasons("full"), [Reason::Accepted]);
}

#[test]
fn what_a_policy_leaves_out_has_a_default_or_stays_the_agents() {
    let out = all(&[
        SERVICE,
        &traffic("short", "", "web", "  outlierDetection: {consecutiveFailures: 5}\n  retry: {backoff: 1s}"),
    ]);
    let Some(Body::Traffic(body)) = out.shared["traffic/shop/web/80"].body.clone() else { panic!("no traffic") };
    assert_eq!(
        (body.balancing(), body.retry_budget_percent, body.request_timeout_ms),
        (v1::Balancing::PeakEwma, None, 0)
    );
    let ejection = body.ejection.unwrap();
    assert_eq!((ejection.base_time_ms, ejection.maximum_time_ms, ejection.maximum_percent), (10_000, 300_000, 50));
    assert_eq!(body.retry.unwrap().attempts, 1);
}

#[test]
fn a_ports_policy_beats_its_services_and_among_equals_the_older_wins() {
    let balance = "  loadBalancer: RoundRobin";
    let whole = traffic("whole", "", "web", balance);
    let section = traffic("section", "", "web, sectionName: http", balance);
    let old = traffic("z-old", ", creationTimestamp: 2026-01-01T00:00:00Z", "web", balance);
    let out = all(&[SERVICE, &whole, &section]);
    assert_eq!(out.deciding(), [named("section"), named("whole")]);
    assert_eq!(out.reasons("whole"), [Reason::Accepted], "less specific is no conflict");
    let out = all(&[SERVICE, &whole, &old]);
    assert_eq!(out.deciding(), [named("z-old"), named("z-old")]);
    assert_eq!((out.reasons("z-old"), out.reasons("whole")), (vec![Reason::Accepted], vec![Reason::Conflicted]));
}

#[test]
fn targets_that_do_not_count_are_told() {
    let elsewhere = "apiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: shop}\nspec: {type: ExternalName, externalName: a.example}\n";
    for (target, reason) in [
        ("absent", Reason::TargetNotFound),
        ("web, sectionName: absent", Reason::TargetNotFound),
        ("out", Reason::Invalid),
        ("web", Reason::Accepted),
    ] {
        let out = all(&[SERVICE, elsewhere, &traffic("mine", "", target, "  requestTimeout: 1s")]);
        assert_eq!(out.reasons("mine"), [reason], "{target}");
    }
}

#[test]
fn a_rule_without_limit_is_not_a_silent_one() {
    let policy = traffic("limit", "", "web", "  requestTimeout: 2s");
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: shop}\nspec:\n  \
         parentRefs: [{group: '', kind: Service, name: web, port: 80}]\n  \
         rules: [{timeouts: {request: 0s}}, {timeouts: {request: 5s}}, {}]\n";
    let timeouts = |parts: &[&str]| {
        let out = all(parts);
        let Some(Body::Routes(routes)) = out.shared["routes/shop/web/80"].body.clone() else { panic!("no routes") };
        routes.rules.iter().map(|rule| rule.request_timeout_ms).collect::<Vec<_>>()
    };
    assert_eq!(timeouts(&[SERVICE, route]), [0, 5_000, 0]);
    assert_eq!(
        timeouts(&[SERVICE, route, &policy]),
        [u32::MAX, 5_000, 0],
        "silent rules get the policy's at the agent"
    );
}

/// What port 80 requires of agents, whose policy balances it, and whose constrains its retries.
fn check_constraint(parts: &[&str], expected: (&[&str], &str, Option<&str>)) -> Translation {
    let out = all(parts);
    let found = &out.shared["traffic/shop/web/80"];
    let Some(Body::Traffic(body)) = &found.body else { panic!("no traffic") };
    let constraint = body.retry_constraint.as_ref().map(|constraint| constraint.policy.as_str());
    let requires: Vec<&str> = found.requires.iter().map(String::as_str).collect();
    assert_eq!((requires.as_slice(), body.policy.as_str(), constraint), expected);
    out
}

#[test]
fn retries_are_constrained_with_and_without_a_traffic_policy() {
    let calm = constraint("calm", "", "web", "");
    let (both, policy) = (&["traffic", "traffic.constraint"][..], Some("XBackendTrafficPolicy shop/calm"));
    let out = check_constraint(&[SERVICE, &calm], (both, "", policy));
    assert_eq!(out.reasons("calm"), [Reason::Accepted]);
    let Some(Body::Traffic(body)) = &out.shared["traffic/shop/web/81"].body else { panic!("not at every port") };
    let constraint = body.retry_constraint.clone().unwrap();
    assert_eq!(
        (constraint.percent, constraint.interval_ms, constraint.minimum, constraint.minimum_interval_ms),
        (10, 60_000, 2, 500)
    );
    // The weaker kind keeps what the other says nothing of, and its owner is told of the rest.
    let weaker = |spec: &str| traffic("weaker", "", "web", spec);
    let out = check_constraint(&[SERVICE, &calm, &weaker("  requestTimeout: 1s")], (both, &named("weaker"), policy));
    assert_eq!(out.message("weaker", Aspect::Accepted), "the policy is in force");
    let budget = weaker("  retryBudget: {percent: 50}");
    let out = check_constraint(&[SERVICE, &calm, &budget], (both, &named("weaker"), policy));
    let told = "the policy is in force, but for its retryBudget: XBackendTrafficPolicy shop/calm constrains retries";
    assert_eq!(
        (out.reasons("weaker"), out.message("weaker", Aspect::Accepted).as_str()),
        (vec![Reason::Accepted], told)
    );
    check_constraint(&[SERVICE, &budget], (&["traffic"], &named("weaker"), None));
}

#[test]
fn of_several_constraints_the_oldest_holds_and_what_is_not_supported_is_told() {
    let old = constraint("z-old", ", creationTimestamp: 2026-01-01T00:00:00Z", "web", "");
    let [young, younger] =
        ["b", "a"].map(|name| constraint(name, ", creationTimestamp: 2026-01-02T00:00:00Z", "web", ""));
    let both = &["traffic", "traffic.constraint"][..];
    let out =
        check_constraint(&[SERVICE, &young, &old, &younger], (both, "", Some("XBackendTrafficPolicy shop/z-old")));
    for (name, reason) in [("z-old", Reason::Accepted), ("a", Reason::Conflicted), ("b", Reason::Conflicted)] {
        assert_eq!(out.reasons(name), [reason], "{name}");
    }
    check_constraint(&[SERVICE, &young, &younger], (both, "", Some("XBackendTrafficPolicy shop/a")));
    let sessions = constraint("calm", "", "web", "  sessionPersistence: {type: Cookie}\n");
    let out = check_constraint(&[SERVICE, &sessions], (both, "", Some("XBackendTrafficPolicy shop/calm")));
    assert_eq!(out.reasons("calm"), [Reason::Accepted, Reason::UnsupportedValue]);
    let out = all(&[SERVICE, &constraint("calm", "", "absent", "")]);
    assert_eq!(out.reasons("calm"), [Reason::TargetNotFound]);
}
