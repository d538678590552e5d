//! How a rule, or an `XBackend`, keeps the requests of a session together (GEP-1619, as Gateway API 1.7 has it).

use weft_proto::v1::{self, session_persistence::Carrier};

use super::filter::FRAMING;
use super::raw::{RawSessionCookie, RawSessionPersistence};
use super::{Refusal, matching};
use crate::limits;
use crate::object::FieldError;
use crate::object::field::duration;

/// Browsers take such cookies over HTTPS alone, and in the mesh requests are plaintext to their clients (RFC 6265bis, section 4.1.3).
const HTTPS_ONLY: [&str; 2] = ["__secure-", "__host-"];
/// Header fields of requests or answers that have a meaning of their own, which a token would take away.
const TAKEN: [&str; 12] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "cookie",
    "date",
    "etag",
    "location",
    "set-cookie",
    "vary",
    "weft-reason",
    "weft-request-id",
];
/// gRPC's own, such as grpc-status.
const OF_GRPC: &str = "grpc-";

/// None, with a refusal, for what Weft cannot keep. A cookie without a name gets one where the route is known
/// (`translate/routes/session.rs`). `parent` is the path of what it is written in.
pub fn session(
    parent: &str,
    raw: Option<RawSessionPersistence>,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<v1::SessionPersistence>, FieldError> {
    let Some(raw) = raw else { return Ok(None) };
    let path = format!("{parent}.sessionPersistence");
    let known = refusals.len();
    let old = [
        ("sessionName", "cookie.name or header.name says it", raw.session_name),
        ("idleTimeout", "it has no other timeout than absoluteTimeout", raw.idle_timeout),
        ("cookieConfig", "cookie says it", raw.cookie_config),
    ];
    for (field, now, _) in old.into_iter().filter(|(_, _, written)| written.is_some()) {
        let problem = format!("Gateway API has no such field any more; since 1.7 {now}");
        refusals.push(Refusal::unsupported(format!("{path}.{field}"), &problem));
    }
    if refusals.len() > known {
        return Ok(None);
    }
    let timeout = format!("{path}.absoluteTimeout");
    let absolute_timeout_ms = raw.absolute_timeout.as_deref().map(|text| duration(&timeout, text)).transpose()?;
    if absolute_timeout_ms == Some(0) {
        refusals.push(Refusal::unsupported(
            timeout,
            "a session that ends at once keeps nothing; leave sessionPersistence out",
        ));
    }
    let missing = |field: &str| FieldError::new(format!("{path}.{field}"), "it is missing", "add it");
    let carrier = match (raw.kind.as_deref().unwrap_or("Cookie"), raw.cookie, raw.header) {
        ("Cookie", Some(raw), None) => {
            let cookie = cookie(&format!("{path}.cookie"), raw, refusals)?;
            if cookie.permanent && absolute_timeout_ms.is_none() {
                return Err(missing("absoluteTimeout"));
            }
            Carrier::Cookie(cookie)
        }
        ("Header", None, Some(header)) => {
            Carrier::Header(header_name(&format!("{path}.header.name"), &header.name, refusals)?)
        }
        ("Cookie", None, _) => return Err(missing("cookie")),
        ("Header", _, None) => return Err(missing("header")),
        (kind @ ("Cookie" | "Header"), ..) => {
            let field = if kind == "Cookie" { "header" } else { "cookie" };
            return Err(FieldError::new(format!("{path}.{field}"), "the type is another", "remove it"));
        }
        (other, ..) => {
            refusals.push(matching::unknown(format!("{path}.type"), other, "Cookie and Header"));
            return Ok(None);
        }
    };
    let absolute_timeout_ms = absolute_timeout_ms.unwrap_or(0);
    Ok((refusals.len() == known).then_some(v1::SessionPersistence { carrier: Some(carrier), absolute_timeout_ms }))
}

fn cookie(path: &str, raw: RawSessionCookie, refusals: &mut Vec<Refusal>) -> Result<v1::SessionCookie, FieldError> {
    let name = raw.name.unwrap_or_default();
    if !name.is_empty() {
        matching::token(&format!("{path}.name"), &name)?;
    }
    let lower = name.to_ascii_lowercase();
    if let Some(prefix) = HTTPS_ONLY.iter().find(|prefix| lower.starts_with(**prefix)) {
        let problem = format!("browsers take a cookie that begins with {prefix:?} over HTTPS alone");
        refusals.push(Refusal::unsupported(format!("{path}.name"), &problem));
    }
    let own_path = raw.path.unwrap_or_else(|| "/".to_owned());
    if own_path.len() > limits::PATH_BYTES {
        let fix = format!("write at most {}", limits::PATH_BYTES);
        return Err(FieldError::new(format!("{path}.path"), format!("it has {} bytes", own_path.len()), fix));
    }
    // What another character does to the rest of the cookie is each client's own affair (RFC 6265, section 4.1.1).
    if !own_path.starts_with('/') || !own_path.bytes().all(|byte| byte != b';' && matches!(byte, b' '..=b'~')) {
        let problem = format!("{own_path:?} is no path that a cookie can have; write one such as /cart");
        refusals.push(Refusal::unsupported(format!("{path}.path"), &problem));
    }
    let lifetime = raw.lifetime_type.unwrap_or_else(|| "Session".to_owned());
    if !["Session", "Permanent"].contains(&lifetime.as_str()) {
        refusals.push(matching::unknown(format!("{path}.lifetimeType"), &lifetime, "Session and Permanent"));
    }
    Ok(v1::SessionCookie { name, path: own_path, permanent: lifetime == "Permanent" })
}

fn header_name(path: &str, name: &str, refusals: &mut Vec<Refusal>) -> Result<String, FieldError> {
    matching::token(path, name)?;
    let name = name.to_ascii_lowercase();
    let taken = FRAMING.contains(&name.as_str()) || TAKEN.contains(&name.as_str());
    if taken || name.starts_with(OF_GRPC) {
        refusals.push(Refusal::unsupported(path, &format!("the header {name} is not a session's to take")));
    }
    Ok(name)
}
