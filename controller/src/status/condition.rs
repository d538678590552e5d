//! Conditions of the mesh itself, of which each part says one and leaves the others as they are.

use jiff::Timestamp;
use serde_json::Value as Json;
use weft_crd::{Condition, ConditionStatus};

/// As of now.
#[must_use]
pub fn condition(
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.into(),
        last_transition_time: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string(),
        observed_generation: generation,
    }
}

/// `known` with this condition in place of one of its type, whose time it keeps if the status is the same.
#[must_use]
pub fn with_condition(known: &Json, mut condition: Condition) -> Vec<Json> {
    let known = known.as_array().map_or(&[][..], Vec::as_slice);
    let (before, mut others): (Vec<&Json>, Vec<&Json>) =
        known.iter().partition(|known| known["type"] == condition.type_.as_str());
    let place = known.iter().position(|known| known["type"] == condition.type_.as_str()).unwrap_or(others.len());
    let same = before.iter().find(|known| known["status"] == serde_json::json!(condition.status));
    if let Some(time) = same.and_then(|known| known["lastTransitionTime"].as_str()) {
        time.clone_into(&mut condition.last_transition_time);
    }
    let condition = serde_json::to_value(condition).unwrap_or_default();
    others.insert(place.min(others.len()), &condition);
    others.into_iter().cloned().collect()
}
