//! One row for each fault: what both agents know, and the cause that a person must be given.

mod requests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use weft_abi::Reason as Counted;
use weft_abi::reason::REASONS;
use weft_policy::{Action, Policy, Rule, Source as PolicySource};
use weft_proto::names::{Identity, NamespacedName, WorkloadUid};

use super::{Answer, Known, answer};
use crate::admin::finding::Weight;
use crate::admin::question::Question;
use crate::admin::status::{CertificateStatus, NodeStatus, NodeView, PodCounters, PodStatus, WorkerStatus};
use crate::error::{ConnectionError, Reason, Side};
use crate::model::{
    Aliases, Authentication, Endpoint, Enrolment, FailureMode, MtlsMode, Parts, Service, ServicePort, Snapshot,
    SnapshotVersion, Workload,
};
use crate::telemetry::{ConnectionRecord, Direction, Security};

const CLIENT: &str = "shop/client";
const WEB: &str = "shop/web-1";

/// Two nodes, a client on `a`, a web pod on `b` behind a service; everything as it should be.
struct World {
    workloads: Vec<Workload>,
    endpoints: Vec<Endpoint>,
    /// With the node that holds it.
    enrolments: Vec<(&'static str, Enrolment)>,
    view_a: NodeView,
    view_b: NodeView,
    records_a: Vec<ConnectionRecord>,
    records_b: Vec<ConnectionRecord>,
}

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn uid(name: &str) -> WorkloadUid {
    name.replace('/', "-").parse().unwrap()
}

fn identity(service_account: &str) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/{service_account}").parse().unwrap()
}

fn workload(name: &str, application: &str, node: &str, address: &str) -> Workload {
    Workload {
        uid: uid(name),
        name: name.into(),
        application: application.into(),
        identity: Some(identity(application)),
        node: Some(node.parse().unwrap()),
        addresses: vec![address.parse().unwrap()],
        mesh_capable: true,
        plaintext_permitted: false,
        mtls: MtlsMode::Permissive,
        takes_plaintext: true,
        excluded_inbound_ports: vec![],
        not_capturable: None,
    }
}

fn enrolment(name: &str) -> Enrolment {
    Enrolment {
        uid: uid(name),
        netns: Some(PathBuf::from("/proc/1/ns/net")),
        on_agent_failure: FailureMode::Closed,
        authentication: Authentication {
            default: MtlsMode::Strict,
            ports: vec![],
            exemptions: vec![],
            decided_by: "shop/strict".into(),
        },
        require_mesh_tls: false,
        excluded_inbound_ports: vec![],
        excluded_outbound_ports: vec![],
        excluded_outbound_networks: vec![],
        probe_ports: Vec::new(),
        policies: vec![],
        refused: vec![],
    }
}

fn view(pod: &str) -> NodeView {
    let alive = WorkerStatus { index: 0, alive: true, heartbeat_age_milliseconds: 10, connections: 0 };
    let mut status = NodeStatus { ready: true, workers: vec![alive], ..NodeStatus::default() };
    status.controller.connected = true;
    status.pods = vec![PodStatus {
        uid: uid(pod),
        name: pod.to_owned(),
        enrolled: true,
        reason: None,
        counters: PodCounters::default(),
    }];
    let certificate = CertificateStatus {
        uid: Some(uid(pod)),
        name: pod.to_owned(),
        identity: String::new(),
        not_after: Some(now() + Duration::from_hours(10)),
        last_error: None,
    };
    NodeView { status, snapshot_applied: Some(now()), nacks: vec![], certificates: vec![certificate], roots: vec![] }
}

impl World {
    fn whole() -> Self {
        Self {
            workloads: vec![workload(CLIENT, "client", "a", "10.1.0.5"), workload(WEB, "web", "b", "10.1.1.9")],
            endpoints: vec![Endpoint { address: "10.1.1.9:8080".parse().unwrap(), workload: Some(uid(WEB)) }],
            enrolments: vec![("a", enrolment(CLIENT)), ("b", enrolment(WEB))],
            view_a: view(CLIENT),
            view_b: view(WEB),
            records_a: vec![],
            records_b: vec![],
        }
    }

    fn snapshot(&self, node: &str) -> Snapshot {
        Snapshot::new(self.parts(node))
    }

