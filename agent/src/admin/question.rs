//! What a person's words mean in a snapshot: pods, applications, services and addresses. Pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;

use super::asked::AskedRequest;
use crate::model::{Destination, Endpoint, Service, Snapshot, Workload};
use crate::telemetry::Security;

/// `weft why SOURCE DESTINATION`.
#[derive(Debug, Clone)]
pub struct Question {
    /// `namespace/pod`, `namespace/application`, or an address.
    pub source: String,
    /// The same, or a service: `namespace/name`, `name.namespace`, `name.namespace.svc...`; perhaps with `:port`.
    pub destination: String,
    pub port: Option<u16>,
    /// What the source's side would speak, where the asker knows it already from another agent.
    pub security: Option<Security>,
    /// None: the connection as such is meant.
    pub request: Option<AskedRequest>,
}

/// Words that mean nothing here, with what might have been meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{problem}")]
pub struct Unresolved {
    pub problem: String,
}

fn unresolved(problem: impl Into<String>) -> Unresolved {
    Unresolved { problem: problem.into() }
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Source {
    /// One of the mesh's pods; `also` counts further ones that the words mean.
    Workload { row: Arc<Workload>, also: usize },
    /// An address that no workload of the mesh has.
    Stranger(IpAddr),
}

impl Source {
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Workload { row, .. } => row.name.to_string(),
            Self::Stranger(address) => address.to_string(),
        }
    }

    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Workload { row, .. } => row.addresses.first().copied(),
            Self::Stranger(address) => Some(*address),
        }
    }

    #[must_use]
    pub fn row(&self) -> Option<&Arc<Workload>> {
        match self {
            Self::Workload { row, .. } => Some(row),
            Self::Stranger(_) => None,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Target {
    /// `asked` is None for a headless service.
    Service {
        service: Arc<Service>,
        port: u16,
        asked: Option<SocketAddr>,
        endpoints: Vec<Endpoint>,
    },
    UnknownPort {
        service: Arc<Service>,
        port: u16,
    },
    Workload {
        row: Arc<Workload>,
        asked: SocketAddr,
    },
    Foreign(SocketAddr),
}

impl Target {
    #[must_use]
    pub fn asked(&self) -> Option<SocketAddr> {
        match self {
            Self::Service { asked, .. } => *asked,
            Self::UnknownPort { service, port } => {
                service.addresses.first().map(|address| SocketAddr::new(*address, *port))
            }
            Self::Workload { asked, .. } | Self::Foreign(asked) => Some(*asked),
        }
    }

    /// Where a connection could end, with the port of the pod.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        match self {
            Self::Service { endpoints, .. } => endpoints.clone(),
            Self::UnknownPort { .. } => Vec::new(),
            Self::Workload { row, asked } => vec![Endpoint { address: *asked, workload: Some(row.uid.clone()) }],
            Self::Foreign(asked) => vec![Endpoint { address: *asked, workload: None }],
        }
    }

    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Service { service, port, .. } | Self::UnknownPort { service, port } => {
                format!("{}:{port}", service.name)
            }
            Self::Workload { row, asked } => format!("{}:{}", row.name, asked.port()),
            Self::Foreign(asked) => asked.to_string(),
        }
    }
}

/// Finds the source.
pub fn source(snapshot: &Snapshot, words: &str) -> Result<Source, Unresolved> {
    if let Ok(address) = words.parse::<IpAddr>() {
        let row = snapshot.workload_at(address).cloned();
        return Ok(row.map_or(Source::Stranger(address), |row| Source::Workload { row, also: 0 }));
    }
    let mut rows = workloads(snapshot, words).into_iter();
    match rows.next() {
        Some(row) => Ok(Source::Workload { row, also: rows.len() }),
        None => Err(unresolved(format!(
            "no pod is called {words:?} in the snapshot of this node; name it as NAMESPACE/POD, NAMESPACE/APPLICATION or by its address{}",
            hint(snapshot, words)
        ))),
    }
}

/// Finds the destination.
pub fn target(snapshot: &Snapshot, question: &Question) -> Result<Target, Unresolved> {
    let (words, port) = split_port(&question.destination)?;
    let port = question.port.or(port);
    if let Ok(address) = words.parse::<IpAddr>() {
        return at_address(snapshot, address, port);
    }
    let named = service_names(words);
    let service = snapshot.services.iter().find(|service| named.contains(&service.name.to_string()));
    if let Some(service) = service.filter(|service| !is_only_a_pods(snapshot, service, words, port)) {
        return of_service(service, port);
    }
    let row = workloads(snapshot, words).into_iter().next().ok_or_else(|| {
        unresolved(format!(
            "no service and no pod is called {words:?} in the snapshot of this node; name it as NAMESPACE/NAME:PORT, NAME.NAMESPACE:PORT or ADDRESS:PORT{}",
            hint(snapshot, words)
        ))
    })?;
    let port =
        port.ok_or_else(|| unresolved(format!("{} is a pod: name a port, as in {}:8080", row.name, row.name)))?;
    let address = row.addresses.first().ok_or_else(|| unresolved(format!("{} has no address (any more)", row.name)))?;
    Ok(Target::Workload { asked: SocketAddr::new(*address, port), row })
}

