//! Namespaces: whether their pods are captured, and what those do without an agent.

use serde::Deserialize;
use weft_crd::FailureMode;

use super::{FieldError, Kind, Metadata, RawMetadata};

#[derive(Debug, Clone, Deserialize)]
pub struct RawNamespace {
    #[serde(default)]
    pub metadata: RawMetadata,
}

/// Ordered by how much of a pod's traffic Weft takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capture {
    Disabled,
    Observe,
    Enabled,
}

impl Capture {
    /// Reads the label `weft.dev/capture`.
    pub(super) fn of(metadata: &Metadata) -> Result<Option<Self>, FieldError> {
        metadata
            .labels
            .get(weft_crd::CAPTURE)
            .map(|value| match value.as_str() {
                "enabled" => Ok(Self::Enabled),
                "observe" => Ok(Self::Observe),
                "disabled" => Ok(Self::Disabled),
                other => Err(FieldError::new(
                    format!("metadata.labels[{}]", weft_crd::CAPTURE),
                    format!("{other:?} is not a capture mode"),
                    "write enabled, observe or disabled",
                )),
            })
            .transpose()
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Observe => "observe",
            Self::Enabled => "enabled",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    pub metadata: Metadata,
    pub capture: Option<Capture>,
    pub on_agent_failure: Option<FailureMode>,
}

impl Namespace {
    pub fn parse(raw: RawNamespace) -> Result<Self, FieldError> {
        let metadata = Metadata::parse(Kind::Namespace, raw.metadata)?;
        let on_agent_failure = metadata
            .labels
            .get(weft_crd::ON_AGENT_FAILURE)
            .map(|value| match value.as_str() {
                "open" => Ok(FailureMode::Open),
                "closed" => Ok(FailureMode::Closed),
                other => Err(FieldError::new(
                    format!("metadata.labels[{}]", weft_crd::ON_AGENT_FAILURE),
                    format!("{other:?} is not a failure mode"),
                    "write open or closed",
                )),
            })
            .transpose()?;
        Ok(Self { capture: Capture::of(&metadata)?, metadata, on_agent_failure })
    }
}
