//! The routes of a Service port.
//!
//! A match that cannot be read makes the whole resource unreadable: without it, its requests would go where nobody sent
//! them. Safe: no match, every request or connection is refused. A filter that cannot be applied is kept as such, so that it refuses the
//! requests of its own rule with a sentence and disturbs no other.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use weft_policy::{PathPattern, ReadError};
use weft_proto::names::{Namespace, NamespacedName};
use weft_proto::v1;

use super::fields::{name, port, problem};
use super::filter;
use super::session;
use crate::http::canonical::canonical_path;
use crate::limits;
use crate::model::{
    Backend, BackendTarget, ConnectionRoutes, ConnectionRules, HeaderMatch, Matches, PathMatch, PathPrefix, Pattern,
    PortRoutes, QueryMatch, RetryPolicy, RouteKind, RouteMatch, RouteRule, Routes, ServerNames, SessionPersistence,
    ValueMatch,
};

/// The Service port that a resource speaks of, and the clients that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub service: NamespacedName,
    pub port: u16,
    pub audience: Option<Namespace>,
}

impl Scope {
    /// `namespace/service/port` or `namespace/service/port/audience`.
    pub fn of_name(resource: &str) -> Result<Self, ReadError> {
        let mut parts = resource.splitn(4, '/');
        let mut next = || parts.next().unwrap_or_default();
        let service = NamespacedName::new(next(), next()).map_err(|error| problem("name", error))?;
        let number = next();
        let number = number.parse().map_err(|_| problem("name", format!("{number:?} is not a port")))?;
        let port = port("name", number)?;
        Ok(Self { service, port, audience: parts.next().map(|audience| name("name", audience)).transpose()? })
    }

    /// What the body says again must be the same.
    pub fn check(&self, namespace: &str, service: &str, port: u32, audience: &str) -> Result<(), ReadError> {
        let same = self.service.namespace.as_str() == namespace
            && *self.service.name == *service
            && u32::from(self.port) == port
            && self.audience.as_ref().map_or("", Namespace::as_str) == audience;
        if same {
            return Ok(());
        }
        let inside = format!("{namespace}/{service}:{port} for {audience:?}");
        Err(problem("name", format!("the resource's name and its body ({inside}) speak of different ports")))
    }

    fn requests(self, kind: RouteKind, matches: Matches) -> PortRoutes {
        let Self { service, port, audience } = self;
        PortRoutes::Requests(Routes { service, port, audience, kind, matches })
    }

    fn connections(self, rules: ConnectionRules) -> PortRoutes {
        let Self { service, port, audience } = self;
        PortRoutes::Connections(ConnectionRoutes { service, port, audience, rules })
    }
}

pub fn read(resource: &str, row: &v1::Routes) -> Result<PortRoutes, ReadError> {
    let scope = Scope::of_name(resource)?;
    scope.check(&row.namespace, &row.service, row.port, &row.audience)?;
    bounded("rules", row.rules.len(), limits::ROUTE_RULES)?;
    bounded("matches", row.matches.len(), limits::ROUTE_MATCHES)?;
    let patterns: usize = row.matches.iter().map(patterns).sum();
    if patterns > limits::ROUTE_PATTERNS {
        let limit = limits::ROUTE_PATTERNS;
        return Err(problem("matches", format!("they have {patterns} regular expressions; at most {limit} are read")));
    }
    let rules: Vec<Arc<RouteRule>> = each("rules", &row.rules, |field, rule| read_rule(field, rule).map(Arc::new))?;
    match v1::RouteKind::try_from(row.kind) {
        Ok(v1::RouteKind::Http) => requests(scope, RouteKind::Http, &row.matches, &rules),
        Ok(v1::RouteKind::Grpc) => requests(scope, RouteKind::Grpc, &row.matches, &rules),
        Ok(v1::RouteKind::Tls) => {
            let names = each("matches", &row.matches, |field, written| read_name(field, written, &rules))?;
            Ok(scope.connections(ConnectionRules::ByName(ServerNames::new(names))))
        }
        Ok(v1::RouteKind::Tcp) => {
            let first = row.matches.first().map(|first| rule_of("matches[0]", first, &rules)).transpose()?;
            Ok(scope.connections(ConnectionRules::One(first.cloned())))
        }
        Ok(v1::RouteKind::Unspecified) | Err(_) => {
            Err(problem("kind", format!("{} is not a known kind of route", row.kind)))
        }
    }
}

/// Every request is refused, or every connection. None when it has no name.
pub fn safe(resource: &str, row: Option<&v1::Routes>) -> Option<PortRoutes> {
    let scope = Scope::of_name(resource).ok()?;
    Some(match row.map_or(v1::RouteKind::Unspecified, v1::Routes::kind) {
        v1::RouteKind::Unspecified | v1::RouteKind::Http => scope.requests(RouteKind::Http, Matches::default()),
        v1::RouteKind::Grpc => scope.requests(RouteKind::Grpc, Matches::default()),
        v1::RouteKind::Tls | v1::RouteKind::Tcp => scope.connections(ConnectionRules::One(None)),
    })
}

