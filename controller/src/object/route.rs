//! Routes of every kind (Gateway API 1.7), checked, with their conditions as agents read them.
//!
//! What the API server would refuse is a [`FieldError`] of the whole object; what it takes and Weft cannot do is a
//! [`Refusal`] of one rule. Absent: which Services parents and backends are, and the order among several routes'
//! matches (`translate/routes`).

mod connection;
mod cors;
mod filter;
mod grpc;
mod http;
mod matching;
mod path;
mod raw;
mod reference;
mod session;
mod specificity;

use weft_proto::v1;

use super::{FieldError, Kind, Metadata};
use crate::limits;

pub use filter::{Filter, Mirror};
pub(super) use matching::unknown;
pub(super) use raw::RawSessionPersistence;
pub use raw::{RawConnectionRoute, RawGrpcRoute, RawHttpRoute};
pub use reference::{Backend, BackendReference, Parent, is_of_core_group};
pub(super) use session::session;
pub use specificity::Specificity;

/// The stronger one goes first, where several speak of one Service port (GEP-1294).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    Grpc,
    Http,
    Tls,
    Tcp,
}

impl RouteKind {
    #[must_use]
    pub fn object(self) -> Kind {
        match self {
            Self::Grpc => Kind::GrpcRoute,
            Self::Http => Kind::HttpRoute,
            Self::Tls => Kind::TlsRoute,
            Self::Tcp => Kind::TcpRoute,
        }
    }

    /// Or of connections that are carried as a whole.
    #[must_use]
    pub fn is_of_requests(self) -> bool {
        matches!(self, Self::Grpc | Self::Http)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub metadata: Metadata,
    pub kind: RouteKind,
    /// Those of kind Service, as written; others are other controllers' business.
    pub parents: Vec<Parent>,
    /// Of requests: they do not count for a Service (GEP-1294), which its owner should be told.
    pub has_hostnames: bool,
    pub rules: Vec<Rule>,
}

impl Eq for Route {}

#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Empty for most.
    pub name: String,
    /// One must fit. None: a match of the rule cannot be evaluated, and a refusal says why.
    pub matches: Vec<Match>,
    pub filters: Vec<Filter>,
    pub backends: Vec<Backend>,
    /// None: the rule is silent; 0: no limit.
    pub request_timeout_ms: Option<u32>,
    /// 0: no limit.
    pub backend_timeout_ms: u32,
    pub retry: Option<v1::RetryPolicy>,
    /// A cookie may be without its name.
    pub session: Option<v1::SessionPersistence>,
    /// What the rule itself asks for and Weft cannot do. Its requests are answered with an error rather than without that.
    pub refusals: Vec<Refusal>,
}

impl Rule {
    /// Requests that it would fit are routed as if it were not there.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.matches.is_empty()
    }

    /// Its own and its backends'.
    pub fn all_refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.iter().chain(self.backends.iter().flat_map(|backend| &backend.refusals))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Its `rule` is not set yet.
    pub condition: v1::RouteMatch,
    pub specificity: Specificity,
}

/// Gateway API's reasons for a route that is not, or not wholly, accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalReason {
    UnsupportedValue,
    IncompatibleFilters,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: RefusalReason,
    /// Such as `spec.rules[0].filters[1].type`.
    pub path: String,
    pub problem: String,
}

impl Refusal {
    pub(super) fn unsupported(path: impl Into<String>, problem: &str) -> Self {
        Self::new(RefusalReason::UnsupportedValue, path, problem)
    }

    fn incompatible(path: impl Into<String>, problem: &str) -> Self {
        Self::new(RefusalReason::IncompatibleFilters, path, problem)
    }

    fn new(reason: RefusalReason, path: impl Into<String>, problem: &str) -> Self {
        let problem = problem.chars().take(limits::PROBLEM_CHARACTERS).collect();
        Self { reason, path: path.into(), problem }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.path, self.problem)
    }
}

impl Route {
    pub fn http(metadata: Metadata, raw: RawHttpRoute) -> Result<Self, FieldError> {
        let rules = raw.rules.unwrap_or_else(|| vec![raw::RawHttpRule::default()]);
        if rules.is_empty() {
            return Err(FieldError::new("spec.rules", "it has no rule", "add one, or leave the list out"));
        }
        few_expressions(rules.iter().map(raw::RawHttpRule::expressions).sum())?;
        let rules = rules.into_iter().enumerate().map(|(index, rule)| http::rule(&path(index), rule));
        Self::new(metadata, RouteKind::Http, raw.parent_refs, &raw.hostnames, rules.collect::<Result<_, _>>()?)
    }

