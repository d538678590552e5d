//! Which addresses stand behind a Service's port, in what state, and whom they are for.
//!
//! The rules are kube-proxy's (Kubernetes: "Virtual IPs and Service Proxies"): each address family is judged by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_proto::names::{NodeName, WorkloadUid};
use weft_proto::v1;

use super::super::address::octets;
use super::super::target::{pods, selects, target_port};
use super::super::world::World;
use crate::object::{EndpointSlice, Nearness, Pod, Service, ServicePort, SliceEndpoint};

/// An endpoint that is ready, or serves while it is being ended.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    address: IpAddr,
    port: u16,
    workload: Option<&'a WorkloadUid>,
    node: Option<&'a str>,
    /// Zones, and nodes, whose clients it is for.
    pub zones: Vec<&'a str>,
    pub nodes: Vec<&'a str>,
    terminating: bool,
}

impl Candidate<'_> {
    pub fn row(&self) -> v1::Endpoint {
        v1::Endpoint {
            address: octets(self.address),
            port: self.port.into(),
            workload: self.workload.map(ToString::to_string).unwrap_or_default(),
        }
    }
}

pub fn candidates<'a>(
    world: &World<'a>,
    service: &Service,
    port: &ServicePort,
    slices: &[&'a EndpointSlice],
) -> Vec<Candidate<'a>> {
    // Nobody fills in slices for a directory, nor for an `XBackend`: what has a selector and no slices has its pods.
    if slices.is_empty() && !service.selector.is_empty() {
        from_pods(world, service, port)
    } else {
        from_slices(world, service, port, slices)
    }
}

/// Of each family ready ones, else those that serve while terminating; in the order of their addresses.
pub fn usable<'c, 'a>(candidates: &[&'c Candidate<'a>]) -> Vec<&'c Candidate<'a>> {
    let mut chosen: BTreeMap<(IpAddr, u16), &Candidate<'_>> = BTreeMap::new();
    for is_ipv4 in [true, false] {
        let family = candidates.iter().filter(|candidate| candidate.address.is_ipv4() == is_ipv4);
        let none_ready = family.clone().all(|candidate| candidate.terminating);
        for candidate in family.filter(|candidate| candidate.terminating == none_ready) {
            chosen.entry((candidate.address, candidate.port)).or_insert(candidate);
        }
    }
    chosen.into_values().collect()
}

/// The usable ones of each node by itself.
pub fn local<'c, 'a>(candidates: &'c [Candidate<'a>]) -> BTreeMap<&'a str, Vec<&'c Candidate<'a>>> {
    let mut nodes: BTreeMap<&str, Vec<&Candidate<'_>>> = BTreeMap::new();
    for candidate in candidates {
        if let Some(node) = candidate.node {
            nodes.entry(node).or_default().push(candidate);
        }
    }
    nodes.into_iter().map(|(node, list)| (node, usable(&list))).collect()
}

/// Places in the list by the names that its endpoints are for. The hints of a family count if all of it has some.
pub fn hinted<'c, 'a: 'c>(
    chosen: &[&'c Candidate<'a>],
    names: impl Fn(&'c Candidate<'a>) -> &'c [&'a str],
) -> Vec<v1::EndpointGroup> {
    let mut groups: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for is_ipv4 in [true, false] {
        let family = (0_u32..).zip(chosen).filter(|(_, candidate)| candidate.address.is_ipv4() == is_ipv4);
        if family.clone().any(|(_, candidate)| candidate.terminating || names(candidate).is_empty()) {
            continue;
        }
        for (place, candidate) in family {
            for name in names(candidate) {
                let group = groups.entry(name).or_default();
                if group.last() != Some(&place) {
                    group.push(place);
                }
            }
        }
    }
    let group = |(name, endpoints): (&str, _)| v1::EndpointGroup { name: name.to_owned(), endpoints };
    groups.into_iter().map(group).collect()
}

