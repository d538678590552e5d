//! One immutable state of the world.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;
use weft_proto::names::{TrustDomain, WorkloadUid};

use super::{Endpoint, Enrolment, Service, ServicePort, Workload};

/// Names the set of resources that a snapshot was made of (`weft_proto::resource::snapshot_version`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct SnapshotVersion(pub Arc<str>);

#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    pub version: SnapshotVersion,
    pub trust_domain: TrustDomain,
    /// Roots to trust, DER.
    #[serde(skip)]
    pub roots: Arc<[Vec<u8>]>,
    pub captured_networks: Vec<IpNet>,
    /// Address, and port where only that one is meant.
    pub never_captured: Vec<(IpAddr, Option<u16>)>,
    /// Milliseconds.
    pub lease_milliseconds: u32,
    pub workloads: HashMap<WorkloadUid, Arc<Workload>>,
    pub services: Vec<Arc<Service>>,
    /// This node's own pods.
    pub enrolments: HashMap<WorkloadUid, Arc<Enrolment>>,
    #[serde(skip)]
    by_address: HashMap<IpAddr, WorkloadUid>,
    #[serde(skip)]
    by_service_address: HashMap<IpAddr, usize>,
}

/// What an original destination means.
#[derive(Debug, Clone)]
pub enum Destination<'a> {
    Service { service: &'a Service, port: &'a ServicePort },
    /// A Service's address with a port that it does not have.
    UnknownPort { service: &'a Service },
    Workload(&'a Arc<Workload>),
    /// Nothing that the mesh knows.
    Foreign,
}

/// The parts that a snapshot is made of, each already validated.
#[derive(Debug)]
pub struct Parts {
    pub version: SnapshotVersion,
    pub trust_domain: TrustDomain,
    pub roots: Arc<[Vec<u8>]>,
    pub captured_networks: Vec<IpNet>,
    pub never_captured: Vec<(IpAddr, Option<u16>)>,
    pub lease_milliseconds: u32,
    pub workloads: Vec<Arc<Workload>>,
    pub services: Vec<Arc<Service>>,
    pub enrolments: Vec<Arc<Enrolment>>,
}

impl Snapshot {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let by_address = parts
            .workloads
            .iter()
            .flat_map(|workload| workload.addresses.iter().map(|address| (*address, workload.uid.clone())))
            .collect();
        let by_service_address = parts
            .services
            .iter()
            .enumerate()
            .flat_map(|(index, service)| service.addresses.iter().map(move |address| (*address, index)))
            .collect();
        Self {
            version: parts.version,
            trust_domain: parts.trust_domain,
            roots: parts.roots,
            captured_networks: parts.captured_networks,
            never_captured: parts.never_captured,
            lease_milliseconds: parts.lease_milliseconds,
            workloads: parts.workloads.into_iter().map(|row| (row.uid.clone(), row)).collect(),
            services: parts.services,
            enrolments: parts.enrolments.into_iter().map(|row| (row.uid.clone(), row)).collect(),
            by_address,
            by_service_address,
        }
    }

    /// Whose address this is now. A hint for telemetry and routing, never an identity.
    #[must_use]
    pub fn workload_at(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.get(self.by_address.get(&address)?)
    }

    /// What a connection to `address` is meant for.
    #[must_use]
    pub fn destination(&self, address: SocketAddr) -> Destination<'_> {
        if let Some(service) = self.by_service_address.get(&address.ip()).and_then(|index| self.services.get(*index)) {
            return match service.ports.iter().find(|port| port.port == address.port()) {
                Some(port) => Destination::Service { service, port },
                None => Destination::UnknownPort { service },
            };
        }
        self.workload_at(address.ip()).map_or(Destination::Foreign, Destination::Workload)
    }

    /// The workload behind an endpoint: by its uid, so that a re-used address is nobody else's.
    #[must_use]
    pub fn workload_of(&self, endpoint: &Endpoint) -> Option<&Arc<Workload>> {
        self.workloads.get(endpoint.workload.as_ref()?)
    }

    /// Service addresses and ports without a usable endpoint: the kernel refuses these at once.
    pub fn empty_service_ports(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.services.iter().flat_map(|service| {
            service.ports.iter().filter(|port| port.endpoints.is_empty()).flat_map(move |port| {
                service.addresses.iter().map(move |address| SocketAddr::new(*address, port.port))
            })
        })
    }
}
