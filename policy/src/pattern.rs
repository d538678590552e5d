//! What a rule compares parts of a request with, parsed once.
//!
//! A pattern that no canonical request can equal is an error: a Deny that never matches is a hole that nobody sees.

use std::fmt::{self, Write};
use std::net::Ipv6Addr;
use std::str::FromStr;

use http::HeaderName;
use serde::Serialize;
use weft_proto::v1;

/// What is wrong with a pattern, and what to write instead (a sentence that begins in lower case).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {fix}")]
pub struct PatternError {
    pub problem: String,
    pub fix: String,
}

/// A method of HTTP, case-sensitive (RFC 9110 section 9.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Method(Box<str>);

/// A host in lower case and without port, perhaps an address (of IPv6 in brackets). Compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    Name(Box<str>),
    /// Every name below this one, at any depth, but not the name itself: written `*.name`.
    Below(Box<str>),
}

/// Of the canonical path, without the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    Exact(Box<str>),
    /// Element by element, without a slash at the end: `/a` is `/a`, `/a/` and `/a/b`, not `/ab`. Empty: every path
    /// that begins with a slash, as all do but those of `OPTIONS *` and CONNECT.
    Prefix(Box<str>),
    Template {
        elements: Vec<TemplateElement>,
        /// Ends in `{**}`: any number of elements more, none too.
        open: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateElement {
    Literal(Box<str>),
    /// One element that is not empty. The name is for people.
    Any(Box<str>),
}

/// The text of a host without brackets, in DNS (RFC 1035 section 2.3.4).
const HOST_LENGTH_MAXIMUM: usize = 253;
/// Of a path pattern: longer paths than this are no part of what a person writes into a rule.
const PATH_LENGTH_MAXIMUM: usize = 1024;
const OPEN_END: &str = "{**}";

impl PatternError {
    fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }
}

/// The name of a header as conditions have it, written in any case. A request's host is no header here, because it has
/// several places: a condition on one of them would see nothing in the others.
pub fn header_name(text: &str) -> Result<HeaderName, PatternError> {
    let name = HeaderName::from_str(text)
        .map_err(|_| PatternError::new(format!("{text:?} is not the name of a header"), "write one such as x-user"))?;
    if name == http::header::HOST {
        return Err(PatternError::new("the host is compared as a host", "write it as one of hosts or notHosts"));
    }
    Ok(name)
}

impl Method {
    #[must_use]
    pub fn matches(&self, method: &str) -> bool {
        *self.0 == *method
    }
}

impl FromStr for Method {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        // The type checks the token's letters and is thrown away: it would hold an odd method in the heap, as this does.
        match http::Method::from_str(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err(PatternError::new(format!("{text:?} is not a method of HTTP"), "write one such as GET")),
        }
    }
}

impl HostPattern {
    /// `host` as a request has it: with a port or without, in any case.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = name_of(host);
        match self {
            Self::Name(name) => host.eq_ignore_ascii_case(name),
            Self::Below(parent) => {
                let Some(dot) = host.len().checked_sub(parent.len() + 1) else { return false };
                let (below, rest) = host.as_bytes().split_at(dot);
                !below.is_empty() && rest[0] == b'.' && rest[1..].eq_ignore_ascii_case(parent.as_bytes())
            }
        }
    }
}

/// The name alone: no port, and no dot of the root at the end, which DNS does not tell apart.
fn name_of(host: &str) -> &str {
    let name = if host.starts_with('[') {
        host.split_inclusive(']').next().unwrap_or(host)
    } else {
        host.split(':').next().unwrap_or(host)
    };
    name.strip_suffix('.').unwrap_or(name)
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |problem: &str, fix: &str| PatternError::new(format!("{text:?} {problem}"), fix);
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(PatternError::new(
                format!("{text:?} has upper-case letters"),
                format!("write {}", text.to_ascii_lowercase()),
            ));
        }
        if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr =
                address.parse().map_err(|_| error("is not an address", "write one such as [fd00::7]"))?;
            return Ok(Self::Name(format!("[{address}]").into()));
        }
        if name.contains(':') {
            return Err(error("has a port", "write the host alone, and the port as one of ports"));
        }
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let whole = name.split('.').all(|label| !label.is_empty() && label.bytes().all(valid));
        if !whole || name.len() > HOST_LENGTH_MAXIMUM {
            return Err(error("is not a host", "write one such as api.example.com or *.example.com"));
        }
        Ok(if below { Self::Below(name.into()) } else { Self::Name(name.into()) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Below(parent) => write!(formatter, "*.{parent}"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PathPattern {
    pub fn exact(text: &str) -> Result<Self, PatternError> {
        canonical(text)?;
        no_braces(text)?;
        Ok(Self::Exact(text.into()))
    }

    pub fn prefix(text: &str) -> Result<Self, PatternError> {
        canonical(text)?;
        no_braces(text)?;
        Ok(Self::Prefix(text.strip_suffix('/').unwrap_or(text).into()))
    }

    pub fn template(text: &str) -> Result<Self, PatternError> {
        canonical(text)?;
        let mut words: Vec<&str> = text.split('/').skip(1).collect();
        let open = words.last() == Some(&OPEN_END);
        if open {
            words.pop();
        }
        let elements = words.into_iter().map(element).collect::<Result<_, _>>()?;
        Ok(Self::Template { elements, open })
    }

    /// Every method of a gRPC service, one method, or one method's name in every service: `/service/method`
    /// (gRPC over HTTP/2, Requests). Both absent is every call.
    pub fn grpc(service: Option<&str>, method: Option<&str>) -> Result<Self, PatternError> {
        let part = |name: Option<&str>, any: &str| match name {
            None => Ok(TemplateElement::Any(any.into())),
            Some(name) if is_grpc_name(name) => Ok(TemplateElement::Literal(name.into())),
            Some(name) => Err(PatternError::new(
                format!("{name:?} is not a name of gRPC"),
                "write a service such as shop.v1.Cart or a method such as AddItem",
            )),
        };
        Ok(match (part(service, "service")?, part(method, "method")?) {
            (TemplateElement::Literal(service), TemplateElement::Literal(method)) => {
                Self::Exact(format!("/{service}/{method}").into())
            }
            (service, method) => Self::Template { elements: vec![service, method], open: false },
        })
    }

    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(own) => **own == *path,
            Self::Prefix(own) => path.strip_prefix(&**own).is_some_and(|rest| {
                // A prefix that still ends in a slash ends in an empty element, and must find it.
                rest.starts_with('/') || (rest.is_empty() && !own.is_empty() && !own.ends_with('/'))
            }),
            Self::Template { elements, open } => {
                let Some(path) = path.strip_prefix('/') else { return false };
                let mut words = path.split('/');
                elements.iter().all(|element| words.next().is_some_and(|word| element.matches(word)))
                    && (*open || words.next().is_none())
            }
        }
    }
}

impl From<&PathPattern> for v1::PathPattern {
    fn from(pattern: &PathPattern) -> Self {
        let kind = match pattern {
            PathPattern::Exact(_) => v1::PathPatternKind::Exact,
            PathPattern::Prefix(_) => v1::PathPatternKind::Prefix,
            PathPattern::Template { .. } => v1::PathPatternKind::Template,
        };
        Self { kind: kind.into(), value: pattern.to_string() }
    }
}

impl TemplateElement {
    fn matches(&self, word: &str) -> bool {
        match self {
            Self::Literal(own) => **own == *word,
            Self::Any(_) => !word.is_empty(),
        }
    }
}

fn element(word: &str) -> Result<TemplateElement, PatternError> {
    let error = |problem: &str, fix: &str| PatternError::new(format!("{word:?} {problem}"), fix);
    if !word.contains(['{', '}']) {
        return Ok(TemplateElement::Literal(word.into()));
    }
    if word == OPEN_END {
        return Err(error("is not the last element", "write {**} at the end, or one {name} for each element"));
    }
    let whole = word.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let name = whole.ok_or_else(|| error("has braces around a part of it", "write {name} for a whole element"))?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(error("has no name in its braces", "write one such as {id}, or {**} at the end for any elements"));
    }
    Ok(TemplateElement::Any(name.into()))
}

