//! What a node relies on when it reads, applies and keeps what the controller sent.

mod apply;
mod disk;
mod parse;
mod places;
mod routes;

use bytes::Bytes;
use prost::Message as _;
use weft_proto::resource::{self, versioned};
use weft_proto::v1::{self, resource::Body};

use super::apply::Resources;
use super::parse::Domains;

fn domains() -> Domains {
    Domains { name: "cluster.local".parse().expect("a name"), aliases: vec!["old.local".parse().expect("a name")] }
}

/// Of every shard.
fn held(world: &Resources) -> Vec<v1::ResourceVersion> {
    world.held(&(0..=u8::MAX).collect::<Vec<_>>())
}

/// As they come.
fn encoded(resources: Vec<v1::Resource>) -> Vec<Bytes> {
    resources.into_iter().map(|resource| resource.encode_to_vec().into()).collect()
}

fn workload(uid: &str) -> v1::Workload {
    v1::Workload {
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        name: format!("pod-{uid}"),
        service_account: "web".to_owned(),
        node: "node-a".to_owned(),
        addresses: vec![vec![10, 0, 0, 7]],
        mesh_capable: true,
        application: "web".to_owned(),
        mtls: v1::MtlsMode::Permissive.into(),
        ..v1::Workload::default()
    }
}

fn enrolment(uid: &str, policies: &[&str]) -> v1::Enrolment {
    v1::Enrolment {
        uid: uid.to_owned(),
        netns: "/proc/7/ns/net".to_owned(),
        on_agent_failure: v1::FailureMode::Open.into(),
        mtls: v1::MtlsMode::Permissive.into(),
        mtls_policy: "default".to_owned(),
        authorization: policies.iter().map(|name| format!("authorization/shop/{name}")).collect(),
        ..v1::Enrolment::default()
    }
}

fn service() -> v1::Service {
    v1::Service {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        addresses: vec![vec![10, 96, 0, 1]],
        ports: vec![v1::ServicePort {
            port: 80,
            endpoints: vec![v1::Endpoint { address: vec![10, 0, 0, 7], port: 8080, workload: "u1".to_owned() }],
            ..v1::ServicePort::default()
        }],
        ..v1::Service::default()
    }
}

fn policy(name: &str, action: v1::Action) -> v1::AuthorizationPolicy {
    let identities = v1::StringList { values: vec!["spiffe://old.local/ns/shop/sa/web".to_owned()] };
    let source = v1::Source { identities: Some(identities), ..v1::Source::default() };
    v1::AuthorizationPolicy {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        action: action.into(),
        rules: vec![v1::AuthorizationRule {
            from: Some(v1::SourceList { sources: vec![source] }),
            ..v1::AuthorizationRule::default()
        }],
        ..v1::AuthorizationPolicy::default()
    }
}

fn settings(trust_domain: &str) -> v1::Settings {
    v1::Settings {
        trust_domain: trust_domain.to_owned(),
        captured_cidrs: vec!["10.0.0.0/8".to_owned()],
        never_captured: vec!["10.0.0.1".to_owned(), "10.0.0.2:6443".to_owned(), "[fd00::1]:443".to_owned()],
        lease_ms: 10_000,
        ..v1::Settings::default()
    }
}

fn root() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(Vec::<String>::new()).expect("parameters");
    parameters.self_signed(&key).expect("a certificate").der().to_vec()
}

/// A resource under the name that its body says.
fn resource(body: Body) -> v1::Resource {
    let name = match &body {
        Body::Workload(row) => resource::workload(&row.uid),
        Body::Enrolment(row) => resource::enrolment(&row.uid),
        Body::Service(row) => resource::service(&row.namespace, &row.name),
        Body::Node(row) => resource::node(&row.name),
        Body::Namespace(row) => resource::namespace(&row.name),
        Body::Observation(row) => resource::observation(row.enrolment.as_ref().map_or("none", |row| &row.uid)),
        Body::Authorization(row) => resource::authorization(&row.namespace, &row.name),
        Body::Settings(_) => resource::SETTINGS.to_owned(),
        Body::Trust(_) => resource::TRUST.to_owned(),
        Body::Routes(row) => resource::routes(&row.namespace, &row.service, row.port.try_into().unwrap(), None),
        Body::Traffic(row) => resource::traffic(&row.namespace, &row.service, row.port.try_into().unwrap(), None),
    };
    versioned(name, Vec::new(), body)
}

/// The same, of a newer protocol than this agent's.
fn too_new(body: Body) -> v1::Resource {
    let resource = resource(body);
    versioned(resource.name, vec!["telepathy".to_owned()], resource.body.expect("a body"))
}
