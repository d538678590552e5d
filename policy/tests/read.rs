//! What cannot be read names its field, and reads safely.

#![expect(
    clippy::expect_used,
    clippy::unnecessary_wraps,
    reason = "the helpers of a test may panic, and fit the fields that they fill"
)]

use weft_policy::{Action, HEADER_VALUE_MAXIMUM, LIST_MAXIMUM, Policy, PolicyName, RULES_MAXIMUM, Rule, read};
use weft_proto::v1;

fn readable() -> v1::AuthorizationPolicy {
    v1::AuthorizationPolicy {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        action: v1::Action::Allow.into(),
        rules: vec![v1::AuthorizationRule {
            from: Some(v1::SourceList { sources: vec![v1::Source::default()] }),
            to: Some(v1::PortList { ports: vec![80], not: false }),
            operations: Some(v1::OperationList { operations: vec![v1::Operation::default()] }),
            headers: vec![v1::HeaderCondition { name: "x-user".to_owned(), values: list(&["a"]), not_values: None }],
            written: None,
        }],
        target_ports: vec![80],
        ..v1::AuthorizationPolicy::default()
    }
}

fn name() -> PolicyName {
    "shop/web".parse().expect("a name")
}

fn list(values: &[&str]) -> Option<v1::StringList> {
    Some(v1::StringList { values: values.iter().map(ToString::to_string).collect() })
}

#[track_caller]
fn check(field: &str, spoil: impl FnOnce(&mut v1::AuthorizationPolicy)) {
    let mut message = readable();
    assert!(read(&message).is_ok());
    spoil(&mut message);
    assert_eq!(read(&message).expect_err("spoilt").field, field);
}

fn source(message: &mut v1::AuthorizationPolicy) -> &mut v1::Source {
    let from = message.rules[0].from.as_mut().expect("sources");
    &mut from.sources[0]
}

#[test]
fn a_bad_field_is_named() {
    check("name", |message| message.namespace = String::new());
    check("name", |message| message.name = "Upper".to_owned());
    check("action", |message| message.action = 0);
    check("action", |message| message.action = 77);
    check("target_ports[1]", |message| message.target_ports = vec![80, 65536]);
    check("target_ports[0]", |message| message.target_ports = vec![0]);
    check("rules[0].to.ports[0]", |message| message.rules[0].to = Some(v1::PortList { ports: vec![70000], not: true }));
    check("rules[0].from.sources[0].identities[1]", |message| {
        source(message).identities = list(&["spiffe://a/ns/b/sa/c", "spiffe://a/b"]);
    });
    check("rules[0].from.sources[0].not_namespaces[0]", |message| source(message).not_namespaces = list(&["a/b"]));
    check("rules[0].from.sources[0].service_accounts[0]", |message| source(message).service_accounts = list(&["web"]));
    check("rules[0].from.sources[0].cidrs[0]", |message| source(message).cidrs = list(&["10.0.0.0/33"]));
    check("rules[0].from.sources[0].not_cidrs[0]", |message| source(message).not_cidrs = list(&["everywhere"]));
    check("rules", |message| message.rules = vec![v1::AuthorizationRule::default(); RULES_MAXIMUM + 1]);
    check("rules[0].from.sources[0].namespaces", |message| {
        source(message).namespaces = Some(v1::StringList { values: vec!["a".to_owned(); LIST_MAXIMUM + 1] });
    });
}

fn operation(message: &mut v1::AuthorizationPolicy) -> &mut v1::Operation {
    let operations = message.rules[0].operations.as_mut().expect("operations");
    &mut operations.operations[0]
}

fn path(kind: i32, value: &str) -> Option<v1::PathList> {
    Some(v1::PathList { paths: vec![v1::PathPattern { kind, value: value.to_owned() }] })
}

