//! Reports as the status of an object: the same beside a file and in the API.
//!
//! A condition that a status has already keeps its time.

use jiff::Timestamp;
use serde_json::Value as Json;
use weft_crd::{Ancestor, Condition, ConditionStatus, PolicyStatus};

use super::mesh::MeshStatus;
use super::route::{RouteParent, RouteStatus};
use super::{PolicyReport, Reference};
use crate::limits;

#[derive(serde::Serialize)]
#[serde(untagged)]
pub enum Status {
    Policy(PolicyStatus),
    Route(RouteStatus),
    Mesh(MeshStatus),
}

impl Status {
    /// As they are written.
    #[must_use]
    pub fn entries(&self) -> Vec<Json> {
        let entries = match self {
            Self::Policy(status) => serde_json::to_value(&status.ancestors),
            Self::Route(status) => serde_json::to_value(&status.parents),
            Self::Mesh(status) => serde_json::to_value([status]),
        };
        entries.and_then(serde_json::from_value).unwrap_or_default()
    }
}

/// `known` are the entries that there are.
#[must_use]
pub fn status(reports: &[PolicyReport], known: &[Json], now: Timestamp) -> Status {
    let mut ancestors: Vec<Ancestor> = Vec::new();
    let mut parents: Vec<RouteParent> = Vec::new();
    let mut own: Vec<Condition> = Vec::new();
    for report in reports {
        let condition = condition(report, since(report, known).unwrap_or_else(|| now.to_string()));
        match &report.reference {
            Reference::Ancestor(reference) => match ancestors.last_mut().filter(|last| last.ancestor_ref == *reference)
            {
                Some(last) if last.conditions.iter().all(|known| known.type_ != condition.type_) => {
                    last.conditions.push(condition);
                }
                Some(_) | None => ancestors.push(Ancestor {
                    ancestor_ref: reference.clone(),
                    controller_name: weft_crd::CONTROLLER_NAME.to_owned(),
                    conditions: vec![condition],
                }),
            },
            Reference::Parent(reference) => match parents.last_mut().filter(|last| last.parent_ref == *reference) {
                Some(last) => add(&mut last.conditions, condition),
                None => parents.push(RouteParent {
                    parent_ref: reference.clone(),
                    controller_name: weft_crd::CONTROLLER_NAME,
                    conditions: vec![condition],
                }),
            },
            Reference::Itself => add(&mut own, condition),
        }
    }
    ancestors.truncate(limits::ANCESTORS);
    parents.truncate(limits::PARENTS_PER_ROUTE);
    if !own.is_empty() {
        return Status::Mesh(MeshStatus::of(own));
    }
    if parents.is_empty() { Status::Policy(PolicyStatus { ancestors }) } else { Status::Route(RouteStatus { parents }) }
}

/// One condition of a type is all that the API takes.
fn add(conditions: &mut Vec<Condition>, condition: Condition) {
    match conditions.iter_mut().find(|known| known.type_ == condition.type_) {
        Some(known) => known.message = bounded(&format!("{}; {}", known.message, condition.message)),
        None => conditions.push(condition),
    }
}

/// Since when an object says that. None: it does not.
#[must_use]
pub fn since(report: &PolicyReport, known: &[Json]) -> Option<String> {
    let (field, reference) = match &report.reference {
        Reference::Ancestor(reference) => ("ancestorRef", serde_json::to_value(reference)),
        Reference::Parent(reference) => ("parentRef", serde_json::to_value(reference)),
        // An index that is not there is null.
        Reference::Itself => ("itself", Ok(Json::Null)),
    };
    let reference = reference.ok()?;
    let of_it = known.iter().filter(|entry| entry[field] == reference);
    let mut conditions = of_it.filter_map(|entry| entry["conditions"].as_array()).flatten();
    let (aspect, reason) = (report.aspect.as_str(), report.reason.as_str());
    let status = if report.holds() { "True" } else { "False" };
    let same =
        conditions.find(|known| known["type"] == aspect && known["status"] == status && known["reason"] == reason);
    same?["lastTransitionTime"].as_str().map(str::to_owned)
}

fn condition(report: &PolicyReport, since: String) -> Condition {
    Condition {
        type_: report.aspect.as_str().to_owned(),
        status: if report.holds() { ConditionStatus::True } else { ConditionStatus::False },
        reason: report.reason.as_str().to_owned(),
        message: bounded(&report.message),
        last_transition_time: since,
        observed_generation: report.generation,
    }
}

fn bounded(message: &str) -> String {
    message.chars().take(limits::MESSAGE_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::object::{Key, Kind, Parent};
    use crate::status::policy::{Conditions, reports};
    use crate::status::{Aspect, PolicyCondition, Reason, Subject};

    fn of_route(reason: Reason) -> Vec<PolicyReport> {
        let key = Key { kind: Kind::HttpRoute, namespace: "shop".to_owned(), name: "web".to_owned() };
        let name = "web".to_owned();
        let parent = Parent { group: String::new(), namespace: None, name, port: Some(80), section: None };
        let condition = |aspect, reason| PolicyCondition {
            subject: Subject::Parent(parent.clone()),
            aspect,
            reason,
            message: String::new(),
            generation: None,
        };
        let conditions = vec![condition(Aspect::Accepted, Reason::Accepted), condition(Aspect::ResolvedRefs, reason)];
        let conditions = Conditions::from([(key, conditions)]);
        let all = reports(&conditions, std::iter::empty(), &BTreeMap::new(), &BTreeSet::new());
        all.into_values().flatten().collect()
    }

    #[test]
    fn a_condition_that_is_as_it_was_keeps_its_time() {
        let times = |entries: &[Json]| -> Vec<String> {
            let conditions = entries[0]["conditions"].as_array().unwrap().iter();
            conditions.map(|one| one["lastTransitionTime"].as_str().unwrap().to_owned()).collect()
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = status(&of_route(Reason::ResolvedRefs), &[], at(1)).entries();
        let second = status(&of_route(Reason::BackendNotFound), &first, at(2)).entries();
        assert_eq!(times(&second), [at(1).to_string(), at(2).to_string()]);
        let third = status(&of_route(Reason::BackendNotFound), &second, at(3)).entries();
        assert_eq!(third, second);
        let mut of_another = second;
        of_another[0]["parentRef"]["port"] = 81.into();
        let apart = status(&of_route(Reason::BackendNotFound), &of_another, at(4)).entries();
        assert_eq!(times(&apart), [at(4).to_string(), at(4).to_string()]);
    }
}
