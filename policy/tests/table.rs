//! The one table, row by row: what a user who writes policies relies on.

#![expect(
    clippy::expect_used,
    clippy::unnecessary_wraps,
    reason = "the helpers of a test may panic, and fit the fields that they fill"
)]

use std::net::IpAddr;

use weft_policy::{Asked, Ground, Peer, Policy, Verdict, evaluate, explain, read};
use weft_proto::names::Identity;
use weft_proto::v1::{self, Action};

const PORT: u16 = 8080;
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const BATCH: &str = "spiffe://cluster.local/ns/jobs/sa/batch";

fn list(values: &[&str]) -> Option<v1::StringList> {
    Some(v1::StringList { values: values.iter().map(ToString::to_string).collect() })
}

fn from(sources: Vec<v1::Source>) -> v1::AuthorizationRule {
    v1::AuthorizationRule { from: Some(v1::SourceList { sources }), ..v1::AuthorizationRule::default() }
}

fn identity(identity: &str) -> v1::AuthorizationRule {
    from(vec![v1::Source { identities: list(&[identity]), ..v1::Source::default() }])
}

fn source(source: v1::Source) -> v1::AuthorizationRule {
    from(vec![source])
}

fn to(ports: &[u32], not: bool) -> v1::AuthorizationRule {
    v1::AuthorizationRule { to: Some(v1::PortList { ports: ports.to_vec(), not }), ..v1::AuthorizationRule::default() }
}

fn anything() -> v1::AuthorizationRule {
    v1::AuthorizationRule::default()
}

fn policy(action: Action, name: &str, rules: Vec<v1::AuthorizationRule>) -> v1::AuthorizationPolicy {
    v1::AuthorizationPolicy {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        action: action.into(),
        rules,
        ..v1::AuthorizationPolicy::default()
    }
}

fn allow(rules: Vec<v1::AuthorizationRule>) -> v1::AuthorizationPolicy {
    policy(Action::Allow, "allow", rules)
}

fn deny(rules: Vec<v1::AuthorizationRule>) -> v1::AuthorizationPolicy {
    policy(Action::Deny, "deny", rules)
}

fn enforced(policy: v1::AuthorizationPolicy) -> v1::AuthorizationPolicy {
    v1::AuthorizationPolicy { enforced: true, ..policy }
}

fn dry(policy: v1::AuthorizationPolicy) -> v1::AuthorizationPolicy {
    v1::AuthorizationPolicy { dry_run: true, ..policy }
}

fn at(ports: &[u32], policy: v1::AuthorizationPolicy) -> v1::AuthorizationPolicy {
    v1::AuthorizationPolicy { target_ports: ports.to_vec(), ..policy }
}

fn written(messages: &[v1::AuthorizationPolicy]) -> Vec<Policy> {
    messages.iter().map(|message| read(message).expect("readable")).collect()
}

/// `peer` is an identity, or empty for plaintext; it comes from 10.0.0.7.
#[track_caller]
fn check(messages: &[v1::AuthorizationPolicy], peer: &str, port: u16, expected: Ground) {
    let policies = written(messages);
    let proven: Option<Identity> = (!peer.is_empty()).then(|| peer.parse().expect("an identity"));
    let peer = Peer {
        identity: proven.as_ref(),
        address: "10.0.0.7".parse().expect("an address"),
        port,
        asked: Asked::Opaque,
    };
    for backwards in [false, true] {
        let mut ordered: Vec<_> = policies.iter().collect();
        if backwards {
            ordered.reverse();
        }
        let decision = evaluate(ordered.into_iter(), &peer);
        assert_eq!(decision.ground, expected, "order reversed: {backwards}");
        let denies = matches!(expected, Ground::EnforcedDeny | Ground::Deny | Ground::NoAllowMatched);
        assert_eq!(decision.verdict == Verdict::Deny, denies);
        let names_rule = matches!(expected, Ground::EnforcedDeny | Ground::Deny | Ground::AllowMatched);
        assert_eq!(decision.rule.is_some(), names_rule);
    }
}

#[test]
fn without_a_policy_everybody_may_connect() {
    check(&[], WEB, PORT, Ground::NoPolicy);
    check(&[], "", PORT, Ground::NoPolicy);
}

#[test]
fn an_allow_closes_the_pod_to_all_others() {
    check(&[allow(vec![identity(WEB)])], WEB, PORT, Ground::AllowMatched);
    check(&[allow(vec![identity(WEB)])], BATCH, PORT, Ground::NoAllowMatched);
    check(&[allow(vec![identity(WEB)])], "", PORT, Ground::NoAllowMatched);
}

