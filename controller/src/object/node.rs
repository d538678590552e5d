//! Nodes: the ranges that the addresses of their pods come from, and the zone that they are in.

use ipnet::IpNet;
use serde::Deserialize;

use super::field::ranges;
use super::{FieldError, Kind, Metadata, RawMetadata};

/// Names a node's zone (Kubernetes: "Well-Known Labels").
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

#[derive(Debug, Clone, Deserialize)]
pub struct RawNode {
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub metadata: Metadata,
    /// Empty: whoever gives addresses to pods does not say which are this node's.
    pub pod_ranges: Vec<IpNet>,
}

impl Node {
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.metadata.labels.get(ZONE_LABEL).map(String::as_str).filter(|zone| !zone.is_empty())
    }

    pub fn parse(raw: RawNode) -> Result<Self, FieldError> {
        let metadata = Metadata::parse(Kind::Node, raw.metadata)?;
        let mut pod_ranges = ranges("spec.podCIDRs", &raw.spec.pod_cidrs.unwrap_or_default())?;
        let first = raw.spec.pod_cidr.filter(|range| !range.is_empty());
        pod_ranges.extend(ranges("spec.podCIDR", &first.into_iter().collect::<Vec<_>>())?);
        pod_ranges.sort_unstable();
        pod_ranges.dedup();
        Ok(Self { metadata, pod_ranges })
    }
}
