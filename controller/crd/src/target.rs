//! What a policy is attached to (GEP-713 `targetRefs`, in the policy's own namespace).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Pods by their labels, or a Service: shorthand for the pods that it selects at its target ports, however they are reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething, extend("x-kubernetes-validations" = [
    { "rule": "self.kind == 'Service' ? has(self.name) && !has(self.selector) : !has(self.name) && !has(self.sectionName)",
      "message": "a target of kind Service has a name and no selector, one of kind Pod neither name nor sectionName" }
]))]
pub struct TargetReference {
    /// Always empty: both kinds are of the core group.
    #[serde(default)]
    #[schemars(length(max = 0))]
    pub group: String,
    pub kind: TargetKind,
    /// Of kind Pod only. Omitted, or without labels: every pod of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<MatchLabels>,
    /// Of kind Service only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Of kind Service only: the name of one of its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub section_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    Pod,
    Service,
}

/// A mistyped `matchLabels` would leave an empty object behind: that is refused, `matchLabels: {}` is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct MatchLabels {
    #[schemars(schema_with = "schema::labels")]
    pub match_labels: BTreeMap<String, String>,
}