fn requests(
    scope: Scope,
    kind: RouteKind,
    matches: &[v1::RouteMatch],
    rules: &[Arc<RouteRule>],
) -> Result<PortRoutes, ReadError> {
    let matches = each("matches", matches, |field, written| read_match(field, written, rules))?;
    Ok(scope.requests(kind, Matches::new(matches)))
}

/// Reads a list, each element under its own field name.
pub fn each<W, T>(
    field: &str,
    list: &[W],
    read: impl Fn(&str, &W) -> Result<T, ReadError>,
) -> Result<Vec<T>, ReadError> {
    list.iter().enumerate().map(|(index, written)| read(&format!("{field}[{index}]"), written)).collect()
}

pub fn bounded(field: &str, count: usize, limit: usize) -> Result<(), ReadError> {
    if count > limit {
        return Err(problem(field, format!("it has {count} entries, and at most {limit} are read")));
    }
    Ok(())
}

pub fn text<'a>(field: &str, text: &'a str) -> Result<&'a str, ReadError> {
    if text.len() > limits::ROUTE_TEXT {
        return Err(problem(
            field,
            format!("it has {} bytes, and at most {} are read", text.len(), limits::ROUTE_TEXT),
        ));
    }
    Ok(text)
}

/// A path in the form in which requests are compared with it.
pub fn path(field: &str, written: &str) -> Result<String, ReadError> {
    if !text(field, written)?.starts_with('/') {
        return Err(problem(field, format!("{written:?} is no path; it must begin with '/'")));
    }
    let canonical = canonical_path(written).map_err(|refused| problem(field, format!("{written:?}: {refused}")))?;
    Ok(canonical.into_owned())
}

/// Zero says nothing.
pub fn milliseconds(number: u32) -> Option<Duration> {
    (number > 0).then(|| Duration::from_millis(number.into()))
}

pub fn read_retry(field: &str, written: &v1::RetryPolicy) -> Result<RetryPolicy, ReadError> {
    bounded(field, written.statuses.len().max(written.grpc_statuses.len()), limits::ROUTE_LIST)?;
    let status = |number: &u32| {
        let status = u16::try_from(*number).ok().and_then(|number| StatusCode::from_u16(number).ok());
        status.ok_or_else(|| problem(format!("{field}.statuses"), format!("{number} is not an HTTP status")))
    };
    bounded(field, written.grpc_calls.len(), limits::ROUTE_LIST)?;
    let call = |call: &v1::GrpcCall| {
        let [service, method] = [&call.service, &call.method].map(|part| (!part.is_empty()).then_some(part.as_str()));
        PathPattern::grpc(service, method).map_err(|error| problem(format!("{field}.grpc_calls"), error))
    };
    let calls = written.grpc_calls.iter().map(call).collect::<Result<Vec<_>, _>>()?;
    Ok(RetryPolicy {
        attempts: written.attempts,
        statuses: written.statuses.iter().map(status).collect::<Result<_, _>>()?,
        grpc_statuses: written.grpc_statuses.clone(),
        grpc_calls: (!calls.is_empty()).then_some(calls),
        backoff: milliseconds(written.backoff_ms),
    })
}

pub fn read_backend(field: &str, written: &v1::RouteBackend) -> Result<Backend, ReadError> {
    bounded(&format!("{field}.filters"), written.filters.len(), limits::ROUTE_LIST)?;
    let target = if written.invalid.is_empty() {
        let service = NamespacedName::new(&written.namespace, &written.service);
        BackendTarget::Service {
            service: service.map_err(|error| problem(format!("{field}.service"), error))?,
            port: port(&format!("{field}.port"), written.port)?,
        }
    } else {
        BackendTarget::Invalid(Arc::from(text(field, &written.invalid)?))
    };
    let session = read_session(field, written.session_persistence.as_ref())?;
    let filters = written.filters.iter().map(filter::read).collect();
    Ok(Backend { weight: written.weight, target, filters, session })
}

fn read_session(
    field: &str,
    written: Option<&v1::SessionPersistence>,
) -> Result<Option<SessionPersistence>, ReadError> {
    written.map(|written| session::read(&format!("{field}.session_persistence"), written)).transpose()
}