    fn parts(&self, node: &str) -> Parts {
        let port = ServicePort {
            port: 80,
            name: "http".into(),
            app_protocol: "".into(),
            endpoints: self.endpoints.clone(),
            local: None,
            affinity: None,
            aliases: Aliases::default(),
        };
        Parts {
            version: SnapshotVersion("v7".into()),
            captured_networks: vec!["10.0.0.0/8".parse().unwrap()],
            workloads: self.workloads.iter().cloned().map(Arc::new).collect(),
            services: vec![Arc::new(Service {
                name: NamespacedName::new("shop", "web").unwrap(),
                addresses: vec!["10.96.0.10".parse().unwrap()],
                external_addresses: vec![],
                ports: vec![port],
            })],
            enrolments: self
                .enrolments
                .iter()
                .filter(|(of, _)| *of == node)
                .map(|(_, enrolment)| Arc::new(enrolment.clone()))
                .collect(),
            trust_domain: crate::model::default_trust_domain(),
            trust_domain_aliases: vec![],
            roots: Arc::from([]),
            never_captured: vec![],
            lease_milliseconds: 10_000,
            ..Parts::empty()
        }
    }

    fn ask(&self, node: &str, source: &str, security: Option<Security>) -> Answer {
        let (view, records) =
            if node == "a" { (&self.view_a, &self.records_a) } else { (&self.view_b, &self.records_b) };
        let records: Vec<_> = records.iter().cloned().map(Arc::new).collect();
        let (name, snapshot) = (node.parse().unwrap(), self.snapshot(node));
        let known = Known {
            node: &name,
            snapshot: &snapshot,
            view,
            records: &records,
            requests: &[],
            ejected: &[],
            now: now(),
        };
        let question = Question {
            source: source.to_owned(),
            destination: "web.shop:80".to_owned(),
            port: None,
            security,
            request: None,
        };
        answer(&question, &known).unwrap()
    }

    /// A record of the pair, as the agent of `direction`'s side keeps it.
    fn record(&self, direction: Direction, reason: Reason, detail: &str) -> ConnectionRecord {
        let mut record = ConnectionRecord::begin(direction, SnapshotVersion("v7".into()));
        record.started = now() - Duration::from_secs(5);
        record.source.address = Some("10.1.0.5:40000".parse().unwrap());
        record.source.workload = Some(Arc::new(self.workloads[0].clone()));
        record.destination.address = Some("10.1.1.9:8080".parse().unwrap());
        record.destination.workload = Some(Arc::new(self.workloads[1].clone()));
        let asked: SocketAddr =
            if direction == Direction::Outbound { "10.96.0.10:80" } else { "10.1.1.9:8080" }.parse().unwrap();
        record.original_destination = Some(asked);
        record.fail(&ConnectionError::new(Side::Upstream, reason).with_detail(detail));
        record
    }
}

/// The first finding of one agent, as `cause` and weight.
#[track_caller]
fn check(answer: &Answer, cause: &str, weight: Weight) {
    let first = answer.findings.first().unwrap_or_else(|| panic!("nothing was found; facts: {:#?}", answer.facts));
    assert_eq!((first.cause.code(), first.weight), (cause, weight), "{:#?}", answer.findings);
    assert!(!first.summary.is_empty() && !first.fix.is_empty());
}

fn counters(reason: Counted, count: u64) -> PodCounters {
    let mut by_reason = [0; REASONS];
    by_reason[usize::try_from(reason.0).unwrap()] = count;
    PodCounters::new(by_reason)
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let world = World::whole();
    for node in ["a", "b"] {
        let answer = world.ask(node, CLIENT, None);
        assert!(answer.findings.is_empty(), "{node}: {:#?}", answer.findings);
        assert_eq!(answer.source.speaks, Security::Mtls);
    }
    assert!(world.ask("a", CLIENT, None).source.here);
    assert!(world.ask("b", CLIENT, None).destination.endpoints[0].here);
}

#[test]
fn a_pod_that_nothing_asks_to_capture() {
    let mut world = World::whole();
    world.enrolments.retain(|(_, enrolment)| enrolment.uid != uid(CLIENT));
    world.view_a.status.pods.clear();
    world.workloads[0].mesh_capable = false;
    let source = world.ask("a", CLIENT, None);
    check(&source, "not_captured", Weight::Weakens);
    assert_eq!(source.source.speaks, Security::Plaintext);
    assert!(source.findings[0].fix.contains("weft.dev/capture"));
    // The strict destination is what cuts it; that it is not captured is told after that.
    let destination = world.ask("b", CLIENT, Some(source.source.speaks));
    check(&destination, "plaintext_refused", Weight::Blocks);
    assert_eq!(destination.findings[1].cause.code(), "not_captured");
}

