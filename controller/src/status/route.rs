//! The status of a route as Gateway API has it: conditions for each parent.

use serde::Serialize;
use weft_crd::Condition;

use crate::object::Parent;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    pub parents: Vec<RouteParent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParent {
    pub parent_ref: ParentReference,
    pub controller_name: &'static str,
    pub conditions: Vec<Condition>,
}

/// As the route's spec writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    pub group: String,
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl ParentReference {
    #[must_use]
    pub fn of(parent: &Parent) -> Self {
        Self {
            group: parent.group.clone(),
            kind: "Service".to_owned(),
            namespace: parent.namespace.clone(),
            name: parent.name.clone(),
            section_name: parent.section.clone(),
            port: parent.port,
        }
    }
}
