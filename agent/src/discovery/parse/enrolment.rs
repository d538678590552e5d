//! How this node's own pods are captured and guarded.

use std::path::PathBuf;
use std::sync::Arc;

use weft_policy::{Policy, PolicyName, ReadError};
use weft_proto::names::WorkloadUid;
use weft_proto::v1;

use super::fields::{mtls, name, networks, port, ports, problem, same};
use crate::model::{Authentication, Enrolment, Exemption, FailureMode};

/// `PATH_MAX` of Linux (limits.h), with its final zero.
const PATH_LENGTH_LIMIT: usize = 4096;

/// An enrolment whose policies are still names; `apply` looks them up among the other resources.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeEnrolment {
    /// With the policies that do not depend on other resources: none, or the safe reading's.
    pub enrolment: Enrolment,
    /// `authorization/namespace/name`.
    pub policies: Vec<String>,
}

pub fn read(uid: &str, row: &v1::Enrolment) -> Result<NodeEnrolment, ReadError> {
    let own_uid: WorkloadUid = name("uid", uid)?;
    same("uid", &name::<WorkloadUid>("uid", &row.uid)?, &own_uid)?;
    let port_mode = |row: &v1::PortMtls| Ok((port("ports.port", row.port)?, mtls("ports.mode", row.mode)?));
    let enrolment = Enrolment {
        uid: own_uid,
        netns: netns(&row.netns)?,
        on_agent_failure: failure_mode(row.on_agent_failure)?,
        authentication: Authentication {
            default: mtls("mtls", row.mtls)?,
            ports: row.ports.iter().map(port_mode).collect::<Result<_, _>>()?,
            exemptions: row.exemptions.iter().map(exemption).collect::<Result<_, _>>()?,
            decided_by: Arc::from(row.mtls_policy.as_str()),
        },
        require_mesh_tls: row.require_mesh_tls,
        excluded_inbound_ports: ports("excluded_inbound_ports", &row.excluded_inbound_ports)?,
        excluded_outbound_ports: ports("excluded_outbound_ports", &row.excluded_outbound_ports)?,
        excluded_outbound_networks: networks("excluded_outbound_cidrs", &row.excluded_outbound_cidrs)?,
        probe_ports: ports("probe_ports", &row.probe_ports)?,
        policies: Vec::new(),
        refused: row.refused.clone(),
    };
    Ok(NodeEnrolment { enrolment, policies: row.authorization.clone() })
}

/// An observed workload, as it would be captured.
pub fn read_observation(uid: &str, row: &v1::Observation) -> Result<Enrolment, ReadError> {
    let row = row.enrolment.as_ref().ok_or_else(|| problem("enrolment", "it is missing"))?;
    Ok(read(uid, row)?.enrolment)
}

/// Captured without exception but for probes, strict, fails closed, nobody may connect.
pub fn safe(uid: &str, row: Option<&v1::Enrolment>) -> Result<NodeEnrolment, ReadError> {
    let own_uid: WorkloadUid = name("uid", uid)?;
    let deny_all = PolicyName::Operator(Arc::from("unreadable-enrolment"));
    let why = "the pod's enrolment cannot be applied as written";
    let nobody = Enrolment::of_nobody(own_uid, "unreadable enrolment", Policy::safe_reading(deny_all, None, why));
    let enrolment = Enrolment {
        netns: row.and_then(|row| netns(&row.netns).ok()).flatten(),
        // A pod must not be killed because something else about it cannot be read.
        probe_ports: row.and_then(|row| ports("probe_ports", &row.probe_ports).ok()).unwrap_or_default(),
        ..nobody
    };
    Ok(NodeEnrolment { enrolment, policies: Vec::new() })
}

fn netns(text: &str) -> Result<Option<PathBuf>, ReadError> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('/') || text.contains('\0') || text.len() >= PATH_LENGTH_LIMIT {
        return Err(problem("netns", format!("{text:?} is not an absolute path")));
    }
    Ok(Some(PathBuf::from(text)))
}

pub fn failure_mode(number: i32) -> Result<FailureMode, ReadError> {
    match v1::FailureMode::try_from(number) {
        Ok(v1::FailureMode::Open) => Ok(FailureMode::Open),
        Ok(v1::FailureMode::Closed) => Ok(FailureMode::Closed),
        Ok(v1::FailureMode::Unspecified) | Err(_) => {
            Err(problem("on_agent_failure", format!("{number} is not a known failure mode")))
        }
    }
}

fn exemption(row: &v1::Exemption) -> Result<Exemption, ReadError> {
    Ok(Exemption {
        ports: ports("exemptions.ports", &row.ports)?,
        networks: networks("exemptions.cidrs", &row.cidrs)?,
        anyone: row.any,
        tls_only: row.tls_only,
        reason: Arc::from(row.reason.as_str()),
    })
}
