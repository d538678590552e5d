//! Conditions of policies (GEP-713), per target, of routes (Gateway API), per parent, of an `XBackend`, per Service by which
//! requests come, and of an `XMesh`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use weft_crd::AncestorReference;

use super::route::ParentReference;
use crate::object::{Key, Kind, Parent, Target};
use crate::source::defect::Defect;
use crate::source::reading::Broken;
use crate::store::Name;

/// Why an object is or is not in force for one target or parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    Accepted,
    Conflicted,
    Invalid,
    TargetNotFound,
    NoMatchingParent,
    UnsupportedValue,
    IncompatibleFilters,
    ResolvedRefs,
    InvalidKind,
    BackendNotFound,
    RefNotPermitted,
    InvalidParameters,
    UnsupportedProtocol,
    RefusedByAgent,
    Removing,
}

impl Reason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Conflicted => "Conflicted",
            Self::Invalid => "Invalid",
            Self::TargetNotFound => "TargetNotFound",
            Self::NoMatchingParent => "NoMatchingParent",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::IncompatibleFilters => "IncompatibleFilters",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::InvalidKind => "InvalidKind",
            Self::BackendNotFound => "BackendNotFound",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::InvalidParameters => "InvalidParameters",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::RefusedByAgent => "RefusedByAgent",
            Self::Removing => "Removing",
        }
    }
}

/// The type of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    Accepted,
    /// Of routes: their backends exist.
    ResolvedRefs,
    /// Of routes, and there only if it is true.
    PartiallyInvalid,
    /// Agents act on it; there only if it is false.
    Programmed,
}

impl Aspect {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::PartiallyInvalid => "PartiallyInvalid",
            Self::Programmed => "Programmed",
        }
    }
}

/// What a condition is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Of a policy.
    Target(Target),
    /// Of a route.
    Parent(Parent),
    /// Of an `XBackend`: the Service by which requests come to it.
    Ancestor(Name),
    /// Of an `XMesh`.
    Itself,
}

/// A condition of one target or parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyCondition {
    pub subject: Subject,
    pub aspect: Aspect,
    pub reason: Reason,
    pub message: String,
    /// Of the object that was judged, if it has one.
    pub generation: Option<i64>,
}

/// The same for programs, as the object's kind writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Ancestor(AncestorReference),
    Parent(ParentReference),
    /// The status is about nothing else.
    Itself,
}

/// One line about a policy or route, for people and for files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyReport {
    #[serde(skip)]
    pub reference: Reference,
    #[serde(skip)]
    pub aspect: Aspect,
    #[serde(skip)]
    pub generation: Option<i64>,
    /// `Pods of shop`, `Pods of shop with app=web`, `Service shop/web port http`.
    pub target: String,
    /// There is nothing to repair.
    pub accepted: bool,
    pub reason: Reason,
    pub message: String,
}

impl PolicyReport {
    /// The condition's status.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.accepted || self.aspect == Aspect::PartiallyInvalid
    }

    /// What people want to read: whether it is in force, and what there is to repair.
    #[must_use]
    pub fn is_worth_telling(&self) -> bool {
        self.aspect == Aspect::Accepted || !self.accepted
    }
}

/// What a translation found out about objects.
pub type Conditions = BTreeMap<Key, Vec<PolicyCondition>>;
/// What people are told of objects.
pub type OfObjects = BTreeMap<Key, Vec<PolicyReport>>;