#[test]
fn one_matching_allow_among_several_is_enough() {
    check(&[allow(vec![identity(WEB)]), allow(vec![identity(BATCH)])], BATCH, PORT, Ground::AllowMatched);
}

#[test]
fn a_deny_beats_every_allow() {
    check(&[allow(vec![anything()]), deny(vec![identity(BATCH)])], BATCH, PORT, Ground::Deny);
    check(&[allow(vec![anything()]), deny(vec![identity(BATCH)])], WEB, PORT, Ground::AllowMatched);
}

#[test]
fn a_deny_that_does_not_match_closes_nothing() {
    check(&[deny(vec![identity(BATCH)])], WEB, PORT, Ground::NoPolicy);
}

#[test]
fn an_enforced_deny_comes_before_all_and_is_named() {
    let all = [deny(vec![anything()]), allow(vec![anything()]), enforced(deny(vec![identity(BATCH)]))];
    check(&all, BATCH, PORT, Ground::EnforcedDeny);
    check(&all, WEB, PORT, Ground::Deny);
}

#[test]
fn an_enforced_allow_is_an_allow_as_any_other() {
    check(&[enforced(allow(vec![identity(WEB)]))], BATCH, PORT, Ground::NoAllowMatched);
    check(&[enforced(allow(vec![identity(WEB)])), allow(vec![identity(BATCH)])], BATCH, PORT, Ground::AllowMatched);
    check(&[enforced(allow(vec![anything()])), deny(vec![anything()])], WEB, PORT, Ground::Deny);
}

#[test]
fn a_dry_run_changes_nothing_whatever_its_action() {
    check(&[dry(allow(vec![identity(WEB)]))], BATCH, PORT, Ground::NoPolicy);
    check(&[dry(allow(vec![identity(BATCH)])), allow(vec![identity(WEB)])], BATCH, PORT, Ground::NoAllowMatched);
    check(&[dry(deny(vec![anything()]))], WEB, PORT, Ground::NoPolicy);
    check(&[dry(enforced(deny(vec![anything()])))], WEB, PORT, Ground::NoPolicy);
}

#[test]
fn an_audit_changes_nothing() {
    let audit = policy(Action::Audit, "audit", vec![anything()]);
    check(std::slice::from_ref(&audit), WEB, PORT, Ground::NoPolicy);
    check(&[audit, allow(vec![identity(WEB)])], BATCH, PORT, Ground::NoAllowMatched);
}

#[test]
fn what_has_no_effect_is_noted_when_it_matches() {
    let policies = written(&[
        policy(Action::Audit, "watch", vec![identity(BATCH), identity(WEB)]),
        dry(policy(Action::Deny, "draft", vec![anything()])),
        dry(policy(Action::Deny, "other", vec![identity(BATCH)])),
    ]);
    let web: Identity = WEB.parse().expect("an identity");
    let peer = Peer { identity: Some(&web), address: IpAddr::from([10, 0, 0, 7]), port: PORT, asked: Asked::Opaque };
    let decision = evaluate(policies.iter(), &peer);
    let noted: Vec<_> = decision.noted.iter().map(|(policy, rule)| (policy.name.to_string(), *rule)).collect();
    assert_eq!(noted, [("shop/watch".to_owned(), 1), ("shop/draft".to_owned(), 0)]);
}

#[test]
fn a_policy_with_target_ports_does_not_exist_elsewhere() {
    check(&[at(&[9090], allow(vec![identity(WEB)]))], BATCH, PORT, Ground::NoPolicy);
    check(&[at(&[9090], allow(vec![identity(WEB)]))], BATCH, 9090, Ground::NoAllowMatched);
    check(&[at(&[9090], deny(vec![anything()]))], BATCH, PORT, Ground::NoPolicy);
    check(&[at(&[9090, 8080], enforced(deny(vec![anything()])))], BATCH, PORT, Ground::EnforcedDeny);
}

#[test]
fn a_rules_ports_narrow_the_rule_not_the_policy() {
    check(&[allow(vec![to(&[8080], false)])], WEB, PORT, Ground::AllowMatched);
    check(&[allow(vec![to(&[8080], false)])], WEB, 9090, Ground::NoAllowMatched);
    check(&[deny(vec![to(&[8080], true)])], WEB, PORT, Ground::NoPolicy);
    check(&[deny(vec![to(&[8080], true)])], WEB, 9090, Ground::Deny);
}

