//! Services: the addresses and ports that applications dial.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

use super::field::{address, port};
use super::{FieldError, Kind, Metadata, RawMetadata};
use crate::limits;

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
    internal_traffic_policy: Option<String>,
    traffic_distribution: Option<String>,
    session_affinity: Option<String>,
    session_affinity_config: RawAffinity,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawAffinity {
    #[serde(rename = "clientIP")]
    client_ip: RawClientIp,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawClientIp {
    timeout_seconds: Option<i64>,
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
#[serde(rename_all = "camelCase")]
struct RawIngress {
    #[serde(default)]
    ip: Option<String>,
    #[serde(default)]
    ip_mode: Option<String>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterAddress {
    Cluster(IpAddr),
    /// Of a load balancer: only controllers write a Service's status.
    Balancer(IpAddr),
    /// Anybody who may write a Service can claim one.
    External(IpAddr),
}

/// Near whom an endpoint's clients are to be. What follows is in the hints of slices; without slices it is worked out here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    Zone,
    Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub metadata: Metadata,
    /// Empty: no selector, endpoints are written by hand.
    pub selector: BTreeMap<String, String>,
    /// Empty: headless.
    pub addresses: Vec<ClusterAddress>,
    /// External addresses beyond [`limits::EXTERNAL_ADDRESSES_PER_SERVICE`].
    pub addresses_left_out: usize,
    pub ports: Vec<ServicePort>,
    pub publish_not_ready_addresses: bool,
    /// A name elsewhere: it has neither endpoints nor addresses of its own.
    pub external_name: bool,
    /// Its cluster addresses lead to endpoints of the client's own node alone.
    pub local: bool,
    pub distribution: Option<Nearness>,
    /// One client's connections go to one endpoint until none came for so many seconds.
    pub affinity_seconds: Option<u32>,
}

impl Service {
    pub fn parse(raw: RawService) -> Result<Self, FieldError> {
        let metadata = Metadata::parse(Kind::Service, raw.metadata)?;
        if metadata.name.contains('.') {
            let problem = format!("{:?} has a dot, which no Service's name has", metadata.name);
            return Err(FieldError::new("metadata.name", problem, "use lower-case letters, digits and '-'"));
        }
        let external_name = raw.spec.kind.as_deref() == Some("ExternalName");
        let (addresses, addresses_left_out) =
            if external_name { Default::default() } else { addresses(&raw.spec, &raw.status)? };
        let affinity_seconds = affinity(&raw.spec)?;
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
            addresses_left_out,
            ports,
            publish_not_ready_addresses: raw.spec.publish_not_ready_addresses,
            external_name,
            local: raw.spec.internal_traffic_policy.as_deref() == Some("Local"),
            distribution: match raw.spec.traffic_distribution.as_deref() {
                Some("PreferSameNode") => Some(Nearness::Node),
                Some("PreferSameZone" | "PreferClose") => Some(Nearness::Zone),
                _ => None,
            },
            affinity_seconds,
        })
    }
}

/// The API server's own default and bounds (Kubernetes: "Session affinity").
fn affinity(spec: &RawSpec) -> Result<Option<u32>, FieldError> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return Ok(None);
    }
    let seconds = spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(10_800);
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=86_400) => Ok(Some(seconds)),
        _ => Err(FieldError::new(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{seconds} is out of range"),
            "write a number from 1 to 86400",
        )),
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

/// Addresses, and how many external ones there are no more places for.
fn addresses(spec: &RawSpec, status: &RawStatus) -> Result<(Vec<ClusterAddress>, usize), FieldError> {
    let mut cluster = Vec::new();
    let assigned = |text: &&String| !text.is_empty() && *text != "None";
    for (index, text) in spec.cluster_ips.iter().flatten().enumerate().filter(|(_, text)| assigned(text)) {
        cluster.push(ClusterAddress::Cluster(address(&format!("spec.clusterIPs[{index}]"), text)?));
    }
    if let Some(text) = spec.cluster_ip.as_ref().filter(assigned) {
        cluster.push(ClusterAddress::Cluster(address("spec.clusterIP", text)?));
    }
    let mut external = Vec::new();
    // Such a balancer has to see what is sent to it (Kubernetes: "Load balancer IP address mode").
    let passed_by = |ingress: &RawIngress| ingress.ip_mode.as_deref() != Some("Proxy");
    for (index, ingress) in status.load_balancer.ingress.iter().flatten().enumerate() {
        if let Some(text) = ingress.ip.as_ref().filter(|_| passed_by(ingress)) {
            let path = format!("status.loadBalancer.ingress[{index}].ip");
            external.push(ClusterAddress::Balancer(address(&path, text)?));
        }
    }
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        external.push(ClusterAddress::External(address(&format!("spec.externalIPs[{index}]"), text)?));
    }
    let (mut seen, places) = (BTreeSet::new(), limits::EXTERNAL_ADDRESSES_PER_SERVICE);
    cluster.retain(|one| seen.insert(*one));
    external.retain(|one| seen.insert(*one));
    let left_out = external.len().saturating_sub(places);
    cluster.extend(external.into_iter().take(places));
    Ok((cluster, left_out))
}
