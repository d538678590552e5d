//! Workload rows, and Services with their endpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use weft_policy::ReadError;
use weft_proto::names::{Identity, NamespacedName, WorkloadUid};
use weft_proto::v1;

use super::Domains;
use super::fields::{address, addresses, mtls, name, port, ports, problem, same};
use crate::model::{Endpoint, Service, ServicePort, Workload};

pub fn read(uid: &str, row: &v1::Workload, domains: &Domains) -> Result<Workload, ReadError> {
    let own_uid: WorkloadUid = name("uid", uid)?;
    same("uid", &name::<WorkloadUid>("uid", &row.uid)?, &own_uid)?;
    let own_name = NamespacedName::new(&row.namespace, &row.name).map_err(|error| problem("name", error))?;
    let identity = match row.service_account.as_str() {
        "" => None,
        account => Some(
            Identity::new(&domains.name, &row.namespace, account).map_err(|error| problem("service_account", error))?,
        ),
    };
    let node = match row.node.as_str() {
        "" => None,
        node => Some(name("node", node)?),
    };
    let own_name: Arc<str> = Arc::from(own_name.to_string());
    let application = match row.application.as_str() {
        "" => Arc::clone(&own_name),
        application => Arc::from(application),
    };
    Ok(Workload {
        uid: own_uid,
        name: own_name,
        application,
        identity,
        node,
        addresses: addresses("addresses", &row.addresses)?,
        mesh_capable: row.mesh_capable,
        plaintext_permitted: row.plaintext_permitted,
        mtls: mtls("mtls", row.mtls)?,
        excluded_inbound_ports: ports("excluded_inbound_ports", &row.excluded_inbound_ports)?,
        not_capturable: (!row.not_capturable.is_empty()).then(|| Arc::from(row.not_capturable.as_str())),
    })
}

pub fn read_service(resource: &str, row: &v1::Service) -> Result<Service, ReadError> {
    let own_name: NamespacedName = name("name", resource)?;
    let inside = NamespacedName::new(&row.namespace, &row.name).map_err(|error| problem("name", error))?;
    same("name", &inside, &own_name)?;
    Ok(Service {
        name: own_name,
        addresses: addresses("addresses", &row.addresses)?,
        ports: row.ports.iter().map(read_port).collect::<Result<_, _>>()?,
    })
}

/// The Service without any endpoint, so that its connections are refused and go nowhere else. None when it has no name.
pub fn safe_service(resource: &str, row: &v1::Service) -> Option<Service> {
    let ports = row.ports.iter().filter_map(|written| {
        let port = port("ports", written.port).ok()?;
        Some(ServicePort { port, name: Arc::from(""), app_protocol: Arc::from(""), endpoints: Vec::new() })
    });
    Some(Service {
        name: resource.parse().ok()?,
        addresses: row.addresses.iter().filter_map(|bytes| address("addresses", bytes).ok()).collect(),
        ports: ports.collect(),
    })
}

fn read_port(written: &v1::ServicePort) -> Result<ServicePort, ReadError> {
    let own = port("ports.port", written.port)?;
    let field = format!("ports[{own}].endpoints");
    let endpoint = |written: &v1::Endpoint| {
        let workload = match written.workload.as_str() {
            "" => None,
            uid => Some(name(&field, uid)?),
        };
        let address = SocketAddr::new(address(&field, &written.address)?, port(&field, written.port)?);
        Ok(Endpoint { address, workload })
    };
    Ok(ServicePort {
        port: own,
        name: Arc::from(written.name.as_str()),
        app_protocol: Arc::from(written.app_protocol.as_str()),
        endpoints: written.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?,
    })
}
