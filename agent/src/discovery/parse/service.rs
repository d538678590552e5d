//! Services with their endpoints, and what of them the clients of one node see. Safe: no endpoint.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_policy::ReadError;
use weft_proto::names::{NamespacedName, NodeName};
use weft_proto::v1;

use super::fields::{address, addresses, name, port, problem, same};
use crate::model::{Aliases, Endpoint, Service, ServicePort};

/// Where this agent is, as far as the controller has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    pub node: NodeName,
    pub zone: Option<Arc<str>>,
}

/// A Service as every agent is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct EverywhereService {
    /// As clients see it of whom nobody knows where they are.
    whole: Arc<Service>,
    /// As many as ports; none where it is the same from everywhere.
    views: Vec<View>,
}

/// What of a port depends on the place of its clients.
#[derive(Debug, Clone, Default, PartialEq)]
struct View {
    /// Places among the port's endpoints.
    for_nodes: BTreeMap<Arc<str>, Vec<usize>>,
    for_zones: BTreeMap<Arc<str>, Vec<usize>>,
    /// Of each node, where clients get no other's.
    local: Option<BTreeMap<Arc<str>, Vec<Endpoint>>>,
}

pub fn read_node(resource: &str, row: &v1::Node) -> Result<Here, ReadError> {
    let node: NodeName = name("name", resource)?;
    same("name", &name::<NodeName>("name", &row.name)?, &node)?;
    let zone = (!row.zone.is_empty()).then(|| Arc::from(row.zone.as_str()));
    Ok(Here { node, zone })
}

pub fn read(resource: &str, row: &v1::Service) -> Result<EverywhereService, ReadError> {
    let own_name: NamespacedName = name("name", resource)?;
    let inside = NamespacedName::new(&row.namespace, &row.name).map_err(|error| problem("name", error))?;
    same("name", &inside, &own_name)?;
    let affinity = (row.affinity_seconds > 0).then(|| Duration::from_secs(row.affinity_seconds.into()));
    let ports = row.ports.iter().map(|written| read_port(written, affinity)).collect::<Result<Vec<_>, _>>()?;
    let (ports, mut views): (Vec<_>, Vec<_>) = ports.into_iter().unzip();
    if views.iter().all(|view| *view == View::default()) {
        views.clear();
    }
    let whole = Service {
        name: own_name,
        addresses: addresses("addresses", &row.addresses)?,
        external_addresses: addresses("external_addresses", &row.external_addresses)?,
        ports,
    };
    Ok(EverywhereService { whole: Arc::new(whole), views })
}

/// The Service without any endpoint, so that its connections are refused and go nowhere else. None when it has no name.
pub fn safe(resource: &str, row: &v1::Service) -> Option<EverywhereService> {
    let ports = row.ports.iter().filter_map(|written| {
        Some(ServicePort {
            port: port("ports", written.port).ok()?,
            name: Arc::from(""),
            app_protocol: Arc::from(""),
            endpoints: Vec::new(),
            local: None,
            affinity: None,
            aliases: Aliases::default(),
        })
    });
    let readable = |list: &[Vec<u8>]| list.iter().filter_map(|bytes| address("addresses", bytes).ok()).collect();
    let whole = Service {
        name: resource.parse().ok()?,
        addresses: readable(&row.addresses),
        external_addresses: readable(&row.external_addresses),
        ports: ports.collect(),
    };
    Some(EverywhereService { whole: Arc::new(whole), views: Vec::new() })
}

fn read_port(written: &v1::ServicePort, affinity: Option<Duration>) -> Result<(ServicePort, View), ReadError> {
    let own = port("ports.port", written.port)?;
    let field = format!("ports[{own}].endpoints");
    let endpoints = |list: &[v1::Endpoint]| {
        let read = list.iter().map(|one| endpoint(&field, one)).collect::<Result<Vec<_>, _>>()?;
        if read.is_sorted_by_key(|endpoint| endpoint.address.is_ipv6()) {
            return Ok(read);
        }
        Err(problem(&field, "an IPv6 address comes before an IPv4 address"))
    };
    let all = endpoints(&written.endpoints)?;
    let groups = |list: &[v1::EndpointGroup]| {
        let group = |group: &v1::EndpointGroup| {
            let places = group.endpoints.iter().map(|place| match usize::try_from(*place) {
                Ok(place) if place < all.len() => Ok(place),
                Ok(_) | Err(_) => Err(problem(&field, format!("there is no endpoint {place}"))),
            });
            Ok((Arc::from(group.name.as_str()), places.collect::<Result<Vec<_>, ReadError>>()?))
        };
        list.iter().map(group).collect::<Result<_, ReadError>>()
    };
    let local = |written: &v1::LocalEndpoints| {
        let node = |node: &v1::NodeEndpoints| Ok((Arc::from(node.node.as_str()), endpoints(&node.endpoints)?));
        written.nodes.iter().map(node).collect::<Result<_, ReadError>>()
    };
    let view = View {
        for_nodes: groups(&written.for_nodes)?,
        for_zones: groups(&written.for_zones)?,
        local: written.local.as_ref().map(local).transpose()?,
    };
    let row = ServicePort {
        port: own,
        name: Arc::from(written.name.as_str()),
        app_protocol: Arc::from(written.app_protocol.as_str()),
        endpoints: all,
        local: None,
        affinity,
        aliases: Aliases::default(),
    };
    Ok((row, view))
}

fn endpoint(field: &str, written: &v1::Endpoint) -> Result<Endpoint, ReadError> {
    let workload = match written.workload.as_str() {
        "" => None,
        uid => Some(name(field, uid)?),
    };
    let address = SocketAddr::new(address(field, &written.address)?, port(field, written.port)?);
    Ok(Endpoint { address, workload })
}

impl EverywhereService {
    /// The Service as the clients of this node see it.
    pub fn seen_from(&self, here: Option<&Here>) -> Arc<Service> {
        let Some(here) = here.filter(|_| !self.views.is_empty()) else { return Arc::clone(&self.whole) };
        let mut seen = Service::clone(&self.whole);
        for (port, view) in seen.ports.iter_mut().zip(&self.views) {
            port.local = view.local.as_ref().map(|nodes| nodes.get(here.node.as_str()).cloned().unwrap_or_default());
            port.endpoints = view.hinted(&port.endpoints, here);
        }
        Arc::new(seen)
    }
}

impl View {
    /// Of each family those for this node's clients, else those for this zone's, else all of them.
    fn hinted(&self, all: &[Endpoint], here: &Here) -> Vec<Endpoint> {
        let zone = here.zone.as_ref().and_then(|zone| self.for_zones.get(zone));
        let groups = [self.for_nodes.get(here.node.as_str()), zone];
        let mut seen = Vec::new();
        for is_ipv4 in [true, false] {
            let family = || all.iter().filter(|endpoint| endpoint.address.is_ipv4() == is_ipv4);
            let of = |group: &Vec<usize>| -> Vec<Endpoint> {
                let group = group.iter().filter_map(|place| all.get(*place));
                group.filter(|endpoint| endpoint.address.is_ipv4() == is_ipv4).cloned().collect()
            };
            let hinted = groups.iter().flatten().map(|group| of(group)).find(|group| !group.is_empty());
            seen.extend(hinted.unwrap_or_else(|| family().cloned().collect()));
        }
        seen
    }
}