#[test]
fn a_pod_whose_enrolment_failed_says_why() {
    let mut world = World::whole();
    world.view_a.status.pods[0].enrolled = false;
    world.view_a.status.pods[0].reason = Some("its network namespace /proc/9/ns/net is gone".to_owned());
    let answer = world.ask("a", CLIENT, None);
    check(&answer, "not_captured", Weight::Weakens);
    assert!(answer.findings[0].summary.contains("/proc/9/ns/net"));
}

#[test]
fn a_destination_beside_the_mesh() {
    let mut world = World::whole();
    world.enrolments[0].1.excluded_outbound_ports = vec![80];
    check(&world.ask("a", CLIENT, None), "not_captured", Weight::Weakens);
    assert_eq!(world.ask("a", CLIENT, None).source.speaks, Security::Plaintext);
}

#[test]
fn an_intruder_that_is_no_pod() {
    let world = World::whole();
    let answer = world.ask("b", "10.9.9.9", None);
    check(&answer, "plaintext_refused", Weight::Blocks);
    assert!(answer.findings[0].evidence[0].contains("shop/strict"));
}

#[test]
fn an_intruder_with_an_old_certificate_is_told_of_that() {
    let mut world = World::whole();
    let mut seen = world.record(Direction::Inbound, Reason::CertificateExpired, "valid until yesterday");
    seen.source.address = Some("10.9.9.9:40000".parse().unwrap());
    seen.source.workload = None;
    world.records_b.push(seen);
    check(&world.ask("b", "10.9.9.9", None), "certificate_expired", Weight::Happened);
    // Who spoke plaintext last is measured by that.
    let mut plain = world.records_b[0].clone();
    plain.reason = Reason::PlaintextRefused;
    plain.started = now() - Duration::from_secs(1);
    world.records_b.push(plain);
    check(&world.ask("b", "10.9.9.9", None), "plaintext_refused", Weight::Blocks);
}

#[test]
fn plaintext_to_a_permissive_port_is_no_fault() {
    let mut world = World::whole();
    world.enrolments[1].1.authentication.default = MtlsMode::Permissive;
    assert!(world.ask("b", "10.9.9.9", None).findings.is_empty());
}

#[test]
fn a_service_without_an_endpoint() {
    let mut world = World::whole();
    world.endpoints.clear();
    world.view_a.status.pods[0].counters = counters(Counted::OUTBOUND_REFUSED_NO_ENDPOINT, 4);
    for node in ["a", "b"] {
        check(&world.ask(node, CLIENT, None), "no_endpoint", Weight::Blocks);
    }
    let evidence = world.ask("a", CLIENT, None).findings[0].evidence.join(" ");
    assert!(evidence.contains("refused 4 connections"), "{evidence}");
}

fn policy(action: Action, sources: Vec<PolicySource>) -> Arc<Policy> {
    Arc::new(Policy {
        name: NamespacedName::new("shop", "who").unwrap().into(),
        action,
        dry_run: false,
        enforced: false,
        target_ports: vec![],
        rules: vec![Rule { from: Some(sources), ..Rule::ANY }],
        unread: None,
    })
}

#[test]
fn a_rule_that_denies_is_named() {
    let mut world = World::whole();
    let client = PolicySource { identities: Some(vec![identity("client")]), ..PolicySource::default() };
    world.enrolments[1].1.policies = vec![policy(Action::Deny, vec![client])];
    let answer = world.ask("b", CLIENT, None);
    check(&answer, "denied_by_rule", Weight::Blocks);
    assert!(answer.findings[0].summary.contains("shop/who[0]"), "{}", answer.findings[0].summary);
}

#[test]
fn an_allow_that_names_somebody_else() {
    let mut world = World::whole();
    let other = PolicySource { identities: Some(vec![identity("other")]), ..PolicySource::default() };
    world.enrolments[1].1.policies = vec![policy(Action::Allow, vec![other])];
    let answer = world.ask("b", CLIENT, None);
    check(&answer, "no_allow_matched", Weight::Blocks);
    assert!(answer.findings[0].summary.contains("shop/who"));
}

#[test]
fn a_certificate_that_expired_on_either_side() {
    let mut world = World::whole();
    for view in [&mut world.view_a, &mut world.view_b] {
        view.certificates[0].not_after = Some(now() - Duration::from_mins(10));
        view.certificates[0].last_error = Some("the controller does not answer".to_owned());
    }
    // What the handshake said is vaguer than what the certificate itself says.
    world.records_a = vec![world.record(Direction::Outbound, Reason::HandshakeFailed, "alert")];
    for node in ["a", "b"] {
        let answer = world.ask(node, CLIENT, None);
        check(&answer, "certificate_expired", Weight::Blocks);
        assert!(answer.findings[0].evidence.join(" ").contains("does not answer"));
    }
}

