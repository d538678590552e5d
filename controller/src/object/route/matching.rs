//! What both kinds of route match by: values of headers and query parameters, and regular expressions.

use regex::RegexBuilder;
use weft_proto::v1;

use super::raw::RawValueMatch;
use super::{Refusal, at_most};
use crate::limits;
use crate::object::FieldError;

/// Characters of a value that are shown with what is wrong with it.
const SHOWN: usize = 64;

/// How a text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Exact,
    RegularExpression,
}

/// None: Gateway API has no such type, or Weft does not know it yet.
pub fn comparison(path: &str, kind: Option<&str>, refusals: &mut Vec<Refusal>) -> Option<Comparison> {
    match kind.unwrap_or("Exact") {
        "Exact" => Some(Comparison::Exact),
        "RegularExpression" => Some(Comparison::RegularExpression),
        other => {
            refusals.push(unknown(format!("{path}.type"), other, "Exact or RegularExpression"));
            None
        }
    }
}

pub fn unknown(path: String, value: &str, known: &str) -> Refusal {
    let shown: String = value.chars().take(SHOWN).collect();
    Refusal::unsupported(path, &format!("{shown:?} is not a value that Weft knows; it knows {known}"))
}

/// False, with a refusal, for what agents could not compile: it is built here as they do, within their bounds.
pub fn compiles(path: &str, expression: &str, refusals: &mut Vec<Refusal>) -> bool {
    let build = |text: &str| {
        RegexBuilder::new(text).size_limit(limits::EXPRESSION_BYTES).nest_limit(limits::EXPRESSION_DEPTH).build()
    };
    // First by itself: brackets that only pair with the agents' own would escape from these.
    let result = build(expression).and_then(|_| build(&format!(r"\A(?:{expression})\z")));
    let Err(error) = result else { return true };
    let reason = error.to_string().lines().last().unwrap_or_default().to_owned();
    let shown: String = expression.chars().take(SHOWN).collect();
    refusals.push(Refusal::unsupported(path, &format!("{shown:?} is no regular expression that Weft takes: {reason}")));
    false
}

/// None: one of them cannot be evaluated.
pub fn headers(
    path: &str,
    raw: &[RawValueMatch],
    refusals: &mut Vec<Refusal>,
) -> Result<Option<Vec<v1::ValueMatch>>, FieldError> {
    values(&format!("{path}.headers"), raw, limits::HEADER_VALUE_BYTES, str::to_ascii_lowercase, refusals)
}

pub fn query(
    path: &str,
    raw: &[RawValueMatch],
    refusals: &mut Vec<Refusal>,
) -> Result<Option<Vec<v1::ValueMatch>>, FieldError> {
    values(&format!("{path}.queryParams"), raw, limits::QUERY_VALUE_BYTES, str::to_owned, refusals)
}

fn values(
    path: &str,
    raw: &[RawValueMatch],
    bytes: usize,
    canonical: impl Fn(&str) -> String,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<Vec<v1::ValueMatch>>, FieldError> {
    at_most(path, raw.len(), limits::VALUES_PER_MATCH)?;
    let mut all: Vec<v1::ValueMatch> = Vec::with_capacity(raw.len());
    let mut whole = true;
    for (index, wanted) in raw.iter().enumerate() {
        let path = format!("{path}[{index}]");
        token(&format!("{path}.name"), &wanted.name)?;
        unique(&format!("{path}.name"), &wanted.name, raw[..index].iter().map(|other| other.name.as_str()))?;
        value(&format!("{path}.value"), &wanted.value, bytes)?;
        let Some(comparison) = comparison(&path, wanted.kind.as_deref(), refusals) else {
            whole = false;
            continue;
        };
        let regular_expression = comparison == Comparison::RegularExpression;
        whole &= !regular_expression || compiles(&format!("{path}.value"), &wanted.value, refusals);
        let name = canonical(&wanted.name);
        // Of equivalent names the first counts (Gateway API).
        if all.iter().all(|other| other.name != name) {
            all.push(v1::ValueMatch { name, value: wanted.value.clone(), regular_expression });
        }
    }
    Ok(whole.then_some(all))
}

/// RFC 9110's token, which names of headers (and, here, of query parameters) are.
pub fn token(path: &str, name: &str) -> Result<(), FieldError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > limits::HEADER_NAME_BYTES || !name.bytes().all(valid) {
        return Err(FieldError::new(path, format!("{name:?} is not a name"), "write one such as x-user"));
    }
    Ok(())
}

/// Printable text, which a header can have.
pub fn value(path: &str, value: &str, bytes: usize) -> Result<(), FieldError> {
    if value.is_empty() || value.len() > bytes {
        return Err(FieldError::new(path, format!("it has {} bytes", value.len()), format!("write 1 to {bytes}")));
    }
    if value.chars().any(|letter| letter.is_control() && letter != '\t') {
        return Err(FieldError::new(path, "it has a control character", "remove it"));
    }
    Ok(())
}

pub fn unique<'a>(path: &str, name: &str, mut before: impl Iterator<Item = &'a str>) -> Result<(), FieldError> {
    if before.any(|other| other == name) {
        return Err(FieldError::new(path, format!("{name:?} is there twice"), "keep one of the two"));
    }
    Ok(())
}