fn from_slices<'a>(
    world: &World<'a>,
    service: &Service,
    port: &ServicePort,
    slices: &[&'a EndpointSlice],
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for slice in slices {
        for number in slice.ports.iter().filter(|found| found.name == port.name).map(|found| found.port) {
            for endpoint in &slice.endpoints {
                let ready = endpoint.ready || service.publish_not_ready_addresses;
                if !ready && !endpoint.serving_while_terminating {
                    continue;
                }
                let workload = match behind(world, slice, endpoint) {
                    Behind::Workload(uid) => Some(uid),
                    Behind::Nobody => None,
                    Behind::Anybody => continue,
                };
                let hints = endpoint.hints.as_deref();
                candidates.push(Candidate {
                    address: endpoint.address,
                    port: number,
                    workload,
                    node: endpoint.node.as_deref(),
                    zones: hints.map(|hints| names(&hints.zones)).unwrap_or_default(),
                    nodes: hints.map(|hints| names(&hints.nodes)).unwrap_or_default(),
                    terminating: !ready,
                });
            }
        }
    }
    candidates
}

fn names(list: &[Box<str>]) -> Vec<&str> {
    list.iter().map(AsRef::as_ref).collect()
}

/// Who stands behind a slice's endpoint.
enum Behind<'a> {
    Workload(&'a WorkloadUid),
    /// An address that no workload owns.
    Nobody,
    /// Nobody can say who: it is no endpoint.
    Anybody,
}

/// Whoever fills in slices is a little behind, and believes a pod's status: an address that is not (any more, or not yet) the pod's of
/// which the slice speaks may be another one's, and would be spoken to as that. One that two pods claim may be either's.
fn behind<'a>(world: &World<'a>, slice: &EndpointSlice, endpoint: &SliceEndpoint) -> Behind<'a> {
    if world.is_disputed(endpoint.address) {
        return Behind::Anybody;
    }
    let owner = world.owning_pod(endpoint.address);
    let Some(named) = &endpoint.pod else {
        return owner.map_or(Behind::Nobody, |pod| Behind::Workload(&pod.uid));
    };
    let is_named = |pod: &Pod| {
        let (uid, known) = (named.uid.as_deref(), pod.metadata.uid.as_deref());
        *pod.metadata.name == *named.name
            && pod.metadata.namespace == slice.metadata.namespace
            && (uid.is_none() || known.is_none() || uid == known)
    };
    if let Some(pod) = owner {
        return if is_named(pod) { Behind::Workload(&pod.uid) } else { Behind::Anybody };
    }
    // A pod on its node's network owns no address.
    let pod = world.own.pods.get(&(slice.metadata.namespace.clone(), named.name.to_string()));
    let of_node = pod.is_some_and(|pod| pod.host_network && !pod.finished && is_named(pod));
    if of_node { Behind::Nobody } else { Behind::Anybody }
}

/// What the endpoint slice controller of a cluster would write.
fn from_pods<'a>(world: &World<'a>, service: &Service, port: &ServicePort) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for (_, pod) in pods(world.own).filter(|(_, pod)| selects(&service.selector, pod)) {
        let Some(number) = target_port(port, pod) else { continue };
        let leaving = pod.metadata.deleting;
        if !service.publish_not_ready_addresses && !pod.ready {
            continue;
        }
        let node = pod.node.as_ref().map(NodeName::as_str);
        let zone = node.and_then(|node| world.zone(node));
        let (zones, nodes) = match service.distribution {
            None => (None, None),
            Some(Nearness::Zone) => (zone, None),
            Some(Nearness::Node) => (zone, node),
        };
        let is_another_pods = |address: &IpAddr| world.owner(*address).is_some_and(|owner| *owner != pod.uid);
        let own = pod.addresses.iter().filter(|address| {
            !world.is_lie(pod, **address) && !world.is_disputed(**address) && !is_another_pods(address)
        });
        candidates.extend(own.map(|address| Candidate {
            address: *address,
            port: number,
            workload: world.owner(*address).map(|_| &pod.uid),
            node,
            zones: zones.into_iter().collect(),
            nodes: nodes.into_iter().collect(),
            terminating: leaving && !service.publish_not_ready_addresses,
        }));
    }
    candidates
}
