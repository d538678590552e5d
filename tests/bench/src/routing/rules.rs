//! Rules as many tenants of one Service port would write them, in their order, and requests for them.
//!
//! Names have one length however many there are, so that a difference between tables is one of the search alone.

use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use http::{HeaderMap, HeaderName, Request, Version};
use weft_agent::http::canonical::{Canonical, canonical};
use weft_agent::model::{
    Backend, BackendTarget, HeaderMatch, Matches, PathMatch, PathPrefix, RouteKind, RouteMatch, RouteRule, Routes,
    ValueMatch,
};

/// For what kind of rule a request is; each has its share of the rules, in this order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A whole path.
    Exact,
    /// Seven elements, of a path with two hundred.
    Deep,
    /// Two elements.
    Prefix,
    /// A method of any service.
    Grpc,
    /// One value of one header, at every path.
    Header,
    /// None: 404.
    Nobody,
}

pub(super) struct Asked {
    pub(super) canonical: Canonical,
    pub(super) headers: HeaderMap,
}

/// Kinds of rules; nobody has none.
const RULED: [Kind; 5] = [Kind::Exact, Kind::Deep, Kind::Prefix, Kind::Grpc, Kind::Header];
const USER: HeaderName = HeaderName::from_static("x-user");

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Deep => "deep",
            Self::Prefix => "prefix",
            Self::Grpc => "grpc",
            Self::Header => "header",
            Self::Nobody => "nobody",
        }
    }

    /// The path of a rule, or the part of a request's path that the rule speaks of.
    fn path(self, number: usize) -> String {
        match self {
            Self::Exact => format!("/shop/items/{number:05}/reviews"),
            Self::Deep => format!("/tenants/{number:05}/regions/north/shops/main/v2"),
            Self::Prefix => format!("/shop/{number:05}"),
            Self::Grpc => format!("Call{number:05}"),
            Self::Header => "/".to_owned(),
            Self::Nobody => format!("/nobody/{number:05}"),
        }
    }

    fn target(self, number: usize) -> String {
        let path = self.path(number);
        match self {
            Self::Exact | Self::Header | Self::Nobody => path,
            Self::Deep => format!("{path}{}", "/more".repeat(193)),
            Self::Prefix => format!("{path}/reviews"),
            Self::Grpc => format!("/shop.Cart/{path}"),
        }
    }

    fn matching(self, number: usize) -> PathMatch {
        let path = self.path(number);
        match self {
            Self::Exact | Self::Nobody => PathMatch::Exact(path.into()),
            Self::Deep | Self::Prefix | Self::Header => PathMatch::Prefix(PathPrefix::new(&path)),
            Self::Grpc => PathMatch::GrpcMethod(path.into()),
        }
    }
}

/// All rules, each with one match.
pub(super) fn matches(rules: usize) -> Result<Vec<RouteMatch>> {
    let each = rules / RULED.len();
    let numbered = RULED.into_iter().flat_map(|kind| (0..each).map(move |number| (kind, number)));
    numbered.map(|(kind, number)| one(kind, number)).collect()
}

pub(super) fn routes(rules: usize) -> Result<Routes> {
    Ok(Routes {
        service: "shop/web".parse()?,
        port: 80,
        audience: None,
        kind: RouteKind::Http,
        matches: Matches::new(matches(rules)?),
    })
}

/// For one rule of the kind after the other.
pub(super) fn requests(kind: Kind, rules: usize, count: usize) -> Result<Vec<Asked>> {
    let each = rules / RULED.len();
    (0..count).map(|number| ask(kind, (number * (each / count).max(1)) % each)).collect()
}

fn one(kind: Kind, number: usize) -> Result<RouteMatch> {
    let backend = Backend {
        weight: 1,
        target: BackendTarget::Service { service: "shop/web".parse()?, port: 80 },
        filters: Vec::new(),
        session: None,
    };
    let rule = RouteRule {
        route: format!("HTTPRoute shop/{}-{number:05}", kind.name()).into(),
        index: 0,
        name: None,
        filters: Vec::new(),
        backends: vec![backend],
        request_timeout: None,
        backend_timeout: None,
        retry: None,
        session: None,
    };
    let user = HeaderMatch { name: USER, value: ValueMatch::Exact(format!("{number:05}").into()) };
    let headers = if kind == Kind::Header { vec![user] } else { Vec::new() };
    Ok(RouteMatch { rule: Arc::new(rule), path: kind.matching(number), method: None, headers, query: Vec::new() })
}

/// As a browser of a user would, of whom a rule speaks in one kind alone.
fn ask(kind: Kind, number: usize) -> Result<Asked> {
    let user = if kind == Kind::Header { format!("{number:05}") } else { "nobody".to_owned() };
    let request = Request::builder().version(Version::HTTP_11).uri(kind.target(number));
    let request =
        request.header("host", "web").header("accept", "*/*").header("user-agent", "bench").header(USER, user);
    let parts = request.body(())?.into_parts().0;
    Ok(Asked { canonical: canonical(&parts)?, headers: parts.headers })
}
