//! Filters, on a rule or on one of its backends.

use weft_proto::v1::{self, path_rewrite, route_filter};

use super::cors::cors;
use super::raw::{RawFilter, RawHeader, RawHeaderEdit, RawMirror, RawPathModifier, RawRedirect, RawRewrite};
use super::reference::{self, BackendReference};
use super::{Refusal, RouteKind, at_most, matching, path};
use crate::limits;
use crate::object::FieldError;
use crate::object::field::port;

#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Never [`route_filter::Kind::Mirror`].
    Own(route_filter::Kind),
    /// Its backend is still a name.
    Mirror(Mirror),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub backend: BackendReference,
    pub per_million: u32,
}

impl Filter {
    #[must_use]
    pub fn is_redirect(&self) -> bool {
        matches!(self, Self::Own(route_filter::Kind::Redirect(_)))
    }
}

/// Where filters stand.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub kind: RouteKind,
    pub on_backend: bool,
    /// The rule has exactly one match, by a path's prefix: then there is one prefix to replace.
    pub has_one_prefix: bool,
}

/// Header fields that frame a message or name its destination; agents write them (RFC 9110, 7.6.1; RFC 9112).
pub const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

pub fn filters(
    path: &str,
    raw: Vec<RawFilter>,
    place: Place,
    refusals: &mut Vec<Refusal>,
) -> Result<Vec<Filter>, FieldError> {
    let list = format!("{path}.filters");
    at_most(&list, raw.len(), limits::FILTERS)?;
    if !raw.is_empty() && !place.kind.is_of_requests() {
        return Err(FieldError::new(list, format!("a {} has no filters", place.kind.object().as_str()), "remove it"));
    }
    let mut kinds: Vec<String> = Vec::with_capacity(raw.len());
    let mut filters = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let path = format!("{list}[{index}]");
        let kind = raw.kind.clone();
        if kinds.contains(&kind) && !["RequestMirror", "ExtensionRef"].contains(&kind.as_str()) {
            return Err(FieldError::new(path, format!("there are two filters of type {kind}"), "merge them into one"));
        }
        filters.extend(filter(&path, raw, place, refusals)?);
        kinds.push(kind);
    }
    if ["RequestRedirect", "URLRewrite"].iter().all(|kind| kinds.iter().any(|found| found == kind)) {
        return Err(FieldError::new(list, "a redirect and a rewrite exclude each other", "remove one of the two"));
    }
    Ok(filters)
}

/// None, with a refusal, for one that Weft cannot apply.
fn filter(path: &str, raw: RawFilter, place: Place, refusals: &mut Vec<Refusal>) -> Result<Option<Filter>, FieldError> {
    fields(path, &raw, place.kind)?;
    let missing = |name: &str| FieldError::new(format!("{path}.{name}"), "it is missing", "add it");
    let own = match (raw.kind.as_str(), place.kind) {
        ("RequestHeaderModifier", _) => {
            let edit = raw.request_header_modifier.ok_or_else(|| missing("requestHeaderModifier"))?;
            edited(&format!("{path}.requestHeaderModifier"), edit, refusals)?.map(route_filter::Kind::RequestHeaders)
        }
        ("ResponseHeaderModifier", _) => {
            let edit = raw.response_header_modifier.ok_or_else(|| missing("responseHeaderModifier"))?;
            edited(&format!("{path}.responseHeaderModifier"), edit, refusals)?.map(route_filter::Kind::ResponseHeaders)
        }
        ("RequestMirror", _) => {
            let found = raw.request_mirror.ok_or_else(|| missing("requestMirror"))?;
            return mirror(&format!("{path}.requestMirror"), found).map(Filter::Mirror).map(Some);
        }
        ("RequestRedirect", RouteKind::Http) => {
            let found = raw.request_redirect.ok_or_else(|| missing("requestRedirect"))?;
            redirect(&format!("{path}.requestRedirect"), found, place, refusals)?.map(route_filter::Kind::Redirect)
        }
        ("URLRewrite", RouteKind::Http) => {
            let found = raw.url_rewrite.ok_or_else(|| missing("urlRewrite"))?;
            rewrite(&format!("{path}.urlRewrite"), found, place, refusals)?.map(route_filter::Kind::Rewrite)
        }
        ("CORS", RouteKind::Http) => {
            let found = raw.cors.ok_or_else(|| missing("cors"))?;
            cors(&format!("{path}.cors"), &found, place, refusals)?.map(route_filter::Kind::Cors)
        }
        (kind @ ("ExternalAuth" | "ExtensionRef"), _) => {
            refusals.push(Refusal::unsupported(format!("{path}.type"), &format!("Weft has no filter {kind}")));
            None
        }
        (other, _) => {
            let known = match place.kind {
                RouteKind::Http => {
                    "RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, RequestRedirect, URLRewrite and CORS"
                }
                RouteKind::Grpc | RouteKind::Tls | RouteKind::Tcp => {
                    "RequestHeaderModifier, ResponseHeaderModifier and RequestMirror"
                }
            };
            refusals.push(matching::unknown(format!("{path}.type"), other, known));
            None
        }
    };
    Ok(own.map(Filter::Own))
}

