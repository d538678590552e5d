//! The evaluator against a second one that is written as the table reads, over the protocol's own words.

#![expect(clippy::expect_used, reason = "the helpers of a test may panic, and fit the fields that they fill")]

use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use weft_policy::{Asked, Peer, Verdict, evaluate, read};
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

fn rule() -> impl Strategy<Value = v1::AuthorizationRule> {
    let from = option::of(vec(source(), 0..3).prop_map(|sources| v1::SourceList { sources }));
    let to = option::of(
        (subsequence(PORTS.to_vec(), 0..=3), any::<bool>()).prop_map(|(ports, not)| v1::PortList { ports, not }),
    );
    (from, to).prop_map(|(from, to)| v1::AuthorizationRule { from, to, ..v1::AuthorizationRule::default() })
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

fn policy_matches(policy: &v1::AuthorizationPolicy, known: Known, address: [u8; 4], port: u32) -> bool {
    policy.rules.iter().any(|rule| {
        let from = rule
            .from
            .as_ref()
            .is_none_or(|from| from.sources.iter().any(|source| source_matches(source, known, address)));
        let to =
            rule.to.as_ref().is_none_or(|to| if to.not { !to.ports.contains(&port) } else { to.ports.contains(&port) });
        from && to
    })
}

/// The table, read aloud.
fn naive(policies: &[v1::AuthorizationPolicy], known: Known, address: [u8; 4], port: u32) -> Verdict {
    let speaking: Vec<_> = policies
        .iter()
        .filter(|policy| !policy.dry_run && (policy.target_ports.is_empty() || policy.target_ports.contains(&port)))
        .collect();
    let matching = |action: Action| {
        speaking.iter().any(|policy| policy.action == i32::from(action) && policy_matches(policy, known, address, port))
    };
    let allow_present = speaking.iter().any(|policy| policy.action == i32::from(Action::Allow));
    if matching(Action::Deny) || (allow_present && !matching(Action::Allow)) { Verdict::Deny } else { Verdict::Allow }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_evaluators_agree(
        policies in vec(policy(), 0..6),
        known in option::weighted(0.8, 0..IDENTITIES.len()),
        last in 0_u8..3,
        port in select(PORTS.to_vec()),
    ) {
        let address = [10, 0, 0, last];
        let identity: Option<Identity> = known.map(|index| IDENTITIES[index].0.parse().expect("an identity"));
        let peer = Peer {
            identity: identity.as_ref(),
            address: IpAddr::V4(Ipv4Addr::from(address)),
            port: u16::try_from(port).expect("a port"),
            asked: Asked::Opaque,
        };
        let read: Vec<_> = policies.iter().map(|policy| read(policy).expect("readable")).collect();
        prop_assert_eq!(evaluate(read.iter(), &peer).verdict, naive(&policies, known, address, port));
    }

    #[test]
    fn policies_without_effect_never_change_a_verdict(
        policies in vec(policy(), 0..5),
        mut extra in policy(),
        audit in any::<bool>(),
        known in option::weighted(0.8, 0..IDENTITIES.len()),
    ) {
        if audit { extra.action = Action::Audit.into() } else { extra.dry_run = true }
        let identity: Option<Identity> = known.map(|index| IDENTITIES[index].0.parse().expect("an identity"));
        let peer = Peer { identity: identity.as_ref(), address: IpAddr::from([10, 0, 0, 1]), port: 80, asked: Asked::Opaque };
        let mut read: Vec<_> = policies.iter().map(|policy| read(policy).expect("readable")).collect();
        let before = evaluate(read.iter(), &peer).verdict;
        read.push(weft_policy::read(&extra).expect("readable"));
        prop_assert_eq!(evaluate(read.iter(), &peer).verdict, before);
    }
}
