//! What a destination means, and which endpoints may serve a connection to it. Pure.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use weft_proto::names::{Namespace, NamespacedName};

use crate::error::{ConnectionError, Reason, Side};
use crate::model::{
    BackendTarget, ConnectionRoutes, Destination, Endpoint, Enrolment, PortRoutes, ServicePort, Snapshot,
};
use crate::wire::Protocol;

/// What every endpoint of a destination is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// None for a pod's own address and for what the mesh does not know.
    pub service: Option<NamespacedName>,
    pub port: u16,
    /// What travels on the connection; undeclared where whoever speaks first decides.
    pub protocol: Protocol,
    /// The source pod's policy forbids plaintext.
    pub require_mesh_tls: bool,
    /// The source pod goes on without a certificate.
    pub outlives_certificate: bool,
}

/// The candidates for one connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates<'a> {
    pub target: Target,
    pub endpoints: Vec<Endpoint>,
    /// The client keeps its endpoint for so long.
    pub affinity: Option<Duration>,
    pub carriage: Carriage<'a>,
    /// What the client dialled.
    asked: SocketAddr,
}

/// How a connection is carried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Carriage<'a> {
    /// As a whole, unless its first bytes say otherwise.
    Whole,
    /// Each request has a way of its own: routes say so, or the port is declared to be HTTP.
    ByRequest,
    /// As a whole, to where these routes lead and not to the port's own endpoints.
    ByRoute(&'a ConnectionRoutes),
}

/// Decides what `asked` means for a pod of `client`'s namespace that is enrolled like this.
pub fn choose<'a>(
    snapshot: &'a Snapshot,
    source: &Enrolment,
    client: Option<&Namespace>,
    asked: SocketAddr,
) -> Result<Candidates<'a>, ConnectionError> {
    let target = |service, protocol| Target {
        service,
        port: asked.port(),
        protocol,
        require_mesh_tls: source.require_mesh_tls,
        outlives_certificate: source.outlives_its_certificate(),
    };
    let direct = |workload| Candidates {
        target: target(None, Protocol::Undeclared),
        endpoints: vec![Endpoint { address: asked, workload }],
        affinity: None,
        carriage: Carriage::Whole,
        asked,
    };
    match snapshot.destination(asked) {
        Destination::Service { service, port, endpoints } => {
            let routes = client.and_then(|client| snapshot.routes(&service.name, port.port, client));
            let protocol = declared(&port.app_protocol);
            let carriage = match (routes, protocol) {
                (Some(PortRoutes::Connections(routes)), _) => Carriage::ByRoute(routes),
                (Some(PortRoutes::Requests(_)), _) | (None, Protocol::Http1 | Protocol::Http2) => Carriage::ByRequest,
                (None, Protocol::Undeclared | Protocol::Opaque) => Carriage::Whole,
            };
            if endpoints.is_empty() && carriage == Carriage::Whole {
                return Err(no_endpoint(&service.name, asked.port()));
            }
            let target = target(Some(service.name.clone()), protocol);
            Ok(Candidates { target, endpoints: endpoints.to_vec(), affinity: port.affinity, carriage, asked })
        }
        Destination::UnknownPort { service } => Err(no_endpoint(&service.name, asked.port()).with_detail(format!(
            "Service {} has no port {}",
            service.name,
            asked.port()
        ))),
        Destination::Workload(workload) => Ok(direct(Some(workload.uid.clone()))),
        Destination::Foreign => Ok(direct(None)),
    }
}

/// The words of a Service port's `appProtocol`, as the controller writes them.
#[must_use]
pub fn declared(app_protocol: &str) -> Protocol {
    match app_protocol {
        "" => Protocol::Undeclared,
        "http" => Protocol::Http1,
        "http2" | "grpc" => Protocol::Http2,
        _ => Protocol::Opaque,
    }
}

pub fn no_endpoint(service: &NamespacedName, port: u16) -> ConnectionError {
    ConnectionError::new(Side::Local, Reason::NoEndpoint)
        .with_detail(format!("no endpoint of {} is ready for port {port}", service.backend_title()))
}

/// The Service port that a route's backend means. `who` leads there.
pub fn backend_port<'a>(
    snapshot: &'a Snapshot,
    target: &'a BackendTarget,
    who: impl Display,
) -> Result<(&'a NamespacedName, &'a ServicePort), ConnectionError> {
    match target {
        BackendTarget::Invalid(why) => Err(broken(&**why)),
        BackendTarget::Service { service, port } => {
            let row = snapshot.service_port(service, *port);
            let missing = || broken(format!("{who} leads to {}, which has no port {port}", service.backend_title()));
            Ok((service, row.ok_or_else(missing)?))
        }
    }
}

pub fn broken(why: impl Into<String>) -> ConnectionError {
    ConnectionError::new(Side::Local, Reason::BrokenRoute).with_detail(why)
}

