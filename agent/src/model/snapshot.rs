//! One immutable state of the world.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use ipnet::IpNet;
use serde::Serialize;
use weft_proto::names::{Identity, Namespace, NamespacedName, TrustDomain, WorkloadUid};

use super::audience::PerPort;
use super::{
    Endpoint, Enrolment, FailureMode, PortRoutes, RetryBudget, Routes, Service, ServicePort, Traffic, Workload,
};

/// Names the set of resources that a snapshot was made of (`weft_proto::resource::snapshot_version`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct SnapshotVersion(pub Arc<str>);

impl SnapshotVersion {
    /// The version of a state that no controller has sent.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::from("none"))
    }

    /// False until a controller's state, now or kept on disk, is in force.
    #[must_use]
    pub fn is_known(&self) -> bool {
        &*self.0 != "none"
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    pub version: SnapshotVersion,
    pub trust_domain: TrustDomain,
    /// Other names of the same mesh, as long as certificates with them live.
    pub trust_domain_aliases: Vec<TrustDomain>,
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
    /// Those of them that are only looked at, as they would be captured. One that is in both is captured.
    pub observations: HashMap<WorkloadUid, Arc<Enrolment>>,
    /// Captured namespaces, and what becomes of their pods that no controller has told of.
    pub namespaces: HashMap<Namespace, FailureMode>,
    #[serde(skip)]
    by_address: HashMap<IpAddr, WorkloadUid>,
    #[serde(skip)]
    by_service_address: HashMap<IpAddr, Vec<Claim>>,
    #[serde(skip)]
    by_service_name: HashMap<NamespacedName, usize>,
    #[serde(skip)]
    routes: PerPort<PortRoutes>,
    #[serde(skip)]
    traffic: PerPort<Traffic>,
}

/// A Service whose address it is. Several may share an external one, with different ports.
#[derive(Debug, Clone, Copy)]
struct Claim {
    index: usize,
    external: bool,
}

/// What an original destination means.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    Service {
        service: &'a Service,
        port: &'a ServicePort,
        /// Those of the port that this address leads to.
        endpoints: &'a [Endpoint],
    },
    /// A Service's address with a port that it does not have.
    UnknownPort {
        service: &'a Service,
    },
    Workload(&'a Arc<Workload>),
    /// Nothing that the mesh knows.
    Foreign,
}

impl<'a> Destination<'a> {
    /// The Service that was asked for.
    #[must_use]
    pub const fn service(self) -> Option<&'a NamespacedName> {
        match self {
            Self::Service { service, .. } | Self::UnknownPort { service } => Some(&service.name),
            Self::Workload(_) | Self::Foreign => None,
        }
    }
}

/// The parts that a snapshot is made of, each already validated.
#[derive(Debug)]
pub struct Parts {
    pub version: SnapshotVersion,
    pub trust_domain: TrustDomain,
    /// Other names of the same mesh, as long as certificates with them live.
    pub trust_domain_aliases: Vec<TrustDomain>,
    pub roots: Arc<[Vec<u8>]>,
    pub captured_networks: Vec<IpNet>,
    pub never_captured: Vec<(IpAddr, Option<u16>)>,
    pub lease_milliseconds: u32,
    pub workloads: Vec<Arc<Workload>>,
    pub services: Vec<Arc<Service>>,
    pub enrolments: Vec<Arc<Enrolment>>,
    pub observations: Vec<Arc<Enrolment>>,
    pub namespaces: Vec<(Namespace, FailureMode)>,
    pub routes: Vec<Arc<PortRoutes>>,
    pub traffic: Vec<Arc<Traffic>>,
}

impl Parts {
    /// Nothing at all; what a test or the first moment starts from.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            version: SnapshotVersion::none(),
            trust_domain: default_trust_domain(),
            trust_domain_aliases: Vec::new(),
            roots: Arc::from([]),
            captured_networks: Vec::new(),
            never_captured: Vec::new(),
            lease_milliseconds: 0,
            workloads: Vec::new(),
            services: Vec::new(),
            enrolments: Vec::new(),
            observations: Vec::new(),
            namespaces: Vec::new(),
            routes: Vec::new(),
            traffic: Vec::new(),
        }
    }
}

