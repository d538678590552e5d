//! The one table for requests and for opaque bytes: what a user who writes policies about HTTP relies on.

#![expect(
    clippy::expect_used,
    clippy::unnecessary_wraps,
    reason = "the helpers of a test may panic, and fit the fields that they fill"
)]

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_policy::{
    Asked, Ground, HostPattern, PathPattern, Peer, Policy, Request, evaluate, explain, needs_requests, read,
    refuses_opaque,
};
use weft_proto::names::Identity;
use weft_proto::v1::{self, Action};

const PORT: u16 = 8080;
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const BATCH: &str = "spiffe://cluster.local/ns/jobs/sa/batch";

fn list(values: &[&str]) -> Option<v1::StringList> {
    Some(v1::StringList { values: values.iter().map(ToString::to_string).collect() })
}

fn operations(operations: Vec<v1::Operation>) -> v1::AuthorizationRule {
    v1::AuthorizationRule { operations: Some(v1::OperationList { operations }), ..v1::AuthorizationRule::default() }
}

fn methods(methods: &[&str]) -> v1::AuthorizationRule {
    operations(vec![v1::Operation { methods: list(methods), ..v1::Operation::default() }])
}

fn prefix(path: &str) -> Option<v1::PathList> {
    let kind = v1::PathPatternKind::Prefix.into();
    Some(v1::PathList { paths: vec![v1::PathPattern { kind, value: path.to_owned() }] })
}

fn when(name: &str, values: Option<v1::StringList>, not_values: Option<v1::StringList>) -> v1::AuthorizationRule {
    v1::AuthorizationRule {
        headers: vec![v1::HeaderCondition { name: name.to_owned(), values, not_values }],
        ..v1::AuthorizationRule::default()
    }
}

fn by(identity: &str, rule: v1::AuthorizationRule) -> v1::AuthorizationRule {
    let source = v1::Source { identities: list(&[identity]), ..v1::Source::default() };
    v1::AuthorizationRule { from: Some(v1::SourceList { sources: vec![source] }), ..rule }
}

fn at(port: u32, rule: v1::AuthorizationRule) -> v1::AuthorizationRule {
    v1::AuthorizationRule { to: Some(v1::PortList { ports: vec![port], not: false }), ..rule }
}

fn anything() -> v1::AuthorizationRule {
    v1::AuthorizationRule::default()
}

fn policy(action: Action, rules: Vec<v1::AuthorizationRule>) -> Policy {
    let message = v1::AuthorizationPolicy {
        namespace: "shop".to_owned(),
        name: action.as_str_name().trim_start_matches("ACTION_").to_ascii_lowercase(),
        action: action.into(),
        rules,
        ..v1::AuthorizationPolicy::default()
    };
    read(&message).expect("readable")
}

fn allow(rules: Vec<v1::AuthorizationRule>) -> Policy {
    policy(Action::Allow, rules)
}

fn deny(rules: Vec<v1::AuthorizationRule>) -> Policy {
    policy(Action::Deny, rules)
}

/// A line such as `GET /orders`, then lines such as `x-user: a`. Empty: opaque bytes. The host is Shop.example.com:8080.
fn ask<R>(text: &str, port: u16, decide: impl FnOnce(&Peer<'_>) -> R) -> R {
    let identity: Identity = WEB.parse().expect("an identity");
    let mut lines = text.lines().map(str::trim);
    let line = lines.next().and_then(|line| line.split_once(' '));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"));
    }
    let request = line.map(|(method, path)| Request { method, host: "Shop.example.com:8080", path, headers: &headers });
    let asked = request.as_ref().map_or(Asked::Opaque, Asked::Request);
    decide(&Peer { identity: Some(&identity), address: [10, 0, 0, 7].into(), port, asked })
}

#[track_caller]
fn check(policies: &[Policy], text: &str, expected: Ground) {
    ask(text, PORT, |peer| {
        assert_eq!(evaluate(policies.iter(), peer).ground, expected, "{text}");
        assert_eq!(evaluate(policies.iter().rev(), peer).ground, expected, "{text}, order reversed");
    });
}

#[test]
fn an_allow_of_requests_closes_the_pod_to_all_others() {
    let reading = [allow(vec![methods(&["GET", "HEAD"])])];
    check(&reading, "HEAD /", Ground::AllowMatched);
    check(&reading, "PUT /", Ground::NoAllowMatched);
    check(&reading, "get /", Ground::NoAllowMatched);
    check(&[allow(vec![by(BATCH, methods(&["GET"]))])], "GET /", Ground::NoAllowMatched);
    check(&[allow(vec![by(BATCH, anything()), by(WEB, methods(&["GET"]))])], "GET /", Ground::AllowMatched);
}