#[test]
fn absent_is_anything_and_empty_is_nothing() {
    check(&[allow(vec![])], WEB, PORT, Ground::NoAllowMatched);
    check(&[deny(vec![])], WEB, PORT, Ground::NoPolicy);
    check(&[allow(vec![anything()])], "", PORT, Ground::AllowMatched);
    check(&[allow(vec![from(vec![])])], WEB, PORT, Ground::NoAllowMatched);
    check(&[allow(vec![source(v1::Source::default())])], "", PORT, Ground::AllowMatched);
    check(
        &[deny(vec![source(v1::Source { identities: list(&[]), ..v1::Source::default() })])],
        WEB,
        PORT,
        Ground::NoPolicy,
    );
    check(&[deny(vec![source(v1::Source { cidrs: list(&[]), ..v1::Source::default() })])], WEB, PORT, Ground::NoPolicy);
    check(&[allow(vec![to(&[], false)])], WEB, PORT, Ground::NoAllowMatched);
}

#[test]
fn an_empty_not_excludes_nothing() {
    check(
        &[deny(vec![source(v1::Source { not_identities: list(&[]), ..v1::Source::default() })])],
        WEB,
        PORT,
        Ground::Deny,
    );
    check(&[deny(vec![to(&[], true)])], WEB, PORT, Ground::Deny);
}

#[test]
fn rules_are_alternatives_and_fields_are_conditions() {
    let shop_from =
        |cidr: &str| v1::Source { namespaces: list(&["shop"]), cidrs: list(&[cidr]), ..v1::Source::default() };
    check(&[allow(vec![source(shop_from("10.0.0.0/8"))])], WEB, PORT, Ground::AllowMatched);
    check(&[allow(vec![source(shop_from("192.168.0.0/16"))])], WEB, PORT, Ground::NoAllowMatched);
    check(&[allow(vec![source(shop_from("10.0.0.0/8"))])], BATCH, PORT, Ground::NoAllowMatched);
    check(&[allow(vec![identity(WEB), identity(BATCH)])], BATCH, PORT, Ground::AllowMatched);
    let both = v1::AuthorizationRule { to: to(&[9090], false).to, ..identity(WEB) };
    check(std::slice::from_ref(&allow(vec![both.clone()])), WEB, PORT, Ground::NoAllowMatched);
    check(&[allow(vec![both])], WEB, 9090, Ground::AllowMatched);
}

#[test]
fn sources_and_values_are_alternatives() {
    let two = from(vec![
        v1::Source { namespaces: list(&["jobs"]), ..v1::Source::default() },
        v1::Source { service_accounts: list(&["other/x", "shop/web"]), ..v1::Source::default() },
    ]);
    check(&[allow(vec![two.clone()])], WEB, PORT, Ground::AllowMatched);
    check(&[allow(vec![two.clone()])], BATCH, PORT, Ground::AllowMatched);
    check(&[allow(vec![two])], "spiffe://cluster.local/ns/shop/sa/other", PORT, Ground::NoAllowMatched);
}

#[test]
fn a_negated_field_is_the_exact_negation() {
    let not_jobs = || source(v1::Source { not_namespaces: list(&["jobs"]), ..v1::Source::default() });
    check(&[allow(vec![not_jobs()])], WEB, PORT, Ground::AllowMatched);
    check(&[allow(vec![not_jobs()])], BATCH, PORT, Ground::NoAllowMatched);
    let shop_but_web =
        v1::Source { namespaces: list(&["shop"]), not_service_accounts: list(&["shop/web"]), ..v1::Source::default() };
    check(&[allow(vec![source(shop_but_web.clone())])], WEB, PORT, Ground::NoAllowMatched);
    check(&[allow(vec![source(shop_but_web)])], "spiffe://cluster.local/ns/shop/sa/db", PORT, Ground::AllowMatched);
    let not_here = v1::Source { not_cidrs: list(&["10.0.0.0/24"]), ..v1::Source::default() };
    check(&[deny(vec![source(not_here)])], WEB, PORT, Ground::NoPolicy);
}