impl Snapshot {
    /// What an agent knows that has heard nothing yet: no pod is captured, nobody is trusted.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(Parts::empty())
    }

    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let mut by_service_address: HashMap<IpAddr, Vec<Claim>> = HashMap::new();
        for (index, service) in parts.services.iter().enumerate() {
            for (address, external) in service.every_address() {
                by_service_address.entry(address).or_default().push(Claim { index, external });
            }
        }
        let by_address = owners(&parts.workloads);
        let names = parts.services.iter().enumerate().map(|(index, service)| (service.name.clone(), index));
        let by_service_name = names.collect();
        Self {
            version: parts.version,
            trust_domain: parts.trust_domain,
            trust_domain_aliases: parts.trust_domain_aliases,
            roots: parts.roots,
            captured_networks: parts.captured_networks,
            never_captured: parts.never_captured,
            lease_milliseconds: parts.lease_milliseconds,
            workloads: parts.workloads.into_iter().map(|row| (row.uid.clone(), row)).collect(),
            services: parts.services,
            enrolments: by_uid(parts.enrolments),
            observations: by_uid(parts.observations),
            namespaces: parts.namespaces.into_iter().collect(),
            by_address,
            by_service_address,
            by_service_name,
            routes: routes_by_port(parts.routes),
            traffic: traffic_by_port(parts.traffic),
        }
    }

    #[must_use]
    pub fn service(&self, name: &NamespacedName) -> Option<&Arc<Service>> {
        self.services.get(*self.by_service_name.get(name)?)
    }

    #[must_use]
    pub fn service_port(&self, name: &NamespacedName, port: u16) -> Option<&ServicePort> {
        self.service(name)?.ports.iter().find(|row| row.port == port)
    }

    /// The routes that `client`'s pods see at this port: its own consumer routes, else the producer's.
    #[must_use]
    pub fn routes(&self, service: &NamespacedName, port: u16, client: &Namespace) -> Option<&PortRoutes> {
        self.routes.of(service, port, client).map(AsRef::as_ref)
    }

    /// Those, if they are of requests.
    #[must_use]
    pub fn request_routes(&self, service: &NamespacedName, port: u16, client: &Namespace) -> Option<&Routes> {
        self.routes(service, port, client)?.of_requests()
    }

    /// How `client`'s pods are balanced over this port: as its own policy says, else the producer's, else the defaults.
    #[must_use]
    pub fn traffic(&self, service: &NamespacedName, port: u16, client: &Namespace) -> &Arc<Traffic> {
        self.traffic.of(service, port, client).unwrap_or_else(|| Traffic::unsaid())
    }

    /// What pays for retries of requests that were asked of a port: what their backend's own policy constrains them to, else
    /// the budget of what was asked for.
    #[must_use]
    pub fn retry_budget(
        &self,
        asked: &Traffic,
        backend: Option<(&NamespacedName, u16)>,
        client: &Namespace,
    ) -> RetryBudget {
        let own = backend.map(|(service, port)| self.traffic(service, port, client).retry_budget);
        own.filter(|budget| budget.refuses).unwrap_or(asked.retry_budget)
    }

    /// Whose address this is now. A hint for telemetry and routing, never an identity.
    #[must_use]
    pub fn workload_at(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.get(self.by_address.get(&address.to_canonical())?)
    }

    /// What a connection to `address` is meant for.
    #[must_use]
    pub fn destination(&self, address: SocketAddr) -> Destination<'_> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let mut known = None;
        for Claim { index, external } in self.by_service_address.get(&address.ip()).into_iter().flatten() {
            let Some(service) = self.services.get(*index) else { continue };
            if let Some(port) = service.ports.iter().find(|port| port.port == address.port()) {
                let endpoints = port.behind(address.ip(), *external);
                return Destination::Service { service, port, endpoints };
            }
            // Other ports of an external address are those of the host that it is.
            if !external {
                known = known.or(Some(service));
            }
        }
        if let Some(service) = known {
            return Destination::UnknownPort { service };
        }
        self.workload_at(address.ip()).map_or(Destination::Foreign, Destination::Workload)
    }

    /// The workload behind an endpoint: by its uid, so that a re-used address is nobody else's.
    #[must_use]
    pub fn workload_of(&self, endpoint: &Endpoint) -> Option<&Arc<Workload>> {
        self.workloads.get(endpoint.workload.as_ref()?)
    }

    /// Service addresses and ports without a usable endpoint: the kernel refuses these at once. Not those of routes, which
    /// may lead elsewhere, and answer each request.
    pub fn empty_service_ports(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.services.iter().flat_map(|service| {
            service.ports.iter().filter(|port| !self.routes.has(&service.name, port.port)).flat_map(move |port| {
                let empty =
                    service.every_address().filter(|(address, external)| port.behind(*address, *external).is_empty());
                empty.map(move |(address, _)| SocketAddr::new(address, port.port))
            })
        })
    }

    /// Service addresses and ports that may be outside of the captured networks.
    pub fn external_service_ports(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.services.iter().flat_map(|service| {
            let addresses = service.external_addresses.iter();
            addresses.flat_map(|address| service.ports.iter().map(|port| SocketAddr::new(*address, port.port)))
        })
    }

    /// The identity under the mesh's present name: policies and expectations are written in it, while certificates of a
    /// renamed mesh still carry an alias. None when it belongs to another mesh.
    #[must_use]
    pub fn canonical(&self, identity: &Identity) -> Option<Identity> {
        let ours =
            identity.trust_domain == self.trust_domain || self.trust_domain_aliases.contains(&identity.trust_domain);
        ours.then(|| Identity { trust_domain: self.trust_domain.clone(), ..identity.clone() })
    }
}

