//! `AuthenticationPolicy`, checked.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weft_crd::{AuthenticationPolicySpec, ExemptionSource, MtlsMode, ServerAuthentication};

use super::Target;
use crate::object::field::{ports, ranges, ruled_port};
use crate::object::{FieldError, Metadata};

/// Plaintext that a strict port takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemption {
    /// None: every port.
    pub ports: Option<Vec<u16>>,
    /// None: from anybody.
    pub ranges: Option<Vec<IpNet>>,
    pub reason: String,
}

/// What one policy says about the ports of the pods that it wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authentication {
    /// None: what `MeshConfig` says.
    pub mtls: Option<MtlsMode>,
    pub ports: BTreeMap<u16, MtlsMode>,
    pub exemptions: Vec<Exemption>,
    pub require_mesh_tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticationPolicy {
    pub metadata: Metadata,
    pub targets: Vec<Target>,
    pub authentication: Authentication,
    /// It decides for every pod of its namespace alone: what it stands for cannot be read.
    pub stands_in: bool,
}

impl AuthenticationPolicy {
    pub fn parse(metadata: Metadata, spec: AuthenticationPolicySpec) -> Result<Self, FieldError> {
        let targets = super::target::parse(spec.target_refs)?;
        if spec.server.is_none() && spec.client.is_none() {
            return Err(FieldError::new("spec", "neither server nor client is there", "say what the policy changes"));
        }
        if spec.client.is_some() && targets.iter().any(Target::is_service) {
            return Err(FieldError::new(
                "spec.client",
                "a Service has no connections of its own",
                "target its pods in a policy of kind Pod",
            ));
        }
        let mut authentication = spec.server.map(server).transpose()?.unwrap_or_default();
        authentication.require_mesh_tls = spec.client.is_some_and(|client| client.require_mesh_tls);
        Ok(Self { metadata, targets, authentication, stands_in: false })
    }

    /// In place of one that cannot be read: every pod of the namespace is strict, whatever others say.
    #[must_use]
    pub fn stand_in(namespace: &str, name: &str) -> Self {
        let metadata = Metadata { namespace: namespace.to_owned(), name: name.to_owned(), ..Metadata::default() };
        let authentication = Authentication { mtls: Some(MtlsMode::Strict), ..Authentication::default() };
        Self { metadata, targets: vec![Target::Pods(BTreeMap::new())], authentication, stands_in: true }
    }
}

fn server(server: ServerAuthentication) -> Result<Authentication, FieldError> {
    let mut modes = BTreeMap::new();
    for (index, entry) in server.ports.iter().enumerate() {
        let path = format!("spec.server.ports[{index}].port");
        if modes.insert(ruled_port(&path, i64::from(entry.port))?, entry.mtls).is_some() {
            return Err(FieldError::new(path, format!("port {} is there twice", entry.port), "keep one of the two"));
        }
    }
    let mut exemptions = Vec::new();
    for (index, exemption) in server.exemptions.into_iter().enumerate() {
        let path = format!("spec.server.exemptions[{index}]");
        exemptions.push(Exemption {
            ports: exemption.ports.map(|list| ports(&format!("{path}.ports"), &list)).transpose()?,
            ranges: sources(&format!("{path}.from"), &exemption.from)?,
            reason: exemption.reason,
        });
    }
    Ok(Authentication { mtls: server.mtls, ports: modes, exemptions, require_mesh_tls: false })
}

/// None stands for everybody.
fn sources(path: &str, from: &ExemptionSource) -> Result<Option<Vec<IpNet>>, FieldError> {
    match (&from.cidrs, from.any) {
        (Some(cidrs), None) => ranges(&format!("{path}.cidrs"), cidrs).map(Some),
        (None, Some(true)) => Ok(None),
        (None, Some(false)) => {
            Err(FieldError::new(format!("{path}.any"), "false exempts nobody", "remove the exemption"))
        }
        (Some(_), Some(_)) | (None, None) => {
            Err(FieldError::new(path, "exactly one of cidrs and any must be there", "keep one of the two"))
        }
    }
}
