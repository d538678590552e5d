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