#[test]
fn a_bad_field_of_a_request_is_named() {
    let exact = i32::from(v1::PathPatternKind::Exact);
    let template = i32::from(v1::PathPatternKind::Template);
    check("rules[0].operations[0].methods[1]", |message| operation(message).methods = list(&["GET", "G T"]));
    check("rules[0].operations[0].not_methods[0]", |message| operation(message).not_methods = list(&[""]));
    check("rules[0].operations[0].hosts[0]", |message| operation(message).hosts = list(&["Upper.com"]));
    check("rules[0].operations[0].not_hosts[0]", |message| operation(message).not_hosts = list(&["a:80"]));
    for (kind, value) in [(0, "/a"), (77, "/a"), (exact, "a"), (exact, "/a/../b"), (exact, "/a?b"), (template, "/{")] {
        check("rules[0].operations[0].paths[0]", |message| operation(message).paths = path(kind, value));
    }
    let long = format!("/{}", "a".repeat(2000));
    check("rules[0].operations[0].not_paths[0]", |message| {
        operation(message).not_paths = path(exact, &long);
    });
    check("rules[0].operations[0].methods", |message| {
        operation(message).methods = Some(v1::StringList { values: vec!["GET".to_owned(); LIST_MAXIMUM + 1] });
    });
    check("rules[0].operations", |message| {
        let operations = vec![v1::Operation::default(); LIST_MAXIMUM + 1];
        message.rules[0].operations = Some(v1::OperationList { operations });
    });
    check("rules[0].headers[0].name", |message| message.rules[0].headers[0].name = "X-User".to_owned());
    check("rules[0].headers[0]", |message| message.rules[0].headers[0].values = None);
    check("rules[0].headers[0].values[0]", |message| {
        message.rules[0].headers[0].values = list(&[&"a".repeat(HEADER_VALUE_MAXIMUM + 1)]);
    });
    check("rules[0].headers", |message| {
        let condition = message.rules[0].headers[0].clone();
        message.rules[0].headers = vec![condition; LIST_MAXIMUM + 1];
    });
}

#[test]
fn the_operators_policies_have_a_name_that_no_namespace_has() {
    let operator =
        v1::AuthorizationPolicy { namespace: "MeshConfig".to_owned(), name: "default".to_owned(), ..readable() };
    let name = read(&operator).expect("readable").name;
    assert!(matches!(name, PolicyName::Operator(_)));
    assert_eq!(name.to_string(), "MeshConfig/default");
    assert!("Shop/default".parse::<PolicyName>().is_err());
    assert!("MeshConfig/".parse::<PolicyName>().is_err());
    assert!("MeshConfig/a/b".parse::<PolicyName>().is_err());
}

#[test]
fn networks_are_masked_and_an_address_is_a_network_of_one() {
    let mut message = readable();
    source(&mut message).cidrs = list(&["10.1.2.3/8", "10.9.9.9", "fd00::1/64"]);
    let policy = read(&message).expect("readable");
    let networks = policy.rules[0].from.as_ref().and_then(|from| from[0].networks.clone()).expect("networks");
    let written: Vec<_> = networks.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["10.0.0.0/8", "10.9.9.9/32", "fd00::/64"]);
}

#[test]
fn the_safe_reading_opens_nothing() {
    let safe = |spoil: fn(&mut v1::AuthorizationPolicy)| {
        let mut message = readable();
        spoil(&mut message);
        Policy::safe_reading(name(), Some(&message), "too new")
    };
    let allow = safe(|_| {});
    assert_eq!((allow.action, allow.rules.len(), allow.target_ports), (Action::Allow, 0, vec![80]));
    let audit = safe(|message| message.action = v1::Action::Audit.into());
    assert_eq!((audit.action, audit.rules.len()), (Action::Audit, 0));
    let deny = safe(|message| message.action = v1::Action::Deny.into());
    assert_eq!((deny.action, deny.rules, deny.target_ports), (Action::Deny, vec![Rule::ANY], vec![80]));
    let unknown = safe(|message| message.action = 9);
    assert_eq!((unknown.action, unknown.rules), (Action::Deny, vec![Rule::ANY]));
    let everywhere = safe(|message| message.target_ports = vec![80, 70000]);
    assert!(everywhere.target_ports.is_empty());
    let draft = safe(|message| (message.action, message.dry_run) = (v1::Action::Deny.into(), true));
    assert!(draft.dry_run);
    let lost = Policy::safe_reading(name(), None, "no body");
    assert_eq!((lost.action, lost.rules, lost.dry_run), (Action::Deny, vec![Rule::ANY], false));
}
