//! Single resources: as written, safely, and named when bad.

use weft_policy::{Action, Policy};
use weft_proto::resource::versioned;
use weft_proto::v1::{self, resource::Body};

use super::super::parse::{Features, Read, Reading, read};
use super::*;
use crate::model::{Beginning, FailureMode, MtlsMode};

fn own(resource: &v1::Resource) -> Read {
    read(resource, &Features::own(), &domains())
}

/// `body` is nacked, with a reason that names `field`.
#[track_caller]
fn check_bad(field: &str, body: Body) -> Reading {
    let Read { reading, nack } = own(&resource(body));
    let nack = nack.expect("a nack");
    assert!(nack.starts_with(field), "{nack:?} does not begin with {field:?}");
    reading
}

fn as_written(body: Body) -> Reading {
    let Read { reading, nack } = own(&resource(body));
    assert_eq!(nack, None);
    reading
}

#[test]
fn a_workload_has_the_identity_that_its_certificate_will_prove() {
    let Reading::Workload(row) = as_written(Body::Workload(workload("u1"))) else { panic!("no workload") };
    assert_eq!(
        row.identity.as_ref().map(ToString::to_string).as_deref(),
        Some("spiffe://cluster.local/ns/shop/sa/web")
    );
    assert_eq!((&*row.name, row.mtls), ("shop/pod-u1", MtlsMode::Permissive));
    let anonymous = v1::Workload { service_account: String::new(), ..workload("u1") };
    let Reading::Workload(row) = as_written(Body::Workload(anonymous)) else { panic!("no workload") };
    assert_eq!(row.identity, None);
}

#[test]
fn an_ipv4_address_written_as_ipv6_is_the_ipv4_address() {
    let mapped = "::ffff:10.0.0.7".parse::<std::net::Ipv6Addr>().expect("an address").octets().to_vec();
    let row = v1::Workload { addresses: vec![mapped], ..workload("u1") };
    let Reading::Workload(row) = as_written(Body::Workload(row)) else { panic!("no workload") };
    assert_eq!(row.addresses, [std::net::IpAddr::from([10, 0, 0, 7])]);
}

#[test]
fn a_bad_workload_is_unknown() {
    let spoilt = [
        ("uid", v1::Workload { uid: "U 1".to_owned(), ..workload("u1") }),
        ("name", v1::Workload { namespace: String::new(), ..workload("u1") }),
        ("service_account", v1::Workload { service_account: "a/b".to_owned(), ..workload("u1") }),
        ("node", v1::Workload { node: "N".to_owned(), ..workload("u1") }),
        ("addresses", v1::Workload { addresses: vec![vec![1, 2, 3]], ..workload("u1") }),
        ("mtls", v1::Workload { mtls: 0, ..workload("u1") }),
        ("excluded_inbound_ports", v1::Workload { excluded_inbound_ports: vec![65536], ..workload("u1") }),
    ];
    for (field, row) in spoilt {
        assert_eq!(check_bad(field, Body::Workload(row)), Reading::Nothing);
    }
    assert_eq!(own(&too_new(Body::Workload(workload("u1")))).reading, Reading::Nothing);
}

#[test]
fn a_name_that_is_said_twice_is_the_same_twice() {
    for (name, body) in [
        ("workload/u2", Body::Workload(workload("u1"))),
        ("enrolment/u2", Body::Enrolment(enrolment("u1", &[]))),
        ("service/shop/db", Body::Service(service())),
        ("authorization/shop/other", Body::Authorization(policy("web", v1::Action::Allow))),
        ("workload/u1", Body::Service(service())),
    ] {
        assert!(own(&versioned(name.to_owned(), vec![], body)).nack.is_some(), "{name}");
    }
}

#[test]
fn an_enrolment_is_read_with_all_its_exceptions() {
    let row = v1::Enrolment {
        ports: vec![v1::PortMtls { port: 8443, mode: v1::MtlsMode::Strict.into() }],
        exemptions: vec![v1::Exemption {
            ports: vec![8443],
            cidrs: vec!["10.9.0.0/16".to_owned()],
            ..v1::Exemption::default()
        }],
        excluded_outbound_cidrs: vec!["192.168.0.0/16".to_owned()],
        ..enrolment("u1", &["web"])
    };
    let Reading::Enrolment(row) = as_written(Body::Enrolment(row)) else { panic!("no enrolment") };
    assert_eq!(row.policies, ["authorization/shop/web"]);
    assert_eq!(row.enrolment.authentication.mode(8443), MtlsMode::Strict);
    assert_eq!(row.enrolment.authentication.mode(80), MtlsMode::Permissive);
    assert!(row.enrolment.authentication.exempts(8443, [10, 9, 1, 1].into(), Beginning::Anything).is_some());
    assert!(row.enrolment.authentication.exempts(8443, [10, 8, 1, 1].into(), Beginning::OwnTls).is_none());
    assert!(row.enrolment.authentication.exempts(443, [10, 9, 1, 1].into(), Beginning::OwnTls).is_none());
}

