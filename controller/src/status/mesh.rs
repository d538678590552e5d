//! The status of an `XMesh` (GEP-3949): whether it is accepted, and what the mesh can do.

use serde::Serialize;
use weft_crd::{Condition, ConditionStatus};

use super::Aspect;

/// What Gateway API's own suite is told of Weft, too (`cargo xtask conformance`): by name, one on each line.
const SUPPORTED_FEATURES: &str = include_str!("../../supported-features.txt");

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshStatus {
    conditions: Vec<Condition>,
    /// None unless it is accepted.
    supported_features: Vec<Feature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Feature {
    name: &'static str,
}

impl MeshStatus {
    #[must_use]
    pub fn of(conditions: Vec<Condition>) -> Self {
        let accepted =
            conditions.iter().any(|one| one.type_ == Aspect::Accepted.as_str() && one.status == ConditionStatus::True);
        let features = SUPPORTED_FEATURES.lines().filter(|_| accepted).map(|name| Feature { name });
        Self { conditions, supported_features: features.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_sorted_by_name_as_the_api_takes_them() {
        let names: Vec<&str> = SUPPORTED_FEATURES.lines().collect();
        assert!(names.is_sorted_by(|one, other| one < other) && names.len() <= 64, "{names:?}");
        assert!(names.contains(&"Mesh") && names.iter().all(|name| name.chars().all(char::is_alphanumeric)));
    }
}