/// A filter has the one field that its type names (the CRD's rules).
fn fields(path: &str, raw: &RawFilter, kind: RouteKind) -> Result<(), FieldError> {
    let present = [
        ("requestHeaderModifier", "RequestHeaderModifier", raw.request_header_modifier.is_some()),
        ("responseHeaderModifier", "ResponseHeaderModifier", raw.response_header_modifier.is_some()),
        ("requestMirror", "RequestMirror", raw.request_mirror.is_some()),
        ("requestRedirect", "RequestRedirect", raw.request_redirect.is_some()),
        ("urlRewrite", "URLRewrite", raw.url_rewrite.is_some()),
        ("cors", "CORS", raw.cors.is_some()),
        ("externalAuth", "ExternalAuth", raw.external_auth.is_some()),
        ("extensionRef", "ExtensionRef", raw.extension_ref.is_some()),
    ];
    for (field, of, _) in present.into_iter().filter(|(_, _, present)| *present) {
        if raw.kind != of
            || (kind == RouteKind::Grpc && ["requestRedirect", "urlRewrite", "cors", "externalAuth"].contains(&field))
        {
            let problem = format!("a filter of type {:?} has no such field", raw.kind);
            return Err(FieldError::new(format!("{path}.{field}"), problem, "remove it, or change the type"));
        }
    }
    Ok(())
}

fn edited(path: &str, raw: RawHeaderEdit, refusals: &mut Vec<Refusal>) -> Result<Option<v1::HeaderEdit>, FieldError> {
    let remove = format!("{path}.remove");
    at_most(&remove, raw.remove.len(), limits::HEADER_EDITS)?;
    for (index, name) in raw.remove.iter().enumerate() {
        matching::token(&format!("{remove}[{index}]"), name)?;
    }
    let edit = v1::HeaderEdit {
        set: headers(&format!("{path}.set"), raw.set)?,
        add: headers(&format!("{path}.add"), raw.add)?,
        remove: raw.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
    };
    let named = edit.set.iter().chain(&edit.add).map(|header| &header.name).chain(&edit.remove);
    let framing: Vec<&str> = named.map(String::as_str).filter(|name| FRAMING.contains(name)).collect();
    if let Some(name) = framing.first() {
        let instead = if *name == "host" { "; URLRewrite changes the hostname" } else { "" };
        refusals.push(Refusal::unsupported(path, &format!("the header {name} is not a route's to change{instead}")));
        return Ok(None);
    }
    Ok(Some(edit))
}

fn headers(path: &str, raw: Vec<RawHeader>) -> Result<Vec<v1::Header>, FieldError> {
    at_most(path, raw.len(), limits::HEADER_EDITS)?;
    let mut headers: Vec<v1::Header> = Vec::with_capacity(raw.len());
    let names: Vec<String> = raw.iter().map(|header| header.name.clone()).collect();
    for (index, header) in raw.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        matching::token(&format!("{path}.name"), &header.name)?;
        matching::unique(&format!("{path}.name"), &header.name, names[..index].iter().map(String::as_str))?;
        let value = format!("{path}.value");
        matching::value(&value, &header.value, limits::HEADER_VALUE_BYTES)?;
        if !header.value.is_ascii() {
            return Err(FieldError::new(value, "it is not ASCII, as the values of headers are", "encode it"));
        }
        let name = header.name.to_ascii_lowercase();
        // Of equivalent names the first counts (Gateway API).
        if headers.iter().all(|other| other.name != name) {
            headers.push(v1::Header { name, value: header.value });
        }
    }
    Ok(headers)
}

fn mirror(path: &str, raw: RawMirror) -> Result<Mirror, FieldError> {
    let per_million = match (raw.percent, raw.fraction) {
        (Some(_), Some(_)) => {
            return Err(FieldError::new(path, "it has both percent and fraction", "keep one of the two"));
        }
        (Some(percent), None) => {
            let valid = u32::try_from(percent).ok().filter(|percent| *percent <= 100);
            valid.map(|percent| percent * 10_000).ok_or_else(|| {
                FieldError::new(format!("{path}.percent"), format!("{percent} is out of range"), "write 0 to 100")
            })?
        }
        (None, Some(fraction)) => {
            let denominator = fraction.denominator.unwrap_or(100);
            // Both fit 32 bits in the CRD, so the product fits 64.
            let valid = denominator <= i64::from(i32::MAX) && (0..=denominator).contains(&fraction.numerator);
            let share = (valid && denominator > 0).then(|| fraction.numerator * 1_000_000 / denominator);
            share.and_then(|share| u32::try_from(share).ok()).ok_or_else(|| {
                let problem = format!("{} of {denominator} is no share", fraction.numerator);
                FieldError::new(format!("{path}.fraction"), problem, "write a numerator from 0 to the denominator")
            })?
        }
        (None, None) => 1_000_000,
    };
    Ok(Mirror { backend: reference::backend(format!("{path}.backendRef"), raw.backend_ref)?, per_million })
}