fn read_rule(field: &str, written: &v1::RouteRule) -> Result<RouteRule, ReadError> {
    bounded(&format!("{field}.filters"), written.filters.len(), limits::ROUTE_LIST)?;
    bounded(&format!("{field}.backends"), written.backends.len(), limits::ROUTE_LIST)?;
    let retry = written.retry.as_ref().map(|retry| read_retry(&format!("{field}.retry"), retry)).transpose()?;
    Ok(RouteRule {
        route: Arc::from(text(field, &written.route)?),
        index: written.index,
        name: (!written.name.is_empty()).then(|| text(field, &written.name).map(Arc::from)).transpose()?,
        filters: written.filters.iter().map(filter::read).collect(),
        backends: each(&format!("{field}.backends"), &written.backends, read_backend)?,
        request_timeout: milliseconds(written.request_timeout_ms),
        backend_timeout: milliseconds(written.backend_timeout_ms),
        retry,
        session: read_session(field, written.session_persistence.as_ref())?,
    })
}

fn read_match(field: &str, written: &v1::RouteMatch, rules: &[Arc<RouteRule>]) -> Result<RouteMatch, ReadError> {
    bounded(field, written.headers.len().max(written.query.len()), limits::ROUTE_LIST)?;
    let rule = rule_of(field, written, rules)?;
    let method = match written.method.as_str() {
        "" => None,
        method => Some(
            Method::from_bytes(method.as_bytes())
                .map_err(|_| problem(format!("{field}.method"), format!("{method:?} is not a method")))?,
        ),
    };
    let header = |field: &str, written: &v1::ValueMatch| {
        Ok(HeaderMatch { name: filter::header_name(field, &written.name)?, value: read_value(field, written)? })
    };
    let query = |field: &str, written: &v1::ValueMatch| {
        Ok(QueryMatch { name: Box::from(text(field, &written.name)?), value: read_value(field, written)? })
    };
    Ok(RouteMatch {
        rule: Arc::clone(rule),
        path: written.path.as_ref().map_or(Ok(PathMatch::Any), |path| read_path(&format!("{field}.path"), path))?,
        method,
        headers: each(&format!("{field}.headers"), &written.headers, header)?,
        query: each(&format!("{field}.query"), &written.query, query)?,
    })
}

fn rule_of<'a>(
    field: &str,
    written: &v1::RouteMatch,
    rules: &'a [Arc<RouteRule>],
) -> Result<&'a Arc<RouteRule>, ReadError> {
    let rule = usize::try_from(written.rule).ok().and_then(|index| rules.get(index));
    rule.ok_or_else(|| problem(format!("{field}.rule"), format!("there is no rule {}", written.rule)))
}

fn read_name(
    field: &str,
    written: &v1::RouteMatch,
    rules: &[Arc<RouteRule>],
) -> Result<(String, Arc<RouteRule>), ReadError> {
    let own = format!("{field}.server_name");
    let name = text(&own, &written.server_name)?;
    if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(problem(own, format!("{name:?} is not a hostname in lower case")));
    }
    Ok((name.to_owned(), Arc::clone(rule_of(field, written, rules)?)))
}

fn patterns(written: &v1::RouteMatch) -> usize {
    let path = written.path.as_ref().is_some_and(|path| path.kind() == v1::PathMatchKind::RegularExpression);
    let values = written.headers.iter().chain(&written.query).filter(|value| value.regular_expression);
    usize::from(path) + values.count()
}

fn read_path(field: &str, written: &v1::PathMatch) -> Result<PathMatch, ReadError> {
    match v1::PathMatchKind::try_from(written.kind) {
        Ok(v1::PathMatchKind::Exact) => Ok(PathMatch::Exact(path(field, &written.value)?.into())),
        Ok(v1::PathMatchKind::Prefix) => Ok(PathMatch::Prefix(PathPrefix::new(&path(field, &written.value)?))),
        Ok(v1::PathMatchKind::RegularExpression) => Ok(PathMatch::Pattern(pattern(field, &written.value)?)),
        Ok(v1::PathMatchKind::GrpcMethod) if written.value.is_empty() || written.value.contains('/') => {
            Err(problem(field, format!("{:?} is not the name of a gRPC method", written.value)))
        }
        Ok(v1::PathMatchKind::GrpcMethod) => Ok(PathMatch::GrpcMethod(Box::from(text(field, &written.value)?))),
        Ok(v1::PathMatchKind::Unspecified) | Err(_) => {
            Err(problem(field, format!("{} is not a known kind of path match", written.kind)))
        }
    }
}

fn read_value(field: &str, written: &v1::ValueMatch) -> Result<ValueMatch, ReadError> {
    if written.regular_expression {
        return Ok(ValueMatch::Pattern(pattern(field, &written.value)?));
    }
    Ok(ValueMatch::Exact(Box::from(text(field, &written.value)?)))
}

fn pattern(field: &str, written: &str) -> Result<Pattern, ReadError> {
    Pattern::new(text(field, written)?).map_err(|error| problem(field, error))
}