impl Candidates<'_> {
    /// To a route's backend in place of the port that was asked for. Nobody looks for requests in it: each of them would have
    /// a way of its own.
    pub fn lead_to(&mut self, service: &NamespacedName, port: &ServicePort) -> Result<(), ConnectionError> {
        let endpoints = port.instead_of(self.asked.ip());
        if endpoints.is_empty() {
            return Err(no_endpoint(service, port.port));
        }
        self.target.service = Some(service.clone());
        self.target.port = port.port;
        self.target.protocol = Protocol::Opaque;
        self.endpoints = endpoints.to_vec();
        self.affinity = port.affinity;
        self.carriage = Carriage::Whole;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Aliases, Authentication, FailureMode, MtlsMode, Parts, Service, ServicePort, SnapshotVersion, Workload,
    };

    fn pod(uid: &str, address: &str) -> Arc<Workload> {
        Arc::new(Workload {
            uid: uid.parse().unwrap(),
            name: format!("shop/{uid}").into(),
            application: uid.into(),
            identity: Some("spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()),
            node: None,
            addresses: vec![address.parse().unwrap()],
            mesh_capable: true,
            plaintext_permitted: false,
            mtls: MtlsMode::Permissive,
            takes_plaintext: true,
            excluded_inbound_ports: Vec::new(),
            not_capturable: None,
        })
    }

    fn port(port: u16, app_protocol: &str, endpoints: &[&str]) -> ServicePort {
        let endpoint = |address: &&str| Endpoint { address: address.parse().unwrap(), workload: None };
        let endpoints = endpoints.iter().map(endpoint).collect();
        ServicePort {
            port,
            name: "".into(),
            app_protocol: app_protocol.into(),
            endpoints,
            local: None,
            affinity: None,
            aliases: Aliases::default(),
        }
    }

    fn source() -> Enrolment {
        Enrolment {
            uid: "client".parse().unwrap(),
            netns: None,
            on_agent_failure: FailureMode::Open,
            authentication: Authentication {
                default: MtlsMode::Permissive,
                ports: Vec::new(),
                exemptions: Vec::new(),
                decided_by: "default".into(),
            },
            require_mesh_tls: false,
            excluded_inbound_ports: Vec::new(),
            excluded_outbound_ports: Vec::new(),
            excluded_outbound_networks: Vec::new(),
            probe_ports: Vec::new(),
            policies: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn chosen(asked: &str) -> Result<(Target, Vec<Endpoint>), Reason> {
        let web = Service {
            name: "shop/web".parse().unwrap(),
            addresses: vec!["10.96.0.1".parse().unwrap()],
            external_addresses: vec!["203.0.113.1".parse().unwrap()],
            ports: vec![port(80, "", &["10.1.0.1:8080"]), port(25, "tcp", &["10.1.0.1:2525"]), port(81, "", &[])],
        };
        let snapshot = Snapshot::new(Parts {
            version: SnapshotVersion("1".into()),
            workloads: vec![pod("web", "10.1.0.1")],
            services: vec![Arc::new(web)],
            ..Parts::empty()
        });
        choose(&snapshot, &source(), Some(&"shop".parse().unwrap()), asked.parse().unwrap())
            .map(|found| (found.target, found.endpoints))
            .map_err(|error| error.reason)
    }

    #[test]
    fn a_service_port_leads_to_its_endpoints() {
        let (target, endpoints) = chosen("10.96.0.1:80").unwrap();
        assert_eq!(target.service, Some("shop/web".parse().unwrap()));
        assert_eq!(endpoints[0].address, "10.1.0.1:8080".parse().unwrap());
        assert_eq!(target.protocol, Protocol::Undeclared);
        assert_eq!(chosen("10.96.0.1:25").unwrap().0.protocol, Protocol::Opaque);
        assert_eq!(chosen("203.0.113.1:80").unwrap().0.service, Some("shop/web".parse().unwrap()));
    }

    #[test]
    fn a_pod_address_leads_to_that_pod_and_a_foreign_one_to_itself() {
        let (target, endpoints) = chosen("10.1.0.1:9999").unwrap();
        assert_eq!(endpoints[0].workload, Some("web".parse().unwrap()));
        assert_eq!(target.service, None);
        assert_eq!(chosen("10.1.0.9:1").unwrap().1[0].workload, None);
    }

    #[test]
    fn no_endpoint_and_no_such_port_are_said() {
        assert_eq!(chosen("10.96.0.1:81"), Err(Reason::NoEndpoint));
        assert_eq!(chosen("10.96.0.1:82"), Err(Reason::NoEndpoint));
        assert_eq!(chosen("203.0.113.1:81"), Err(Reason::NoEndpoint));
        let (target, endpoints) = chosen("203.0.113.1:82").unwrap();
        assert_eq!((target.service, endpoints.len()), (None, 1), "a port of the host itself");
    }
}
