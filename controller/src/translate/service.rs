//! Services: their addresses, ports and usable endpoints, and whom each endpoint is for.
//!
//! The same row goes to every agent: what depends on where a client is, its own agent picks out of it.

mod addresses;
mod endpoints;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use weft_proto::{resource, v1};

use super::Finding;
use super::protocol::Protocol;
use super::routes::x_backends;
use super::world::World;
use crate::limits;
use crate::object::{EndpointSlice, Metadata, Service, ServicePort};
use crate::store::Name;

pub use addresses::{Addresses, Own};
use endpoints::{Candidate, candidates, hinted, local, usable};

/// Endpoints of a node count as so many more: for its name.
const NODE_NAME_COST: usize = 3;

/// What one Service may still take.
struct Room {
    endpoints: usize,
    hint_bytes: usize,
}

/// Resource name and body of every Service that has endpoints of its own, and of every `XBackend` that a route names, as one.
pub fn rows(world: &World<'_>, findings: &mut BTreeSet<Finding>) -> Vec<(String, v1::Service)> {
    let slices = slices_by_service(world);
    let mut rows = Vec::new();
    for (name, service) in world.own.services.iter().filter(|(_, service)| !service.external_name) {
        let mut tell = |message: String| {
            findings.insert(Finding { object: format!("Service {}/{}", name.0, name.1), message });
        };
        rows.push(row(world, service, slices.get(name).map_or(&[][..], Vec::as_slice), &mut tell));
        if service.ports.len() > limits::PORTS_PER_SERVICE {
            tell(format!("it has more than {} ports; those after them are left out", limits::PORTS_PER_SERVICE));
        }
        if service.addresses_left_out > 0 {
            let (limit, more) = (limits::EXTERNAL_ADDRESSES_PER_SERVICE, service.addresses_left_out);
            tell(format!("it names more than {limit} external addresses; {more} are left out, and lead past the mesh"));
        }
        world.service_addresses(name).refused.iter().cloned().for_each(&mut tell);
    }
    // Each is a walk over all pods of the namespace.
    let named: BTreeSet<&str> = world.own.routes().flat_map(|route| x_backends(route)).collect();
    let backends = world.own.backends.values().filter(|backend| named.contains(backend.metadata.name.as_str()));
    for backend in backends.filter(|backend| backend.refusals.is_empty()) {
        let mut tell = |message: String| {
            findings.insert(Finding { object: backend.title(), message });
        };
        rows.push(row(world, &backend.as_service(), &[], &mut tell));
    }
    rows
}

fn row<'a>(
    world: &World<'a>,
    service: &Service,
    slices: &[&'a EndpointSlice],
    tell: &mut impl FnMut(String),
) -> (String, v1::Service) {
    let Metadata { namespace, name, .. } = &service.metadata;
    let mut room = Room { endpoints: limits::ENDPOINTS_PER_SERVICE, hint_bytes: limits::HINT_BYTES_PER_SERVICE };
    let ports = service.ports.iter().take(limits::PORTS_PER_SERVICE);
    let ports = ports.map(|port| {
        let candidates = candidates(world, service, port, slices);
        port_row(service, port, &candidates, &mut room, tell)
    });
    let ports = ports.collect();
    let own = world.service_addresses(&(namespace.clone(), name.clone()));
    let body = v1::Service {
        namespace: namespace.clone(),
        name: name.clone(),
        addresses: own.cluster.clone(),
        external_addresses: own.external.clone(),
        affinity_seconds: service.affinity_seconds.unwrap_or(0),
        ports,
    };
    (resource::service(namespace, name), body)
}

fn slices_by_service<'a>(world: &World<'a>) -> BTreeMap<Name, Vec<&'a EndpointSlice>> {
    let mut slices: BTreeMap<Name, Vec<&EndpointSlice>> = BTreeMap::new();
    for ((namespace, _), slice) in world.own.endpoint_slices.iter() {
        if !slice.service.is_empty() {
            slices.entry((namespace.clone(), slice.service.clone())).or_default().push(slice);
        }
    }
    slices
}

fn port_row(
    service: &Service,
    port: &ServicePort,
    candidates: &[Candidate<'_>],
    room: &mut Room,
    tell: &mut impl FnMut(String),
) -> v1::ServicePort {
    let everybodys = usable(&candidates.iter().collect::<Vec<_>>());
    let own = service.local.then(|| local(candidates));
    let needed = everybodys.len() + own.iter().flatten().map(|(_, list)| list.len() + NODE_NAME_COST).sum::<usize>();
    let mut row = v1::ServicePort {
        port: port.port.into(),
        name: port.name.clone(),
        app_protocol: Protocol::of(port).word().to_owned(),
        ..v1::ServicePort::default()
    };
    if needed > room.endpoints {
        let (limit, left) = (limits::ENDPOINTS_PER_SERVICE, room.endpoints);
        tell(format!("it has more than {limit} endpoints; the port {} is given {left} of {needed}", port.port));
        // Endpoints of any node are better than none.
        row.endpoints = everybodys.iter().take(left).map(|candidate| candidate.row()).collect();
        room.endpoints = 0;
        return row;
    }
    room.endpoints -= needed;
    row.endpoints = everybodys.iter().map(|candidate| candidate.row()).collect();
    row.local = own.map(|nodes| {
        let nodes = nodes.into_iter().map(|(node, list)| v1::NodeEndpoints {
            node: node.to_owned(),
            endpoints: list.iter().map(|candidate| candidate.row()).collect(),
        });
        v1::LocalEndpoints { nodes: nodes.collect() }
    });
    row.for_nodes = hinted(&everybodys, |candidate| &candidate.nodes);
    row.for_zones = hinted(&everybodys, |candidate| &candidate.zones);
    let bytes: usize = row.for_nodes.iter().chain(&row.for_zones).map(v1::EndpointGroup::encoded_len).sum();
    if bytes > room.hint_bytes {
        let limit = limits::HINT_BYTES_PER_SERVICE;
        tell(format!("its hints take more than {limit} bytes; those of the port {} are left out", port.port));
        (row.for_nodes, row.for_zones) = (Vec::new(), Vec::new());
    } else {
        room.hint_bytes -= bytes;
    }
    row
}