#[test]
fn a_deny_of_requests_beats_every_allow_and_closes_nothing_else() {
    let writing = || deny(vec![methods(&["PUT"])]);
    check(&[allow(vec![anything()]), writing()], "PUT /", Ground::Deny);
    check(&[allow(vec![anything()]), writing()], "GET /", Ground::AllowMatched);
    check(&[writing()], "GET /", Ground::NoPolicy);
    check(&[Policy { enforced: true, ..writing() }, deny(vec![anything()])], "PUT /", Ground::EnforcedDeny);
}

#[test]
fn a_rule_of_connections_decides_requests_too() {
    check(&[allow(vec![by(WEB, anything())])], "GET /", Ground::AllowMatched);
    check(&[deny(vec![at(8080, anything())])], "GET /", Ground::Deny);
    check(&[deny(vec![at(9090, methods(&["GET"]))])], "GET /", Ground::NoPolicy);
}

#[test]
fn opaque_bytes_are_never_let_in_as_a_request_and_never_pass_a_deny_of_one() {
    check(&[allow(vec![methods(&["GET"])])], "", Ground::NoAllowMatched);
    check(&[allow(vec![methods(&["GET"]), by(WEB, anything())])], "", Ground::AllowMatched);
    check(&[allow(vec![when("x-user", None, list(&["a"]))])], "", Ground::NoAllowMatched);
    check(&[deny(vec![methods(&["PUT"])])], "", Ground::Deny);
    check(&[deny(vec![when("x-user", list(&["a"]), None)])], "", Ground::Deny);
    check(&[Policy { enforced: true, ..deny(vec![methods(&["PUT"])]) }], "", Ground::EnforcedDeny);
    check(&[deny(vec![by(BATCH, methods(&["PUT"]))])], "", Ground::NoPolicy);
    check(&[deny(vec![at(9090, methods(&["PUT"]))])], "", Ground::NoPolicy);
    check(&[policy(Action::Audit, vec![methods(&["PUT"])])], "", Ground::NoPolicy);
}

#[test]
fn audits_and_dry_runs_note_requests_and_change_nothing() {
    let watching = [
        policy(Action::Audit, vec![methods(&["PUT"])]),
        Policy { dry_run: true, ..deny(vec![methods(&["PUT"])]) },
        Policy { dry_run: true, ..allow(vec![methods(&["PUT"])]) },
    ];
    for (text, noted) in [("PUT /", 3), ("GET /", 0), ("", 1)] {
        check(&watching, text, Ground::NoPolicy);
        assert_eq!(ask(text, PORT, |peer| evaluate(watching.iter(), peer).noted.len()), noted, "{text}");
    }
    assert!(needs_requests(watching.iter(), PORT));
    assert!(!refuses_opaque(watching.iter(), PORT), "an audit closed a port to what it cannot see");
}

#[test]
fn requests_are_needed_where_a_rule_speaks_of_them() {
    let needed = |policy: &Policy, port: u16| {
        let policies = [policy];
        assert_eq!(needs_requests(policies.into_iter(), port), refuses_opaque(policies.into_iter(), port));
        needs_requests(policies.into_iter(), port)
    };
    assert!(!needed(&allow(vec![by(WEB, at(8080, anything()))]), 8080));
    assert!(needed(&allow(vec![anything(), methods(&["GET"])]), 8080));
    assert!(needed(&deny(vec![when("x-user", list(&[]), None)]), 8080));
    let narrow = allow(vec![anything(), at(9090, methods(&["GET"]))]);
    assert!(needed(&narrow, 9090) && !needed(&narrow, 8080));
    let elsewhere = Policy { target_ports: vec![9090], ..deny(vec![methods(&["GET"])]) };
    assert!(needed(&elsewhere, 9090) && !needed(&elsewhere, 8080));
}