#[test]
fn a_bad_enrolment_is_captured_strict_closed_and_denied() {
    let exemption = v1::Exemption { cidrs: vec!["x".to_owned()], ..v1::Exemption::default() };
    let spoilt = [
        ("on_agent_failure", v1::Enrolment { on_agent_failure: 0, ..enrolment("u1", &[]) }),
        ("mtls", v1::Enrolment { mtls: 9, ..enrolment("u1", &[]) }),
        ("netns", v1::Enrolment { netns: "proc/7".to_owned(), ..enrolment("u1", &[]) }),
        ("ports.mode", v1::Enrolment { ports: vec![v1::PortMtls { port: 1, mode: 0 }], ..enrolment("u1", &[]) }),
        ("exemptions.cidrs", v1::Enrolment { exemptions: vec![exemption], ..enrolment("u1", &[]) }),
        ("excluded_outbound_ports", v1::Enrolment { excluded_outbound_ports: vec![0], ..enrolment("u1", &[]) }),
    ];
    let mut readings: Vec<_> = spoilt.into_iter().map(|(field, row)| check_bad(field, Body::Enrolment(row))).collect();
    readings.push(own(&too_new(Body::Enrolment(enrolment("u1", &[])))).reading);
    for reading in readings {
        let Reading::Enrolment(row) = reading else { panic!("no enrolment") };
        assert_eq!(row.enrolment.on_agent_failure, FailureMode::Closed);
        assert_eq!(row.enrolment.authentication.mode(80), MtlsMode::Strict);
        assert!(row.enrolment.require_mesh_tls && row.enrolment.excluded_outbound_ports.is_empty());
        assert!(row.enrolment.policies.iter().any(|policy| denies_everything(policy)));
    }
}

#[test]
fn an_observation_that_cannot_be_read_observes_nobody() {
    let body = |row| Body::Observation(v1::Observation { enrolment: Some(row) });
    let Reading::Observation(row) = as_written(body(enrolment("u1", &["web"]))) else { panic!("no observation") };
    assert_eq!((row.uid.as_str(), row.policies.len()), ("u1", 0));
    let bad = v1::Enrolment { mtls: 9, ..enrolment("u1", &[]) };
    assert_eq!(check_bad("mtls", body(bad)), Reading::Nothing);
    assert_eq!(check_bad("enrolment", Body::Observation(v1::Observation::default())), Reading::Nothing);
    assert_eq!(own(&too_new(body(enrolment("u1", &[])))).reading, Reading::Nothing);
}

#[test]
fn a_pod_is_probed_however_badly_its_enrolment_reads() {
    let declared = v1::Enrolment { probe_ports: vec![8080, 9000], ..enrolment("u1", &[]) };
    let bad = v1::Enrolment { mtls: 9, ..declared.clone() };
    let readings = [as_written(Body::Enrolment(declared.clone())), check_bad("mtls", Body::Enrolment(bad))];
    for reading in readings {
        let Reading::Enrolment(row) = reading else { panic!("no enrolment") };
        assert_eq!(row.enrolment.probe_ports, [8080, 9000]);
    }
    let bad = v1::Enrolment { probe_ports: vec![8080, 0], ..declared };
    let Reading::Enrolment(row) = check_bad("probe_ports", Body::Enrolment(bad)) else { panic!("no enrolment") };
    assert!(row.enrolment.probe_ports.is_empty());
}

fn denies_everything(policy: &Policy) -> bool {
    policy.action == Action::Deny
        && !policy.dry_run
        && policy.target_ports.is_empty()
        && policy.rules == [weft_policy::Rule::ANY]
}

#[test]
fn a_bad_service_keeps_its_address_and_loses_its_endpoints() {
    let endpoint = |address: Vec<u8>, port, workload: &str| v1::Service {
        ports: vec![v1::ServicePort {
            port: 80,
            endpoints: vec![v1::Endpoint { address, port, workload: workload.to_owned() }],
            ..v1::ServicePort::default()
        }],
        ..service()
    };
    let mut readings = vec![
        check_bad("ports[80].endpoints", Body::Service(endpoint(vec![1], 80, ""))),
        check_bad("ports[80].endpoints", Body::Service(endpoint(vec![1, 1, 1, 1], 0, ""))),
        check_bad("ports[80].endpoints", Body::Service(endpoint(vec![1, 1, 1, 1], 80, "U"))),
    ];
    readings.push(own(&too_new(Body::Service(service()))).reading);
    for reading in readings {
        let Reading::Service(row) = reading else { panic!("no service") };
        let row = row.seen_from(None);
        assert_eq!(row.addresses, [std::net::IpAddr::from([10, 96, 0, 1])]);
        assert_eq!((row.ports[0].port, row.ports[0].endpoints.len()), (80, 0));
    }
}

