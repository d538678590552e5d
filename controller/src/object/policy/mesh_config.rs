//! `MeshConfig`, checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use weft_crd::{CrossNamespaceBackends, Exclusion, FailureMode, MeshConfigSpec, MeshState, MtlsMode};
use weft_proto::names::TrustDomain;
use weft_proto::v1;

use super::authorization;
use crate::limits;
use crate::object::field::{milliseconds, ranges};
use crate::object::{FieldError, Metadata};

/// The operator's word; [`MeshConfig::default`] is what holds without one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeshConfig {
    pub metadata: Metadata,
    pub state: MeshState,
    /// None: what the controller was started with.
    pub workload_certificate_life: Option<Duration>,
    /// No root that is older signs.
    pub root_made_after: Option<Timestamp>,
    pub trust_domain: Option<TrustDomain>,
    pub trust_domain_aliases: Vec<TrustDomain>,
    pub pod_ranges: Vec<IpNet>,
    pub service_ranges: Vec<IpNet>,
    /// Each node's pods have addresses of its own ranges.
    pub ranges_by_node: bool,
    /// `address` or `address:port`.
    pub never_capture: Vec<String>,
    pub default_mtls: Option<MtlsMode>,
    pub default_failure_mode: Option<FailureMode>,
    pub minimum_mtls: Option<MtlsMode>,
    pub minimum_failure_mode: Option<FailureMode>,
    /// None: only where the pod is not strict.
    pub pods_may_opt_out: Option<bool>,
    pub allowed_exclusions: Vec<Exclusion>,
    /// None: any route may name a backend of another namespace.
    pub cross_namespace_backends: Option<CrossNamespaceBackends>,
    /// Deny, before everything else.
    pub denied: Vec<v1::AuthorizationRule>,
}

impl Eq for MeshConfig {}

impl MeshConfig {
    pub fn parse(metadata: Metadata, spec: MeshConfigSpec) -> Result<Self, FieldError> {
        if metadata.name != weft_crd::MESH_CONFIG_NAME {
            return Err(FieldError::new(
                "metadata.name",
                format!("a mesh has one MeshConfig, and {:?} is not its name", metadata.name),
                "name it default",
            ));
        }
        let mut denied = Vec::new();
        for (index, rule) in spec.enforced.authorization.iter().enumerate() {
            let path = format!("spec.enforced.authorization[{index}].rules");
            denied.extend(authorization::rules(&path, &rule.rules, None)?);
        }
        let denied = authorization::numbered(denied);
        if denied.len() > weft_policy::RULES_MAXIMUM {
            return Err(FieldError::new(
                "spec.enforced.authorization",
                format!("agents read at most {} rules, and these become {}", weft_policy::RULES_MAXIMUM, denied.len()),
                "write fewer, or entries of to with the same ports: those become one",
            ));
        }
        let aliases = spec.trust_domain_aliases.iter().enumerate();
        Ok(Self {
            metadata,
            state: spec.state,
            workload_certificate_life: spec.workload_certificate_life.as_deref().map(certificate_life).transpose()?,
            root_made_after: spec.root_made_after.as_deref().map(time).transpose()?,
            trust_domain: spec.trust_domain.map(|text| trust_domain("spec.trustDomain", &text)).transpose()?,
            trust_domain_aliases: aliases
                .map(|(index, text)| trust_domain(&format!("spec.trustDomainAliases[{index}]"), text))
                .collect::<Result<_, _>>()?,
            pod_ranges: ranges("spec.networks.pods", &spec.networks.pods)?,
            service_ranges: ranges("spec.networks.services", &spec.networks.services)?,
            ranges_by_node: spec.networks.by_node,
            never_capture: never_capture(&spec.never_capture)?,
            default_mtls: spec.defaults.mtls,
            default_failure_mode: spec.defaults.on_agent_failure,
            minimum_mtls: spec.enforced.minimum_mtls,
            minimum_failure_mode: spec.enforced.minimum_failure_mode,
            pods_may_opt_out: spec.enforced.pods_may_opt_out,
            allowed_exclusions: spec.enforced.allowed_exclusions,
            cross_namespace_backends: spec.enforced.cross_namespace_backends,
            denied,
        })
    }

    #[must_use]
    pub fn allows(&self, exclusion: Exclusion) -> bool {
        self.allowed_exclusions.contains(&exclusion)
    }

    /// A backend of another namespace than its route's needs that namespace's word.
    #[must_use]
    pub fn requires_grants(&self) -> bool {
        self.cross_namespace_backends == Some(CrossNamespaceBackends::GrantRequired)
    }
}

fn trust_domain(path: &str, text: &str) -> Result<TrustDomain, FieldError> {
    text.parse().map_err(|error: weft_proto::names::NameError| {
        FieldError::new(path, error.to_string(), "write a DNS name such as cluster.local")
    })
}

fn certificate_life(text: &str) -> Result<Duration, FieldError> {
    let path = "spec.workloadCertificateLife";
    let life = Duration::from_millis(milliseconds(path, text)?.into());
    if limits::WORKLOAD_CERTIFICATE_LIVES.contains(&life) {
        return Ok(life);
    }
    Err(FieldError::new(path, format!("{text} is too short or too long"), "write one from 10s to 720h"))
}

fn time(text: &str) -> Result<Timestamp, FieldError> {
    text.parse().map_err(|_| {
        let problem = format!("{text:?} is not a time (RFC 3339)");
        FieldError::new("spec.rootMadeAfter", problem, "write one such as 2026-11-22T10:00:00Z")
    })
}

fn never_capture(values: &[String]) -> Result<Vec<String>, FieldError> {
    let canonical = |(index, text): (usize, &String)| {
        let address = text.parse::<IpAddr>().map(|address| address.to_string());
        let socket = text.parse::<SocketAddr>().map(|socket| socket.to_string());
        address.or(socket).map_err(|_| {
            FieldError::new(
                format!("spec.neverCapture[{index}]"),
                format!("{text:?} is neither an address nor address:port"),
                "write one such as 10.96.0.1:443 or [fd00::1]:443",
            )
        })
    };
    values.iter().enumerate().map(canonical).collect()
}
