//! What of a Service the clients of one node see.

use std::net::SocketAddr;

use proptest::prelude::*;
use weft_proto::v1::{self, resource::Body};

use super::super::apply::{Change, Resources};
use super::super::parse::{Features, Reading, read};
use super::*;
use crate::model::{Destination, Snapshot};

const CLUSTER: &str = "10.96.0.1:80";
const CLUSTER6: &str = "[fd96::1]:80";
const EXTERNAL: &str = "203.0.113.1:80";

fn octets(address: &str) -> Vec<u8> {
    match address.parse().expect("an address") {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn endpoint(address: &str) -> v1::Endpoint {
    v1::Endpoint { address: octets(address), port: 8080, workload: String::new() }
}

fn group(name: &str, endpoints: &[u32]) -> v1::EndpointGroup {
    v1::EndpointGroup { name: name.to_owned(), endpoints: endpoints.to_vec() }
}

/// Two endpoints of IPv4, places 0 and 1, and two of IPv6, places 2 and 3.
fn web(port: v1::ServicePort) -> v1::Service {
    let all = ["10.1.0.1", "10.1.0.2", "fd10::1", "fd10::2"].map(endpoint).to_vec();
    v1::Service {
        addresses: vec![octets("10.96.0.1"), octets("fd96::1")],
        external_addresses: vec![octets("203.0.113.1")],
        ports: vec![v1::ServicePort { port: 80, endpoints: all, ..port }],
        ..service()
    }
}

fn node(name: &str, zone: &str) -> Body {
    Body::Node(v1::Node { name: name.to_owned(), zone: zone.to_owned() })
}

fn change(bodies: Vec<Body>, removals: &[&str]) -> Change {
    let mut change = Change::default();
    let upserts = encoded(bodies.into_iter().map(resource).collect());
    let removals = removals.iter().map(ToString::to_string).collect();
    change
        .add(v1::DiscoveryResponse { upserts, removals, complete: true, ..v1::DiscoveryResponse::default() })
        .expect("within the bounds");
    change
}

fn agent(bodies: Vec<Body>) -> Resources {
    let mut agent = Resources::new(Features::own());
    agent.fold(change(bodies, &[]));
    agent
}

/// Addresses that `asked` leads to; None where it is nobody's Service.
fn led(snapshot: &Snapshot, asked: &str) -> Option<Vec<String>> {
    match snapshot.destination(asked.parse().expect("an address")) {
        Destination::Service { endpoints, .. } => {
            Some(endpoints.iter().map(|one| one.address.ip().to_string()).collect())
        }
        Destination::UnknownPort { .. } | Destination::Workload(_) | Destination::Foreign => None,
    }
}

fn seen(here: Option<Body>, port: v1::ServicePort, asked: &str) -> Vec<String> {
    let bodies = here.into_iter().chain([Body::Service(web(port))]).collect();
    led(&agent(bodies).snapshot().0, asked).expect("a Service's")
}

#[test]
fn an_address_leads_to_endpoints_of_its_own_family() {
    let plain = || v1::ServicePort::default();
    assert_eq!(seen(None, plain(), CLUSTER), ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(seen(None, plain(), CLUSTER6), ["fd10::1", "fd10::2"]);
    assert_eq!(seen(None, plain(), EXTERNAL), ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(seen(None, plain(), "[::ffff:10.96.0.1]:80"), ["10.1.0.1", "10.1.0.2"]);
}

#[test]
fn hints_for_the_node_come_before_those_for_the_zone_and_each_family_follows_its_own() {
    let port = || v1::ServicePort {
        for_nodes: vec![group("one", &[1])],
        for_zones: vec![group("west", &[0, 2]), group("east", &[1, 3])],
        ..v1::ServicePort::default()
    };
    for (title, here, four, six) in [
        ("nobody has said where", None, vec!["10.1.0.1", "10.1.0.2"], vec!["fd10::1", "fd10::2"]),
        ("its own node's, and for IPv6 its zone's", Some(node("one", "west")), vec!["10.1.0.2"], vec!["fd10::1"]),
        ("its zone's", Some(node("two", "west")), vec!["10.1.0.1"], vec!["fd10::1"]),
        (
            "a zone that nothing is for",
            Some(node("two", "north")),
            vec!["10.1.0.1", "10.1.0.2"],
            vec!["fd10::1", "fd10::2"],
        ),
        ("no zone", Some(node("two", "")), vec!["10.1.0.1", "10.1.0.2"], vec!["fd10::1", "fd10::2"]),
    ] {
        assert_eq!(seen(here.clone(), port(), CLUSTER), four, "{title}");
        assert_eq!(seen(here, port(), CLUSTER6), six, "{title}");
    }
}

#[test]
fn a_local_service_leads_to_its_own_node_but_from_outside_to_any() {
    let nodes = vec![v1::NodeEndpoints { node: "one".to_owned(), endpoints: vec![endpoint("10.1.0.2")] }];
    let port =
        || v1::ServicePort { local: Some(v1::LocalEndpoints { nodes: nodes.clone() }), ..v1::ServicePort::default() };
    assert_eq!(seen(Some(node("one", "")), port(), CLUSTER), ["10.1.0.2"]);
    assert_eq!(seen(Some(node("one", "")), port(), CLUSTER6), Vec::<String>::new());
    assert_eq!(seen(Some(node("two", "")), port(), CLUSTER), Vec::<String>::new());
    assert_eq!(seen(Some(node("two", "")), port(), EXTERNAL), ["10.1.0.1", "10.1.0.2"]);
    let snapshot = agent(vec![node("two", ""), Body::Service(web(port()))]).snapshot().0;
    let refused: Vec<SocketAddr> = snapshot.empty_service_ports().collect();
    assert_eq!(refused, [CLUSTER.parse().unwrap(), CLUSTER6.parse().unwrap()], "the kernel refuses these alone");
    assert_eq!(snapshot.external_service_ports().collect::<Vec<_>>(), [EXTERNAL.parse().unwrap()]);
}

#[test]
fn another_port_of_an_external_address_is_the_hosts_own() {
    let snapshot = agent(vec![Body::Service(web(v1::ServicePort::default()))]).snapshot().0;
    assert!(matches!(snapshot.destination("10.96.0.1:81".parse().unwrap()), Destination::UnknownPort { .. }));
    assert!(matches!(snapshot.destination("203.0.113.1:81".parse().unwrap()), Destination::Foreign));
}

#[test]
fn a_move_is_seen_at_once_and_a_forgotten_place_is_nowhere() {
    let port =
        v1::ServicePort { for_zones: vec![group("west", &[0]), group("east", &[1])], ..v1::ServicePort::default() };
    let mut agent = agent(vec![Body::Service(web(port)), node("one", "west")]);
    let first = |agent: &Resources| led(&agent.snapshot().0, CLUSTER).expect("a Service's");
    assert_eq!(first(&agent), ["10.1.0.1"]);
    agent.fold(change(vec![node("one", "east")], &[]));
    assert_eq!(first(&agent), ["10.1.0.2"]);
    agent.fold(change(vec![], &["node/one"]));
    assert_eq!(first(&agent).len(), 2);
    assert_eq!(held(&agent).len(), 1);
}

#[test]
fn a_service_that_contradicts_itself_has_no_endpoint() {
    let mut mixed = web(v1::ServicePort::default());
    mixed.ports[0].endpoints.reverse();
    for row in [mixed, web(v1::ServicePort { for_zones: vec![group("west", &[4])], ..v1::ServicePort::default() })] {
        let found = read(&resource(Body::Service(row)), &Features::own(), &domains());
        assert!(found.nack.expect("a nack").starts_with("ports[80].endpoints"));
        let Reading::Service(service) = found.reading else { panic!("no safe reading") };
        assert!(service.seen_from(None).ports[0].endpoints.is_empty());
    }
}

#[test]
fn affinity_is_of_every_port() {
    let row = v1::Service { affinity_seconds: 7, ..web(v1::ServicePort::default()) };
    let snapshot = agent(vec![Body::Service(row)]).snapshot().0;
    assert_eq!(snapshot.services[0].ports[0].affinity, Some(std::time::Duration::from_secs(7)));
}

proptest! {
    /// Whatever hints say, a client is led somewhere if there is anywhere, and only where the Service has endpoints.
    #[test]
    fn hints_never_leave_a_client_without_an_endpoint(
        west in prop::collection::vec(0_u32..4, 0..6),
        own in prop::collection::vec(0_u32..4, 0..6),
        asked in prop::sample::select(vec![CLUSTER, CLUSTER6, EXTERNAL]),
    ) {
        let port = v1::ServicePort { for_zones: vec![group("west", &west)], for_nodes: vec![group("one", &own)], ..v1::ServicePort::default() };
        let everybodys = seen(None, v1::ServicePort::default(), asked);
        let found = seen(Some(node("one", "west")), port, asked);
        prop_assert!(!found.is_empty());
        prop_assert!(found.iter().all(|one| everybodys.contains(one)));
    }
}
