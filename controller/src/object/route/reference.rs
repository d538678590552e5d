//! What a route is attached to, and where it sends requests: names, not yet looked up.

use super::filter::{self, Filter, Place};
use super::raw::{RawBackend, RawBackendObject, RawParent};
use super::{Refusal, at_most};
use crate::limits;
use crate::object::field::port;
use crate::object::{FieldError, Kind};

/// A parentRef of kind Service, as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parent {
    /// Empty or `core`.
    pub group: String,
    /// None: the route's own, which makes it a producer route.
    pub namespace: Option<String>,
    pub name: String,
    /// None: every port.
    pub port: Option<u16>,
    /// The name of a port.
    pub section: Option<String>,
}

/// Whatever a backendRef names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendReference {
    /// Where it is written, such as `spec.rules[0].backendRefs[1]`.
    pub path: String,
    pub group: String,
    pub kind: String,
    /// None: the route's own.
    pub namespace: Option<String>,
    pub name: String,
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    pub reference: BackendReference,
    pub weight: u32,
    pub filters: Vec<Filter>,
    /// What its filters ask for and Weft cannot do: concerns its share of the requests.
    pub refusals: Vec<Refusal>,
}

impl BackendReference {
    #[must_use]
    pub fn is_service(&self) -> bool {
        is_of_core_group(&self.group) && self.kind == "Service"
    }

    #[must_use]
    pub fn is_x_backend(&self) -> bool {
        self.group == Kind::XBackend.group() && self.kind == Kind::XBackend.as_str()
    }
}

/// The group of kind Service; documentation writes both.
#[must_use]
pub fn is_of_core_group(group: &str) -> bool {
    group.is_empty() || group == "core"
}

pub fn parents(raw: Vec<RawParent>) -> Result<Vec<Parent>, FieldError> {
    let mut parents = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let path = format!("spec.parentRefs[{index}]");
        let port = raw.port.map(|number| port(&format!("{path}.port"), number)).transpose()?;
        named(&path, &raw.name)?;
        // Without a kind it is a Gateway.
        let service = raw.kind.as_deref() == Some("Service") && raw.group.as_deref().is_some_and(is_of_core_group);
        let parent = Parent {
            group: raw.group.unwrap_or_default(),
            namespace: raw.namespace,
            name: raw.name,
            port,
            section: raw.section_name,
        };
        if service && !parents.contains(&parent) {
            parents.push(parent);
        }
    }
    Ok(parents)
}

pub fn backends(path: &str, raw: Vec<RawBackend>, place: Place) -> Result<Vec<Backend>, FieldError> {
    let list = format!("{path}.backendRefs");
    at_most(&list, raw.len(), limits::BACKENDS_PER_RULE)?;
    let mut backends = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let path = format!("{list}[{index}]");
        let weight = raw.weight.unwrap_or(1);
        let weight =
            u32::try_from(weight).ok().filter(|weight| *weight <= limits::BACKEND_WEIGHT).ok_or_else(|| {
                let fix = format!("write a number from 0 to {}", limits::BACKEND_WEIGHT);
                FieldError::new(format!("{path}.weight"), format!("{weight} is not a weight"), fix)
            })?;
        let mut refusals = Vec::new();
        let filters = filter::filters(&path, raw.filters, Place { on_backend: true, ..place }, &mut refusals)?;
        let object = RawBackendObject {
            group: raw.group,
            kind: raw.kind,
            namespace: raw.namespace,
            name: raw.name,
            port: raw.port,
        };
        backends.push(Backend { reference: backend(path, object)?, weight, filters, refusals });
    }
    Ok(backends)
}

pub fn backend(path: String, raw: RawBackendObject) -> Result<BackendReference, FieldError> {
    named(&path, &raw.name)?;
    let number = raw.port.map(|number| port(&format!("{path}.port"), number)).transpose()?;
    for (field, text) in [("group", &raw.group), ("kind", &raw.kind), ("namespace", &raw.namespace)] {
        if let Some(text) = text.as_ref().filter(|text| text.len() > limits::OBJECT_NAME_BYTES) {
            let fix = format!("write at most {}", limits::OBJECT_NAME_BYTES);
            return Err(FieldError::new(format!("{path}.{field}"), format!("it has {} bytes", text.len()), fix));
        }
    }
    Ok(BackendReference {
        path,
        group: raw.group.unwrap_or_default(),
        kind: raw.kind.unwrap_or_else(|| "Service".to_owned()),
        namespace: raw.namespace,
        name: raw.name,
        port: number,
    })
}

fn named(path: &str, name: &str) -> Result<(), FieldError> {
    if name.is_empty() || name.len() > limits::OBJECT_NAME_BYTES {
        return Err(FieldError::new(format!("{path}.name"), format!("{name:?} is not a name"), "name a Service"));
    }
    Ok(())
}