/// A path that is already in the one form in which requests are compared (RFC 3986 section 6.2.2). Empty elements are
/// elements: requests keep them, and a Deny may name them.
fn canonical(text: &str) -> Result<(), PatternError> {
    let error = |problem: &str, fix: &str| Err(PatternError::new(format!("{text:?} {problem}"), fix));
    if !text.starts_with('/') {
        return error("does not begin with a slash", "write one such as /orders");
    }
    if text.len() > PATH_LENGTH_MAXIMUM {
        return Err(PatternError::new(
            format!("it has {} letters", text.len()),
            format!("write a path of at most {PATH_LENGTH_MAXIMUM}"),
        ));
    }
    if text.contains(['?', '#']) {
        return error("has a query or a fragment", "write the path alone");
    }
    if text.split('/').any(|word| matches!(word.split(';').next(), Some("." | ".."))) {
        return error("has an element '.' or '..'", "write the path that it leads to");
    }
    if !text.bytes().all(|byte| is_plain(byte) || matches!(byte, b'%' | b'{' | b'}')) {
        return error("has a letter that paths do not have", "write it percent-encoded, such as %20 for a space");
    }
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        let Some(byte) = encoded(digits) else {
            return error("has a % without two upper-case digits", "write one such as %20");
        };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            return error("encodes a letter that needs no encoding", "write the letter itself");
        }
        if matches!(byte, b'/' | b'\\') || byte.is_ascii_control() {
            return error("encodes a slash or a control character", "leave it out: such requests are always refused");
        }
    }
    Ok(())
}

/// What a path has as it is: pchar without percent signs, and slashes (RFC 3986 section 3.3).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

fn encoded(digits: &[u8]) -> Option<u8> {
    let valid = digits.len() == 2 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    let text = std::str::from_utf8(digits).ok().filter(|_| valid)?;
    u8::from_str_radix(text, 16).ok()
}

fn no_braces(text: &str) -> Result<(), PatternError> {
    if text.contains(['{', '}']) {
        return Err(PatternError::new(
            format!("{text:?} has braces"),
            "write it as a Template, or %7B and %7D for braces themselves",
        ));
    }
    Ok(())
}

/// Names of protocol buffers: letters, digits, underscores; a service has its package before it, with dots.
fn is_grpc_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.split('.').all(|part| !part.is_empty() && part.bytes().all(valid))
}

/// As it is written in a policy, without its kind.
impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Reading it takes one slash from its end.
            Self::Prefix(path) if path.is_empty() || path.ends_with('/') => write!(formatter, "{path}/"),
            Self::Exact(path) | Self::Prefix(path) => formatter.write_str(path),
            Self::Template { elements, open } => {
                for element in elements {
                    match element {
                        TemplateElement::Literal(own) => write!(formatter, "/{own}")?,
                        TemplateElement::Any(name) => write!(formatter, "/{{{name}}}")?,
                    }
                }
                if *open {
                    formatter.write_char('/')?;
                    formatter.write_str(OPEN_END)?;
                }
                Ok(())
            }
        }
    }
}

impl Serialize for PathPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = match self {
            Self::Exact(_) => "exact",
            Self::Prefix(_) => "prefix",
            Self::Template { .. } => "template",
        };
        serializer.collect_str(&format_args!("{kind} {self}"))
    }
}
