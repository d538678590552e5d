//! The evaluator against a second one that is written as the table reads, over the protocol's own words.

#![expect(clippy::expect_used, reason = "the helpers of a test may panic, and fit the fields that they fill")]

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use weft_policy::{Asked, Peer, Policy, Request, Verdict, evaluate, needs_requests, read, refuses_opaque};
use weft_proto::names::Identity;
use weft_proto::v1::{self, Action};

const IDENTITIES: [(&str, &str, &str); 4] = [
    ("spiffe://one/ns/shop/sa/web", "shop", "shop/web"),
    ("spiffe://one/ns/shop/sa/db", "shop", "shop/db"),
    ("spiffe://one/ns/jobs/sa/web", "jobs", "jobs/web"),
    ("spiffe://two/ns/jobs/sa/batch", "jobs", "jobs/batch"),
];
const NETWORKS: [(&str, [u8; 4], u32); 4] = [
    ("10.0.0.0/8", [10, 0, 0, 0], 8),
    ("10.0.0.0/31", [10, 0, 0, 0], 31),
    ("10.0.0.1/32", [10, 0, 0, 1], 32),
    ("0.0.0.0/0", [0; 4], 0),
];
const PORTS: [u32; 3] = [80, 443, 9090];
const METHODS: [&str; 3] = ["GET", "get", "PUT"];
const PATHS: [&str; 6] = ["/", "/a", "/a/", "/ab", "/a/b", "/a/b/c"];
/// Each pattern with the paths that it stands for, by hand.
const PATTERNS: [(v1::PathPatternKind, &str, &[&str]); 9] = [
    (v1::PathPatternKind::Exact, "/", &["/"]),
    (v1::PathPatternKind::Exact, "/a", &["/a"]),
    (v1::PathPatternKind::Prefix, "/", &PATHS),
    (v1::PathPatternKind::Prefix, "/a", &["/a", "/a/", "/a/b", "/a/b/c"]),
    (v1::PathPatternKind::Prefix, "/a/b/", &["/a/b", "/a/b/c"]),
    (v1::PathPatternKind::Template, "/{x}", &["/a", "/ab"]),
    (v1::PathPatternKind::Template, "/{x}/b", &["/a/b"]),
    (v1::PathPatternKind::Template, "/a/{**}", &["/a", "/a/", "/a/b", "/a/b/c"]),
    (v1::PathPatternKind::Template, "/{**}", &PATHS),
];
const HOSTS: [&str; 5] = ["example.com", "Shop.Example.com:8080", "a.shop.example.com.", "notexample.com", ""];
/// Each pattern with the hosts that it stands for, by hand.
const HOST_PATTERNS: [(&str, &[&str]); 3] = [
    ("example.com", &["example.com"]),
    ("shop.example.com", &["Shop.Example.com:8080"]),
    ("*.example.com", &["Shop.Example.com:8080", "a.shop.example.com."]),
];
const HEADERS: [&str; 2] = ["x-user", "x-team"];
const VALUES: [&str; 3] = ["a", "b", ""];

