//! The one canonical form of a request's method, authority and path (RFC 9110, 9112, 9113).
//!
//! Computed once: policy and routing judge it, and [`Canonical::write`] forwards exactly it. What two readers could
//! understand differently is refused with a sentence, never guessed. Absent: bodies, and what the parser already refuses
//! (a fragment is cut off by `http::Uri`; it is neither judged nor forwarded).

mod authority;
mod hop_by_hop;
mod path;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{self, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::upgrade::is_refused;
use crate::error::{ConnectionError, Reason, Side};

pub use authority::Authority;
pub use hop_by_hop::{is_upgrade, strip_hop_by_hop};
pub use path::canonical as canonical_path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    method: Method,
    /// Empty where HTTP/1.0, or an empty Host, names nobody.
    authority: Authority,
    target: Target,
    /// A request of HTTP/1 for a forward proxy names its whole target (RFC 9112, section 3.2.2), and goes on as it came.
    proxied: Option<uri::Scheme>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Path(PathAndQuery),
    /// `OPTIONS *`
    Asterisk,
    /// `CONNECT host:port`
    Tunnel,
}

/// Why a request has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    #[error("the method is a standard one in another case, which servers understand differently; write it in capitals")]
    MethodCase,
    #[error("the request has no Host")]
    HostMissing,
    #[error("the request has several Host fields")]
    HostTwice,
    #[error("the Host is not the authority that the request is addressed to")]
    HostDiffers,
    #[error("the authority is no host name or address, with or without a port")]
    Authority,
    #[error("the authority names a user; none belongs there (RFC 9110, section 4.2.4)")]
    UserInAuthority,
    #[error("the request's target is of a form that its method does not have (RFC 9112, section 3.2)")]
    TargetForm,
    #[error("the scheme is neither http nor https")]
    Scheme,
    #[error("the path has an encoded slash or a backslash (%2F, %5C), which servers understand differently")]
    Separator,
    #[error("the path or query has a control character")]
    Control,
    #[error("the path has a percent sign without two hexadecimal digits")]
    Percent,
    #[error("the path has a dot segment with parameters (/..;/), which servers understand differently")]
    DotParameters,
    #[error("the path has an empty segment (//), which servers understand differently, and rules judge this port")]
    EmptySegment,
    #[error("the path has parameters (; or %3B), which servers understand differently, and rules judge this port")]
    Parameters,
    #[error("the path is longer than a request's target may be")]
    Length,
    #[error("the request has both Content-Length and Transfer-Encoding")]
    TwoLengths,
    #[error("the Content-Length is repeated or is no number")]
    ContentLength,
    #[error("the Transfer-Encoding is another than chunked, or one that this version of HTTP does not have")]
    TransferEncoding,
}

/// The canonical form of a request that somebody judges: a route, or a rule about requests.
pub fn canonical(parts: &Parts) -> Result<Canonical, Refused> {
    check_method(&parts.method)?;
    Ok(Canonical { proxied: None, ..read(parts, canonical_path)? })
}

/// The same with method and path as they were received, for a request that nobody judges by them: applications have their
/// own use for encoded slashes. Whom it is addressed to and where it ends has one meaning here too.
pub fn as_received(parts: &Parts) -> Result<Canonical, Refused> {
    read(parts, |path| Ok(Cow::Borrowed(path)))
}

fn read(parts: &Parts, path_form: PathForm) -> Result<Canonical, Refused> {
    check_length(&parts.headers, parts.version)?;
    let authority = authority_of(parts)?;
    let target = target_of(parts, &authority, path_form)?;
    let proxied = parts.uri.scheme().filter(|_| parts.version < Version::HTTP_2).cloned();
    Ok(Canonical { method: parts.method.clone(), authority, target, proxied })
}

/// Makes of a path what is judged and forwarded.
type PathForm = fn(&str) -> Result<Cow<'_, str>, Refused>;

impl Canonical {
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// In lower case, without port and trailing dot; IPv6 addresses in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.authority.port()
    }

    /// What some servers take out of a path before they use it and others do not: empty segments and parameters (RFC 3986,
    /// section 3.3). A rule about paths could be walked around with them.
    pub fn check_for_rules(&self) -> Result<(), Refused> {
        if self.path().contains("//") {
            return Err(Refused::EmptySegment);
        }
        // In the canonical form an encoding has capitals. Those who decode before they look for parameters find it too.
        if self.path().contains(';') || self.path().contains("%3B") { Err(Refused::Parameters) } else { Ok(()) }
    }

    /// "*" for `OPTIONS *`, empty for CONNECT; otherwise it begins with '/'.
    #[must_use]
    pub fn path(&self) -> &str {
        match &self.target {
            Target::Path(path) => path.path(),
            Target::Asterisk => "*",
            Target::Tunnel => "",
        }
    }

    /// As it was received.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        match &self.target {
            Target::Path(path) => path.query(),
            Target::Asterisk | Target::Tunnel => None,
        }
    }

    /// Another host for what is forwarded; the port goes with the old one, save for a tunnel, which leads to it.
    pub fn replace_host(&mut self, host: &str) {
        let port = self.authority.port().filter(|_| self.target == Target::Tunnel);
        self.authority = Authority::named(host, port);
    }

    /// Another path, itself canonical, for what is forwarded; the query stays.
    pub fn replace_path(&mut self, path: &str) -> Result<(), Refused> {
        if let Target::Path(old) = &self.target {
            self.target = Target::Path(path_and_query(path, old.query())?);
        }
        Ok(())
    }

    /// Makes `parts` exactly this request, for a message of `version`. Where HTTP/1.0 names no host it stays HTTP/1.0, for not
    /// every server takes an empty Host.
    pub fn write(&self, parts: &mut Parts, version: Version) -> Result<(), Refused> {
        let nameless = parts.version < Version::HTTP_11 && version == Version::HTTP_11 && self.host().is_empty();
        parts.method = self.method.clone();
        parts.version = if nameless { Version::HTTP_10 } else { version };
        parts.headers.remove(HOST);
        let host = self.authority.to_string();
        if version == Version::HTTP_2 && host.is_empty() {
            return Err(Refused::HostMissing);
        }
        let target = match &self.target {
            Target::Path(path) => Some(path.clone()),
            Target::Asterisk => Some(PathAndQuery::from_static("*")),
            Target::Tunnel => None,
        };
        let mut written = uri::Parts::default();
        let scheme = if version == Version::HTTP_2 { Some(uri::Scheme::HTTP) } else { self.proxied.clone() };
        if scheme.is_some() || target.is_none() {
            written.authority = Some(uri::Authority::try_from(host.as_str()).map_err(|_| Refused::Authority)?);
        }
        written.scheme = scheme.filter(|_| target.is_some());
        written.path_and_query = target;
        parts.uri = Uri::from_parts(written).map_err(|_| Refused::TargetForm)?;
        if version != Version::HTTP_2 && !nameless {
            parts.headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| Refused::Authority)?);
        }
        Ok(())
    }
}