#[test]
fn operations_are_alternatives_and_their_fields_conditions() {
    let one = v1::Operation { methods: list(&["GET"]), paths: prefix("/api"), ..v1::Operation::default() };
    let two = v1::Operation { hosts: list(&["*.example.com"]), not_paths: prefix("/api"), ..v1::Operation::default() };
    check(&[allow(vec![operations(vec![one.clone()])])], "GET /api/x", Ground::AllowMatched);
    check(&[allow(vec![operations(vec![one.clone()])])], "PUT /api/x", Ground::NoAllowMatched);
    check(&[allow(vec![operations(vec![one.clone()])])], "GET /x", Ground::NoAllowMatched);
    check(&[allow(vec![operations(vec![one.clone(), two.clone()])])], "PUT /x", Ground::AllowMatched);
    check(&[allow(vec![operations(vec![one, two])])], "PUT /api", Ground::NoAllowMatched);
    let both = v1::AuthorizationRule { headers: when("x-user", list(&["a"]), None).headers, ..methods(&["GET"]) };
    check(&[allow(vec![both.clone()])], "GET /\nx-user: a", Ground::AllowMatched);
    check(&[allow(vec![both.clone()])], "GET /\nx-user: b", Ground::NoAllowMatched);
    check(&[allow(vec![both])], "PUT /\nx-user: a", Ground::NoAllowMatched);
}

#[test]
fn absent_is_anything_and_empty_is_nothing() {
    check(&[allow(vec![operations(vec![])])], "GET /", Ground::NoAllowMatched);
    check(&[deny(vec![operations(vec![])])], "GET /", Ground::NoPolicy);
    check(&[allow(vec![operations(vec![v1::Operation::default()])])], "GET /", Ground::AllowMatched);
    check(&[allow(vec![methods(&[])])], "GET /", Ground::NoAllowMatched);
    let not = v1::Operation { not_methods: list(&[]), not_hosts: list(&[]), ..v1::Operation::default() };
    check(&[allow(vec![operations(vec![not])])], "GET /", Ground::AllowMatched);
    check(&[allow(vec![when("x-user", list(&[]), None)])], "GET /\nx-user: a", Ground::NoAllowMatched);
    check(&[allow(vec![when("x-user", None, list(&[]))])], "GET /\nx-user: a", Ground::AllowMatched);
}

#[test]
fn every_value_of_a_repeated_header_is_seen() {
    let wanted = [allow(vec![when("x-user", list(&["a", "b"]), None)])];
    check(&wanted, "GET /\nX-USER: z\nx-user: b", Ground::AllowMatched);
    check(&wanted, "GET /\nx-user: z\nx-user: B", Ground::NoAllowMatched);
    check(&wanted, "GET /\nx-user: a, b", Ground::NoAllowMatched);
    check(&wanted, "GET /", Ground::NoAllowMatched);
    let unwanted = [allow(vec![when("x-user", None, list(&["a"]))])];
    check(&unwanted, "GET /", Ground::AllowMatched);
    check(&unwanted, "GET /\nx-user: z", Ground::AllowMatched);
    check(&unwanted, "GET /\nx-user: z\nx-user: a", Ground::NoAllowMatched);
    let both = [allow(vec![when("x-user", list(&["a"]), list(&["b"]))])];
    check(&both, "GET /\nx-user: a", Ground::AllowMatched);
    check(&both, "GET /\nx-user: a\nx-user: b", Ground::NoAllowMatched);
}

#[track_caller]
fn path(pattern: &PathPattern, matched: &[&str], others: &[&str]) {
    let again = match pattern {
        PathPattern::Exact(_) => PathPattern::exact(&pattern.to_string()),
        PathPattern::Prefix(_) => PathPattern::prefix(&pattern.to_string()),
        PathPattern::Template { .. } => PathPattern::template(&pattern.to_string()),
    };
    assert_eq!(again.as_ref(), Ok(pattern), "what is written is read as something else");
    for path in matched {
        assert!(pattern.matches(path), "{pattern} is not {path}");
    }
    for path in others {
        assert!(!pattern.matches(path), "{pattern} is {path}");
    }
}