/// What is asked for: a method, a host, a path and headers; none for opaque bytes.
type Asking = Option<(&'static str, &'static str, &'static str, Vec<(&'static str, &'static str)>)>;

fn asking() -> impl Strategy<Value = Asking> {
    let headers = vec((select(HEADERS.to_vec()), select(VALUES.to_vec())), 0..4);
    option::weighted(0.8, (select(METHODS.to_vec()), select(HOSTS.to_vec()), select(PATHS.to_vec()), headers))
}

fn strings(words: Vec<&'static str>) -> impl Strategy<Value = Option<v1::StringList>> {
    let count = words.len();
    let some = subsequence(words, 0..=count)
        .prop_map(|values| v1::StringList { values: values.into_iter().map(str::to_owned).collect() });
    option::weighted(0.35, some)
}

fn source() -> impl Strategy<Value = v1::Source> {
    let identities = || strings(IDENTITIES.iter().map(|row| row.0).collect());
    let namespaces = || strings(vec!["shop", "jobs"]);
    let accounts = || strings(IDENTITIES.iter().map(|row| row.2).collect());
    let cidrs = || strings(NETWORKS.iter().map(|row| row.0).collect());
    (identities(), namespaces(), accounts(), cidrs(), identities(), namespaces(), accounts(), cidrs()).prop_map(
        |(
            identities,
            namespaces,
            service_accounts,
            cidrs,
            not_identities,
            not_namespaces,
            not_service_accounts,
            not_cidrs,
        )| {
            v1::Source {
                identities,
                namespaces,
                service_accounts,
                cidrs,
                not_identities,
                not_namespaces,
                not_service_accounts,
                not_cidrs,
            }
        },
    )
}

fn paths() -> impl Strategy<Value = Option<v1::PathList>> {
    let some = subsequence(PATTERNS.to_vec(), 0..=3).prop_map(|rows| v1::PathList {
        paths: rows.iter().map(|row| v1::PathPattern { kind: row.0.into(), value: row.1.to_owned() }).collect(),
    });
    option::weighted(0.35, some)
}

fn operation() -> impl Strategy<Value = v1::Operation> {
    let methods = || strings(METHODS.to_vec());
    let hosts = || strings(HOST_PATTERNS.iter().map(|row| row.0).collect());
    (methods(), paths(), hosts(), methods(), paths(), hosts()).prop_map(
        |(methods, paths, hosts, not_methods, not_paths, not_hosts)| v1::Operation {
            methods,
            paths,
            hosts,
            not_methods,
            not_paths,
            not_hosts,
        },
    )
}

fn header() -> impl Strategy<Value = v1::HeaderCondition> {
    let condition = (select(HEADERS.to_vec()), strings(VALUES.to_vec()), strings(VALUES.to_vec()));
    condition.prop_map(|(name, values, not_values)| {
        // A condition says something.
        let values = values.or_else(|| not_values.is_none().then(v1::StringList::default));
        v1::HeaderCondition { name: name.to_owned(), values, not_values }
    })
}

fn rule() -> impl Strategy<Value = v1::AuthorizationRule> {
    let from = option::of(vec(source(), 0..3).prop_map(|sources| v1::SourceList { sources }));
    let to = option::of(
        (subsequence(PORTS.to_vec(), 0..=3), any::<bool>()).prop_map(|(ports, not)| v1::PortList { ports, not }),
    );
    let operations =
        option::weighted(0.4, vec(operation(), 0..3).prop_map(|operations| v1::OperationList { operations }));
    let headers = prop_oneof![3 => Just(Vec::new()), 1 => vec(header(), 1..3)];
    (from, to, operations, headers).prop_map(|(from, to, operations, headers)| v1::AuthorizationRule {
        from,
        to,
        operations,
        headers,
        written: None,
    })
}

fn policy() -> impl Strategy<Value = v1::AuthorizationPolicy> {
    let action = select(vec![Action::Allow, Action::Deny, Action::Audit]);
    let ports = subsequence(PORTS.to_vec(), 0..=3);
    (action, any::<bool>(), any::<bool>(), vec(rule(), 0..3), ports).prop_map(
        |(action, dry_run, enforced, rules, target_ports)| v1::AuthorizationPolicy {
            namespace: "shop".to_owned(),
            name: "p".to_owned(),
            action: action.into(),
            dry_run,
            enforced,
            rules,
            target_ports,
        },
    )
}

/// The row of `IDENTITIES`, or none for plaintext.
type Known = Option<usize>;

fn listed(list: &v1::StringList, is: impl Fn(&str) -> bool) -> bool {
    list.values.iter().any(|value| is(value))
}

fn inside(cidr: &str, address: [u8; 4]) -> bool {
    let row = NETWORKS.iter().find(|row| row.0 == cidr).expect("a known network");
    (0..row.2).all(|bit| (u32::from_be_bytes(row.1) ^ u32::from_be_bytes(address)) & (1 << (31 - bit)) == 0)
}

fn source_matches(source: &v1::Source, known: Known, address: [u8; 4]) -> bool {
    let row = known.map(|index| IDENTITIES[index]);
    let fields = [
        (&source.identities, &source.not_identities, row.map(|row| row.0)),
        (&source.namespaces, &source.not_namespaces, row.map(|row| row.1)),
        (&source.service_accounts, &source.not_service_accounts, row.map(|row| row.2)),
    ];
    for (list, not_list, own) in fields {
        let is = |value: &str| own == Some(value);
        if list.as_ref().is_some_and(|list| !listed(list, is)) || not_list.as_ref().is_some_and(|list| listed(list, is))
        {
            return false;
        }
    }
    let here = |cidr: &str| inside(cidr, address);
    !(source.cidrs.as_ref().is_some_and(|list| !listed(list, here))
        || source.not_cidrs.as_ref().is_some_and(|list| listed(list, here)))
}

fn row_has(list: Option<&v1::StringList>, own: &str) -> Option<bool> {
    let stands_for = |pattern: &str| {
        let row = HOST_PATTERNS.iter().find(|row| row.0 == pattern).expect("a known host");
        row.1.contains(&own)
    };
    list.map(|list| listed(list, stands_for))
}

fn path_has(list: Option<&v1::PathList>, own: &str) -> Option<bool> {
    let stands_for = |pattern: &v1::PathPattern| {
        let row = PATTERNS.iter().find(|row| (i32::from(row.0), row.1) == (pattern.kind, &pattern.value));
        row.expect("a known pattern").2.contains(&own)
    };
    list.map(|list| list.paths.iter().any(stands_for))
}

fn request_matches(rule: &v1::AuthorizationRule, action: Action, asking: &Asking) -> bool {
    let Some((method, host, path, headers)) = asking else {
        return action == Action::Deny || (rule.operations.is_none() && rule.headers.is_empty());
    };
    let is_method = |list: Option<&v1::StringList>| list.map(|list| listed(list, |own| own == *method));
    let operation = rule.operations.as_ref().is_none_or(|list| {
        list.operations.iter().any(|own| {
            let wanted = [
                is_method(own.methods.as_ref()),
                row_has(own.hosts.as_ref(), host),
                path_has(own.paths.as_ref(), path),
            ];
            let unwanted = [
                is_method(own.not_methods.as_ref()),
                row_has(own.not_hosts.as_ref(), host),
                path_has(own.not_paths.as_ref(), path),
            ];
            !wanted.contains(&Some(false)) && !unwanted.contains(&Some(true))
        })
    });
    operation
        && rule.headers.iter().all(|condition| {
            let some = |list: &v1::StringList| {
                headers.iter().any(|(name, value)| condition.name == *name && listed(list, |own| own == *value))
            };
            condition.values.as_ref().is_none_or(some) && !condition.not_values.as_ref().is_some_and(some)
        })
}

/// Who asks for what, and where.
#[derive(Debug, Clone)]
struct Case {
    known: Known,
    address: [u8; 4],
    port: u32,
    asking: Asking,
}

fn case() -> impl Strategy<Value = Case> {
    (option::weighted(0.8, 0..IDENTITIES.len()), 0_u8..3, select(PORTS.to_vec()), asking())
        .prop_map(|(known, last, port, asking)| Case { known, address: [10, 0, 0, last], port, asking })
}

fn ports_match(rule: &v1::AuthorizationRule, port: u32) -> bool {
    rule.to.as_ref().is_none_or(|to| if to.not { !to.ports.contains(&port) } else { to.ports.contains(&port) })
}

fn policy_matches(policy: &v1::AuthorizationPolicy, case: &Case) -> bool {
    policy.rules.iter().any(|rule| {
        let from = rule
            .from
            .as_ref()
            .is_none_or(|from| from.sources.iter().any(|source| source_matches(source, case.known, case.address)));
        from && ports_match(rule, case.port) && request_matches(rule, policy.action(), &case.asking)
    })
}

fn speaks_of(policy: &v1::AuthorizationPolicy, port: u32) -> bool {
    policy.target_ports.is_empty() || policy.target_ports.contains(&port)
}

/// The table, read aloud.
fn naive(policies: &[v1::AuthorizationPolicy], case: &Case) -> Verdict {
    let speaking: Vec<_> = policies.iter().filter(|policy| !policy.dry_run && speaks_of(policy, case.port)).collect();
    let matching = |action: Action| {
        speaking.iter().any(|policy| policy.action == i32::from(action) && policy_matches(policy, case))
    };
    let allow_present = speaking.iter().any(|policy| policy.action == i32::from(Action::Allow));
    if matching(Action::Deny) || (allow_present && !matching(Action::Allow)) { Verdict::Deny } else { Verdict::Allow }
}

fn verdict(policies: &[Policy], case: &Case) -> Verdict {
    let identity: Option<Identity> = case.known.map(|index| IDENTITIES[index].0.parse().expect("an identity"));
    let mut headers = HeaderMap::new();
    for (name, value) in case.asking.iter().flat_map(|asking| &asking.3) {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let request = case.asking.as_ref().map(|(method, host, path, _)| Request { method, host, path, headers: &headers });
    let peer = Peer {
        identity: identity.as_ref(),
        address: IpAddr::V4(Ipv4Addr::from(case.address)),
        port: u16::try_from(case.port).expect("a port"),
        asked: request.as_ref().map_or(Asked::Opaque, Asked::Request),
    };
    evaluate(policies.iter(), &peer).verdict
}

fn as_read(policies: &[v1::AuthorizationPolicy]) -> Vec<Policy> {
    policies.iter().map(|policy| read(policy).expect("readable")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn both_evaluators_agree(policies in vec(policy(), 0..6), case in case()) {
        prop_assert_eq!(verdict(&as_read(&policies), &case), naive(&policies, &case));
    }

    #[test]
    fn policies_without_effect_never_change_a_verdict(
        policies in vec(policy(), 0..5),
        mut extra in policy(),
        audit in any::<bool>(),
        case in case(),
    ) {
        if audit { extra.action = Action::Audit.into() } else { extra.dry_run = true }
        let mut read = as_read(&policies);
        let before = verdict(&read, &case);
        let refused = refuses_opaque(read.iter(), 80);
        read.push(weft_policy::read(&extra).expect("readable"));
        prop_assert_eq!(verdict(&read, &case), before);
        prop_assert_eq!(refuses_opaque(read.iter(), 80), refused);
    }

    /// Where nothing needs requests, opaque bytes and every request are judged alike, so that nobody need parse them.
    #[test]
    fn where_no_requests_are_needed_they_make_no_difference(policies in vec(policy(), 0..4), case in case()) {
        let read = as_read(&policies);
        let port = u16::try_from(case.port).expect("a port");
        let judged = |policy: &v1::AuthorizationPolicy| {
            let of_requests = |rule: &v1::AuthorizationRule| rule.operations.is_some() || !rule.headers.is_empty();
            speaks_of(policy, case.port)
                && policy.rules.iter().any(|rule| ports_match(rule, case.port) && of_requests(rule))
        };
        prop_assert_eq!(needs_requests(read.iter(), port), policies.iter().any(judged));
        if !needs_requests(read.iter(), port) {
            prop_assert_eq!(verdict(&read, &case), verdict(&read, &Case { asking: None, ..case }));
        }
    }
}
