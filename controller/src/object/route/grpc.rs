//! Rules of a `GRPCRoute`. A gRPC method is the HTTP path `/package.Service/Method`.

use weft_proto::v1::{self, PathMatchKind};

use super::filter::{self, Place};
use super::matching::{self, Comparison};
use super::raw::{RawGrpcMatch, RawGrpcMethod, RawGrpcRule};
use super::specificity::{Part, Specificity};
use super::{Match, Refusal, RouteKind, Rule, at_most, reference, session};
use crate::limits;
use crate::object::FieldError;

pub fn rule(path: &str, raw: RawGrpcRule) -> Result<Rule, FieldError> {
    let mut refusals = Vec::new();
    let place = Place { kind: RouteKind::Grpc, on_backend: false, has_one_prefix: false };
    let matches = matches(path, &raw.matches.unwrap_or_default(), &mut refusals)?;
    let filters = filter::filters(path, raw.filters, place, &mut refusals)?;
    let backends = reference::backends(path, raw.backend_refs, place)?;
    let session = session::session(path, raw.session_persistence, &mut refusals)?;
    let name = super::rule_name(path, raw.name)?;
    Ok(Rule {
        name,
        matches,
        filters,
        backends,
        request_timeout_ms: None,
        backend_timeout_ms: 0,
        retry: None,
        session,
        refusals,
    })
}

/// None of them, if one cannot be evaluated. Without matches every gRPC request fits.
fn matches(path: &str, raw: &[RawGrpcMatch], refusals: &mut Vec<Refusal>) -> Result<Vec<Match>, FieldError> {
    let list = format!("{path}.matches");
    at_most(&list, raw.len(), limits::MATCHES_PER_RULE)?;
    let default = [RawGrpcMatch::default()];
    let raw = if raw.is_empty() { &default } else { raw };
    let mut matches = Vec::with_capacity(raw.len());
    let mut whole = true;
    for (index, raw) in raw.iter().enumerate() {
        match one_match(&format!("{list}[{index}]"), raw, refusals)? {
            Some(found) => matches.push(found),
            None => whole = false,
        }
    }
    Ok(if whole { matches } else { Vec::new() })
}

fn one_match(path: &str, raw: &RawGrpcMatch, refusals: &mut Vec<Refusal>) -> Result<Option<Match>, FieldError> {
    let headers = matching::headers(path, &raw.headers, refusals)?;
    let method = match &raw.method {
        Some(method) => method_match(&format!("{path}.method"), method, refusals)?,
        None => Some((None, [Part::Any, Part::Any])),
    };
    let (Some(headers), Some((path, [service, method]))) = (headers, method) else { return Ok(None) };
    let specificity = Specificity::of_grpc(service, method, headers.len());
    let condition = v1::RouteMatch { path, headers, ..v1::RouteMatch::default() };
    Ok(Some(Match { condition, specificity }))
}

type MethodMatch<'a> = (Option<v1::PathMatch>, [Part<'a>; 2]);

fn method_match<'a>(
    path: &str,
    raw: &'a RawGrpcMethod,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<MethodMatch<'a>>, FieldError> {
    let Some(comparison) = matching::comparison(path, raw.kind.as_deref(), refusals) else { return Ok(None) };
    let field = |name: &str, text: &'a Option<String>| match text.as_deref() {
        Some(text) if text.len() > limits::PATH_BYTES => Err(FieldError::new(
            format!("{path}.{name}"),
            format!("it has {} bytes", text.len()),
            format!("write at most {}", limits::PATH_BYTES),
        )),
        text => Ok(text.filter(|text| !text.is_empty())),
    };
    let (service, method) = (field("service", &raw.service)?, field("method", &raw.method)?);
    if service.is_none() && method.is_none() {
        return Err(FieldError::new(path, "it names neither service nor method", "write at least one of them"));
    }
    match comparison {
        Comparison::Exact => exact(path, service, method).map(Some),
        Comparison::RegularExpression => Ok(expression(path, service, method, refusals)),
    }
}

fn exact<'a>(path: &str, service: Option<&'a str>, method: Option<&'a str>) -> Result<MethodMatch<'a>, FieldError> {
    // Protocol buffers write a name with a dot before it if it is absolute; on the wire it has none.
    let service = service.map(|service| service.strip_prefix('.').unwrap_or(service));
    if let Some(service) = service.filter(|service| !service.split('.').all(is_identifier)) {
        let problem = format!("{service:?} is no gRPC service");
        return Err(FieldError::new(format!("{path}.service"), problem, "write one such as shop.v1.Cart"));
    }
    if let Some(method) = method.filter(|method| !is_identifier(method)) {
        let problem = format!("{method:?} is no gRPC method");
        return Err(FieldError::new(format!("{path}.method"), problem, "write one such as AddItem"));
    }
    let (kind, value) = match (service, method) {
        (Some(service), Some(method)) => (PathMatchKind::Exact, format!("/{service}/{method}")),
        (Some(service), None) => (PathMatchKind::Prefix, format!("/{service}")),
        (None, method) => (PathMatchKind::GrpcMethod, method.unwrap_or_default().to_owned()),
    };
    let part = |text: Option<&'a str>| text.map_or(Part::Any, Part::Text);
    Ok((Some(v1::PathMatch { kind: kind.into(), value }), [part(service), part(method)]))
}

fn is_identifier(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.bytes().next().is_some_and(letter) && text.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

/// Each alone must be an expression: `a)|(b` would be one only between our own brackets.
fn expression<'a>(
    path: &str,
    service: Option<&'a str>,
    method: Option<&'a str>,
    refusals: &mut Vec<Refusal>,
) -> Option<MethodMatch<'a>> {
    let mut part = |name: &str, text: Option<&str>| {
        text.is_none_or(|text| matching::compiles(&format!("{path}.{name}"), text, refusals))
    };
    let (service_compiles, method_compiles) = (part("service", service), part("method", method));
    if !service_compiles || !method_compiles {
        return None;
    }
    let any = "[^/]+";
    let value = format!("/(?:{})/(?:{})", service.unwrap_or(any), method.unwrap_or(any));
    if !matching::compiles(path, &value, refusals) {
        return None;
    }
    let part = |text: Option<&str>| text.map_or(Part::Any, |_| Part::Expression);
    let found = v1::PathMatch { kind: PathMatchKind::RegularExpression.into(), value };
    Some((Some(found), [part(service), part(method)]))
}
