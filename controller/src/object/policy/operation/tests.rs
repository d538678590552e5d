use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::json;
use weft_crd::{Action, AuthorizationPolicySpec, Destination};
use weft_policy::{Asked, Peer, Policy, Request, evaluate, read};
use weft_proto::v1;

use super::super::AuthorizationPolicy;
use super::reaches;
use crate::object::{FieldError, Metadata};

/// What `kubectl` or a directory hands over, with one rule.
fn parse(rule: serde_json::Value) -> Result<Vec<v1::AuthorizationRule>, FieldError> {
    let spec = json!({
        "targetRefs": [{ "group": "", "kind": "Service", "name": "web" }],
        "action": "Allow",
        "rules": vec![rule],
    });
    let spec: AuthorizationPolicySpec = serde_json::from_value(spec).unwrap();
    let metadata = Metadata { namespace: "shop".to_owned(), name: "web".to_owned(), ..Metadata::default() };
    AuthorizationPolicy::parse(metadata, spec).map(|policy| policy.rules)
}

fn as_agents_read(rules: Vec<v1::AuthorizationRule>) -> Policy {
    let message = v1::AuthorizationPolicy {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        action: v1::Action::Allow.into(),
        rules,
        ..v1::AuthorizationPolicy::default()
    };
    read(&message).expect("agents read what the controller writes")
}

fn admits(policy: &Policy, port: u16, method: &str, path: &str) -> bool {
    let headers = http_headers();
    let request = Request { method, host: "Shop.Example.com:8080", path, headers: &headers };
    let peer = Peer { identity: None, address: [10, 0, 0, 7].into(), port, asked: Asked::Request(&request) };
    evaluate(std::iter::once(policy), &peer).verdict == weft_policy::Verdict::Allow
}

fn http_headers() -> http::HeaderMap {
    http::HeaderMap::from_iter([(http::HeaderName::from_static("x-user"), http::HeaderValue::from_static("tester"))])
}

#[track_caller]
fn check(rule: serde_json::Value, admitted: &[(u16, &str, &str)], refused: &[(u16, &str, &str)]) {
    let policy = as_agents_read(parse(rule).unwrap());
    for (port, method, path) in admitted {
        assert!(admits(&policy, *port, method, path), "{port} {method} {path} was refused");
    }
    for (port, method, path) in refused {
        assert!(!admits(&policy, *port, method, path), "{port} {method} {path} was let in");
    }
}

#[test]
fn what_is_written_is_what_agents_decide() {
    check(
        json!({ "to": [{ "methods": ["GET"], "paths": [{ "type": "Prefix", "value": "/api/" }] }] }),
        &[(80, "GET", "/api"), (80, "GET", "/api/x")],
        &[(80, "POST", "/api"), (80, "GET", "/apis"), (80, "get", "/api")],
    );
    check(
        json!({ "to": [{ "hosts": ["*.example.com"], "notPaths": [{ "type": "Template", "value": "/admin/{**}" }] }] }),
        &[(80, "GET", "/")],
        &[(80, "GET", "/admin"), (80, "GET", "/admin/x/y")],
    );
    check(
        json!({ "to": [{ "grpc": [{ "service": "shop.v1.Cart" }, { "method": "Check" }] }] }),
        &[(80, "POST", "/shop.v1.Cart/Add"), (80, "POST", "/grpc.health.v1.Health/Check")],
        &[(80, "POST", "/shop.v1.Cart"), (80, "POST", "/shop.v1.Cart/Add/more"), (80, "POST", "/shop.v1.Till/Add")],
    );
    check(json!({ "when": [{ "header": "X-User", "values": ["tester"] }] }), &[(80, "GET", "/")], &[]);
    check(json!({ "when": [{ "header": "x-user", "notValues": ["tester"] }] }), &[], &[(80, "GET", "/")]);
}

#[test]
fn ports_and_requests_of_one_entry_must_both_match() {
    check(
        json!({ "to": [{ "ports": [80], "methods": ["GET"] }, { "ports": [9090], "methods": ["POST"] }, { "ports": [22] }] }),
        &[(80, "GET", "/"), (9090, "POST", "/"), (22, "PUT", "/")],
        &[(80, "POST", "/"), (9090, "GET", "/"), (443, "GET", "/")],
    );
}

