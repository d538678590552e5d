//! What a route's owner is told, for each parent: `Accepted`, `ResolvedRefs`, and `PartiallyInvalid` where it is true.

use std::collections::BTreeSet;

use super::{Attached, Losses, Place};
use crate::limits;
use crate::object::{Refusal, RefusalReason, Route, Rule};
use crate::status::{Aspect, PolicyCondition, Reason, Subject};

/// Nothing of the route can be in force.
pub fn is_dropped(route: &Route) -> bool {
    !route.rules.is_empty() && route.rules.iter().all(Rule::is_dropped)
}

pub fn conditions(attached: &Attached<'_>, losses: &Losses) -> Vec<PolicyCondition> {
    let route = attached.resolved.route;
    let mut conditions = Vec::new();
    for (parent, bound) in route.parents.iter().zip(&attached.bound) {
        let mut tell = |aspect: Aspect, reason: Reason, message: String| {
            let (subject, generation) = (Subject::Parent(parent.clone()), route.metadata.generation);
            conditions.push(PolicyCondition { subject, aspect, reason, message, generation });
        };
        let (reason, message) = accepted(route, bound, losses);
        tell(Aspect::Accepted, reason, message);
        if let Some(message) = partially_invalid(route) {
            tell(Aspect::PartiallyInvalid, Reason::UnsupportedValue, message);
        }
        let (reason, message) = resolved(attached);
        tell(Aspect::ResolvedRefs, reason, message);
    }
    conditions
}

fn accepted(route: &Route, bound: &Result<BTreeSet<Place>, (Reason, String)>, losses: &Losses) -> (Reason, String) {
    let places = match bound {
        Ok(places) => places,
        Err(why) => return why.clone(),
    };
    if let Some(why) = wholly_refused(route) {
        return why;
    }
    let lost: Vec<&(Reason, String)> = places.iter().filter_map(|place| losses.of(route, place)).collect();
    if let Some((reason, message)) = lost.first().filter(|_| lost.len() == places.len()) {
        return (*reason, message.clone());
    }
    let mut message = "the route is in force".to_owned();
    for (_, why) in lost {
        message = format!("{message}, but not everywhere: {why}");
    }
    if route.has_hostnames {
        message.push_str("; its hostnames do not count for a Service: match the Host header instead");
    }
    (Reason::Accepted, message)
}

/// Each of the rules asks for something that Weft cannot do.
fn wholly_refused(route: &Route) -> Option<(Reason, String)> {
    let refused = !route.rules.is_empty() && route.rules.iter().all(|rule| rule.all_refusals().next().is_some());
    let refusals: Vec<&Refusal> = route.rules.iter().flat_map(Rule::all_refusals).collect();
    let first = refusals.first().filter(|_| refused)?;
    let reason = match first.reason {
        RefusalReason::UnsupportedValue => Reason::UnsupportedValue,
        RefusalReason::IncompatibleFilters => Reason::IncompatibleFilters,
    };
    let consequence = if is_dropped(route) {
        "no rule of the route is in force"
    } else {
        "requests that its rules fit are answered with an error"
    };
    Some((reason, format!("{}; {consequence}", told(refusals.iter().map(ToString::to_string)))))
}

/// Gateway API prescribes how the message begins.
fn partially_invalid(route: &Route) -> Option<String> {
    let refused: Vec<String> = route.rules.iter().enumerate().filter_map(|(index, rule)| one(index, rule)).collect();
    (!refused.is_empty() && wholly_refused(route).is_none()).then(|| told(refused.into_iter()))
}

fn one(index: usize, rule: &Rule) -> Option<String> {
    let refusals: Vec<String> = rule.all_refusals().map(ToString::to_string).collect();
    let consequence = if rule.is_dropped() {
        "it is not in force"
    } else if rule.refusals.is_empty() {
        "the requests of that backend are answered with an error"
    } else {
        "its requests are answered with an error"
    };
    (!refusals.is_empty()).then(|| format!("Dropped Rule {index}: {}; {consequence}", told(refusals.into_iter())))
}

fn resolved(attached: &Attached<'_>) -> (Reason, String) {
    let Some((reason, _)) = attached.problems.first() else {
        return (Reason::ResolvedRefs, "all backends were found".to_owned());
    };
    (*reason, told(attached.problems.iter().map(|(_, problem)| problem.clone())))
}

/// The first ones, and how many more there are.
pub fn told(sentences: impl ExactSizeIterator<Item = String>) -> String {
    let more = sentences.len().saturating_sub(limits::PROBLEMS_TOLD);
    let mut shown: Vec<String> = sentences.take(limits::PROBLEMS_TOLD).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join("; ")
}
