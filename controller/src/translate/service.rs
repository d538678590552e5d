//! Services and their usable endpoints: ready ones, else those that serve while terminating.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_proto::{resource, v1};

use super::address::octets;
use super::protocol::Protocol;
use super::target::{pods, selects, target_port};
use super::{Finding, World};
use crate::limits;
use crate::object::{ClusterAddress, EndpointSlice, Service, ServicePort};
use crate::store::Name;

/// An endpoint before its state has been judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    address: IpAddr,
    port: u16,
    ready: bool,
    serving_while_terminating: bool,
}

/// Resource name and body of every Service that has endpoints of its own.
pub fn rows(world: &World<'_>, findings: &mut BTreeSet<Finding>) -> Vec<(String, v1::Service)> {
    let slices = slices_by_service(world);
    let addresses = addresses(world, findings);
    let mut rows = Vec::new();
    for (name, service) in world.objects.services.iter().filter(|(_, service)| !service.external_name) {
        let own_slices = slices.get(name).map_or(&[][..], Vec::as_slice);
        let mut room = limits::ENDPOINTS_PER_SERVICE;
        let mut ports = Vec::new();
        for port in service.ports.iter().take(limits::PORTS_PER_SERVICE) {
            let mut endpoints = endpoints(world, service, port, own_slices);
            if endpoints.len() > room {
                let message = format!(
                    "it has more than {} endpoints; the port {} is given {room} of {}",
                    limits::ENDPOINTS_PER_SERVICE,
                    port.port,
                    endpoints.len()
                );
                findings.insert(Finding { object: format!("Service {}/{}", name.0, name.1), message });
                endpoints.truncate(room);
            }
            room -= endpoints.len();
            ports.push(v1::ServicePort {
                port: port.port.into(),
                name: port.name.clone(),
                app_protocol: Protocol::of(port).word().to_owned(),
                endpoints,
            });
        }
        if service.ports.len() > limits::PORTS_PER_SERVICE {
            let message =
                format!("it has more than {} ports; those after them are left out", limits::PORTS_PER_SERVICE);
            findings.insert(Finding { object: format!("Service {}/{}", name.0, name.1), message });
        }
        let body = v1::Service {
            namespace: name.0.clone(),
            name: name.1.clone(),
            addresses: addresses.get(name).into_iter().flatten().copied().map(octets).collect(),
            ports,
        };
        rows.push((resource::service(&name.0, &name.1), body));
    }
    rows
}

fn slices_by_service<'a>(world: &World<'a>) -> BTreeMap<Name, Vec<&'a EndpointSlice>> {
    let mut slices: BTreeMap<Name, Vec<&EndpointSlice>> = BTreeMap::new();
    for ((namespace, _), slice) in &world.objects.endpoint_slices {
        if !slice.service.is_empty() {
            slices.entry((namespace.clone(), slice.service.clone())).or_default().push(slice);
        }
    }
    slices
}

fn endpoints(world: &World<'_>, service: &Service, port: &ServicePort, slices: &[&EndpointSlice]) -> Vec<v1::Endpoint> {
    // Nobody fills in slices for a directory: a Service with a selector and without slices has its pods.
    let candidates = if slices.is_empty() && !service.selector.is_empty() {
        from_pods(world, service, port)
    } else {
        from_slices(port, slices)
    };
    let usable = |candidate: &&Candidate| candidate.ready || service.publish_not_ready_addresses;
    let mut chosen: BTreeSet<(IpAddr, u16)> =
        candidates.iter().filter(usable).map(|candidate| (candidate.address, candidate.port)).collect();
    if chosen.is_empty() {
        let terminating = candidates.iter().filter(|candidate| candidate.serving_while_terminating);
        chosen = terminating.map(|candidate| (candidate.address, candidate.port)).collect();
    }
    // An address that two pods claim may be either's: as "no workload" it would be dialled in plaintext.
    chosen
        .into_iter()
        .filter(|(address, _)| !world.owners.is_disputed(*address))
        .map(|(address, port)| v1::Endpoint {
            address: octets(address),
            port: port.into(),
            workload: world.owners.owner(address).map(ToString::to_string).unwrap_or_default(),
        })
        .collect()
}

fn from_slices(port: &ServicePort, slices: &[&EndpointSlice]) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for slice in slices {
        for number in slice.ports.iter().filter(|found| found.name == port.name).map(|found| found.port) {
            candidates.extend(slice.endpoints.iter().map(|endpoint| Candidate {
                address: endpoint.address,
                port: number,
                ready: endpoint.ready,
                serving_while_terminating: endpoint.serving_while_terminating,
            }));
        }
    }
    candidates
}

/// What the endpoint slice controller of a cluster would write.
fn from_pods(world: &World<'_>, service: &Service, port: &ServicePort) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (_, pod) in pods(world.objects, &service.metadata.namespace).filter(|(_, pod)| selects(&service.selector, pod))
    {
        let Some(number) = target_port(port, pod) else { continue };
        candidates.extend(pod.addresses.iter().map(|address| Candidate {
            address: *address,
            port: number,
            ready: pod.ready && !pod.metadata.deleting,
            serving_while_terminating: pod.ready && pod.metadata.deleting,
        }));
    }
    candidates
}

/// Addresses that lead to one Service alone. A cluster address beats an external one, which anybody may claim;
/// a pod's address is never a Service's.
fn addresses(world: &World<'_>, findings: &mut BTreeSet<Finding>) -> BTreeMap<Name, Vec<IpAddr>> {
    let mut claims: BTreeMap<IpAddr, Vec<(&Name, bool)>> = BTreeMap::new();
    for (name, service) in &world.objects.services {
        for address in &service.addresses {
            let (address, cluster) = match address {
                ClusterAddress::Cluster(address) => (*address, true),
                ClusterAddress::External(address) => (*address, false),
            };
            claims.entry(address).or_default().push((name, cluster));
        }
    }
    let mut addresses: BTreeMap<Name, Vec<IpAddr>> = BTreeMap::new();
    for (address, mut claimants) in claims {
        if claimants.iter().any(|(_, cluster)| *cluster) {
            let external = claimants.extract_if(.., |(_, cluster)| !*cluster).collect();
            refuse(findings, address, external, "another Service's cluster address");
        }
        claimants.dedup_by_key(|(name, _)| *name);
        if world.owners.is_pods(address) {
            refuse(findings, address, claimants, "a pod's address");
        } else if let [(name, _)] = claimants.as_slice() {
            addresses.entry((*name).clone()).or_default().push(address);
        } else {
            refuse(findings, address, claimants, "claimed by several Services, and leads to none of them");
        }
    }
    addresses
}

fn refuse(findings: &mut BTreeSet<Finding>, address: IpAddr, claimants: Vec<(&Name, bool)>, why: &str) {
    for ((namespace, name), _) in claimants {
        findings.insert(Finding {
            object: format!("Service {namespace}/{name}"),
            message: format!("its address {address} is refused: it is {why}"),
        });
    }
}
