//! Services and their endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;
use weft_proto::names::{NamespacedName, WorkloadUid};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: NamespacedName,
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    pub port: u16,
    pub name: Arc<str>,
    pub app_protocol: Arc<str>,
    /// Usable ones only: ready, or serving while terminating where none is ready.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// None for an address that no workload owns.
    pub workload: Option<WorkloadUid>,
}
