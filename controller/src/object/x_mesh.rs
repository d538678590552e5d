//! `XMesh` (GEP-3949): says that a mesh is there, and what it can do.

use serde::Deserialize;
use serde_json::Value as Json;

use super::Metadata;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawXMesh {
    pub controller_name: String,
    pub parameters_ref: Option<Json>,
    /// For people.
    pub description: Option<String>,
}

/// Anybody's: it may be another mesh's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XMesh {
    pub metadata: Metadata,
    pub controller_name: String,
    /// It names an object with more about the mesh.
    pub has_parameters: bool,
}

impl XMesh {
    #[must_use]
    pub fn new(metadata: Metadata, raw: RawXMesh) -> Self {
        Self { metadata, controller_name: raw.controller_name, has_parameters: raw.parameters_ref.is_some() }
    }

    /// It is about Weft.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.controller_name == weft_crd::CONTROLLER_NAME
    }
}
