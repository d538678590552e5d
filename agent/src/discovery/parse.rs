//! One resource from the protocol to validated types. Pure.
//!
//! A resource that requires a feature of a newer agent, or has a field that cannot be read, is nacked and
//! the safe reading of its kind (`discovery.proto`) is in force; no other resource is disturbed.

mod cors;
mod enrolment;
mod fields;
mod filter;
mod routes;
mod service;
mod session;
mod settings;
mod traffic;
mod workload;

use std::sync::Arc;

use weft_policy::{Policy, PolicyName, ReadError};
use weft_proto::names::{Identity, NameError, Namespace, TrustDomain};
use weft_proto::v1::resource::Body;
use weft_proto::{FEATURES, v1};

use crate::model::{Enrolment, FailureMode, PortRoutes, Traffic, Workload};

pub use enrolment::NodeEnrolment;
pub use service::{EverywhereService, Here};
pub use settings::Settings;

/// What of a resource is in force.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    Workload(Arc<Workload>),
    Enrolment(Box<NodeEnrolment>),
    Observation(Arc<Enrolment>),
    Namespace(Namespace, FailureMode),
    Service(Arc<EverywhereService>),
    Node(Here),
    Policy(Arc<Policy>),
    Settings(Box<Settings>),
    Trust(Arc<[Vec<u8>]>),
    Routes(Arc<PortRoutes>),
    Traffic(Arc<Traffic>),
    Nothing,
}

/// A reading, and why it is not what was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    pub reading: Reading,
    pub nack: Option<String>,
}

/// The names of the mesh, for identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains {
    pub name: TrustDomain,
    pub aliases: Vec<TrustDomain>,
}

/// Features that resources may require.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features(Vec<String>);

impl Features {
    /// What this build has.
    #[must_use]
    pub fn own() -> Self {
        Self::new(FEATURES.iter().map(ToString::to_string).collect())
    }

    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// What both have.
    #[must_use]
    pub fn shared(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|name| other.0.contains(name)).cloned().collect())
    }

    fn lacking<'a>(&self, required: &'a [String]) -> Option<&'a str> {
        required.iter().find(|name| !self.0.contains(name)).map(String::as_str)
    }
}