/// The trust domain of a mesh that names none. Harmless as long as no root is trusted.
#[must_use]
pub(crate) fn default_trust_domain() -> TrustDomain {
    #[expect(clippy::expect_used, reason = "a constant that a test reads")]
    "cluster.local".parse().expect("cluster.local is a name")
}

fn routes_by_port(list: Vec<Arc<PortRoutes>>) -> PerPort<PortRoutes> {
    let mut index = PerPort::default();
    for routes in list {
        let (service, port, audience) = routes.scope();
        index.insert(service, port, audience, Arc::clone(&routes));
    }
    index
}

fn traffic_by_port(list: Vec<Arc<Traffic>>) -> PerPort<Traffic> {
    let mut index = PerPort::default();
    for traffic in list {
        if let Some(of) = &traffic.of {
            index.insert(&of.service, of.port, of.audience.as_ref(), Arc::clone(&traffic));
        }
    }
    index
}

fn by_uid(rows: Vec<Arc<Enrolment>>) -> HashMap<WorkloadUid, Arc<Enrolment>> {
    rows.into_iter().map(|row| (row.uid.clone(), row)).collect()
}

/// Who owns each address. One that is claimed twice is nobody's: a stale claim must not steal another's connections.
fn owners(workloads: &[Arc<Workload>]) -> HashMap<IpAddr, WorkloadUid> {
    let mut claims: HashMap<IpAddr, Option<WorkloadUid>> = HashMap::new();
    for workload in workloads {
        for address in &workload.addresses {
            claims
                .entry(*address)
                .and_modify(|owner| {
                    if owner.as_ref() != Some(&workload.uid) {
                        *owner = None;
                    }
                })
                .or_insert_with(|| Some(workload.uid.clone()));
        }
    }
    claims.into_iter().filter_map(|(address, owner)| Some((address, owner?))).collect()
}