    pub fn grpc(metadata: Metadata, raw: RawGrpcRoute) -> Result<Self, FieldError> {
        let rules = raw.rules.unwrap_or_default();
        few_expressions(rules.iter().map(raw::RawGrpcRule::expressions).sum())?;
        let rules = rules.into_iter().enumerate().map(|(index, rule)| grpc::rule(&path(index), rule));
        Self::new(metadata, RouteKind::Grpc, raw.parent_refs, &raw.hostnames, rules.collect::<Result<_, _>>()?)
    }

    pub fn tls(metadata: Metadata, mut raw: RawConnectionRoute) -> Result<Self, FieldError> {
        let names = connection::names(std::mem::take(&mut raw.hostnames))?;
        Self::of_connections(metadata, RouteKind::Tls, raw, names)
    }

    pub fn tcp(metadata: Metadata, raw: RawConnectionRoute) -> Result<Self, FieldError> {
        if !raw.hostnames.is_empty() {
            return Err(FieldError::new("spec.hostnames", "a TCPRoute has none", "remove it, or use a TLSRoute"));
        }
        Self::of_connections(metadata, RouteKind::Tcp, raw, vec![connection::anything()])
    }

    fn of_connections(
        metadata: Metadata,
        kind: RouteKind,
        raw: RawConnectionRoute,
        matches: Vec<Match>,
    ) -> Result<Self, FieldError> {
        at_most("spec.parentRefs", raw.parent_refs.len(), limits::PARENTS_PER_ROUTE)?;
        let mut rules = raw.rules.unwrap_or_default();
        let (Some(rule), true) = (rules.pop(), rules.is_empty()) else {
            return Err(FieldError::new("spec.rules", "it does not have one rule", "write exactly one"));
        };
        let rule = connection::rule(&path(0), rule, kind, matches)?;
        let parents = reference::parents(raw.parent_refs)?;
        Ok(Self { metadata, kind, parents, has_hostnames: false, rules: vec![rule] })
    }

    fn new(
        metadata: Metadata,
        kind: RouteKind,
        parents: Vec<raw::RawParent>,
        hostnames: &[String],
        rules: Vec<Rule>,
    ) -> Result<Self, FieldError> {
        at_most("spec.parentRefs", parents.len(), limits::PARENTS_PER_ROUTE)?;
        at_most("spec.hostnames", hostnames.len(), limits::HOSTNAMES_PER_ROUTE)?;
        at_most("spec.rules", rules.len(), limits::RULES_PER_ROUTE)?;
        let matches = rules.iter().map(|rule| rule.matches.len()).sum();
        at_most("spec.rules", matches, limits::MATCHES_PER_ROUTE)
            .map_err(|error| FieldError { problem: format!("its rules have {matches} matches"), ..error })?;
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.name.is_empty()) {
            if rules[..index].iter().any(|other| other.name == rule.name) {
                let problem = format!("another rule of the route is named {:?}", rule.name);
                return Err(FieldError::new(format!("{}.name", path(index)), problem, "give each rule its own name"));
            }
        }
        let parents = reference::parents(parents)?;
        Ok(Self { metadata, kind, parents, has_hostnames: !hostnames.is_empty(), rules })
    }

    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}/{}", self.kind.object().as_str(), self.metadata.namespace, self.metadata.name)
    }
}

fn path(rule: usize) -> String {
    format!("spec.rules[{rule}]")
}

/// Before any is compiled.
fn few_expressions(count: usize) -> Result<(), FieldError> {
    at_most("spec.rules", count, limits::EXPRESSIONS_PER_PORT)
        .map_err(|error| FieldError { problem: format!("its rules have {count} regular expressions"), ..error })
}

fn rule_name(path: &str, name: Option<String>) -> Result<String, FieldError> {
    let name = name.unwrap_or_default();
    if name.len() > limits::OBJECT_NAME_BYTES {
        let fix = format!("write at most {}", limits::OBJECT_NAME_BYTES);
        return Err(FieldError::new(format!("{path}.name"), format!("it has {} bytes", name.len()), fix));
    }
    Ok(name)
}

fn at_most(path: &str, count: usize, limit: usize) -> Result<(), FieldError> {
    if count > limit {
        return Err(FieldError::new(path, format!("it has {count} entries"), format!("{limit} are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
