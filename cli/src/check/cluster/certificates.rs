//! The mesh's root, by its fingerprint and its end, and the certificates that agents hold.

use jiff::Timestamp;
use x509_parser::pem::Pem;

use super::super::list::Checks;
use super::Cluster;
use super::own::mesh_status;
use crate::answers::Status;
use crate::paint::span;

const GROUP: &str = "certificates";

/// Where the controller publishes the roots.
const TRUST: &str = "configmap/weft-trust";
/// A root that ends sooner than this is to be replaced, in seconds: agents and pods need some of it for their own.
const ROOT_SHORT: i64 = 60 * 24 * 3600;

pub fn look(cluster: Cluster<'_>, agents: &[Status], checks: &mut Checks) {
    match mesh_status(cluster).and_then(|status| status["rootFingerprint"].as_str().map(str::to_owned)) {
        Some(fingerprint) => checks.fine(GROUP, format!("the root's fingerprint (SHA-256) is {fingerprint}")),
        None => checks.problem(
            GROUP,
            "the root's fingerprint",
            "MeshConfig/default has none in its status: no controller has made or read the root yet.",
            "Look at the controller, above.",
        ),
    }
    match cluster.object(TRUST) {
        Ok(Some(trust)) => roots(trust["data"]["ca.pem"].as_str().unwrap_or_default(), Timestamp::now(), checks),
        Ok(None) => checks.problem(
            GROUP,
            format!("{TRUST} is there"),
            "Agents that start have no root to trust the controller by.",
            "The controller writes it; look at it, above.",
        ),
        Err(cause) => checks.problem(GROUP, format!("reads {TRUST}"), cause, "Ask for the right to read it."),
    }
    leaves(agents, Timestamp::now(), checks);
}

fn roots(pem: &str, now: Timestamp, checks: &mut Checks) {
    let ends: Vec<i64> = Pem::iter_from_buffer(pem.as_bytes())
        .filter_map(|pem| Some(pem.ok()?.parse_x509().ok()?.validity().not_after.timestamp()))
        .collect();
    let fix = "Replace the root (docs/install-kubernetes.md).";
    match ends.iter().max().map(|end| end - now.as_second()) {
        None => {
            checks.problem(GROUP, "the root can be read", format!("{TRUST} has none."), "The controller writes it.");
        }
        Some(left) if left <= 0 => {
            checks.problem(GROUP, "the root is valid", format!("It ended {} ago.", span(-left)), fix);
        }
        Some(left) if left < ROOT_SHORT => {
            checks.warning(GROUP, "the root lasts", format!("It ends in {}.", span(left)), fix);
        }
        Some(left) => checks.fine(GROUP, format!("the root lasts for another {}", span(left))),
    }
}

/// Those that are missing or about to end are told with their agent.
fn leaves(agents: &[Status], now: Timestamp, checks: &mut Checks) {
    let all = agents.iter().flat_map(|status| &status.certificates);
    let ends: Vec<i64> = all.filter_map(|one| Some(one.not_after?.duration_since(now).as_secs())).collect();
    if let Some(shortest) = ends.iter().min().filter(|left| **left > 0) {
        checks.fine(
            GROUP,
            format!("{} certificates of agents and pods; the shortest has {} left", ends.len(), span(*shortest)),
        );
    }
}
