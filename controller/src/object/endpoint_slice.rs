//! `EndpointSlice`s: which addresses stand behind a Service, and in what state.

use std::net::IpAddr;

use serde::Deserialize;

use super::field::{address, port};
use super::{FieldError, Kind, Metadata, RawMetadata};

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
struct RawEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: RawConditions,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub address: IpAddr,
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
    raw.addresses
        .iter()
        .enumerate()
        .map(|(position, text)| {
            Ok(SliceEndpoint {
                address: address(&format!("endpoints[{index}].addresses[{position}]"), text)?,
                ready,
                serving_while_terminating: serving && terminating,
            })
        })
        .collect()
}