fn at_address(snapshot: &Snapshot, address: IpAddr, port: Option<u16>) -> Result<Target, Unresolved> {
    let by_address = |service: &&Arc<Service>| service.every_address().any(|(own, _)| own == address);
    let Some(port) = port else {
        return match snapshot.services.iter().find(by_address) {
            Some(service) => of_service(service, None),
            None => Err(unresolved(format!("name a port, as in {}", SocketAddr::new(address, 80)))),
        };
    };
    let asked = SocketAddr::new(address, port);
    Ok(match snapshot.destination(asked) {
        Destination::Service { service, port, endpoints } => Target::Service {
            service: Arc::new(service.clone()),
            port: port.port,
            asked: Some(asked),
            endpoints: endpoints.to_vec(),
        },
        Destination::UnknownPort { service } => Target::UnknownPort { service: Arc::new(service.clone()), port },
        Destination::Workload(row) => Target::Workload { row: Arc::clone(row), asked },
        Destination::Foreign => Target::Foreign(asked),
    })
}

fn of_service(service: &Arc<Service>, port: Option<u16>) -> Result<Target, Unresolved> {
    let wanted = match (port, service.ports.as_slice()) {
        (Some(port), _) => port,
        (None, [only]) => only.port,
        (None, ports) => {
            let listed: Vec<_> = ports.iter().map(|port| port.port.to_string()).collect();
            return Err(unresolved(format!(
                "{} has the ports {}: name one, as in {}:{}",
                service.name,
                listed.join(", "),
                service.name,
                listed.first().map_or("80", String::as_str)
            )));
        }
    };
    let service = Arc::clone(service);
    Ok(match service.ports.iter().find(|port| port.port == wanted) {
        Some(port) => {
            let asked = service.every_address().next().map(|(address, _)| SocketAddr::new(address, wanted));
            let endpoints = match service.every_address().next() {
                Some((address, external)) => port.behind(address, external),
                None => port.nearest(),
            };
            let endpoints = endpoints.to_vec();
            Target::Service { port: wanted, asked, endpoints, service }
        }
        None => Target::UnknownPort { service, port: wanted },
    })
}

/// A port that a service lacks is meant for the pod, where one has the same name.
fn is_only_a_pods(snapshot: &Snapshot, service: &Service, words: &str, port: Option<u16>) -> bool {
    let lacks = port.is_some_and(|port| service.ports.iter().all(|other| other.port != port));
    lacks && snapshot.workloads.values().any(|row| *row.name == *words)
}

/// The pods that `namespace/name` means: the pod of that name, else the pods of that application, by name.
fn workloads(snapshot: &Snapshot, words: &str) -> Vec<Arc<Workload>> {
    if let Some(row) = snapshot.workloads.values().find(|row| *row.name == *words) {
        return vec![Arc::clone(row)];
    }
    let Some((namespace, application)) = words.split_once('/') else {
        return Vec::new();
    };
    let is_meant = |row: &&Arc<Workload>| {
        *row.application == *application && row.name.split_once('/').is_some_and(|(of, _)| of == namespace)
    };
    let mut rows: Vec<_> = snapshot.workloads.values().filter(is_meant).map(Arc::clone).collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// `web.shop`, `web.shop.svc.cluster.local` and `shop/web` are the same service.
fn service_names(words: &str) -> Vec<String> {
    if words.contains('/') {
        return vec![words.to_owned()];
    }
    let mut labels = words.split('.');
    match (labels.next(), labels.next(), labels.next()) {
        (Some(name), Some(namespace), None | Some("svc")) => vec![format!("{namespace}/{name}")],
        _ => Vec::new(),
    }
}

/// `name:80`, `10.0.0.1:80`, `[fd00::1]:80`, or without a port.
fn split_port(words: &str) -> Result<(&str, Option<u16>), Unresolved> {
    if words.parse::<IpAddr>().is_ok() {
        return Ok((words, None));
    }
    let Some((host, port)) = words.rsplit_once(':') else {
        return Ok((words, None));
    };
    let port = port.parse().map_err(|_| unresolved(format!("{port:?} is not a port")))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), Some(port)))
}

/// Names that contain what was asked for, so that a typing mistake costs one look.
fn hint(snapshot: &Snapshot, words: &str) -> String {
    let part = words.rsplit('/').next().unwrap_or(words).split('.').next().unwrap_or(words);
    if part.is_empty() {
        return String::new();
    }
    let pods = snapshot.workloads.values().map(|row| row.name.to_string());
    let services = snapshot.services.iter().map(|service| service.name.to_string());
    let mut similar: Vec<_> = pods.chain(services).filter(|name| name.contains(part)).collect();
    similar.sort();
    similar.dedup();
    similar.truncate(3);
    if similar.is_empty() { String::new() } else { format!(" (did you mean {}?)", similar.join(", ")) }
}
