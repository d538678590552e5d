//! Rules of an `HTTPRoute`.

use weft_proto::v1::{self, PathMatchKind};

use super::filter::{self, Place};
use super::raw::{RawHttpMatch, RawHttpRule, RawPath, RawRetry, RawTimeouts};
use super::specificity::Specificity;
use super::{Filter, Match, Refusal, RouteKind, Rule, at_most, matching, path, reference, session};
use crate::limits;
use crate::object::FieldError;
use crate::object::field::milliseconds;

pub const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

pub fn rule(path: &str, raw: RawHttpRule) -> Result<Rule, FieldError> {
    let mut refusals = Vec::new();
    let raw_matches = raw.matches.unwrap_or_else(|| vec![RawHttpMatch::default()]);
    let has_one_prefix = matches!(raw_matches.as_slice(), [only] if is_prefix(&only.path));
    let place = Place { kind: RouteKind::Http, on_backend: false, has_one_prefix };
    let matches = matches(path, &raw_matches, &mut refusals)?;
    let filters = filter::filters(path, raw.filters, place, &mut refusals)?;
    if !raw.backend_refs.is_empty() && filters.iter().any(Filter::is_redirect) {
        return Err(FieldError::new(
            format!("{path}.backendRefs"),
            "a rule that redirects sends nothing to backends",
            "remove either the redirect or the backends",
        ));
    }
    let backends = reference::backends(path, raw.backend_refs, place)?;
    let session = session::session(path, raw.session_persistence, &mut refusals)?;
    let (request_timeout_ms, backend_timeout_ms) = timeouts(&format!("{path}.timeouts"), &raw.timeouts)?;
    let retry = raw.retry.map(|raw| retry(&format!("{path}.retry"), &raw)).transpose()?;
    let name = super::rule_name(path, raw.name)?;
    Ok(Rule { name, matches, filters, backends, request_timeout_ms, backend_timeout_ms, retry, session, refusals })
}

/// Of the CRD's default too.
fn is_prefix(path: &RawPath) -> bool {
    path.kind.as_deref().is_none_or(|kind| kind == "PathPrefix")
}

/// None of them, if one cannot be evaluated.
fn matches(path: &str, raw: &[RawHttpMatch], refusals: &mut Vec<Refusal>) -> Result<Vec<Match>, FieldError> {
    let list = format!("{path}.matches");
    at_most(&list, raw.len(), limits::MATCHES_PER_RULE)?;
    // An empty list is not the CRD's default, but says the same.
    let default = [RawHttpMatch::default()];
    let raw = if raw.is_empty() { &default } else { raw };
    let mut matches = Vec::with_capacity(raw.len());
    let mut whole = true;
    for (index, raw) in raw.iter().enumerate() {
        match one_match(&format!("{list}[{index}]"), raw, refusals)? {
            Some(condition) => {
                let specificity = Specificity::of_http(&condition);
                matches.push(Match { condition, specificity });
            }
            None => whole = false,
        }
    }
    Ok(if whole { matches } else { Vec::new() })
}

fn one_match(
    path: &str,
    raw: &RawHttpMatch,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<v1::RouteMatch>, FieldError> {
    let found = path_match(&format!("{path}.path"), &raw.path, refusals)?;
    let headers = matching::headers(path, &raw.headers, refusals)?;
    let query = matching::query(path, &raw.query_params, refusals)?;
    let method = raw.method.clone().unwrap_or_default();
    let known = method.is_empty() || METHODS.contains(&method.as_str());
    if !known {
        refusals.push(matching::unknown(format!("{path}.method"), &method, &METHODS.join(", ")));
    }
    let (Some(found), Some(headers), Some(query), true) = (found, headers, query, known) else { return Ok(None) };
    Ok(Some(v1::RouteMatch { path: Some(found), method, headers, query, ..v1::RouteMatch::default() }))
}

fn path_match(path: &str, raw: &RawPath, refusals: &mut Vec<Refusal>) -> Result<Option<v1::PathMatch>, FieldError> {
    let value = raw.value.as_deref().unwrap_or("/");
    let field = format!("{path}.value");
    if value.len() > limits::PATH_BYTES {
        let fix = format!("write at most {}", limits::PATH_BYTES);
        return Err(FieldError::new(field, format!("it has {} bytes", value.len()), fix));
    }
    let (kind, value) = match raw.kind.as_deref().unwrap_or("PathPrefix") {
        "Exact" => (PathMatchKind::Exact, literal(&field, value)?),
        "PathPrefix" => {
            let value = literal(&field, value)?;
            let shorter = value.strip_suffix('/').filter(|shorter| !shorter.is_empty());
            (PathMatchKind::Prefix, shorter.unwrap_or(value))
        }
        "RegularExpression" if matching::compiles(&field, value, refusals) => (PathMatchKind::RegularExpression, value),
        "RegularExpression" => return Ok(None),
        other => {
            let known = "Exact, PathPrefix or RegularExpression";
            refusals.push(matching::unknown(format!("{path}.type"), other, known));
            return Ok(None);
        }
    };
    Ok(Some(v1::PathMatch { kind: kind.into(), value: value.to_owned() }))
}

/// A path as it is after normalization, which has one spelling only.
fn literal<'a>(path: &str, value: &'a str) -> Result<&'a str, FieldError> {
    let problem = if value.contains("//") { Some("it has \"//\" in it") } else { path::problem(value) };
    let Some(problem) = problem else { return Ok(value) };
    Err(FieldError::new(path, format!("{value:?} fits no request: {problem}"), "write a path such as /api/v1"))
}

fn timeouts(path: &str, raw: &RawTimeouts) -> Result<(Option<u32>, u32), FieldError> {
    let field = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| milliseconds(&format!("{path}.{name}"), text)).transpose()
    };
    let request = field("request", &raw.request)?;
    let backend = field("backendRequest", &raw.backend_request)?.unwrap_or(0);
    if let Some(request) = request.filter(|request| *request > 0 && backend > *request) {
        let problem = format!("{backend} ms are longer than the whole request's {request} ms");
        return Err(FieldError::new(format!("{path}.backendRequest"), problem, "make it the shorter of the two"));
    }
    Ok((request, backend))
}

fn retry(path: &str, raw: &RawRetry) -> Result<v1::RetryPolicy, FieldError> {
    let codes = format!("{path}.codes");
    at_most(&codes, raw.codes.len(), limits::RETRY_CODES)?;
    let mut statuses = Vec::with_capacity(raw.codes.len());
    for (index, code) in raw.codes.iter().enumerate() {
        let status = u32::try_from(*code).ok().filter(|code| (400..=599).contains(code)).ok_or_else(|| {
            FieldError::new(
                format!("{codes}[{index}]"),
                format!("{code} is no error status"),
                "write one from 400 to 599",
            )
        })?;
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    let attempts = raw.attempts.unwrap_or(1);
    let attempts =
        u32::try_from(attempts).ok().filter(|attempts| *attempts <= limits::RETRY_ATTEMPTS).ok_or_else(|| {
            let problem = format!("{attempts} retries of one request are no count that agents make");
            FieldError::new(format!("{path}.attempts"), problem, format!("write 0 to {}", limits::RETRY_ATTEMPTS))
        })?;
    let backoff = raw.backoff.as_deref().map(|text| milliseconds(&format!("{path}.backoff"), text)).transpose()?;
    Ok(v1::RetryPolicy {
        attempts,
        statuses,
        grpc_statuses: Vec::new(),
        grpc_calls: Vec::new(),
        backoff_ms: backoff.unwrap_or(0),
    })
}
