//! `EndpointSlice`s: which addresses stand behind a Service, and in what state.

use std::net::IpAddr;

use serde::Deserialize;

use super::field::{address, port};
use super::{FieldError, Kind, Metadata, RawMetadata};
use crate::limits;

/// Names the Service that a slice belongs to (Kubernetes: "`EndpointSlices`, ownership").
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawEndpointSlice {
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(default)]
    address_type: Option<String>,
    #[serde(default)]
    endpoints: Option<Vec<RawEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<RawPort>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: RawConditions,
    #[serde(default)]
    target_ref: Option<RawTarget>,
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    hints: Option<RawHints>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawTarget {
    kind: String,
    name: String,
    uid: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawHints {
    for_zones: Option<Vec<RawHint>>,
    for_nodes: Option<Vec<RawHint>>,
}

#[derive(Debug, Clone, Deserialize)]
struct RawHint {
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
struct RawPort {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    port: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The Service's port of the same name.
    pub name: String,
    pub port: u16,
}

/// The pod of the slice's namespace that an address was taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePod {
    pub name: Box<str>,
    pub uid: Option<Box<str>>,
}

/// Where an endpoint's clients should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    pub zones: Vec<Box<str>>,
    pub nodes: Vec<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub address: IpAddr,
    /// None: whoever wrote the slice knew the address otherwise.
    pub pod: Option<SlicePod>,
    pub node: Option<Box<str>>,
    /// None: there are none, as on most.
    pub hints: Option<Box<Hints>>,
    pub ready: bool,
    /// Still answers although it is being ended.
    pub serving_while_terminating: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    pub metadata: Metadata,
    /// Empty: it belongs to no Service.
    pub service: String,
    pub endpoints: Vec<SliceEndpoint>,
    pub ports: Vec<SlicePort>,
}

impl EndpointSlice {
    pub fn parse(raw: RawEndpointSlice) -> Result<Self, FieldError> {
        let metadata = Metadata::parse(Kind::EndpointSlice, raw.metadata)?;
        let mut endpoints = Vec::new();
        let names_only = raw.address_type.as_deref() == Some("FQDN");
        for (index, raw) in raw.endpoints.iter().flatten().enumerate().filter(|_| !names_only) {
            endpoints.extend(endpoint(index, raw)?);
        }
        let mut ports = Vec::new();
        for (index, raw) in raw.ports.into_iter().flatten().enumerate() {
            let tcp = raw.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
            if let (Some(number), true) = (raw.port, tcp) {
                ports.push(SlicePort {
                    name: raw.name.unwrap_or_default(),
                    port: port(&format!("ports[{index}].port"), number)?,
                });
            }
        }
        Ok(Self {
            service: metadata.labels.get(SERVICE_NAME_LABEL).cloned().unwrap_or_default(),
            metadata,
            endpoints,
            ports,
        })
    }
}

/// Unknown readiness counts as ready, as the API says; unknown serving follows ready.
fn endpoint(index: usize, raw: &RawEndpoint) -> Result<Vec<SliceEndpoint>, FieldError> {
    let ready = raw.conditions.ready.unwrap_or(true);
    let serving = raw.conditions.serving.unwrap_or(ready);
    let terminating = raw.conditions.terminating.unwrap_or(false);
    let target = raw.target_ref.as_ref().filter(|target| target.kind == "Pod" && !target.name.is_empty());
    let pod = target.map(|target| SlicePod {
        name: Box::from(target.name.as_str()),
        uid: target.uid.as_deref().filter(|uid| !uid.is_empty()).map(Box::from),
    });
    let hints = raw.hints.as_ref().map(hints).filter(|hints| *hints != Hints::default()).map(Box::new);
    raw.addresses
        .iter()
        .enumerate()
        .map(|(position, text)| {
            Ok(SliceEndpoint {
                address: endpoint_address(&format!("endpoints[{index}].addresses[{position}]"), text)?,
                pod: pod.clone(),
                node: raw.node_name.as_deref().filter(|node| !node.is_empty()).map(Box::from),
                hints: hints.clone(),
                ready,
                serving_while_terminating: serving && terminating,
            })
        })
        .collect()
}

fn hints(raw: &RawHints) -> Hints {
    let names = |list: &Option<Vec<RawHint>>| {
        let names = list.iter().flatten().map(|hint| Box::from(hint.name.as_str()));
        names.take(limits::HINTS_PER_ENDPOINT).collect()
    };
    Hints { zones: names(&raw.for_zones), nodes: names(&raw.for_nodes) }
}

/// The API server takes no other either: such an address means another host to each of its clients.
fn endpoint_address(path: &str, text: &str) -> Result<IpAddr, FieldError> {
    let address = address(path, text)?;
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        let problem = format!("{address} cannot be an endpoint's");
        return Err(FieldError::new(path, problem, "write an address that is the same host for everybody"));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_same_host_for_everybody() {
        for (text, good) in [
            ("10.1.0.2", true),
            ("192.0.2.7", true),
            ("2001:db8::7", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("db.example.com", false),
        ] {
            assert_eq!(endpoint_address("endpoints[0].addresses[0]", text).is_ok(), good, "{text}");
        }
    }
}
