//! Conditions of policies (GEP-713): per target, `Accepted` with a reason.

use std::collections::BTreeMap;

use serde::Serialize;

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
    /// `Pods of shop`, `Pods of shop with app=web`, `Service shop/web port http`.
    pub target: String,
    pub accepted: bool,
    pub reason: Reason,
    pub message: String,
}

/// The state of every policy: conditions of those in use, and `Invalid` for what is broken in its file.
#[must_use]
pub fn reports(
    conditions: &BTreeMap<Key, Vec<PolicyCondition>>,
    defects: &[Defect],
) -> BTreeMap<Key, Vec<PolicyReport>> {
    let mut all: BTreeMap<Key, Vec<PolicyReport>> = BTreeMap::new();
    for (key, conditions) in conditions {
        let reports = conditions.iter().map(|condition| PolicyReport {
            target: describe(&key.namespace, &condition.target),
            accepted: condition.reason == Reason::Accepted,
            reason: condition.reason,
            message: condition.message.clone(),
        });
        all.entry(key.clone()).or_default().extend(reports);
    }
    for (key, defect) in defects.iter().filter_map(|defect| Some((policy_of(defect)?, defect))) {
        let kept = if conditions.contains_key(&key) { "; its last good version stays in force" } else { "" };
        all.entry(key).or_default().push(PolicyReport {
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

fn describe(namespace: &str, target: &Target) -> String {
    match target {
        Target::Pods(labels) if labels.is_empty() => format!("Pods of {namespace}"),
        Target::Pods(labels) => {
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("Pods of {namespace} with {}", labels.join(","))
        }
        Target::Service { name, section: None } => format!("Service {namespace}/{name}"),
        Target::Service { name, section: Some(section) } => format!("Service {namespace}/{name} port {section}"),
    }
}