/// The kind and the rest of a resource's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Workload(&'a str),
    Enrolment(&'a str),
    Observation(&'a str),
    Namespace(&'a str),
    Service(&'a str),
    Node(&'a str),
    Authorization(&'a str),
    Routes(&'a str),
    Traffic(&'a str),
    Settings,
    Trust,
    Unknown,
}

fn kind(name: &str) -> Kind<'_> {
    match name.split_once('/') {
        Some(("workload", rest)) => Kind::Workload(rest),
        Some(("enrolment", rest)) => Kind::Enrolment(rest),
        Some(("observation", rest)) => Kind::Observation(rest),
        Some(("namespace", rest)) => Kind::Namespace(rest),
        Some(("service", rest)) => Kind::Service(rest),
        Some(("node", rest)) => Kind::Node(rest),
        Some(("authorization", rest)) => Kind::Authorization(rest),
        Some(("routes", rest)) => Kind::Routes(rest),
        Some(("traffic", rest)) => Kind::Traffic(rest),
        None if name == weft_proto::resource::SETTINGS => Kind::Settings,
        None if name == weft_proto::resource::TRUST => Kind::Trust,
        Some(_) | None => Kind::Unknown,
    }
}

/// The body of the kind that the name promises.
macro_rules! body {
    ($resource:ident, $kind:ident) => {
        match &$resource.body {
            Some(Body::$kind(row)) => Some(row),
            Some(_) | None => None,
        }
    };
}

/// Reads one resource.
#[must_use]
pub fn read(resource: &v1::Resource, features: &Features, domains: &Domains) -> Read {
    let lacking = features.lacking(&resource.requires);
    let refused = lacking.map(|feature| format!("this agent lacks the feature {feature:?}"));
    match kind(&resource.name) {
        Kind::Workload(uid) => {
            let row = judged(refused, body!(resource, Workload), |row| workload::read(uid, row, domains));
            row.map_or_else(nothing, |row| as_written(Reading::Workload(Arc::new(row))))
        }
        Kind::Enrolment(uid) => read_enrolment(uid, refused, body!(resource, Enrolment)),
        Kind::Observation(uid) => {
            judged(refused, body!(resource, Observation), |row| enrolment::read_observation(uid, row))
                .map_or_else(nothing, |enrolment| as_written(Reading::Observation(Arc::new(enrolment))))
        }
        Kind::Namespace(name) => read_namespace(name, refused, body!(resource, Namespace)),
        Kind::Service(name) => read_service(name, refused, body!(resource, Service)),
        Kind::Node(name) => judged(refused, body!(resource, Node), |row| service::read_node(name, row))
            .map_or_else(nothing, |here| as_written(Reading::Node(here))),
        Kind::Authorization(name) => read_policy(name, refused, body!(resource, Authorization), domains),
        Kind::Routes(name) => read_routes(name, refused, body!(resource, Routes)),
        Kind::Traffic(name) => read_traffic(name, refused, body!(resource, Traffic)),
        Kind::Settings => {
            let written = body!(resource, Settings);
            judged(refused, written, settings::read).map_or_else(
                |why| safe(Reading::Settings(Box::new(settings::safe(written))), why),
                |row| as_written(Reading::Settings(Box::new(row))),
            )
        }
        Kind::Trust => {
            let written = body!(resource, Trust);
            judged(refused, written, settings::read_trust).map_or_else(
                |why| safe(Reading::Trust(settings::safe_trust(written)), why),
                |roots| as_written(Reading::Trust(roots)),
            )
        }
        Kind::Unknown => nothing("this agent does not know this kind of resource".to_owned()),
    }
}

fn read_enrolment(uid: &str, refused: Option<String>, written: Option<&v1::Enrolment>) -> Read {
    judged(refused, written, |row| enrolment::read(uid, row)).map_or_else(
        |why| match enrolment::safe(uid, written) {
            Ok(row) => safe(Reading::Enrolment(Box::new(row)), why),
            Err(_) => nothing(why),
        },
        |row| as_written(Reading::Enrolment(Box::new(row))),
    )
}

fn read_namespace(name: &str, refused: Option<String>, written: Option<&v1::Namespace>) -> Read {
    let own: Namespace = match fields::name("name", name) {
        Ok(own) => own,
        Err(error) => return nothing(error.to_string()),
    };
    let way = judged(refused, written, |row| {
        fields::same("name", &fields::name::<Namespace>("name", &row.name)?, &own)?;
        enrolment::failure_mode(row.on_agent_failure)
    });
    // Without the cluster's own pods no controller would be found that could say it in other words.
    let unread = if own.as_str() == "kube-system" { FailureMode::Open } else { FailureMode::Closed };
    way.map_or_else(
        |why| safe(Reading::Namespace(own.clone(), unread), why),
        |way| as_written(Reading::Namespace(own.clone(), way)),
    )
}

fn read_service(name: &str, refused: Option<String>, written: Option<&v1::Service>) -> Read {
    judged(refused, written, |row| service::read(name, row)).map_or_else(
        |why| match written.and_then(|row| service::safe(name, row)) {
            Some(service) => safe(Reading::Service(Arc::new(service)), why),
            None => nothing(why),
        },
        |service| as_written(Reading::Service(Arc::new(service))),
    )
}

fn read_routes(name: &str, refused: Option<String>, written: Option<&v1::Routes>) -> Read {
    judged(refused, written, |row| routes::read(name, row)).map_or_else(
        |why| match routes::safe(name, written) {
            Some(routes) => safe(Reading::Routes(Arc::new(routes)), why),
            None => nothing(why),
        },
        |routes| as_written(Reading::Routes(Arc::new(routes))),
    )
}

fn read_traffic(name: &str, refused: Option<String>, written: Option<&v1::Traffic>) -> Read {
    judged(refused, written, |row| traffic::read(name, row)).map_or_else(
        |why| match traffic::safe(name) {
            Some(traffic) => safe(Reading::Traffic(Arc::new(traffic)), why),
            None => nothing(why),
        },
        |traffic| as_written(Reading::Traffic(Arc::new(traffic))),
    )
}

fn read_policy(
    name: &str,
    refused: Option<String>,
    written: Option<&v1::AuthorizationPolicy>,
    domains: &Domains,
) -> Read {
    let own_name = match policy_name(name) {
        Ok(name) => name,
        // An enrolment that names it finds nothing and denies everything.
        Err(error) => return nothing(format!("name: {error}")),
    };
    let policy = judged(refused, written, |row| {
        let mut policy = weft_policy::read(row)?;
        fields::same("name", &policy.name, &own_name)?;
        policy.rules.iter_mut().flat_map(|rule| rule.from.iter_mut()).flatten().for_each(|source| {
            let listed = source.identities.iter_mut().chain(source.not_identities.iter_mut()).flatten();
            listed.for_each(|identity| domains.rename(identity));
        });
        Ok(policy)
    });
    policy.map_or_else(
        |why| safe(Reading::Policy(Arc::new(Policy::safe_reading(own_name, written, why.as_str()))), why),
        |policy| as_written(Reading::Policy(Arc::new(policy))),
    )
}

/// The policy of a resource named `namespace/name` or `namespace/name/variant`: one policy has a variant for each set of
/// ports that its target means on different pods.
pub fn policy_name(resource: &str) -> Result<PolicyName, NameError> {
    let mut slashes = resource.match_indices('/').map(|(place, _)| place).skip(1);
    resource[..slashes.next().unwrap_or(resource.len())].parse()
}

impl Domains {
    /// A policy may still name the mesh by an alias, as certificates may: both are compared under the present name.
    fn rename(&self, identity: &mut Identity) {
        if self.aliases.contains(&identity.trust_domain) {
            identity.trust_domain = self.name.clone();
        }
    }
}

/// Reads a body that is there and requires nothing unknown.
fn judged<B, T>(
    refused: Option<String>,
    body: Option<&B>,
    read: impl FnOnce(&B) -> Result<T, ReadError>,
) -> Result<T, String> {
    if let Some(why) = refused {
        return Err(why);
    }
    let body = body.ok_or_else(|| "the resource's body is of another kind than its name, or missing".to_owned())?;
    read(body).map_err(|error| error.to_string())
}

fn as_written(reading: Reading) -> Read {
    Read { reading, nack: None }
}

fn safe(reading: Reading, why: String) -> Read {
    Read { reading, nack: Some(why) }
}

fn nothing(why: String) -> Read {
    Read { reading: Reading::Nothing, nack: Some(why) }
}