fn redirect(
    path: &str,
    raw: RawRedirect,
    place: Place,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<v1::Redirect>, FieldError> {
    let known = refusals.len();
    if place.on_backend {
        refusals.push(Refusal::incompatible(path, "a request that is redirected goes to no backend"));
    }
    let scheme = raw.scheme.unwrap_or_default();
    if !["", "http", "https"].contains(&scheme.as_str()) {
        refusals.push(matching::unknown(format!("{path}.scheme"), &scheme, "http and https"));
    }
    let status = raw.status_code.unwrap_or(302);
    let status =
        u32::try_from(status).ok().filter(|status| [301, 302, 303, 307, 308].contains(status)).unwrap_or_else(|| {
            refusals.push(matching::unknown(
                format!("{path}.statusCode"),
                &status.to_string(),
                "301, 302, 303, 307 and 308",
            ));
            302
        });
    let hostname = hostname(&format!("{path}.hostname"), raw.hostname)?;
    let port = raw.port.map(|number| port(&format!("{path}.port"), number)).transpose()?.map_or(0, u32::from);
    let path = path_modifier(&format!("{path}.path"), raw.path, place, refusals)?;
    Ok((refusals.len() == known).then_some(v1::Redirect { scheme, hostname, path, port, status }))
}

fn rewrite(
    path: &str,
    raw: RawRewrite,
    place: Place,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<v1::Rewrite>, FieldError> {
    let known = refusals.len();
    let hostname = hostname(&format!("{path}.hostname"), raw.hostname)?;
    let path = path_modifier(&format!("{path}.path"), raw.path, place, refusals)?;
    Ok((refusals.len() == known).then_some(v1::Rewrite { hostname, path }))
}

fn hostname(path: &str, name: Option<String>) -> Result<String, FieldError> {
    let Some(name) = name else { return Ok(String::new()) };
    if !is_hostname(&name) {
        let problem = format!("{name:?} is no precise hostname");
        return Err(FieldError::new(path, problem, "write one such as shop.example.com"));
    }
    Ok(name)
}

/// Labels of RFC 1123 in lower case.
pub fn is_hostname(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let (Some(first), Some(last)) = (label.bytes().next(), label.bytes().last()) else { return false };
        letter(first) && letter(last) && label.bytes().all(|byte| letter(byte) || byte == b'-')
    };
    name.len() <= limits::OBJECT_NAME_BYTES && name.split('.').all(label)
}

fn path_modifier(
    path: &str,
    raw: Option<RawPathModifier>,
    place: Place,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<v1::PathRewrite>, FieldError> {
    let Some(raw) = raw else { return Ok(None) };
    let wrong = |field: &str, problem: &str, fix: &str| Err(FieldError::new(format!("{path}.{field}"), problem, fix));
    let (field, text) = match (raw.kind.as_str(), raw.replace_full_path, raw.replace_prefix_match) {
        ("ReplaceFullPath", Some(text), None) => ("replaceFullPath", text),
        ("ReplacePrefixMatch", None, Some(text)) => ("replacePrefixMatch", text),
        ("ReplaceFullPath", None, None) => return wrong("replaceFullPath", "it is missing", "add it"),
        ("ReplacePrefixMatch", None, None) => return wrong("replacePrefixMatch", "it is missing", "add it"),
        ("ReplaceFullPath", _, Some(_)) => return wrong("replacePrefixMatch", "the type is another", "remove it"),
        ("ReplacePrefixMatch", Some(_), _) => return wrong("replaceFullPath", "the type is another", "remove it"),
        (other, ..) => {
            let known = "ReplaceFullPath and ReplacePrefixMatch";
            refusals.push(matching::unknown(format!("{path}.type"), other, known));
            return Ok(None);
        }
    };
    if text.len() > limits::PATH_BYTES {
        return wrong(field, &format!("it has {} bytes", text.len()), &format!("write at most {}", limits::PATH_BYTES));
    }
    let rooted = if text.starts_with('/') { text } else { format!("/{text}") };
    if let Some(problem) = path::problem(&rooted) {
        let field = format!("{path}.{field}");
        refusals.push(Refusal::unsupported(field, &format!("no request can be given this path: {problem}")));
        return Ok(None);
    }
    let kind = match field {
        "replaceFullPath" => path_rewrite::Kind::Full(rooted),
        _ if !place.has_one_prefix => {
            return wrong(field, "the rule has not exactly one match by a path's prefix", "give it one such match");
        }
        _ => path_rewrite::Kind::Prefix(rooted),
    };
    Ok(Some(v1::PathRewrite { kind: Some(kind) }))
}
