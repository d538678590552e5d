//! Where the API has each kind.

use kube::core::ApiResource;

use crate::object::Kind;

/// As `version` of its group has it.
#[must_use]
pub fn of(kind: Kind, version: &str) -> ApiResource {
    let group = kind.group();
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}
