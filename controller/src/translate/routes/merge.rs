//! All routes of one Service port and audience as one resource, its matches in Gateway API's order of precedence.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use prost::Message as _;
use weft_proto::v1;

use crate::limits;
use crate::object::{Metadata, Route, Rule, Specificity};

/// A route with its rules as agents read them.
#[derive(Debug)]
pub struct Resolved<'a> {
    pub route: &'a Route,
    pub rules: Vec<(&'a Rule, v1::RouteRule)>,
}

/// Gateway API's order among matches: the more specific, then the older route, then the first by name, then the first
/// rule, then the first match. No two matches are equal in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence<'a> {
    specificity: Specificity,
    age: Age<'a>,
    rule: usize,
    position: usize,
}

/// A route without a time is younger than all that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age<'a> {
    created: Timestamp,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Age<'a> {
    pub fn of(metadata: &'a Metadata) -> Self {
        let created = metadata.created.unwrap_or(Timestamp::MAX);
        Self { created, namespace: &metadata.namespace, name: &metadata.name }
    }
}

/// What a rule gets that is silent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent {
    pub request_timeout_ms: Option<u32>,
}

/// What became of the routes that were merged.
#[derive(Debug, Default)]
pub struct Merged<'a> {
    /// Those that find no room.
    pub left_out: Vec<&'a Route>,
    /// Of connections: matches that an older route has as well.
    pub shadows: Vec<Shadow<'a>>,
}

/// Where an older route goes before a match.
#[derive(Debug)]
pub struct Shadow<'a> {
    pub route: &'a Route,
    /// The first of them, if there are several.
    pub by: &'a Route,
    /// Hostnames; "" of a route without any.
    pub names: Vec<String>,
}

/// Fills in matches and rules from `routes`, the oldest first.
pub fn merge<'a>(routes: &[&'a Resolved<'a>], silent: Silent, into: &mut v1::Routes) -> Merged<'a> {
    let mut oldest_first = routes.to_vec();
    oldest_first.sort_by_key(|resolved| Age::of(&resolved.route.metadata));
    let mut matches: Vec<(Precedence<'_>, &Route, v1::RouteMatch)> = Vec::new();
    let mut merged = Merged::default();
    let mut taken = Size::default();
    for resolved in oldest_first {
        let with = taken.and(resolved);
        if !with.fits() {
            merged.left_out.push(resolved.route);
            continue;
        }
        taken = with;
        for (place, (rule, body)) in resolved.rules.iter().enumerate() {
            let index = u32::try_from(into.rules.len()).unwrap_or(u32::MAX);
            into.rules.push(v1::RouteRule { request_timeout_ms: silent.timeout(rule), ..body.clone() });
            for (position, one) in rule.matches.iter().enumerate() {
                let age = Age::of(&resolved.route.metadata);
                let precedence = Precedence { specificity: one.specificity, age, rule: place, position };
                matches.push((precedence, resolved.route, v1::RouteMatch { rule: index, ..one.condition.clone() }));
            }
        }
    }
    matches.sort_by_key(|(precedence, _, _)| *precedence);
    if routes.iter().any(|one| !one.route.kind.is_of_requests()) {
        merged.shadows = take_shadowed(&mut matches);
    }
    into.matches = matches.into_iter().map(|(_, _, condition)| condition).collect();
    merged
}

/// Takes out what is never reached: of connections a match is its name alone, so an equal one before it has them all.
fn take_shadowed<'a>(matches: &mut Vec<(Precedence<'_>, &'a Route, v1::RouteMatch)>) -> Vec<Shadow<'a>> {
    let mut first: HashMap<String, &'a Route> = HashMap::new();
    let mut shadows: BTreeMap<Age<'a>, Shadow<'a>> = BTreeMap::new();
    matches.retain(|(_, route, condition)| match first.entry(condition.server_name.clone()) {
        Entry::Vacant(free) => {
            free.insert(route);
            true
        }
        Entry::Occupied(taken) => {
            let by: &'a Route = taken.get();
            if !std::ptr::eq(by, *route) {
                let shadow = Shadow { route, by, names: Vec::new() };
                let shadow = shadows.entry(Age::of(&route.metadata)).or_insert(shadow);
                shadow.names.push(condition.server_name.clone());
            }
            false
        }
    });
    shadows.into_values().collect()
}

impl Silent {
    /// A rule that says "no limit" where a policy has one must not be read as silent: it gets 49 days.
    fn timeout(self, rule: &Rule) -> u32 {
        match (rule.request_timeout_ms, self.request_timeout_ms) {
            (Some(0), Some(limit)) if limit > 0 => u32::MAX,
            (own, _) => own.unwrap_or(0),
        }
    }
}

/// What agents must hold of a resource.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    matches: usize,
    expressions: usize,
    bytes: usize,
}

impl Resolved<'_> {
    /// Copied to that many ports, it is not more than one route may take.
    pub fn fits_everywhere(&self, ports: usize) -> bool {
        let size = Size::default().and(self);
        size.bytes * ports <= limits::ROUTE_BYTES_EVERYWHERE
            && size.expressions * ports <= limits::ROUTE_EXPRESSIONS_EVERYWHERE
    }
}

impl Size {
    fn and(self, resolved: &Resolved<'_>) -> Self {
        resolved.rules.iter().fold(self, |sum, (rule, body)| sum.with(rule, body))
    }

    fn with(self, rule: &Rule, body: &v1::RouteRule) -> Self {
        let conditions = || rule.matches.iter().map(|one| &one.condition);
        Self {
            matches: self.matches + rule.matches.len(),
            expressions: self.expressions + conditions().map(expressions).sum::<usize>(),
            bytes: self.bytes + body.encoded_len() + conditions().map(prost::Message::encoded_len).sum::<usize>(),
        }
    }

    fn fits(self) -> bool {
        self.matches <= limits::MATCHES_PER_PORT
            && self.expressions <= limits::EXPRESSIONS_PER_PORT
            && self.bytes <= limits::ROUTES_BYTES_PER_PORT
    }
}

fn expressions(condition: &v1::RouteMatch) -> usize {
    let path = condition.path.as_ref().is_some_and(|path| path.kind() == v1::PathMatchKind::RegularExpression);
    let values = condition.headers.iter().chain(&condition.query).filter(|value| value.regular_expression);
    usize::from(path) + values.count()
}

#[cfg(test)]
mod tests;
