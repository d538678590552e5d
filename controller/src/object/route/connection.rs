//! The one rule of a `TLSRoute` or a `TCPRoute`, whose connections are carried as a whole.

use std::net::IpAddr;

use weft_proto::v1;

use super::filter::{Place, is_hostname};
use super::raw::RawConnectionRule;
use super::specificity::Specificity;
use super::{Match, RouteKind, Rule, at_most, reference};
use crate::limits;
use crate::object::FieldError;

pub fn rule(path: &str, raw: RawConnectionRule, kind: RouteKind, matches: Vec<Match>) -> Result<Rule, FieldError> {
    if raw.backend_refs.is_empty() {
        return Err(FieldError::new(format!("{path}.backendRefs"), "it has no backend", "name at least one Service"));
    }
    let place = Place { kind, on_backend: false, has_one_prefix: false };
    Ok(Rule {
        name: super::rule_name(path, raw.name)?,
        matches,
        filters: Vec::new(),
        backends: reference::backends(path, raw.backend_refs, place)?,
        request_timeout_ms: None,
        backend_timeout_ms: 0,
        retry: None,
        session: None,
        refusals: Vec::new(),
    })
}

/// Of every connection.
pub fn anything() -> Match {
    of_name(String::new())
}

/// One match for each hostname of a `TLSRoute`.
pub fn names(hostnames: Vec<String>) -> Result<Vec<Match>, FieldError> {
    const PATH: &str = "spec.hostnames";
    at_most(PATH, hostnames.len(), limits::SERVER_NAMES_PER_ROUTE)?;
    if hostnames.is_empty() {
        return Err(FieldError::new(PATH, "it names no server", "write names that clients ask for, or use a TCPRoute"));
    }
    let mut names: Vec<Match> = Vec::with_capacity(hostnames.len());
    for (index, name) in hostnames.into_iter().enumerate() {
        let precise = name.strip_prefix("*.").unwrap_or(&name);
        if name.len() > limits::OBJECT_NAME_BYTES || !is_hostname(precise) || precise.parse::<IpAddr>().is_ok() {
            let problem = format!("{name:?} is no name that TLS could ask for");
            let fix = "write one such as shop.example.com or *.example.com";
            return Err(FieldError::new(format!("{PATH}[{index}]"), problem, fix));
        }
        names.push(of_name(name));
    }
    Ok(names)
}

fn of_name(server_name: String) -> Match {
    let specificity = Specificity::of_server_name(&server_name);
    Match { condition: v1::RouteMatch { server_name, ..v1::RouteMatch::default() }, specificity }
}