#[test]
fn faults_that_only_records_know() {
    for (reason, direction) in [
        (Reason::IdentityMismatch, Direction::Outbound),
        (Reason::UpstreamRefused, Direction::Outbound),
        (Reason::UpstreamRefused, Direction::Inbound),
        (Reason::CertificateExpired, Direction::Inbound),
        (Reason::PeerAgentDown, Direction::Outbound),
        (Reason::UpstreamTimeout, Direction::Outbound),
    ] {
        let mut world = World::whole();
        let record = world.record(direction, reason, "what was seen");
        let node = if direction == Direction::Outbound { "a" } else { "b" };
        if node == "a" {
            world.records_a = vec![record];
        } else {
            world.records_b = vec![record];
        }
        let answer = world.ask(node, CLIENT, None);
        check(&answer, reason.code(), Weight::Happened);
        assert!(answer.findings[0].summary.contains("what was seen"));
        assert_eq!(answer.records.len(), 1);
    }
}

#[test]
fn an_old_failure_before_a_success_is_no_finding() {
    let mut world = World::whole();
    let mut success = world.record(Direction::Outbound, Reason::Completed, "");
    success.started = now() - Duration::from_secs(1);
    world.records_a = vec![success, world.record(Direction::Outbound, Reason::UpstreamRefused, "")];
    let answer = world.ask("a", CLIENT, None);
    assert!(answer.findings.is_empty(), "{:#?}", answer.findings);
    assert_eq!(answer.records.len(), 2);
}

#[test]
fn an_agent_whose_workers_are_all_stuck() {
    let mut world = World::whole();
    world.view_a.status.workers[0].alive = false;
    check(&world.ask("a", CLIENT, None), "agent_down", Weight::Blocks);
    world.view_b.status.workers[0].alive = false;
    check(&world.ask("b", CLIENT, None), "agent_down", Weight::Blocks);
}

#[test]
fn a_peer_whose_agent_has_been_gone_for_a_lease() {
    let mut world = World::whole();
    world.workloads[1].plaintext_permitted = true;
    check(&world.ask("a", CLIENT, None), "agent_down", Weight::Weakens);
}

#[test]
fn what_the_kernel_refused_while_the_agent_was_down_is_remembered() {
    let mut world = World::whole();
    world.view_a.status.pods[0].counters = counters(Counted::OUTBOUND_REFUSED_AGENT_GONE, 3);
    let answer = world.ask("a", CLIENT, None);
    check(&answer, "agent_down", Weight::Counted);
    assert!(answer.findings[0].evidence[0].contains("outbound_refused_agent_gone = 3"));
}

#[test]
fn words_that_mean_nothing_get_a_hint() {
    let world = World::whole();
    let snapshot = world.snapshot("a");
    let node = "a".parse().unwrap();
    let known = Known {
        node: &node,
        snapshot: &snapshot,
        view: &world.view_a,
        records: &[],
        requests: &[],
        ejected: &[],
        now: now(),
    };
    let ask = |source: &str, destination: &str| {
        let question = Question {
            source: source.to_owned(),
            destination: destination.to_owned(),
            port: None,
            security: None,
            request: None,
        };
        answer(&question, &known)
    };
    let problem = ask("client", "web.shop:80").unwrap_err().problem;
    assert!(problem.contains("did you mean shop/client?"), "{problem}");
    assert!(ask(CLIENT, "shop/nothing:80").is_err());
    assert!(ask(CLIENT, "shop/web-1").unwrap_err().problem.contains("name a port"));
    for same in
        ["web.shop:80", "shop/web:80", "web.shop", "web.shop.svc.cluster.local:80", "10.96.0.10:80", "10.96.0.10"]
    {
        assert_eq!(ask(CLIENT, same).unwrap().destination.name, "shop/web:80", "{same}");
    }
    assert_eq!(ask(CLIENT, "shop/web-1:8080").unwrap().destination.kind, "pod");
    assert_eq!(ask(CLIENT, "shop/web:81").unwrap().findings[0].cause.code(), "no_endpoint");
    assert_eq!(ask("10.1.0.5", "shop/web").unwrap().source.name, CLIENT);
}
