//! Services and their endpoints, as clients of this node see them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use weft_proto::names::{NamespacedName, WorkloadUid};

use super::{Alias, Aliases};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: NamespacedName,
    pub addresses: Vec<IpAddr>,
    /// Of hosts or load balancers: only the Service's own ports mean it there.
    pub external_addresses: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    pub port: u16,
    pub name: Arc<str>,
    pub app_protocol: Arc<str>,
    /// Usable ones only: ready, or serving while terminating where none of the family is ready; IPv4 before IPv6. Where
    /// hints say which are for clients of this node, those alone.
    pub endpoints: Vec<Endpoint>,
    /// Of this node, in the same order, where a client of a cluster address gets no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<Vec<Endpoint>>,
    /// What one client asks for goes to one endpoint until it has not asked for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Duration>,
    /// Of what [`Self::nearest`] gives.
    #[serde(skip)]
    pub aliases: Aliases,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// None for an address that no workload owns.
    pub workload: Option<WorkloadUid>,
}

impl Service {
    /// Each with whether it is an external one.
    pub fn every_address(&self) -> impl Iterator<Item = (IpAddr, bool)> + '_ {
        let cluster = self.addresses.iter().map(|address| (*address, false));
        cluster.chain(self.external_addresses.iter().map(|address| (*address, true)))
    }
}

impl ServicePort {
    /// Those that the Service's own address leads to: of its family.
    #[must_use]
    pub fn behind(&self, address: IpAddr, external: bool) -> &[Endpoint] {
        let all = if external { &self.endpoints } else { self.nearest() };
        of_family(all, address)
    }

    /// Those that a route to the Service leads to for a client that has asked for `address`: of that family if there are
    /// any, for the client speaks it, or else whatever there is.
    #[must_use]
    pub fn instead_of(&self, address: IpAddr) -> &[Endpoint] {
        let same = of_family(self.nearest(), address);
        if same.is_empty() { self.nearest() } else { same }
    }

    /// The place among `endpoints`, some of this port's nearest, of the one with this alias.
    #[must_use]
    pub fn place_of(&self, alias: Alias, endpoints: &[Endpoint]) -> Option<usize> {
        let nearest = self.nearest();
        let called = nearest.iter().zip(self.aliases.of(nearest)).filter(|(_, own)| **own == alias);
        called.map(|(endpoint, _)| endpoint).find_map(|called| endpoints.iter().position(|other| other == called))
    }

    /// Those that clients of this node are led to.
    #[must_use]
    pub fn nearest(&self) -> &[Endpoint] {
        self.local.as_ref().unwrap_or(&self.endpoints)
    }
}

fn of_family(sorted: &[Endpoint], address: IpAddr) -> &[Endpoint] {
    let (ipv4, ipv6) = sorted.split_at(sorted.partition_point(|endpoint| endpoint.address.is_ipv4()));
    if address.is_ipv4() { ipv4 } else { ipv6 }
}
