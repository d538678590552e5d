//! How specific a match is: Gateway API's order of precedence among matches of routes of one kind.
//!
//! HTTP: Exact path, then the longest prefix, then regular expressions, then any path; then a method; then more headers;
//! then more query parameters. gRPC: the longest service, then the longest method, then more headers; an expression
//! is between a text and nothing. TLS: the longest whole name, then the longest wildcard. Absent: what decides among equals (age, name, place).

use std::cmp::Reverse;

use weft_proto::v1::{PathMatchKind, RouteMatch};

/// The smaller one goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity([Reverse<u32>; 5]);

impl Specificity {
    #[must_use]
    pub fn of_http(condition: &RouteMatch) -> Self {
        let (class, length) = match condition.path.as_ref().map(|path| (path.kind(), path.value.len())) {
            Some((PathMatchKind::Exact, _)) => (3, 0),
            // Every path begins with "/": as a prefix it says nothing, and must not shadow a regular expression.
            Some((PathMatchKind::Prefix, length)) if length > 1 => (2, count(length)),
            Some((PathMatchKind::RegularExpression, _)) => (1, 0),
            Some((PathMatchKind::Prefix | PathMatchKind::GrpcMethod | PathMatchKind::Unspecified, _)) | None => (0, 0),
        };
        let method = u32::from(!condition.method.is_empty());
        Self([class, length, method, count(condition.headers.len()), count(condition.query.len())].map(Reverse))
    }

    #[must_use]
    pub fn of_server_name(name: &str) -> Self {
        let whole = if name.starts_with('*') { 0 } else { count(name.len()) };
        Self([whole, count(name.len()), 0, 0, 0].map(Reverse))
    }

    #[must_use]
    pub fn of_grpc(service: Part<'_>, method: Part<'_>, headers: usize) -> Self {
        Self([service.rank(), method.rank(), count(headers), 0, 0].map(Reverse))
    }
}

/// What a gRPC match says of a service or a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    Any,
    Expression,
    Text(&'a str),
}

impl Part<'_> {
    fn rank(self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Expression => 1,
            Self::Text(text) => 1 + count(text.len()),
        }
    }
}

/// Lists and texts of a checked route are short.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
