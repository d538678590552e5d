//! Services: the addresses and ports that applications dial.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::field::{address, port};
use super::{FieldError, Kind, Metadata, RawMetadata};

#[derive(Debug, Clone, Deserialize)]
pub struct RawService {
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    #[serde(rename = "type")]
    kind: Option<String>,
    selector: Option<BTreeMap<String, String>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<RawPort>>,
    publish_not_ready_addresses: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    app_protocol: Option<String>,
    port: i64,
    #[serde(default)]
    target_port: Option<RawTargetPort>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum RawTargetPort {
    Number(i64),
    Name(String),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    load_balancer: RawLoadBalancer,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawLoadBalancer {
    ingress: Option<Vec<RawIngress>>,
}

#[derive(Debug, Clone, Deserialize)]
struct RawIngress {
    #[serde(default)]
    ip: Option<String>,
}

/// Where a Service's port leads on a pod. A name may mean another number on each pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    Number(u16),
    Name(String),
}

/// A TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty if the Service's only port has no name.
    pub name: String,
    pub port: u16,
    pub target: TargetPort,
    /// Empty: undeclared.
    pub app_protocol: String,
}

/// An address that leads to the Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterAddress {
    Cluster(IpAddr),
    /// External or of a load balancer: anybody who may write a Service can claim one.
    External(IpAddr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub metadata: Metadata,
    /// Empty: no selector, endpoints are written by hand.
    pub selector: BTreeMap<String, String>,
    /// Empty: headless.
    pub addresses: Vec<ClusterAddress>,
    pub ports: Vec<ServicePort>,
    pub publish_not_ready_addresses: bool,
    /// A name elsewhere: it has no endpoints of its own.
    pub external_name: bool,
}

impl Service {
    pub fn parse(raw: RawService) -> Result<Self, FieldError> {
        let metadata = Metadata::parse(Kind::Service, raw.metadata)?;
        let addresses = addresses(&raw.spec, &raw.status)?;
        let mut ports = Vec::new();
        for (index, raw) in raw.spec.ports.unwrap_or_default().into_iter().enumerate() {
            if raw.protocol.as_deref().is_none_or(|protocol| protocol == "TCP") {
                ports.push(service_port(&format!("spec.ports[{index}]"), raw)?);
            }
        }
        Ok(Self {
            metadata,
            selector: raw.spec.selector.unwrap_or_default(),
            addresses,
            ports,
            publish_not_ready_addresses: raw.spec.publish_not_ready_addresses,
            external_name: raw.spec.kind.as_deref() == Some("ExternalName"),
        })
    }
}

fn service_port(path: &str, raw: RawPort) -> Result<ServicePort, FieldError> {
    let number = port(&format!("{path}.port"), raw.port)?;
    let target = match raw.target_port {
        None => TargetPort::Number(number),
        Some(RawTargetPort::Number(target)) => TargetPort::Number(port(&format!("{path}.targetPort"), target)?),
        Some(RawTargetPort::Name(name)) => TargetPort::Name(name),
    };
    Ok(ServicePort {
        name: raw.name.unwrap_or_default(),
        port: number,
        target,
        app_protocol: raw.app_protocol.unwrap_or_default(),
    })
}

fn addresses(spec: &RawSpec, status: &RawStatus) -> Result<Vec<ClusterAddress>, FieldError> {
    let mut addresses = Vec::new();
    let mut add = |address: ClusterAddress| {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    };
    let assigned = |text: &&String| !text.is_empty() && *text != "None";
    for (index, text) in spec.cluster_ips.iter().flatten().enumerate().filter(|(_, text)| assigned(text)) {
        add(ClusterAddress::Cluster(address(&format!("spec.clusterIPs[{index}]"), text)?));
    }
    if let Some(text) = spec.cluster_ip.as_ref().filter(assigned) {
        add(ClusterAddress::Cluster(address("spec.clusterIP", text)?));
    }
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        add(ClusterAddress::External(address(&format!("spec.externalIPs[{index}]"), text)?));
    }
    for (index, ingress) in status.load_balancer.ingress.iter().flatten().enumerate() {
        if let Some(text) = &ingress.ip {
            add(ClusterAddress::External(address(&format!("status.loadBalancer.ingress[{index}].ip"), text)?));
        }
    }
    Ok(addresses)
}
