//! What the controller promises about a cluster, by subject.

mod admission;
mod agents;
mod callers;
mod conformance;
mod identity;
mod meshes;
mod permissions;
mod rotation;
mod scale;
mod source;
mod status;

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::{Promise, objects};

pub fn all() -> Vec<Promise> {
    [
        source::promises(),
        callers::promises(),
        agents::promises(),
        status::promises(),
        conformance::promises(),
        meshes::promises(),
        identity::promises(),
        rotation::promises(),
        permissions::promises(),
        admission::promises(),
        scale::promises(),
    ]
    .concat()
}

/// A control plane takes most of it.
fn promise(name: &'static str, run: fn(&mut Cluster) -> Result<()>) -> Promise {
    Promise { name, proof: None, limit: Duration::from_mins(3), run }
}

/// Of a route or a policy, parent by parent.
fn our_conditions(object: &Value) -> Vec<Value> {
    let list =
        if object["kind"].as_str().is_some_and(|kind| kind.ends_with("Route")) { "parents" } else { "ancestors" };
    let entries = object["status"][list].as_array().into_iter().flatten();
    let ours = entries.filter(|entry| entry["controllerName"] == "weft.dev/controller");
    ours.flat_map(|entry| entry["conditions"].as_array().cloned().unwrap_or_default()).collect()
}

/// As people say it: `type=status/reason`.
fn told(conditions: &[Value]) -> Vec<String> {
    conditions
        .iter()
        .map(|one| format!("{}={}/{}", one["type"], one["status"], one["reason"]).replace('"', ""))
        .collect()
}

/// A mesh with one node, and on it a pod to be captured, `shop/web`, that runs.
fn shop(cluster: &Cluster) -> Result<()> {
    cluster.put(&objects::mesh(&["10.1.0.0/16"]))?;
    cluster.put(&objects::namespace("shop", "enabled"))?;
    cluster.put(&objects::node("one", "10.1.0.0/16"))?;
    cluster.put(&objects::service_account("shop", "web"))?;
    cluster.put(&objects::pod("shop", "web", "one", "web"))?;
    cluster.put_status("Pod", "shop", "web", &objects::running("10.1.0.10"))?;
    Ok(())
}
