//! What a policy's target selects: pods, and the ports of theirs that it speaks of.

use std::collections::{BTreeMap, BTreeSet};

use crate::object::{Key, Kind, Metadata, Pod, Service, ServicePort, Target, TargetPort};
use crate::status::{Aspect, PolicyCondition, Reason, Subject};
use crate::store::{Contents, Name};

pub fn selects(labels: &BTreeMap<String, String>, pod: &Pod) -> bool {
    labels.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
}

/// Live pods of a namespace.
pub fn pods(namespace: &Contents) -> impl Iterator<Item = (&Name, &Pod)> {
    namespace.pods.iter().map(|(name, pod)| (name, pod.as_ref())).filter(|(_, pod)| !pod.finished)
}

/// The pod's port that a Service's port leads to. A name that the pod does not have leads nowhere.
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            pod.ports.iter().find(|declared| declared.name == *name).map(|declared| declared.port)
        }
    }
}

/// A target that exists, or why it does not count.
pub enum Resolved<'a> {
    Pods(&'a BTreeMap<String, String>),
    Service { service: &'a Service, section: Option<&'a str> },
}

pub fn resolve<'a>(
    contents: &'a Contents,
    namespace: &str,
    target: &'a Target,
) -> Result<Resolved<'a>, (Reason, String)> {
    let (name, section) = match target {
        Target::Pods(labels) => return Ok(Resolved::Pods(labels)),
        Target::Service { name, section } => (name, section),
    };
    let Some(service) = contents.services.get(&(namespace.to_owned(), name.clone())) else {
        return Err((Reason::TargetNotFound, format!("there is no Service {namespace}/{name}")));
    };
    if service.selector.is_empty() {
        return Err((
            Reason::Invalid,
            format!("Service {namespace}/{name} selects no pods, so there is nothing to guard"),
        ));
    }
    if let Some(section) = section
        && !service.ports.iter().any(|port| port.name == *section)
    {
        return Err((Reason::TargetNotFound, format!("Service {namespace}/{name} has no port named {section}")));
    }
    Ok(Resolved::Service { service, section: section.as_deref() })
}

impl Resolved<'_> {
    /// The ports of `pod` that the target speaks of: None if it does not select the pod, an empty set for every port.
    pub fn ports(&self, pod: &Pod) -> Option<BTreeSet<u16>> {
        match self {
            Self::Pods(labels) => selects(labels, pod).then(BTreeSet::new),
            Self::Service { service, section } => {
                if !selects(&service.selector, pod) {
                    return None;
                }
                let wanted = service.ports.iter().filter(|port| section.is_none_or(|section| port.name == section));
                let ports: BTreeSet<u16> = wanted.filter_map(|port| target_port(port, pod)).collect();
                // No port of the pod is meant: that must never read as every port.
                (!ports.is_empty()).then_some(ports)
            }
        }
    }

    /// How specific the target is; the larger wins (GEP-713).
    pub fn rank(&self) -> u8 {
        match self {
            Self::Pods(labels) if labels.is_empty() => 0,
            Self::Pods(_) => 1,
            Self::Service { section: None, .. } => 2,
            Self::Service { section: Some(_), .. } => 3,
        }
    }
}

/// A policy's key.
pub fn key(kind: Kind, metadata: &Metadata) -> Key {
    Key { kind, namespace: metadata.namespace.clone(), name: metadata.name.clone() }
}

/// What became of one target of the policy.
pub fn condition(policy: &Metadata, target: &Target, reason: Reason, message: impl Into<String>) -> PolicyCondition {
    let (subject, aspect) = (Subject::Target(target.clone()), Aspect::Accepted);
    PolicyCondition { subject, aspect, reason, message: message.into(), generation: policy.generation }
}
