//! `targetRefs`, checked.

use std::collections::BTreeMap;

use weft_crd::{TargetKind, TargetReference};

use crate::object::FieldError;

/// What a policy is attached to, in its own namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Pods that have all these labels; without labels every pod of the namespace.
    Pods(BTreeMap<String, String>),
    /// The pods that a Service selects, at its target ports (of one section, if named).
    Service { name: String, section: Option<String> },
}

impl Target {
    #[must_use]
    pub fn is_service(&self) -> bool {
        matches!(self, Self::Service { .. })
    }
}

/// Fields that do not belong to the kind are refused; so are two kinds in one policy.
pub(super) fn parse(references: Vec<TargetReference>) -> Result<Vec<Target>, FieldError> {
    if references.is_empty() {
        return Err(FieldError::new("spec.targetRefs", "a policy without a target acts on nothing", "name one"));
    }
    let kind = references[0].kind;
    references
        .into_iter()
        .enumerate()
        .map(|(index, reference)| {
            let path = format!("spec.targetRefs[{index}]");
            if reference.kind != kind {
                return Err(FieldError::new(
                    format!("{path}.kind"),
                    "one policy has targets of one kind",
                    "write a second policy for the other kind",
                ));
            }
            one(&path, reference)
        })
        .collect()
}

fn one(path: &str, reference: TargetReference) -> Result<Target, FieldError> {
    let misplaced = |field: &str, kind: &str| {
        FieldError::new(format!("{path}.{field}"), format!("a target of kind {kind} has no {field}"), "remove it")
    };
    if !reference.group.is_empty() {
        return Err(FieldError::new(
            format!("{path}.group"),
            format!("{:?} is not a group that Weft's policies act on", reference.group),
            "write \"\" (Pod and Service are of the core group)",
        ));
    }
    match reference.kind {
        TargetKind::Pod => match (reference.name, reference.section_name) {
            (Some(_), _) => Err(misplaced("name", "Pod")),
            (None, Some(_)) => Err(misplaced("sectionName", "Pod")),
            (None, None) => Ok(Target::Pods(reference.selector.unwrap_or_default().match_labels)),
        },
        TargetKind::Service => match (reference.name, reference.selector) {
            (_, Some(_)) => Err(misplaced("selector", "Service")),
            (Some(name), None) => Ok(Target::Service { name, section: reference.section_name }),
            (None, None) => Err(FieldError::new(
                format!("{path}.name"),
                "a target of kind Service needs a name",
                "add the Service's name",
            )),
        },
    }
}
