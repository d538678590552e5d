//! Which endpoints may serve a connection. Pure.

use std::net::SocketAddr;

use weft_proto::names::NamespacedName;

use crate::error::{ConnectionError, Reason, Side};
use crate::model::{Destination, Endpoint, Enrolment, Snapshot};

/// The candidates for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// None for a pod's own address and for what the mesh does not know.
    pub service: Option<NamespacedName>,
    pub port: u16,
    /// The port declares a protocol, so nobody has to find out which side speaks first.
    pub declared: bool,
    pub endpoints: Vec<Endpoint>,
    /// The source pod's policy forbids plaintext.
    pub require_mesh_tls: bool,
}

/// Decides what `asked` means for a pod that is enrolled like this.
pub fn choose(snapshot: &Snapshot, source: &Enrolment, asked: SocketAddr) -> Result<Route, ConnectionError> {
    let route = |service, declared, endpoints| Route {
        service,
        port: asked.port(),
        declared,
        endpoints,
        require_mesh_tls: source.require_mesh_tls,
    };
    let direct = |workload| vec![Endpoint { address: asked, workload }];
    match snapshot.destination(asked) {
        Destination::Service { service, port } if port.endpoints.is_empty() => Err(no_endpoint(&service.name, asked)),
        Destination::Service { service, port } => {
            Ok(route(Some(service.name.clone()), !port.app_protocol.is_empty(), port.endpoints.clone()))
        }
        Destination::UnknownPort { service } => Err(no_endpoint(&service.name, asked).with_detail(format!(
            "Service {} has no port {}",
            service.name,
            asked.port()
        ))),
        Destination::Workload(workload) => Ok(route(None, false, direct(Some(workload.uid.clone())))),
        Destination::Foreign => Ok(route(None, false, direct(None))),
    }
}

fn no_endpoint(service: &NamespacedName, asked: SocketAddr) -> ConnectionError {
    ConnectionError::new(Side::Local, Reason::NoEndpoint)
        .with_detail(format!("no endpoint of Service {service} is ready for port {}", asked.port()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Authentication, FailureMode, MtlsMode, Parts, Service, ServicePort, SnapshotVersion, Workload};

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
            excluded_inbound_ports: Vec::new(),
            not_capturable: None,
        })
    }

    fn port(port: u16, app_protocol: &str, endpoints: &[&str]) -> ServicePort {
        let endpoint = |address: &&str| Endpoint { address: address.parse().unwrap(), workload: None };
        let endpoints = endpoints.iter().map(endpoint).collect();
        ServicePort { port, name: "".into(), app_protocol: app_protocol.into(), endpoints }
    }

    fn source() -> Enrolment {
        Enrolment {
            uid: "client".parse().unwrap(),
            netns: "/proc/1/ns/net".into(),
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
            policies: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn chosen(asked: &str) -> Result<Route, Reason> {
        let web = Service {
            name: "shop/web".parse().unwrap(),
            addresses: vec!["10.96.0.1".parse().unwrap()],
            ports: vec![port(80, "", &["10.1.0.1:8080"]), port(25, "tcp", &["10.1.0.1:2525"]), port(81, "", &[])],
        };
        let snapshot = Snapshot::new(Parts {
            version: SnapshotVersion("1".into()),
            workloads: vec![pod("web", "10.1.0.1")],
            services: vec![Arc::new(web)],
            ..Parts::empty()
        });
        choose(&snapshot, &source(), asked.parse().unwrap()).map_err(|error| error.reason)
    }

    #[test]
    fn a_service_port_leads_to_its_endpoints() {
        let route = chosen("10.96.0.1:80").unwrap();
        assert_eq!(route.service, Some("shop/web".parse().unwrap()));
        assert_eq!(route.endpoints[0].address, "10.1.0.1:8080".parse().unwrap());
        assert!(!route.declared);
        assert!(chosen("10.96.0.1:25").unwrap().declared);
    }

    #[test]
    fn a_pod_address_leads_to_that_pod_and_a_foreign_one_to_itself() {
        let route = chosen("10.1.0.1:9999").unwrap();
        assert_eq!(route.endpoints[0].workload, Some("web".parse().unwrap()));
        assert_eq!(route.service, None);
        assert_eq!(chosen("10.1.0.9:1").unwrap().endpoints[0].workload, None);
    }

    #[test]
    fn no_endpoint_and_no_such_port_are_said() {
        assert_eq!(chosen("10.96.0.1:81"), Err(Reason::NoEndpoint));
        assert_eq!(chosen("10.96.0.1:82"), Err(Reason::NoEndpoint));
    }
}
