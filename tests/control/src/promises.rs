//! What the controller promises about a cluster, by subject.

mod admission;
mod agents;
mod callers;
mod identity;
mod permissions;
mod rotation;
mod scale;
mod source;
mod status;

use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::{Promise, objects};

pub fn all() -> Vec<Promise> {
    [
        source::promises(),
        callers::promises(),
        agents::promises(),
        status::promises(),
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