#[test]
fn plaintext_proves_nothing() {
    let positive = [
        v1::Source { identities: list(&[WEB]), ..v1::Source::default() },
        v1::Source { namespaces: list(&["shop"]), ..v1::Source::default() },
        v1::Source { service_accounts: list(&["shop/web"]), ..v1::Source::default() },
    ];
    for positive in positive {
        check(&[allow(vec![source(positive.clone())])], "", PORT, Ground::NoAllowMatched);
        // A Deny by identity is as strong as the port is strict: `leans_on_strict_mode` says so.
        check(&[deny(vec![source(positive.clone())])], "", PORT, Ground::NoPolicy);
        assert!(written(&[deny(vec![source(positive.clone())])])[0].leans_on_strict_mode());
        assert!(!written(&[allow(vec![source(positive)])])[0].leans_on_strict_mode());
    }
    let negative = [
        v1::Source { not_identities: list(&[WEB]), ..v1::Source::default() },
        v1::Source { not_namespaces: list(&["shop"]), ..v1::Source::default() },
        v1::Source { not_service_accounts: list(&["shop/web"]), ..v1::Source::default() },
    ];
    for negative in negative {
        check(&[deny(vec![source(negative.clone())])], "", PORT, Ground::Deny);
        assert!(!written(&[deny(vec![source(negative.clone())])])[0].leans_on_strict_mode());
        assert!(written(&[allow(vec![source(negative)])])[0].leans_on_strict_mode());
    }
}

#[test]
fn plaintext_is_judged_by_its_address() {
    let from = |cidr: &str| source(v1::Source { cidrs: list(&[cidr]), ..v1::Source::default() });
    check(&[allow(vec![from("10.0.0.7/32")])], "", PORT, Ground::AllowMatched);
    check(&[deny(vec![from("10.0.0.0/29")])], "", PORT, Ground::Deny);
    check(&[deny(vec![from("::/0")])], "", PORT, Ground::NoPolicy);
}

#[test]
fn an_address_written_as_ipv6_is_no_way_round_an_ipv4_network() {
    for network in ["10.0.0.0/24", "::ffff:10.0.0.0/120"] {
        let policies = written(&[deny(vec![source(v1::Source { cidrs: list(&[network]), ..v1::Source::default() })])]);
        for address in ["10.0.0.7", "::ffff:10.0.0.7"] {
            let peer = Peer {
                identity: None,
                address: address.parse().expect("an address"),
                port: PORT,
                asked: Asked::Opaque,
            };
            assert_eq!(evaluate(policies.iter(), &peer).verdict, Verdict::Deny, "{address} in {network}");
        }
    }
}

#[test]
fn people_are_told_which_rule_or_why_none() {
    let web: Identity = WEB.parse().expect("an identity");
    let sentence = |messages: &[v1::AuthorizationPolicy], identity: Option<&Identity>| {
        let peer = Peer { identity, address: IpAddr::from([10, 0, 0, 7]), port: PORT, asked: Asked::Opaque };
        explain(written(messages).iter(), &peer)
    };
    assert_eq!(sentence(&[], Some(&web)), "allowed: no Allow policy speaks of port 8080 and no Deny rule matched");
    assert_eq!(sentence(&[deny(vec![identity(BATCH), identity(WEB)])], Some(&web)), "denied by rule shop/deny[1]");
    assert_eq!(sentence(&[enforced(deny(vec![anything()]))], Some(&web)), "denied by enforced rule shop/deny[0]");
    assert_eq!(
        sentence(&[allow(vec![identity(BATCH)]), policy(Action::Allow, "empty", vec![])], Some(&web)),
        format!(
            "denied: Allow policies select port 8080 and none matched {WEB} from 10.0.0.7: \
             shop/allow (other identities), shop/empty (has no rule)"
        )
    );
    assert_eq!(
        sentence(&[allow(vec![identity(WEB)])], None),
        "denied: Allow policies select port 8080 and none matched 10.0.0.7, which spoke plaintext and so has no \
         identity: shop/allow (other identities)"
    );
    assert_eq!(
        sentence(&[dry(deny(vec![anything()]))], None),
        "allowed: no Allow policy speaks of port 8080 and no Deny rule matched; \
         without effect: dry run of a Deny shop/deny[0] matched"
    );
    let safe = Policy::absent("shop/lost".parse().expect("a name"));
    let peer = Peer { identity: None, address: IpAddr::from([10, 0, 0, 7]), port: PORT, asked: Asked::Opaque };
    assert_eq!(
        explain([&safe].into_iter(), &peer),
        "denied: policy shop/lost cannot be applied as written (it has not been received), so it denies its whole target"
    );
}
