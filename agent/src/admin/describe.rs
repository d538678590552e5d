//! Routes in words.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::limits;
use crate::model::{
    Backend, BackendTarget, Carrier, ConnectionRoutes, Filter, PathMatch, RetryBudget, RetryPolicy, RouteMatch,
    RouteRule, Routes, SessionPersistence, ValueMatch,
};

/// What one match wants.
pub(super) fn conditions(wanted: &RouteMatch) -> String {
    let mut parts = Vec::new();
    match &wanted.path {
        PathMatch::Any => {}
        PathMatch::Exact(path) => parts.push(format!("path {path}")),
        PathMatch::Prefix(prefix) if prefix.as_str().is_empty() => {}
        PathMatch::Prefix(prefix) => parts.push(format!("path {} or below", prefix.as_str())),
        PathMatch::Pattern(pattern) => parts.push(format!("path like {}", pattern.as_str())),
        PathMatch::GrpcMethod(method) => parts.push(format!("gRPC method {method} of any service")),
    }
    parts.extend(wanted.method.as_ref().map(|method| format!("method {method}")));
    parts.extend(wanted.headers.iter().map(|one| format!("header {} {}", one.name, value(&one.value))));
    parts.extend(wanted.query.iter().map(|one| format!("query {} {}", one.name, value(&one.value))));
    if parts.is_empty() { "everything".to_owned() } else { parts.join(" and ") }
}

fn value(wanted: &ValueMatch) -> String {
    match wanted {
        ValueMatch::Exact(text) => format!("= {text}"),
        ValueMatch::Pattern(pattern) => format!("like {}", pattern.as_str()),
    }
}

/// Each rule once with all that it wants and where it leads, in the order of precedence.
pub(super) fn rules(routes: &Routes) -> Vec<String> {
    listed(routes.matches.all().iter().map(|one| (&one.rule, conditions(one))))
}

/// The same of connections; by name, where names decide.
pub(super) fn connections(routes: &ConnectionRoutes) -> Vec<String> {
    let mut all: Vec<_> = routes.rules.all().collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    listed(all.into_iter().map(|(name, rule)| {
        (rule, if name.is_empty() { "every connection".to_owned() } else { format!("TLS for {name}") })
    }))
}

fn listed<'a>(matches: impl Iterator<Item = (&'a Arc<RouteRule>, String)>) -> Vec<String> {
    let mut listed: Vec<(&Arc<RouteRule>, Vec<String>)> = Vec::new();
    for (rule, wants) in matches {
        match listed.iter_mut().find(|(known, _)| Arc::ptr_eq(known, rule)) {
            Some((_, wanted)) => wanted.push(wants),
            None => listed.push((rule, vec![wants])),
        }
    }
    for (_, wanted) in &mut listed {
        let more = wanted.len().saturating_sub(limits::WHY_CONDITIONS);
        wanted.truncate(limits::WHY_CONDITIONS);
        wanted.extend((more > 0).then(|| format!("{more} more")));
    }
    let more = listed.len().saturating_sub(limits::WHY_RULES);
    let mut told: Vec<_> = listed
        .iter()
        .take(limits::WHY_RULES)
        .map(|(rule, wanted)| format!("{rule} takes {}: {}", wanted.join(", or "), leads_to(rule)))
        .collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told
}

/// Where a rule leads.
pub(super) fn leads_to(rule: &RouteRule) -> String {
    if rule.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_))) {
        return "a redirect".to_owned();
    }
    let named: Vec<_> = rule.backends.iter().map(|backend| share(rule, backend)).collect();
    if named.is_empty() { "no backend".to_owned() } else { named.join(", ") }
}

/// `95 % shop/web-v1:80`, or the name alone where there is only one.
pub(super) fn share(rule: &RouteRule, backend: &Backend) -> String {
    let name = match &backend.target {
        BackendTarget::Service { service, port } => format!("{service}:{port}"),
        BackendTarget::Invalid(why) => format!("an invalid backend ({why})"),
    };
    match percent(rule, backend) {
        _ if rule.backends.len() == 1 => name,
        Some(percent) => format!("{percent} % {name}"),
        None => name,
    }
}

/// A backend's share of its rule's requests; None where all weights are 0.
pub(super) fn percent(rule: &RouteRule, backend: &Backend) -> Option<u64> {
    let sum: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    (u64::from(backend.weight) * 100).checked_div(sum)
}

/// How a rule's requests stay with their endpoint: a backend's own word comes before the rule's.
pub(super) fn sessions(rule: &RouteRule) -> Vec<String> {
    let kept = |place: &str, session: &SessionPersistence| {
        format!("{place} a session has one endpoint, {}.", kept_by(session))
    };
    let all = if rule.backends.iter().all(|backend| backend.session.is_none()) { "each" } else { "each other" };
    let of_rule = rule.session.as_ref().map(|session| kept(&format!("At {all} backend"), session));
    let own = rule.backends.iter().filter_map(|backend| {
        let BackendTarget::Service { service, .. } = &backend.target else { return None };
        Some(kept(&format!("At {}", service.backend_title()), backend.session.as_ref()?))
    });
    of_rule.into_iter().chain(own).collect()
}

fn kept_by(session: &SessionPersistence) -> String {
    let by = match &session.carrier {
        Carrier::Cookie(cookie) => format!("the cookie {}", cookie.name),
        Carrier::Header(name) => format!("the header {name}"),
    };
    let ends = session.absolute_timeout.map(|timeout| format!(", for {timeout:?}")).unwrap_or_default();
    format!("by {by}{ends}")
}

/// How long requests may take and how often they are sent again.
pub(super) fn patience(
    request: Option<Duration>,
    attempt: Option<Duration>,
    retry: Option<&RetryPolicy>,
    budget: RetryBudget,
) -> String {
    let mut text = match (request, attempt) {
        (None, None) => "No time is set for a request".to_owned(),
        (Some(request), None) => format!("A request has {request:?}"),
        (None, Some(attempt)) => format!("An attempt has {attempt:?}"),
        (Some(request), Some(attempt)) => format!("A request has {request:?}, each of its attempts {attempt:?}"),
    };
    match retry {
        None => text.push_str("; no retries are asked for"),
        Some(policy) => {
            let _ = write!(text, "; up to {} retries{}, in a budget of {}", policy.attempts, on(policy), terms(budget));
        }
    }
    text.push('.');
    text
}

fn on(policy: &RetryPolicy) -> String {
    let statuses = policy.statuses.iter().map(|status| status.as_u16().to_string());
    let grpc = policy.grpc_statuses.iter().map(|status| format!("gRPC {status}"));
    let all: Vec<_> = statuses.chain(grpc).collect();
    if all.is_empty() { String::new() } else { format!(" on {}", all.join(", ")) }
}

pub(super) fn terms(budget: RetryBudget) -> String {
    let RetryBudget { percent, windows, minimum, refuses } = budget;
    let (share, least) = (windows.share, windows.minimum);
    let refused = if refuses { "; what it does not pay for is answered 503" } else { "" };
    format!("{percent} % of the requests of {share:?}, or {minimum} in {least:?} on each worker{refused}")
}
