//! Conditions of policies (GEP-713): per target, `Accepted` with a reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use weft_crd::AncestorReference;

use crate::object::{Key, Target};
use crate::source::defect::Defect;

/// Why a policy is or is not in force for one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    Accepted,
    Conflicted,
    Invalid,
    TargetNotFound,
}

impl Reason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Conflicted => "Conflicted",
            Self::Invalid => "Invalid",
            Self::TargetNotFound => "TargetNotFound",
        }
    }
}

/// The condition `Accepted` of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyCondition {
    pub target: Target,
    pub reason: Reason,
    pub message: String,
}

/// One line about a policy, for people and for files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyReport {
    /// The same for programs.
    #[serde(skip)]
    pub ancestor: AncestorReference,
    /// `Pods of shop`, `Pods of shop with app=web`, `Service shop/web port http`.
    pub target: String,
    pub accepted: bool,
    pub reason: Reason,
    pub message: String,
}

/// The state of every policy: conditions of those in use, and `Invalid` for what is broken in its file;
/// `stand_ins` are only ever the latter.
#[must_use]
pub fn reports(
    conditions: &BTreeMap<Key, Vec<PolicyCondition>>,
    defects: &[Defect],
    stand_ins: &BTreeSet<Key>,
) -> BTreeMap<Key, Vec<PolicyReport>> {
    let mut all: BTreeMap<Key, Vec<PolicyReport>> = BTreeMap::new();
    for (key, conditions) in conditions.iter().filter(|(key, _)| !stand_ins.contains(*key)) {
        let reports = conditions.iter().map(|condition| PolicyReport {
            ancestor: ancestor(&key.namespace, &condition.target),
            target: describe(&key.namespace, &condition.target),
            accepted: condition.reason == Reason::Accepted,
            reason: condition.reason,
            message: condition.message.clone(),
        });
        all.entry(key.clone()).or_default().extend(reports);
    }
    for (key, defect) in defects.iter().filter_map(|defect| Some((policy_of(defect)?, defect))) {
        let kept = if stand_ins.contains(&key) {
            "; it has no last good version, so it denies everything in its namespace until it is repaired"
        } else if conditions.contains_key(&key) {
            "; its last good version stays in force"
        } else {
            ""
        };
        let ancestor = AncestorReference {
            group: weft_crd::GROUP.to_owned(),
            kind: key.kind.as_str().to_owned(),
            namespace: Some(key.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: key.name.clone(),
            section_name: None,
        };
        all.entry(key).or_default().push(PolicyReport {
            ancestor,
            target: "its file".to_owned(),
            accepted: false,
            reason: Reason::Invalid,
            message: format!("{defect}{kept}"),
        });
    }
    all
}

fn policy_of(defect: &Defect) -> Option<Key> {
    let key = defect.key.clone()?;
    key.kind.is_policy().then_some(key)
}

/// A selector has no name of its own: its labels stand for it, `*` for all pods.
fn ancestor(namespace: &str, target: &Target) -> AncestorReference {
    let (kind, name, section_name) = match target {
        Target::Pods(labels) if labels.is_empty() => ("Pod", "*".to_owned(), None),
        Target::Pods(labels) => ("Pod", written(labels), None),
        Target::Service { name, section } => ("Service", name.clone(), section.clone()),
    };
    let name = name.chars().take(253).collect();
    AncestorReference {
        group: String::new(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name,
        section_name,
    }
}

fn written(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn describe(namespace: &str, target: &Target) -> String {
    match target {
        Target::Pods(labels) if labels.is_empty() => format!("Pods of {namespace}"),
        Target::Pods(labels) => format!("Pods of {namespace} with {}", written(labels)),
        Target::Service { name, section: None } => format!("Service {namespace}/{name}"),
        Target::Service { name, section: Some(section) } => format!("Service {namespace}/{name} port {section}"),
    }
}
