//! The filter CORS: which pages of other origins may read what a rule answers (GEP-1767).

use weft_proto::v1;

use super::filter::Place;
use super::http::METHODS;
use super::raw::RawCors;
use super::{Refusal, at_most, matching};
use crate::limits;
use crate::object::FieldError;
use crate::object::field::port;

/// For how long a browser may remember the answer to a preflight where the filter says nothing: the CRD's default.
const MAX_AGE_SECONDS: i64 = 5;

/// Everything, in each of the lists.
const ANY: &str = "*";

/// None, with a refusal, for what Weft cannot apply.
pub fn cors(
    path: &str,
    raw: &RawCors,
    place: Place,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<v1::Cors>, FieldError> {
    let known = refusals.len();
    if place.on_backend {
        refusals.push(Refusal::unsupported(
            path,
            "a preflight is answered before a backend is chosen; move it to the rule",
        ));
    }
    let any_origin = raw.allow_origins.iter().any(|origin| origin == ANY);
    let max_age = raw.max_age.unwrap_or(MAX_AGE_SECONDS);
    let max_age_seconds = i32::try_from(max_age).ok().and_then(|age| u32::try_from(age).ok()).filter(|age| *age > 0);
    let cors = v1::Cors {
        any_origin,
        origins: origins(&format!("{path}.allowOrigins"), &raw.allow_origins, refusals)?,
        credentials: raw.allow_credentials.unwrap_or(false),
        methods: methods(&format!("{path}.allowMethods"), &raw.allow_methods, refusals)?,
        headers: headers(&format!("{path}.allowHeaders"), &raw.allow_headers, Any::Alone)?,
        exposed: headers(&format!("{path}.exposeHeaders"), &raw.expose_headers, Any::Anywhere)?,
        max_age_seconds: max_age_seconds.ok_or_else(|| {
            let problem = format!("{max_age} is no number of seconds that browsers remember");
            FieldError::new(format!("{path}.maxAge"), problem, format!("write 1 to {}", i32::MAX))
        })?,
    };
    Ok((refusals.len() == known).then_some(cors))
}

/// Where "*" may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Any {
    Alone,
    Anywhere,
}

fn distinct(path: &str, list: &[String], limit: usize, any: Any) -> Result<(), FieldError> {
    at_most(path, list.len(), limit)?;
    for (index, one) in list.iter().enumerate() {
        matching::unique(&format!("{path}[{index}]"), one, list[..index].iter().map(String::as_str))?;
    }
    if any == Any::Alone && list.len() > 1 && list.iter().any(|one| one == ANY) {
        return Err(FieldError::new(path, "\"*\" is everything, and others stand beside it", "keep it or the others"));
    }
    Ok(())
}

fn methods(path: &str, raw: &[String], refusals: &mut Vec<Refusal>) -> Result<Vec<String>, FieldError> {
    distinct(path, raw, METHODS.len(), Any::Alone)?;
    for (index, method) in raw.iter().enumerate() {
        if method != ANY && !METHODS.contains(&method.as_str()) {
            let known = format!("{} and *", METHODS.join(", "));
            refusals.push(matching::unknown(format!("{path}[{index}]"), method, &known));
        }
    }
    Ok(raw.to_vec())
}

fn headers(path: &str, raw: &[String], any: Any) -> Result<Vec<String>, FieldError> {
    distinct(path, raw, limits::CORS_NAMES, any)?;
    for (index, name) in raw.iter().enumerate() {
        matching::token(&format!("{path}[{index}]"), name)?;
    }
    Ok(raw.to_vec())
}

/// Those that are not "*".
fn origins(path: &str, raw: &[String], refusals: &mut Vec<Refusal>) -> Result<Vec<v1::CorsOrigin>, FieldError> {
    distinct(path, raw, limits::CORS_NAMES, Any::Alone)?;
    let listed = raw.iter().enumerate().filter(|(_, written)| *written != ANY);
    let read = listed.map(|(index, written)| origin(&format!("{path}[{index}]"), written, refusals));
    read.filter_map(Result::transpose).collect()
}

/// `scheme://host` or `scheme://host:port`. The CRD lets ports pass that there are not.
fn origin(path: &str, written: &str, refusals: &mut Vec<Refusal>) -> Result<Option<v1::CorsOrigin>, FieldError> {
    let Some((scheme, host, written_port)) = parts(written) else {
        let fix = "write * or one such as https://shop.example.com, https://*.example.com or https://localhost:8443";
        return Err(FieldError::new(path, format!("{written:?} is no origin"), fix));
    };
    let own = if scheme == "https" { 443 } else { 80 };
    match port(path, written_port.unwrap_or(own)) {
        Ok(port) => {
            let (scheme, host) = (scheme.to_owned(), host.to_ascii_lowercase());
            Ok(Some(v1::CorsOrigin { scheme, host, port: port.into() }))
        }
        Err(error) => {
            refusals.push(Refusal::unsupported(path, &format!("{}; {}", error.problem, error.fix)));
            Ok(None)
        }
    }
}

/// The scheme, the host and the port of what the CRD takes for an origin.
fn parts(written: &str) -> Option<(&str, &str, Option<i64>)> {
    let (scheme, rest) = written.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme))?;
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_host = host == ANY || host.strip_prefix("*.").unwrap_or(host).split('.').all(label);
    let is_port =
        port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()));
    if written.len() > limits::ORIGIN_BYTES || !is_host || !is_port {
        return None;
    }
    Some((scheme, host, port.and_then(|port| port.parse().ok())))
}