#[test]
fn entries_with_the_same_ports_share_a_rule() {
    let rules = parse(json!({ "to": [
        { "ports": [80, 81], "methods": ["GET"] },
        { "ports": [81, 80], "grpc": [{ "service": "a.B" }] },
        { "methods": ["PUT"] },
    ] }));
    let counts: Vec<_> =
        rules.unwrap().iter().map(|rule| rule.operations.as_ref().map_or(0, |list| list.operations.len())).collect();
    assert_eq!(counts, [2, 1]);
}

#[test]
fn a_rule_keeps_the_number_that_it_was_written_with() {
    let rule = |to: serde_json::Value| -> weft_crd::Rule { serde_json::from_value(json!({ "to": to })).unwrap() };
    let mixed = rule(json!([{ "ports": [80], "methods": ["GET"] }, { "ports": [81] }]));
    let plain = rule(json!([{ "ports": [82] }]));
    let numbers = |rules: &[weft_crd::Rule]| -> Vec<_> {
        let rules = super::super::authorization::rules("rules", rules, None).unwrap();
        super::super::authorization::numbered(rules).iter().map(|rule| rule.written).collect()
    };
    assert_eq!(numbers(&[plain.clone(), plain.clone()]), [None, None]);
    assert_eq!(numbers(&[plain.clone(), mixed, plain]), [None, None, Some(1), Some(2)]);
}

#[test]
fn a_rule_of_ports_alone_is_the_same_bytes_as_ever() {
    let rules = parse(json!({ "to": [{ "ports": [81, 80] }, { "notPorts": [80, 90] }] })).unwrap();
    let expected = v1::AuthorizationRule {
        to: Some(v1::PortList { ports: vec![90], not: true }),
        ..v1::AuthorizationRule::default()
    };
    assert_eq!(rules, [expected]);
    let nothing = parse(json!({ "to": [] })).unwrap();
    assert_eq!(nothing[0].to, Some(v1::PortList { ports: vec![], not: false }));
}

#[test]
fn an_empty_list_of_requests_matches_nothing() {
    check(json!({ "to": [{ "methods": [] }] }), &[], &[(80, "GET", "/")]);
    check(json!({ "to": [{ "grpc": [] }] }), &[], &[(80, "GET", "/")]);
    check(json!({ "to": [{ "notMethods": [] }] }), &[(80, "GET", "/")], &[]);
}

#[track_caller]
fn refused(rule: serde_json::Value, path: &str, fix: &str) {
    let error = parse(rule).unwrap_err();
    assert_eq!(error.path, format!("spec.rules[0].{path}"));
    assert!(error.fix.contains(fix), "{error}");
}

#[test]
fn a_bad_value_is_named_with_what_to_write() {
    let to = |entry: serde_json::Value| json!({ "to": [entry] });
    let path = |kind: &str, value: &str| json!({ "to": [{ "paths": [{ "type": kind, "value": value }] }] });
    refused(to(json!({ "methods": ["GET", "G T"] })), "to[0].methods[1]", "such as GET");
    refused(to(json!({ "notMethods": ["post"] })), "to[0].notMethods[0]", "write POST");
    refused(to(json!({ "hosts": ["Shop.example.com"] })), "to[0].hosts[0]", "shop.example.com");
    refused(to(json!({ "hosts": ["shop:80"] })), "to[0].hosts[0]", "ports");
    refused(to(json!({ "hosts": ["[fd00::7]:80"] })), "to[0].hosts[0]", "ports");
    refused(to(json!({ "hosts": ["[fd00]"] })), "to[0].hosts[0]", "[fd00::7]");
    refused(to(json!({ "notHosts": ["*"] })), "to[0].notHosts[0]", "*.example.com");
    refused(path("Exact", "orders"), "to[0].paths[0].value", "/orders");
    refused(path("Prefix", "/a/..;x/b"), "to[0].paths[0].value", "leads to");
    refused(path("Exact", "/a|b"), "to[0].paths[0].value", "percent-encoded");
    refused(path("Exact", "/a%0Ab"), "to[0].paths[0].value", "always refused");
    refused(path("Prefix", "/a/../b"), "to[0].paths[0].value", "leads to");
    refused(path("Exact", "/a?b=c"), "to[0].paths[0].value", "path alone");
    refused(path("Exact", "/a b"), "to[0].paths[0].value", "%20");
    refused(path("Exact", "/%7euser"), "to[0].paths[0].value", "%20");
    refused(path("Exact", "/%7Euser"), "to[0].paths[0].value", "the letter itself");
    refused(path("Exact", "/a%2Fb"), "to[0].paths[0].value", "always refused");
    refused(path("Exact", "/users/{id}"), "to[0].paths[0].value", "Template");
    refused(path("Template", "/users/x{id}"), "to[0].paths[0].value", "whole element");
    refused(path("Template", "/users/{id"), "to[0].paths[0].value", "whole element");
    refused(path("Template", "/users/{}"), "to[0].paths[0].value", "{id}");
    refused(path("Template", "/{**}/x"), "to[0].paths[0].value", "at the end");
    refused(to(json!({ "grpc": [{ "service": "a/b" }] })), "to[0].grpc[0]", "shop.v1.Cart");
    refused(to(json!({ "grpc": [{}] })), "to[0].grpc[0]", "service or method");
    refused(
        to(json!({ "grpc": [{ "method": "A" }], "paths": [{ "type": "Exact", "value": "/a" }] })),
        "to[0].grpc",
        "two entries",
    );
    refused(to(json!({})), "to[0]", "methods");
    refused(json!({ "when": [{ "header": "x user", "values": [] }] }), "when[0].header", "x-user");
    refused(json!({ "when": [{ "header": "Host", "values": ["a"] }] }), "when[0].header", "hosts");
    refused(json!({ "when": [{ "header": "x-user" }] }), "when[0]", "values or notValues");
    refused(json!({ "when": [{ "header": "x-user", "values": ["a\n"] }] }), "when[0].values[0]", "control");
    refused(json!({ "when": [] }), "when", "leave it out");
}

