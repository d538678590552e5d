//! How requests to a Service port are routed.
//!
//! What is carried without looking for requests in it is `connections.rs`' business. The matches stand in their order of precedence: the first that fits decides, and there is no other fall-back. A
//! match holds its rule, so that no index can point nowhere. What fits is said by `http/matching.rs` and found by `matches.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::{Regex, RegexBuilder};
use weft_policy::PathPattern;
use weft_proto::names::{Namespace, NamespacedName};

use super::{ConnectionRoutes, Cors, Matches, SessionPersistence};
use crate::limits;

/// Routes of one kind alone speak of a port to an audience.
#[derive(Debug, Clone, PartialEq)]
pub enum PortRoutes {
    Requests(Routes),
    Connections(ConnectionRoutes),
}

impl PortRoutes {
    /// The port, and whose clients are meant; None: everybody's.
    #[must_use]
    pub fn scope(&self) -> (&NamespacedName, u16, Option<&Namespace>) {
        match self {
            Self::Requests(Routes { service, port, audience, .. })
            | Self::Connections(ConnectionRoutes { service, port, audience, .. }) => {
                (service, *port, audience.as_ref())
            }
        }
    }

    #[must_use]
    pub const fn of_requests(&self) -> Option<&Routes> {
        match self {
            Self::Requests(routes) => Some(routes),
            Self::Connections(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Routes {
    pub service: NamespacedName,
    pub port: u16,
    /// Whose clients are meant; None: everybody's.
    pub audience: Option<Namespace>,
    pub kind: RouteKind,
    pub matches: Matches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    Http,
    Grpc,
}

/// All present conditions must fit.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteMatch {
    pub rule: Arc<RouteRule>,
    pub path: PathMatch,
    pub method: Option<Method>,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
}

/// On the canonical path.
#[derive(Debug, Clone, PartialEq)]
pub enum PathMatch {
    Any,
    Exact(Box<str>),
    Prefix(PathPrefix),
    Pattern(Pattern),
    /// The last of exactly two elements.
    GrpcMethod(Box<str>),
}

/// Whole elements at a path's beginning; without a trailing slash, so that "" is every path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPrefix(Box<str>);

#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMatch {
    pub name: HeaderName,
    pub value: ValueMatch,
}

#[derive(Debug, Clone, PartialEq)]
pub struct QueryMatch {
    pub name: Box<str>,
    pub value: ValueMatch,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ValueMatch {
    Exact(Box<str>),
    Pattern(Pattern),
}

/// A regular expression that fits whole texts only; its compiled size is bounded.
#[derive(Debug, Clone)]
pub struct Pattern {
    written: Box<str>,
    compiled: Regex,
}

/// What happens to requests whose match names it, or to connections: then it has backends alone.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteRule {
    /// The kind and name of the object that it comes from, `HTTPRoute shop/web`.
    pub route: Arc<str>,
    /// Its place there, from 0.
    pub index: u32,
    /// The rule's own name; None for most.
    pub name: Option<Arc<str>>,
    pub filters: Vec<Filter>,
    pub backends: Vec<Backend>,
    /// The whole transaction, retries included.
    pub request_timeout: Option<Duration>,
    /// One attempt.
    pub backend_timeout: Option<Duration>,
    /// None: requests are sent again only where that is safe without being asked for.
    pub retry: Option<RetryPolicy>,
    /// None: each request may go to another endpoint.
    pub session: Option<SessionPersistence>,
}

#[cfg(test)]
impl RouteRule {
    /// The first one of that object, which says nothing.
    #[must_use]
    pub fn silent(route: &str) -> Self {
        Self {
            route: route.into(),
            index: 0,
            name: None,
            filters: Vec::new(),
            backends: Vec::new(),
            request_timeout: None,
            backend_timeout: None,
            retry: None,
            session: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Its share of the sum of all weights; 0: none.
    pub weight: u32,
    pub target: BackendTarget,
    /// For requests to this backend alone, after the rule's.
    pub filters: Vec<Filter>,
    /// In place of the rule's.
    pub session: Option<SessionPersistence>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendTarget {
    Service {
        service: NamespacedName,
        port: u16,
    },
    /// Why requests of this share are answered with an error, in a sentence.
    Invalid(Arc<str>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    RequestHeaders(HeaderEdit),
    ResponseHeaders(HeaderEdit),
    Redirect(Redirect),
    Rewrite(Rewrite),
    Mirror(Box<Mirror>),
    /// Of a rule, never of a backend: it answers preflights before any is chosen.
    Cors(Box<Cors>),
    /// A filter that cannot be applied: requests are answered with an error, for this reason.
    Unsupported(Arc<str>),
}

/// First `remove`, then `set`, then `add`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdit {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// What is absent stays the request's.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    pub scheme: Option<Scheme>,
    pub hostname: Option<Box<str>>,
    pub path: Option<PathRewrite>,
    pub port: Option<u16>,
    pub status: StatusCode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rewrite {
    pub hostname: Option<Box<str>>,
    pub path: Option<PathRewrite>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PathRewrite {
    /// A canonical path.
    Full(Box<str>),
    /// Takes the place of the prefix that matched; without a trailing slash, so that "" takes the prefix away.
    Prefix(PathPrefix),
}

/// A copy of the request goes to one endpoint of this backend; its answer is thrown away.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    pub backend: Backend,
    /// Of a million requests.
    pub per_million: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Further attempts after the first.
    pub attempts: u32,
    pub statuses: Vec<StatusCode>,
    pub grpc_statuses: Vec<u32>,
    /// The gRPC calls that it is for; None: all.
    pub grpc_calls: Option<Vec<PathPattern>>,
    /// Least pause before another attempt; None: the agent's own.
    pub backoff: Option<Duration>,
}

impl RouteRule {
    #[must_use]
    pub fn cors(&self) -> Option<&Cors> {
        self.filters.iter().find_map(|filter| if let Filter::Cors(cors) = filter { Some(&**cors) } else { None })
    }
}

impl PathPrefix {
    /// `path` begins with '/' and is canonical, or is empty.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self(Box::from(path.strip_suffix('/').unwrap_or(path)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows this prefix in `path`: empty, or something that begins with '/'. None when it does not begin with it.
    #[must_use]
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.0).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl ValueMatch {
    /// None: it is a regular expression.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        match self {
            Self::Exact(text) => Some(text),
            Self::Pattern(_) => None,
        }
    }
}

impl Pattern {
    /// Compiles `written` so that it fits whole texts.
    pub fn new(written: &str) -> Result<Self, regex::Error> {
        let compile = |text: &str| {
            RegexBuilder::new(text)
                .size_limit(limits::ROUTE_PATTERN_SIZE)
                .dfa_size_limit(limits::ROUTE_PATTERN_SIZE)
                .nest_limit(limits::ROUTE_PATTERN_DEPTH)
                .build()
        };
        // First by itself: parentheses that only pair with the added ones would escape from the anchors.
        compile(written)?;
        Ok(Self { written: Box::from(written), compiled: compile(&format!(r"\A(?:{written})\z"))? })
    }

    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Scheme {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// For people: `HTTPRoute shop/web[2]`, with the rule's own name after it where it has one.
impl fmt::Display for RouteRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}[{}]", self.route, self.index)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(formatter, " ({name})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_texts_only() {
        let pattern = Pattern::new("a|b").unwrap();
        assert!(pattern.fits("a") && pattern.fits("b"));
        assert!(!pattern.fits("ab") && !pattern.fits("xa") && !pattern.fits("b\n"));
        assert!(Pattern::new("a)|(?:b").is_err());
        assert!(Pattern::new("(a{1000}){1000}").is_err());
    }
}