/// A tunnel leads past every rule about requests, so none is opened.
pub fn refuse_tunnel(parts: &Parts) -> Result<(), ConnectionError> {
    if parts.method == Method::CONNECT || is_refused(&parts.extensions) {
        return Err(
            ConnectionError::new(Side::Downstream, Reason::TunnelRefused).with_detail("CONNECT is for forward proxies")
        );
    }
    Ok(())
}

/// Methods are case-sensitive, but not for every server: what looks like a standard one must be it.
fn check_method(method: &Method) -> Result<(), Refused> {
    let standard = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    let alike = standard.iter().find(|known| known.as_str().eq_ignore_ascii_case(method.as_str()));
    if alike.is_some_and(|known| known != method) { Err(Refused::MethodCase) } else { Ok(()) }
}

/// A body's length has one meaning. Repeated lengths are refused even when equal (RFC 9112, section 6.3, permits it).
fn check_length(headers: &HeaderMap, version: Version) -> Result<(), Refused> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if let Some(length) = length {
        let digits = length.as_bytes();
        let number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        if !number || lengths.next().is_some() {
            return Err(Refused::ContentLength);
        }
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return Ok(()) };
    if length.is_some() {
        return Err(Refused::TwoLengths);
    }
    let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked") && encodings.next().is_none();
    if chunked && version == Version::HTTP_11 { Ok(()) } else { Err(Refused::TransferEncoding) }
}

fn authority_of(parts: &Parts) -> Result<Authority, Refused> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().map(|value| Authority::read(value.as_bytes())).transpose()?;
    if hosts.next().is_some() {
        return Err(Refused::HostTwice);
    }
    let addressed = parts.uri.authority().map(|text| Authority::read(text.as_str().as_bytes())).transpose()?;
    match (addressed, host) {
        (Some(addressed), Some(host)) => {
            let default = if parts.uri.scheme() == Some(&uri::Scheme::HTTPS) { 443 } else { 80 };
            // A tunnel's Host is often written without the port.
            let loose = parts.method == Method::CONNECT && host.port().is_none();
            let same_port = addressed.port().unwrap_or(default) == host.port().unwrap_or(default);
            if addressed.host() == host.host() && (same_port || loose) {
                Ok(addressed)
            } else {
                Err(Refused::HostDiffers)
            }
        }
        // RFC 9112, section 3.2: a Host is sent even with an absolute target.
        (Some(_), None) if parts.version == Version::HTTP_11 && parts.method != Method::CONNECT => {
            Err(Refused::HostMissing)
        }
        (Some(only), None) | (None, Some(only)) => Ok(only),
        (None, None) if parts.version < Version::HTTP_11 => Ok(Authority::nobody()),
        (None, None) => Err(Refused::HostMissing),
    }
}

fn target_of(parts: &Parts, authority: &Authority, path_form: PathForm) -> Result<Target, Refused> {
    let uri = &parts.uri;
    let path = uri.path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
    if parts.method == Method::CONNECT {
        let alone = uri.scheme().is_none() && path.is_empty() && uri.authority().is_some();
        return if alone && authority.port().is_some() { Ok(Target::Tunnel) } else { Err(Refused::TargetForm) };
    }
    if uri.scheme().is_some_and(|scheme| *scheme != uri::Scheme::HTTP && *scheme != uri::Scheme::HTTPS) {
        return Err(Refused::Scheme);
    }
    if path == "*" {
        return if parts.method == Method::OPTIONS { Ok(Target::Asterisk) } else { Err(Refused::TargetForm) };
    }
    if uri.authority().is_some() && uri.scheme().is_none() {
        return Err(Refused::TargetForm);
    }
    let received = uri.path_and_query().ok_or(Refused::TargetForm)?;
    if received.query().is_some_and(|query| query.bytes().any(|byte| byte.is_ascii_control())) {
        return Err(Refused::Control);
    }
    let path = path_form(received.path())?;
    // An absolute target without a path has a query alone.
    if matches!(path, Cow::Borrowed(_)) && received.as_str().starts_with('/') {
        return Ok(Target::Path(received.clone()));
    }
    path_and_query(&path, received.query()).map(Target::Path)
}

fn path_and_query(path: &str, query: Option<&str>) -> Result<PathAndQuery, Refused> {
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    PathAndQuery::try_from(text).map_err(|_| Refused::Length)
}
