//! What browsers are told of pages of other origins (Fetch, CORS protocol; GEP-1767).
//!
//! A rule with this filter has the only word on it: what its backend or another filter says of the same is taken out, and
//! preflights never reach a backend, so that there is one truth. It is written last, on every answer to a request of the
//! rule, Weft's own errors and redirects too: a script could not read those otherwise. Where an answer depends on the
//! asking origin, each of them says so in Vary, also to those that named none: caches mix them up otherwise. The other
//! two things that the answer to a preflight depends on concern no cache (RFC 9110, section 9.3.7).

#[cfg(test)]
pub(super) mod tests;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::canonical::{Authority, Canonical};
use super::matching::Chosen;
use crate::model::{Cors, Names, OriginHost, Origins, Scheme};

/// What answers say of themselves.
const SAID: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

const ANY: HeaderValue = HeaderValue::from_static("*");

/// The method of the request that a preflight announces; None: the request is no preflight.
#[must_use]
pub fn announced(request: &Canonical, headers: &HeaderMap) -> Option<Method> {
    if request.method() != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    Method::from_bytes(headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// What the answer to one request says, known before there is one.
#[derive(Debug)]
pub struct Sharing<'a> {
    cors: &'a Cors,
    /// The origin of the page that asks.
    asking: Option<HeaderValue>,
    /// With what; None: with no page's.
    shared_with: Option<HeaderValue>,
    preflight: Option<Announced>,
    /// The preflight is for another rule to answer, which says nothing.
    is_bystander: bool,
}

/// What a preflight asks for.
#[derive(Debug)]
struct Announced {
    method: HeaderValue,
    headers: Vec<HeaderValue>,
}

impl<'a> Sharing<'a> {
    /// None: the rule says nothing of other origins.
    #[must_use]
    pub fn of(chosen: &Chosen<'a>, request: &Canonical, headers: &HeaderMap) -> Option<Self> {
        let cors = chosen.rule.cors()?;
        let asking = headers.get(ORIGIN).cloned();
        let is_single = headers.get_all(ORIGIN).iter().nth(1).is_none();
        let shared_with = if chosen.is_bystander {
            None
        } else if cors.depends_on_origin() {
            asking.clone().filter(|origin| is_single && allows(&cors.origins, origin))
        } else {
            Some(ANY)
        };
        let preflight = announced(request, headers).and_then(|_| {
            Some(Announced {
                method: headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.clone(),
                headers: headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().cloned().collect(),
            })
        });
        Some(Self { cors, asking, shared_with, preflight, is_bystander: chosen.is_bystander })
    }

    /// The rule answers it itself.
    #[must_use]
    pub const fn is_preflight(&self) -> bool {
        self.preflight.is_some()
    }

    /// Why the page that asks may not read the answer; None: it may, or no page asks.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let asking = self.asking.as_ref().filter(|_| self.shared_with.is_none())?;
        if self.is_bystander {
            return Some("the rule that takes the announced request has no CORS filter".to_owned());
        }
        // Whatever it is, it must not write to a terminal.
        let origin = asking.as_bytes().escape_ascii();
        Some(format!("the rule's CORS filter does not allow the origin {origin}"))
    }

    /// Puts it into an answer that is otherwise complete.
    pub fn write(&self, status: StatusCode, headers: &mut HeaderMap) {
        for name in SAID {
            headers.remove(name);
        }
        if self.cors.depends_on_origin() {
            vary_by_origin(headers);
        }
        let Some(origin) = &self.shared_with else { return };
        if let Some(exposed) = self.exposed(status, headers) {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.cors.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(announced) = &self.preflight {
            permit(headers, &ACCESS_CONTROL_ALLOW_METHODS, self.cors.methods.as_ref(), &[&announced.method]);
            let asked: Vec<_> = announced.headers.iter().collect();
            permit(headers, &ACCESS_CONTROL_ALLOW_HEADERS, self.cors.headers.as_ref(), &asked);
            headers.insert(ACCESS_CONTROL_MAX_AGE, self.cors.max_age.clone());
        }
    }

    /// "*" is a header's name where credentials are allowed (Fetch): then it is what the answer has.
    fn exposed(&self, status: StatusCode, headers: &HeaderMap) -> Option<HeaderValue> {
        match self.cors.exposed.as_ref()? {
            // It has few headers, and what it says takes the place of what a cache has of the whole (RFC 9111, section 3.2).
            Names::Any if self.cors.credentials && status == StatusCode::NOT_MODIFIED => None,
            Names::Listed(listed) => Some(listed.clone()),
            Names::Any if !self.cors.credentials => Some(ANY),
            Names::Any => {
                let names: Vec<_> =
                    headers.keys().filter(|name| **name != SET_COOKIE).map(HeaderName::as_str).collect();
                HeaderValue::try_from(names.join(", ")).ok()
            }
        }
    }
}

/// Everything is written as what was asked for: "*" would leave out the header Authorization, and mean nothing where
/// credentials are allowed.
fn permit(headers: &mut HeaderMap, name: &HeaderName, allowed: Option<&Names>, asked: &[&HeaderValue]) {
    match allowed {
        None => {}
        Some(Names::Listed(listed)) => {
            headers.insert(name, listed.clone());
        }
        Some(Names::Any) => {
            // "*" would be permission for more than was asked for.
            for asked in asked.iter().filter(|asked| ***asked != ANY) {
                headers.append(name, (*asked).clone());
            }
        }
    }
}

fn vary_by_origin(headers: &mut HeaderMap) {
    let named = |value: &HeaderValue| {
        let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.into_iter().any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
    };
    if !headers.get_all(VARY).iter().any(named) {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

fn allows(origins: &Origins, origin: &HeaderValue) -> bool {
    let listed = match origins {
        // Whatever its scheme, and `null`; "*" is no origin.
        Origins::Any => return *origin != ANY,
        Origins::Listed(listed) => listed,
    };
    let Some((scheme, authority)) = read(origin.as_bytes()) else { return false };
    let port = authority.port().unwrap_or(scheme.port());
    listed
        .iter()
        .any(|allowed| allowed.scheme == scheme && allowed.port == port && host_fits(&allowed.host, authority.host()))
}

fn host_fits(allowed: &OriginHost, host: &str) -> bool {
    match allowed {
        OriginHost::Any => true,
        OriginHost::Exact(name) => **name == *host,
        OriginHost::Below(end) => host.strip_suffix(&**end).is_some_and(|before| !before.is_empty()),
    }
}

/// As browsers serialize one (HTML, 7.1.1). None for `null` and whatever else has no host.
fn read(origin: &[u8]) -> Option<(Scheme, Authority)> {
    let (scheme, authority) = [Scheme::Http, Scheme::Https].into_iter().find_map(|scheme| {
        let rest = origin.strip_prefix(scheme.as_str().as_bytes())?.strip_prefix(b"://")?;
        Some((scheme, rest))
    })?;
    // A name that ends in a dot is another origin, though the same host.
    let authority = Some(authority).filter(|authority| !authority.ends_with(b"."))?;
    let authority = Authority::read(authority).ok().filter(|authority| !authority.host().is_empty())?;
    Some((scheme, authority))
}
