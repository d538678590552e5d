//! Which rule of a port's routes takes a request.
//!
//! The first match that fits in the order of the routes, whatever comes after it. `model/matches.rs` finds the few that may
//! fit; here is what it means to fit. Nothing is allocated, save for a query parameter with encoded characters that a regular
//! expression looks at.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, Method};

use super::canonical::Canonical;
use super::{cors, query};
use crate::model::{
    HeaderMatch, PathMatch, PathPrefix, QueryMatch, RouteMatch, RouteRule, Routes, ValueMatch, host_and_port,
};

/// The rule for a request, and the match that found it.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    pub rule: &'a Arc<RouteRule>,
    pub matched: &'a RouteMatch,
    /// Of a preflight: another rule takes the request that it announces, and says nothing of other origins.
    pub is_bystander: bool,
}

impl<'a> Chosen<'a> {
    /// The prefix that a rewrite replaces.
    #[must_use]
    pub const fn prefix(&self) -> Option<&'a PathPrefix> {
        match &self.matched.path {
            PathMatch::Prefix(prefix) => Some(prefix),
            PathMatch::Any | PathMatch::Exact(_) | PathMatch::Pattern(_) | PathMatch::GrpcMethod(_) => None,
        }
    }
}

impl Routes {
    /// None: no route is for this request, and nothing else is either.
    ///
    /// A preflight asks whether another request may be made: the rule of that one answers, if it says who may, whatever
    /// rules there are for OPTIONS. With rules of their own for it users would have to write each one twice. If it says
    /// nothing, nobody does, but for a rule that names OPTIONS itself.
    #[must_use]
    pub fn choose(&self, request: &Canonical, headers: &HeaderMap) -> Option<Chosen<'_>> {
        let announced = cors::announced(request, headers).and_then(|method| self.first(&method, request, headers));
        if announced.is_some_and(|chosen| chosen.rule.cors().is_some()) {
            return announced;
        }
        let chosen = self.first(request.method(), request, headers)?;
        Some(Chosen { is_bystander: announced.is_some() && chosen.matched.method.is_none(), ..chosen })
    }

    fn first(&self, method: &Method, request: &Canonical, headers: &HeaderMap) -> Option<Chosen<'_>> {
        let matched = self.matches.first(method, request, headers, |wanted| fits(wanted, method, request, headers))?;
        Some(Chosen { rule: &matched.rule, matched, is_bystander: false })
    }
}

fn fits(wanted: &RouteMatch, method: &Method, request: &Canonical, headers: &HeaderMap) -> bool {
    path_fits(&wanted.path, request.path())
        && wanted.method.as_ref().is_none_or(|wanted| wanted == method)
        && wanted.headers.iter().all(|wanted| header_fits(wanted, request, headers))
        && wanted.query.iter().all(|wanted| query_fits(wanted, request.query()))
}

fn path_fits(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Any => true,
        PathMatch::Exact(whole) => **whole == *path,
        // The root is a prefix of every path, and of `OPTIONS *` and CONNECT, which have none.
        PathMatch::Prefix(prefix) => prefix.as_str().is_empty() || prefix.rest(path).is_some(),
        PathMatch::Pattern(pattern) => pattern.fits(path),
        PathMatch::GrpcMethod(method) => {
            let elements = path.strip_prefix('/').and_then(|path| path.split_once('/'));
            elements.is_some_and(|(service, last)| !service.is_empty() && *last == **method)
        }
    }
}

fn header_fits(wanted: &HeaderMatch, request: &Canonical, headers: &HeaderMap) -> bool {
    if wanted.name == HOST {
        return host_fits(&wanted.value, request);
    }
    let Some(value) = headers.get(&wanted.name) else { return false };
    match &wanted.value {
        ValueMatch::Exact(text) => value.as_bytes() == text.as_bytes(),
        ValueMatch::Pattern(pattern) => std::str::from_utf8(value.as_bytes()).is_ok_and(|text| pattern.fits(text)),
    }
}

/// HTTP/2 has the host elsewhere than in a header, so it is compared in its canonical form; a value with a port means that
/// port.
fn host_fits(wanted: &ValueMatch, request: &Canonical) -> bool {
    match wanted {
        ValueMatch::Exact(text) => {
            let (host, port) = host_and_port(text);
            host.eq_ignore_ascii_case(request.host()) && port.is_none_or(|port| port.parse().ok() == request.port())
        }
        ValueMatch::Pattern(pattern) => pattern.fits(request.host()),
    }
}

/// The first parameter of this name counts.
fn query_fits(wanted: &QueryMatch, query: Option<&str>) -> bool {
    let Some(value) = query::value(query, &wanted.name) else { return false };
    match &wanted.value {
        ValueMatch::Exact(text) => query::decoded(value).eq(text.bytes()),
        ValueMatch::Pattern(pattern) => query::readable(value).is_some_and(|value| pattern.fits(&value)),
    }
}