/// The state of every policy: conditions of those in use, and `Invalid` for what is broken where it is written;
/// `stand_ins` are only ever the latter. A route has one word for each parent, and what is written now is what it is about.
#[must_use]
pub fn reports<'a>(
    conditions: &Conditions,
    defects: impl Iterator<Item = &'a Defect>,
    broken: &BTreeMap<Key, Broken>,
    stand_ins: &BTreeSet<Key>,
) -> OfObjects {
    let mut all = OfObjects::new();
    let answered = |key: &Key| broken.get(key).is_some_and(|broken| !broken.parents.is_empty());
    for (key, conditions) in conditions.iter().filter(|(key, _)| !stand_ins.contains(*key) && !answered(key)) {
        let reports = conditions.iter().map(|condition| PolicyReport {
            reference: reference(&key.namespace, &condition.subject),
            aspect: condition.aspect,
            generation: condition.generation,
            target: describe(&key.namespace, &condition.subject),
            accepted: matches!(
                (condition.aspect, condition.reason),
                (Aspect::Accepted, Reason::Accepted) | (Aspect::ResolvedRefs, Reason::ResolvedRefs)
            ),
            reason: condition.reason,
            message: condition.message.clone(),
        });
        all.entry(key.clone()).or_default().extend(reports);
    }
    let nothing = Broken::default();
    for (key, defect) in defects.filter_map(|defect| Some((object_of(defect)?, defect))) {
        if key.kind == Kind::XBackend && defect.file.is_none() && !conditions.contains_key(&key) {
            // No route leads there: it may be for another implementation alone.
            continue;
        }
        let broken = broken.get(&key).unwrap_or(&nothing);
        let report = |reference, target| PolicyReport {
            reference,
            aspect: Aspect::Accepted,
            generation: broken.generation,
            target,
            accepted: false,
            reason: Reason::Invalid,
            message: format!("{defect}{}", meanwhile(&key, stand_ins.contains(&key), conditions.contains_key(&key))),
        };
        let parents = broken.parents.iter().map(|parent| {
            let target = describe(&key.namespace, &Subject::Parent(parent.clone()));
            report(Reference::Parent(ParentReference::of(parent)), target)
        });
        let mut reports: Vec<PolicyReport> = parents.collect();
        if reports.is_empty() {
            let target = if defect.file.is_some() { "its file" } else { "itself" };
            reports.push(report(itself(&key), target.to_owned()));
        }
        all.entry(key).or_default().extend(reports);
    }
    all
}

/// What is in force instead of a broken object.
fn meanwhile(key: &Key, stood_in: bool, known: bool) -> &'static str {
    match (stood_in, key.kind) {
        (true, Kind::AuthenticationPolicy) => {
            "; it has no last good version, so every pod of its namespace is strict until it is repaired"
        }
        (true, _) => "; it has no last good version, so it denies everything in its namespace until it is repaired",
        (false, _) if known => "; its last good version stays in force",
        (false, _) => "",
    }
}

fn object_of(defect: &Defect) -> Option<Key> {
    let key = defect.key.clone()?;
    key.kind.has_status().then_some(key)
}

/// A broken object's targets are unknown: it stands for them.
fn itself(key: &Key) -> Reference {
    if key.kind == Kind::XMesh {
        return Reference::Itself;
    }
    let namespace = Some(key.namespace.clone()).filter(|namespace| !namespace.is_empty());
    let (group, kind, name) = (key.kind.group().to_owned(), key.kind.as_str().to_owned(), key.name.clone());
    if key.kind.is_route() {
        return Reference::Parent(ParentReference { group, kind, namespace, name, section_name: None, port: None });
    }
    Reference::Ancestor(AncestorReference { group, kind, namespace, name, section_name: None })
}

/// A selector has no name of its own: its labels stand for it, `*` for all pods.
fn reference(namespace: &str, subject: &Subject) -> Reference {
    let target = match subject {
        Subject::Target(target) => target,
        Subject::Ancestor((namespace, name)) => return ancestor(namespace, "Service", name.clone(), None),
        Subject::Parent(parent) => return Reference::Parent(ParentReference::of(parent)),
        Subject::Itself => return Reference::Itself,
    };
    let (kind, name, section_name) = match target {
        Target::Pods(labels) if labels.is_empty() => ("Pod", "*".to_owned(), None),
        Target::Pods(labels) => ("Pod", written(labels), None),
        Target::Service { name, section } => ("Service", name.clone(), section.clone()),
    };
    ancestor(namespace, kind, name.chars().take(253).collect(), section_name)
}

/// Of the core group.
fn ancestor(namespace: &str, kind: &str, name: String, section_name: Option<String>) -> Reference {
    let (group, kind, namespace) = (String::new(), kind.to_owned(), Some(namespace.to_owned()));
    Reference::Ancestor(AncestorReference { group, kind, namespace, name, section_name })
}

fn written(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn describe(namespace: &str, subject: &Subject) -> String {
    let (namespace, name, port, section) = match subject {
        Subject::Target(Target::Pods(labels)) if labels.is_empty() => return format!("Pods of {namespace}"),
        Subject::Target(Target::Pods(labels)) => return format!("Pods of {namespace} with {}", written(labels)),
        Subject::Target(Target::Service { name, section }) => (namespace, name, None, section),
        Subject::Itself => return "itself".to_owned(),
        Subject::Ancestor((namespace, name)) => return format!("Service {namespace}/{name}"),
        Subject::Parent(parent) => {
            let namespace = parent.namespace.as_deref().unwrap_or(namespace);
            (namespace, &parent.name, parent.port, &parent.section)
        }
    };
    let port = port.map(|port| format!(" port {port}")).unwrap_or_default();
    let section = section.as_ref().map(|section| format!(" port {section}")).unwrap_or_default();
    format!("Service {namespace}/{name}{port}{section}")
}
