//! Which namespaces have to be translated again: those of which something is another one now, by what their part was
//! made of the last time.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_proto::names::{NodeName, WorkloadUid};

use super::world::{Mesh, Read};
use super::{Facts, Last, Observed, Part, calls};
use crate::beside::beside;
use crate::store::Objects;

pub fn namespaces(
    last: &Last,
    objects: &Objects,
    observed: &Observed,
    facts: &Facts,
    mesh: &Mesh,
) -> BTreeSet<Arc<str>> {
    if last.facts != *facts || last.mesh.config != mesh.config {
        return objects.namespaces.keys().cloned().collect();
    }
    let mut stale: BTreeSet<&str> = objects.namespaces.keys().map(|name| &**name).collect();
    stale.retain(|namespace| is_another(last, objects, namespace));
    let mut workloads = reported(&last.observed, observed);
    let mut addresses = HashSet::new();
    if !Arc::ptr_eq(&last.mesh.owners, &mesh.owners) {
        workloads.extend(last.mesh.owners.other_workloads(&mesh.owners));
        addresses = last.mesh.owners.other_addresses(&mesh.owners);
    }
    let pods = workloads.into_iter().filter_map(|uid| objects.pod(uid));
    stale.extend(pods.map(|pod| pod.metadata.namespace.as_str()));
    let nodes = other_nodes(last, observed, mesh);
    if !nodes.is_empty() {
        let here = objects.pods().filter(|pod| pod.node.as_ref().is_some_and(|node| nodes.contains(node)));
        stale.extend(here.map(|pod| pod.metadata.namespace.as_str()));
    }
    if !Arc::ptr_eq(&last.mesh.addresses, &mesh.addresses) {
        let services = last.mesh.addresses.others(&mesh.addresses);
        stale.extend(services.map(|(namespace, _)| namespace.as_str()));
    }
    stale.extend(calls::others(&last.objects, objects));
    let read = |(_, read): &(Arc<Part>, Read)| {
        has_read(read, &addresses, |namespace| is_another(last, objects, namespace))
            || has_moved(read, &last.objects, objects)
    };
    let readers = last.parts.iter().filter(|(_, part)| read(part));
    stale.extend(readers.map(|(namespace, _)| &**namespace));
    stale.into_iter().map(Arc::from).collect()
}

fn is_another(last: &Last, objects: &Objects, namespace: &str) -> bool {
    match (last.objects.of(namespace), objects.of(namespace)) {
        (None, None) => false,
        (Some(then), Some(now)) => !Arc::ptr_eq(then, now),
        _ => true,
    }
}

fn has_read(read: &Read, addresses: &HashSet<IpAddr>, is_another: impl Fn(&str) -> bool) -> bool {
    addresses.iter().any(|address| read.addresses.contains(address))
        || read.namespaces.iter().any(|namespace| is_another(namespace))
}

fn has_moved(read: &Read, then: &Objects, now: &Objects) -> bool {
    let zone = |objects: &Objects, node: &str| objects.nodes.get(node).and_then(|node| node.zone()).map(str::to_owned);
    !Arc::ptr_eq(&then.nodes, &now.nodes) && read.nodes.iter().any(|node| zone(then, node) != zone(now, node))
}

/// Workloads that their agents serve now and did not then, or the other way.
fn reported<'a>(then: &'a Observed, now: &'a Observed) -> Vec<&'a WorkloadUid> {
    let mut others = Vec::new();
    for (_, then, now) in beside(Some(&then.capable), Some(&now.capable)) {
        match (then, now) {
            (Some(then), Some(now)) if Arc::ptr_eq(then, now) => {}
            (Some(then), Some(now)) => others.extend(then.symmetric_difference(now)),
            (one, other) => others.extend(one.into_iter().chain(other).flat_map(|uids| uids.iter())),
        }
    }
    others
}

/// Nodes of which something else is known.
fn other_nodes(last: &Last, observed: &Observed, mesh: &Mesh) -> BTreeSet<NodeName> {
    let gone = last.observed.gone.symmetric_difference(&observed.gone);
    gone.chain(last.mesh.unknown.symmetric_difference(&mesh.unknown)).cloned().collect()
}
