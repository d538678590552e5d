//! Pods: where they run, as whom, at which addresses, and what they ask to be left out.

mod probe;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use weft_proto::names::{NodeName, WorkloadUid};

use crate::hexadecimal::hexadecimal;
use crate::limits;

use super::field::{address, comma_separated, port, range};
use super::namespace::Capture;
use super::{FieldError, Kind, Metadata, RawMetadata};

use probe::Probes;

/// Set by the kubelet on what the API server shows of a static pod; a stolen kubelet credential can forge such pods.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

#[derive(Debug, Clone, Deserialize)]
pub struct RawPod {
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
    node_name: Option<String>,
    service_account_name: Option<String>,
    host_network: bool,
    runtime_class_name: Option<String>,
    os: Option<RawOs>,
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawOs {
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawContainer {
    name: String,
    ports: Vec<RawPort>,
    /// `Always` says of an init container that it runs beside the others.
    restart_policy: Option<String>,
    startup_probe: Option<probe::RawAction>,
    readiness_probe: Option<probe::RawAction>,
    liveness_probe: Option<probe::RawAction>,
    lifecycle: Option<probe::RawLifecycle>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    #[serde(default)]
    name: Option<String>,
    container_port: i64,
    #[serde(default)]
    protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<RawPodIp>>,
    conditions: Option<Vec<RawCondition>>,
}

#[derive(Debug, Clone, Deserialize)]
struct RawPodIp {
    ip: String,
}

#[derive(Debug, Clone, Deserialize)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// A TCP port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPort {
    /// Empty: it has none.
    pub name: String,
    pub port: u16,
}

/// What the pod's annotations ask not to be captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusions {
    pub inbound_ports: Vec<u16>,
    pub outbound_ports: Vec<u16>,
    pub outbound_ranges: Vec<IpNet>,
    /// Sentences about what was asked and is refused, whatever policies say.
    pub refused: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a pod, in any combination")]
pub struct Pod {
    pub metadata: Metadata,
    pub uid: WorkloadUid,
    /// None until it is bound to a node.
    pub node: Option<NodeName>,
    /// May be empty: such a pod has no identity.
    pub service_account: String,
    pub host_network: bool,
    pub runtime_class: Option<String>,
    /// Another operating system than Linux, if it names one.
    pub foreign_system: Option<String>,
    pub mirror: bool,
    /// Succeeded or failed: it owns no address although its status keeps one.
    pub finished: bool,
    pub ready: bool,
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<PodPort>,
    pub probes: Probes,
    pub capture: Option<Capture>,
    pub exclusions: Exclusions,
    pub netns: Option<String>,
}

impl Pod {
    pub fn parse(raw: RawPod) -> Result<Self, FieldError> {
        let metadata = Metadata::parse(Kind::Pod, raw.metadata)?;
        let netns = netns(&metadata)?;
        let uid = uid(&metadata, netns.as_deref())?;
        let node = raw.spec.node_name.filter(|node| !node.is_empty());
        let finished = matches!(raw.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        Ok(Self {
            uid,
            node: node.map(|node| node.parse()).transpose().map_err(|error: weft_proto::names::NameError| {
                FieldError::new("spec.nodeName", error.to_string(), "name a node")
            })?,
            service_account: service_account(raw.spec.service_account_name)?,
            host_network: raw.spec.host_network,
            runtime_class: raw.spec.runtime_class_name.filter(|name| !name.is_empty()),
            foreign_system: raw.spec.os.map(|os| os.name).filter(|os| !os.is_empty() && os != "linux"),
            mirror: metadata.annotations.contains_key(MIRROR_ANNOTATION),
            finished,
            ready: !finished && is_ready(raw.status.conditions.as_deref()),
            addresses: addresses(raw.status.pod_ip, raw.status.pod_ips)?,
            probes: probe::declared(lasting(&raw.spec.containers, &raw.spec.init_containers))?,
            ports: declared_ports(lasting(&raw.spec.containers, &raw.spec.init_containers))?,
            capture: Capture::of(&metadata)?,
            exclusions: exclusions(&metadata)?,
            netns,
            metadata,
        })
    }

    /// `Pod namespace/name`, for sentences.
    #[must_use]
    pub fn title(&self) -> String {
        format!("Pod {}/{}", self.metadata.namespace, self.metadata.name)
    }
}

/// The pod's uid. In a directory a person may leave it out: then it follows from name and network namespace,
/// so that a pod that is made anew is another workload.
fn uid(metadata: &Metadata, netns: Option<&str>) -> Result<WorkloadUid, FieldError> {
    let text = metadata.uid.clone().unwrap_or_else(|| {
        let digest = Sha256::new()
            .chain_update(&metadata.namespace)
            .chain_update([0])
            .chain_update(&metadata.name)
            .chain_update([0])
            .chain_update(netns.unwrap_or_default())
            .finalize();
        let hex = hexadecimal(&digest[..16]);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    });
    text.parse().map_err(|error: weft_proto::names::NameError| {
        FieldError::new("metadata.uid", error.to_string(), "write a uid of lower-case letters, digits and '-'")
    })
}

fn service_account(name: Option<String>) -> Result<String, FieldError> {
    let name = name.unwrap_or_default();
    if !name.is_empty() {
        weft_proto::names::NamespacedName::new("any", &name)
            .map_err(|error| FieldError::new("spec.serviceAccountName", error.to_string(), "name a service account"))?;
    }
    Ok(name)
}

/// A pod whose status has no condition at all (a directory's usually has none) counts as ready.
fn is_ready(conditions: Option<&[RawCondition]>) -> bool {
    conditions
        .and_then(|conditions| conditions.iter().find(|condition| condition.kind == "Ready"))
        .is_none_or(|condition| condition.status == "True")
}

fn addresses(first: Option<String>, all: Option<Vec<RawPodIp>>) -> Result<Vec<IpAddr>, FieldError> {
    let mut addresses = Vec::new();
    for (index, ip) in all.unwrap_or_default().iter().enumerate() {
        let ip = address(&format!("status.podIPs[{index}].ip"), &ip.ip)?;
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    if let Some(ip) = first.filter(|ip| !ip.is_empty()) {
        let ip = address("status.podIP", &ip)?;
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Ok(addresses)
}

/// The containers, and those that run beside them (Kubernetes: "Sidecar Containers"). What other init containers declare is
/// over before anybody can be sent there.
fn lasting<'a>(containers: &'a [RawContainer], init: &'a [RawContainer]) -> impl Iterator<Item = &'a RawContainer> {
    containers.iter().chain(init.iter().filter(|container| container.restart_policy.as_deref() == Some("Always")))
}

/// Containers come first: where two declare one name, the first is meant.
fn declared_ports<'a>(containers: impl Iterator<Item = &'a RawContainer>) -> Result<Vec<PodPort>, FieldError> {
    let mut ports = Vec::new();
    for raw in containers.flat_map(|container| &container.ports) {
        let number = port("spec.containers[].ports[].containerPort", raw.container_port)?;
        let tcp = raw.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        if tcp {
            ports.push(PodPort { name: raw.name.clone().unwrap_or_default(), port: number });
        }
    }
    Ok(ports)
}

/// At most [`limits::EXCLUSIONS_PER_ANNOTATION`] each: an annotation with more is refused as a whole, because which of
/// its entries would count is anybody's guess.
fn exclusions(metadata: &Metadata) -> Result<Exclusions, FieldError> {
    let mut refused = Vec::new();
    let inbound_ports = excluded_ports(metadata, weft_crd::EXCLUDE_INBOUND_PORTS, &mut refused)?;
    let outbound_ports = excluded_ports(metadata, weft_crd::EXCLUDE_OUTBOUND_PORTS, &mut refused)?;
    let (path, text) = annotation(metadata, weft_crd::EXCLUDE_OUTBOUND_CIDRS, &mut refused);
    let mut outbound_ranges = comma_separated(&path, text, range)?;
    outbound_ranges.sort_unstable();
    outbound_ranges.dedup();
    Ok(Exclusions { inbound_ports, outbound_ports, outbound_ranges, refused })
}

/// Path and text of an annotation; no text if it has too many entries.
fn annotation<'a>(metadata: &'a Metadata, name: &str, refused: &mut Vec<String>) -> (String, &'a str) {
    let text = metadata.annotations.get(name).map_or("", String::as_str);
    let path = format!("metadata.annotations[{name}]");
    if text.split(',').nth(limits::EXCLUSIONS_PER_ANNOTATION).is_none() {
        return (path, text);
    }
    let limit = limits::EXCLUSIONS_PER_ANNOTATION;
    refused.push(format!("{name}: it is refused because it has more than {limit} entries"));
    (path, "")
}

fn excluded_ports(metadata: &Metadata, name: &str, refused: &mut Vec<String>) -> Result<Vec<u16>, FieldError> {
    let parse = |path: &str, text: &str| match text.parse::<i64>() {
        Ok(number) => port(path, number),
        Err(_) => Err(FieldError::new(path, format!("{text:?} is not a port"), "write ports such as 25,465")),
    };
    let (path, text) = annotation(metadata, name, refused);
    let mut ports = comma_separated(&path, text, parse)?;
    ports.sort_unstable();
    ports.dedup();
    for port in ports.extract_if(.., |port| limits::CAPTURE_PORTS.contains(port)) {
        refused.push(format!("{name}: {port} is refused because it is one of the agents' own ports"));
    }
    Ok(ports)
}

/// An absolute path, because the agent opens it as it stands.
fn netns(metadata: &Metadata) -> Result<Option<String>, FieldError> {
    match metadata.annotations.get(weft_crd::NETNS) {
        None => Ok(None),
        Some(path) if path.starts_with('/') && path.len() <= 4096 && !path.contains('\0') => Ok(Some(path.clone())),
        Some(path) => Err(FieldError::new(
            format!("metadata.annotations[{}]", weft_crd::NETNS),
            format!("{path:?} is not an absolute path"),
            "write one such as /proc/1234/ns/net or /run/netns/web",
        )),
    }
}