#[test]
fn a_policy_that_cannot_be_read_opens_nothing() {
    let too_new = |action| own(&too_new(Body::Authorization(policy("web", action)))).reading;
    let Reading::Policy(allow) = too_new(v1::Action::Allow) else { panic!("no policy") };
    assert!(allow.action == Action::Allow && allow.rules.is_empty() && allow.unread.is_some());
    let Reading::Policy(deny) = too_new(v1::Action::Deny) else { panic!("no policy") };
    assert!(denies_everything(&deny));
    let unknown = v1::AuthorizationPolicy { action: 12, ..policy("web", v1::Action::Allow) };
    let Reading::Policy(unknown) = check_bad("action", Body::Authorization(unknown)) else { panic!("no policy") };
    assert!(denies_everything(&unknown));
    let bodiless = v1::Resource { body: None, ..resource(Body::Authorization(policy("web", v1::Action::Allow))) };
    let Reading::Policy(lost) = own(&bodiless).reading else { panic!("no policy") };
    assert!(denies_everything(&lost));
}

#[test]
fn a_policy_may_have_variants_and_be_the_operators() {
    let read =
        |name: &str, body: v1::AuthorizationPolicy| own(&versioned(name.to_owned(), vec![], Body::Authorization(body)));
    let operator =
        |name: &str| v1::AuthorizationPolicy { namespace: "MeshConfig".to_owned(), ..policy(name, v1::Action::Deny) };
    for (name, body, expected) in [
        ("authorization/shop/web/80-443", policy("web", v1::Action::Allow), "shop/web"),
        ("authorization/MeshConfig/default", operator("default"), "MeshConfig/default"),
    ] {
        let Read { reading: Reading::Policy(policy), nack: None } = read(name, body) else {
            panic!("{name} was nacked")
        };
        assert_eq!(policy.name.to_string(), expected);
    }
    assert!(read("authorization/shop/webs/80", policy("web", v1::Action::Allow)).nack.is_some());
}

#[test]
fn a_policy_that_names_an_alias_means_the_mesh() {
    let Reading::Policy(policy) = as_written(Body::Authorization(policy("web", v1::Action::Deny))) else {
        panic!("no policy")
    };
    let source = &policy.rules[0].from.as_ref().expect("sources")[0];
    let identities = source.identities.as_ref().expect("identities");
    assert_eq!(identities[0].to_string(), "spiffe://cluster.local/ns/shop/sa/web");
}

#[test]
fn settings_are_read_and_their_bad_fields_named() {
    let Reading::Settings(row) = as_written(Body::Settings(settings("cluster.local"))) else { panic!("no settings") };
    assert_eq!(row.never_captured[0], ([10, 0, 0, 1].into(), None));
    assert_eq!(row.never_captured[1], ([10, 0, 0, 2].into(), Some(6443)));
    assert_eq!(row.lease_milliseconds, 10_000);
    check_bad("trust_domain", Body::Settings(settings("")));
    check_bad(
        "captured_cidrs",
        Body::Settings(v1::Settings { captured_cidrs: vec!["ten".to_owned()], ..settings("a") }),
    );
    check_bad(
        "never_captured",
        Body::Settings(v1::Settings { never_captured: vec!["10.0.0.0/8".to_owned()], ..settings("a") }),
    );
}

#[test]
fn only_certificates_are_trusted() {
    let good = [root()];
    let Reading::Trust(roots) = as_written(Body::Trust(v1::Trust { roots_der: good.to_vec() })) else {
        panic!("no trust")
    };
    assert_eq!(*roots, good);
    check_bad("roots_der", Body::Trust(v1::Trust { roots_der: vec![] }));
    let mixed = v1::Trust { roots_der: vec![good[0].clone(), b"junk".to_vec()] };
    let Reading::Trust(roots) = check_bad("roots_der[1]", Body::Trust(mixed)) else { panic!("no trust") };
    assert_eq!(*roots, good);
}

#[test]
fn an_unknown_kind_is_nacked_and_nothing_else() {
    for name in ["route/shop/web", "", "workload", "Settings"] {
        let unknown = v1::Resource { name: name.to_owned(), ..v1::Resource::default() };
        let Read { reading, nack } = own(&unknown);
        assert_eq!(reading, Reading::Nothing);
        assert!(nack.is_some(), "{name}");
    }
}