fn destination() -> impl Strategy<Value = Destination> {
    let ports = || option::of(vec(1_i32..6, 0..4));
    let methods = || {
        let some = subsequence(vec!["GET", "PUT"], 0..=2);
        option::weighted(0.3, some.prop_map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>()))
    };
    (ports(), ports(), methods(), methods()).prop_map(|(ports, not_ports, methods, not_methods)| Destination {
        ports,
        not_ports,
        methods,
        not_methods,
        ..Destination::default()
    })
}

proptest! {
    /// The agents' rules must say exactly what the destinations say: one of them matches, each with all of its fields.
    #[test]
    fn rules_say_what_their_destinations_say(
        raw in vec(destination(), 0..5),
        port in 1_u16..8,
        put in any::<bool>(),
    ) {
        let raw: Vec<_> = raw.into_iter().filter(|destination| *destination != Destination::default()).collect();
        let method = if put { "PUT" } else { "GET" };
        let has = |list: &Option<Vec<String>>| list.as_ref().map(|list| list.iter().any(|own| own == method));
        let here = |list: &Option<Vec<i32>>| list.as_ref().map(|list| list.contains(&i32::from(port)));
        let expected = raw.iter().any(|destination| {
            here(&destination.ports) != Some(false)
                && here(&destination.not_ports) != Some(true)
                && has(&destination.methods) != Some(false)
                && has(&destination.not_methods) != Some(true)
        });
        let whole = |(to, operations)| v1::AuthorizationRule { to, operations, ..v1::AuthorizationRule::default() };
        let rules: Vec<_> = reaches("to", Some(&raw)).unwrap().into_iter().map(whole).collect();
        prop_assert_eq!(admits(&as_agents_read(rules.clone()), port, method, "/"), expected, "{:?}", rules);
    }
}

#[test]
fn a_policy_survives_being_written_and_read() {
    let text = json!({
        "targetRefs": [{ "group": "", "kind": "Service", "name": "web" }],
        "action": "Deny",
        "rules": [{
            "to": [{
                "ports": [80],
                "methods": ["GET"],
                "notMethods": ["PUT"],
                "paths": [{ "type": "Template", "value": "/users/{id}/orders" }],
                "notPaths": [{ "type": "Exact", "value": "/users/0/orders" }],
                "hosts": ["*.example.com"],
                "notHosts": ["old.example.com"],
            }, { "grpc": [{ "service": "a.B", "method": "C" }] }],
            "when": [{ "header": "X-User", "values": ["a"], "notValues": [""] }],
        }],
    });
    let spec: AuthorizationPolicySpec = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(spec.action, Action::Deny);
    assert_eq!(serde_json::to_value(&spec).unwrap(), text);
}
