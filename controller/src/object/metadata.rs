//! `metadata` as far as Weft reads it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::{FieldError, Kind};

/// As written; core kinds have many more fields, which are skipped.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawMetadata {
    pub name: String,
    pub namespace: Option<String>,
    pub uid: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub creation_timestamp: Option<String>,
    pub deletion_timestamp: Option<String>,
    pub generation: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    pub name: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub uid: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub created: Option<Timestamp>,
    pub deleting: bool,
    pub generation: Option<i64>,
}

impl Metadata {
    /// Checks names, as the API server would.
    pub fn parse(kind: Kind, raw: RawMetadata) -> Result<Self, FieldError> {
        if raw.name.is_empty() {
            return Err(FieldError::new("metadata.name", "an object needs a name", "add one"));
        }
        weft_proto::names::NamespacedName::new("any", &raw.name).map_err(|error| {
            FieldError::new("metadata.name", error.to_string(), "use lower-case letters, digits, '-' and '.'")
        })?;
        let namespace = raw.namespace.unwrap_or_default();
        if kind.is_namespaced() {
            if namespace.is_empty() {
                return Err(FieldError::new(
                    "metadata.namespace",
                    format!("a {} lives in a namespace, and this one names none", kind.as_str()),
                    "add metadata.namespace",
                ));
            }
            namespace.parse::<weft_proto::names::Namespace>().map_err(|error| {
                FieldError::new("metadata.namespace", error.to_string(), "use lower-case letters, digits and '-'")
            })?;
        } else if !namespace.is_empty() {
            return Err(FieldError::new(
                "metadata.namespace",
                format!("a {} lives in no namespace", kind.as_str()),
                "remove metadata.namespace",
            ));
        }
        Ok(Self {
            name: raw.name,
            namespace,
            uid: raw.uid.filter(|uid| !uid.is_empty()),
            labels: raw.labels.unwrap_or_default(),
            annotations: raw.annotations.unwrap_or_default(),
            created: raw.creation_timestamp.map(|text| timestamp("metadata.creationTimestamp", &text)).transpose()?,
            deleting: raw.deletion_timestamp.is_some(),
            generation: raw.generation,
        })
    }

    /// Older first; an object without an age is younger than all that have one; then by name.
    #[must_use]
    pub fn age_order(&self) -> (Timestamp, &str) {
        (self.created.unwrap_or(Timestamp::MAX), &self.name)
    }
}

fn timestamp(path: &str, text: &str) -> Result<Timestamp, FieldError> {
    text.parse()
        .map_err(|_| FieldError::new(path, format!("{text:?} is not a time"), "write one such as 2026-01-31T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_object_comes_before_a_younger_and_an_ageless_one() {
        let named = |name: &str, created: Option<&str>| Metadata {
            name: name.to_owned(),
            created: created.map(|text| text.parse().unwrap()),
            ..Metadata::default()
        };
        let mut all = [
            named("a", None),
            named("c", Some("2026-01-02T00:00:00Z")),
            named("b", Some("2026-01-02T00:00:00Z")),
            named("z", Some("2026-01-01T00:00:00Z")),
        ];
        all.sort_by(|left, right| left.age_order().cmp(&right.age_order()));
        assert_eq!(all.map(|metadata| metadata.name), ["z", "b", "c", "a"]);
    }
}