#[test]
fn paths_are_compared_element_by_element() {
    let template = |text: &str| PathPattern::template(text).expect("a template");
    path(&PathPattern::exact("/a").expect("a path"), &["/a"], &["/a/", "/A", "/", "", "/ab"]);
    for text in ["/a", "/a/"] {
        path(&PathPattern::prefix(text).expect("a path"), &["/a", "/a/", "/a/b"], &["/ab", "/", "/b/a", "a", ""]);
    }
    path(&PathPattern::prefix("//").expect("a path"), &["//", "//a/b"], &["/", "/a//b"]);
    path(&PathPattern::prefix("/").expect("a path"), &["/", "/a", "/a/b"], &["", "*"]);
    path(
        &template("/users/{id}/orders"),
        &["/users/7/orders", "/users/%20/orders"],
        &["/users//orders", "/users/7/8/orders", "/users/7/orders/", "/users/7/orders/9", "/users/7", "/x/7/orders"],
    );
    path(&template("/files/{**}"), &["/files", "/files/", "/files/a", "/files/a/b/"], &["/file", "/filesystem", "/"]);
    path(&template("/{**}"), &["/", "/a", "/a/b"], &["", "*"]);
    path(&template("/a/{x}/{**}"), &["/a/b", "/a/b/c/d"], &["/a", "/a/", "/a//c"]);
    path(
        &PathPattern::grpc(Some("shop.v1.Cart"), None).expect("a call"),
        &["/shop.v1.Cart/Add"],
        &["/shop.v1.Cart", "/shop.v1.Cart/"],
    );
    path(&PathPattern::grpc(None, Some("Check")).expect("a call"), &["/a.B/Check"], &["/Check", "/a.B/Check/x"]);
}

#[test]
fn hosts_have_no_case_no_port_and_no_dot_at_the_end() {
    let matches = |pattern: &str, host: &str| pattern.parse::<HostPattern>().expect("a host").matches(host);
    for host in
        ["shop.example.com", "SHOP.Example.com", "shop.example.com:8080", "shop.example.com.", "shop.example.com.:80"]
    {
        assert!(matches("shop.example.com", host) && matches("*.example.com", host), "{host}");
        assert!(!matches("example.com", host), "{host}");
    }
    assert!(matches("*.example.com", "a.b.example.com") && matches("10.0.0.7", "10.0.0.7:80"));
    assert!(matches("[fd00:0::7]", "[fd00::7]:80") && matches("[fd00::7]", "[fd00::7]"));
    for host in ["example.com", ".example.com", "anexample.com", "é.com", "[::1]:80", "", "example.com.evil.org"] {
        assert!(!matches("*.example.com", host), "{host}");
    }
}

#[test]
fn people_are_told_what_was_asked() {
    let told = |policies: &[Policy], text: &str| ask(text, PORT, |peer| explain(policies.iter(), peer));
    let reading = [allow(vec![methods(&["GET"]), when("x-user", list(&["a"]), None)])];
    assert_eq!(
        told(&reading, "GET /a"),
        "allowed by rule shop/allow[0], which matches GET /a of Shop.example.com:8080"
    );
    assert_eq!(
        told(&reading, "PUT /a"),
        format!(
            "denied: Allow policies select port 8080 and none matched PUT /a of Shop.example.com:8080 by {WEB} from \
             10.0.0.7: shop/allow (rule 0: other methods; rule 1: other values of the header x-user)"
        )
    );
    assert_eq!(
        told(&reading[..], ""),
        format!(
            "denied: Allow policies select port 8080 and none matched {WEB} from 10.0.0.7: shop/allow (rule 0: requests \
             alone, and these bytes are opaque; rule 1: requests alone, and these bytes are opaque)"
        )
    );
    let writing = [deny(vec![methods(&["PUT"])])];
    assert_eq!(told(&writing, "PUT /a"), "denied by rule shop/deny[0], which matches PUT /a of Shop.example.com:8080");
    assert_eq!(
        told(&writing, ""),
        "denied by rule shop/deny[0], which speaks of requests: nobody can say what these opaque bytes ask for"
    );
    assert_eq!(told(&[deny(vec![anything()])], "PUT /a"), "denied by rule shop/deny[0]");
    let part = v1::AuthorizationRule { written: Some(0), ..methods(&["DELETE"]) };
    let second = v1::AuthorizationRule { written: Some(1), ..methods(&["POST"]) };
    let parts = [deny(vec![methods(&["PUT"]), part, second.clone()])];
    assert!(told(&parts, "DELETE /a").starts_with("denied by rule shop/deny[0], which matches DELETE"));
    assert!(told(&parts, "POST /a").starts_with("denied by rule shop/deny[1], which matches POST"));
    assert!(told(&[allow(vec![second, methods(&["PUT"])])], "GET /").contains("(rule 1: other methods; rule 1: "));
    let long = told(&writing, &format!("PUT /{}", "a".repeat(5000)));
    assert!(long.len() < 300 && long.contains("aaa… of"), "{long}");
}
