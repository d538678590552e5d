//! Where one request goes (the route's rule, one of its backends, its endpoints), and what is done to it on the way. Pure, but for the backend that chance names.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::request::Parts;
use jiff::Timestamp;
use weft_proto::names::{Namespace, NamespacedName, WorkloadUid};

use crate::balance::Affinity;
use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::is_grpc;
use crate::http::canonical::Canonical;
use crate::http::cors::Sharing;
use crate::http::matching::Chosen;
use crate::http::session::Session;
use crate::http::{Version, split};
use crate::model::{
    Backend, BackendTarget, Destination, Endpoint, Enrolment, Filter, RetryBudget, RetryPolicy, RouteKind, RouteRule,
    Routes, ServicePort, Snapshot, Traffic,
};
use crate::telemetry::RequestRecord;
use crate::wire::Protocol;

use super::conversation::Conversation;
use super::destination::{Target, backend_port, broken, declared, no_endpoint};
use super::send::Plan;

/// The decision about one request.
pub struct Route<'a> {
    pub chosen: Option<Chosen<'a>>,
    /// What the client has asked for.
    destination: Destination<'a>,
    backend: Option<&'a Backend>,
    /// The Service and port that the endpoints are of; None for an address without one.
    of: Option<(&'a NamespacedName, &'a ServicePort)>,
    endpoints: Cow<'a, [Endpoint]>,
    /// The client keeps its endpoint for so long.
    affinity: Option<Duration>,
    client: WorkloadUid,
    traffic: &'a Traffic,
    retry_budget: RetryBudget,
    pub version: Version,
    grpc: bool,
    source: Arc<Enrolment>,
    asked: SocketAddr,
}

/// The routes of the port that was asked for, as the client's namespace sees them.
pub fn routes<'a>(conversation: &Conversation, snapshot: &'a Snapshot) -> Option<&'a Routes> {
    match snapshot.destination(conversation.asked) {
        Destination::Service { service, port, .. } => {
            snapshot.request_routes(&service.name, port.port, conversation.namespace.as_ref()?)
        }
        Destination::UnknownPort { .. } | Destination::Workload(_) | Destination::Foreign => None,
    }
}

/// The rule of the routes that fits, if there are routes. Nothing has been sent anywhere yet: [`Route::lead`] says where to.
pub fn choose<'a>(
    conversation: &Conversation,
    snapshot: &'a Snapshot,
    routes: Option<&'a Routes>,
    canonical: &Canonical,
    head: &Parts,
) -> Result<Route<'a>, ConnectionError> {
    let grpc = is_grpc(&head.headers) || routes.is_some_and(|routes| routes.kind == RouteKind::Grpc);
    let chosen = match routes {
        Some(routes) => {
            let chosen = routes.choose(canonical, &head.headers);
            Some(chosen.ok_or_else(|| no_route(&routes.service, canonical))?)
        }
        None => None,
    };
    Ok(Route::begin(conversation, snapshot, chosen, grpc))
}

/// Where a copy of a request goes.
pub fn to_mirror<'a>(
    conversation: &Conversation,
    snapshot: &'a Snapshot,
    target: &'a BackendTarget,
    headers: &HeaderMap,
) -> Result<Route<'a>, ConnectionError> {
    let mut route = Route::begin(conversation, snapshot, None, is_grpc(headers));
    route.target(snapshot, target, "its mirror")?;
    Ok(route)
}

fn direct<'a>(asked: SocketAddr, workload: Option<WorkloadUid>) -> Cow<'a, [Endpoint]> {
    Cow::Owned(vec![Endpoint { address: asked, workload }])
}

fn no_route(service: &NamespacedName, canonical: &Canonical) -> ConnectionError {
    ConnectionError::new(Side::Local, Reason::NoRoute).with_detail(format!(
        "no rule of the routes of Service {service} fits {} {}",
        canonical.method(),
        canonical.path()
    ))
}

impl<'a> Route<'a> {
    fn begin(conversation: &Conversation, snapshot: &'a Snapshot, chosen: Option<Chosen<'a>>, grpc: bool) -> Self {
        Self {
            chosen,
            destination: snapshot.destination(conversation.asked),
            backend: None,
            of: None,
            endpoints: Cow::Borrowed(&[]),
            affinity: None,
            client: conversation.pod.uid.clone(),
            traffic: Traffic::unsaid(),
            retry_budget: RetryBudget::default(),
            version: if grpc { Version::Http2 } else { conversation.version },
            grpc,
            source: conversation.pod.enrolment(snapshot),
            asked: conversation.asked,
        }
    }

    /// What answers say of other origins, if the rule says anything.
    pub fn sharing(&self, canonical: &Canonical, head: &Parts) -> Option<Sharing<'a>> {
        Sharing::of(&self.chosen?, canonical, &head.headers)
    }

    /// The endpoints that may serve the request: of one backend of the rule, by its weight, or of what was asked for.
    pub fn lead(&mut self, snapshot: &'a Snapshot, client: Option<&Namespace>) -> Result<(), ConnectionError> {
        match (self.destination, self.chosen) {
            (Destination::Service { service, port, endpoints }, chosen) => {
                if let Some(client) = client {
                    self.traffic = snapshot.traffic(&service.name, port.port, client);
                }
                match chosen {
                    Some(chosen) => self.follow(snapshot, chosen)?,
                    None => self.lead_to(&service.name, port, endpoints)?,
                }
                if let Some(client) = client {
                    let of = self.of.map(|(service, port)| (service, port.port));
                    self.retry_budget = snapshot.retry_budget(self.traffic, of, client);
                }
                Ok(())
            }
            (Destination::UnknownPort { service }, _) => Err(no_endpoint(&service.name, self.asked.port())),
            (Destination::Workload(workload), _) => {
                self.endpoints = direct(self.asked, Some(workload.uid.clone()));
                Ok(())
            }
            (Destination::Foreign, _) => {
                self.endpoints = direct(self.asked, None);
                Ok(())
            }
        }
    }

    /// These endpoints of a Service port, in the protocol that it declares.
    fn lead_to(
        &mut self,
        service: &'a NamespacedName,
        port: &'a ServicePort,
        endpoints: &'a [Endpoint],
    ) -> Result<(), ConnectionError> {
        self.of = Some((service, port));
        self.affinity = port.affinity;
        if endpoints.is_empty() {
            return Err(no_endpoint(service, port.port));
        }
        self.endpoints = Cow::Borrowed(endpoints);
        match declared(&port.app_protocol) {
            Protocol::Http2 => self.version = Version::Http2,
            // gRPC has no other form than HTTP/2, whatever a port is called.
            Protocol::Http1 if !self.grpc => self.version = Version::Http1,
            Protocol::Http1 | Protocol::Opaque | Protocol::Undeclared => {}
        }
        Ok(())
    }

    fn follow(&mut self, snapshot: &'a Snapshot, chosen: Chosen<'a>) -> Result<(), ConnectionError> {
        if chosen.rule.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_))) {
            return Ok(());
        }
        let backend = split::pick(&chosen.rule.backends, &mut rand::rng()).map_err(|why| broken(why.to_string()))?;
        self.backend = Some(backend);
        self.target(snapshot, &backend.target, chosen.rule)
    }

    fn target(
        &mut self,
        snapshot: &'a Snapshot,
        target: &'a BackendTarget,
        who: impl Display,
    ) -> Result<(), ConnectionError> {
        let (service, row) = backend_port(snapshot, target, who)?;
        self.lead_to(service, row, row.instead_of(self.asked.ip()))
    }

    /// The Service and port that the endpoints are of.
    pub fn backend_port(&self) -> Option<(NamespacedName, u16)> {
        self.of.map(|(service, port)| (service.clone(), port.port))
    }

    pub fn filters(&self) -> impl Iterator<Item = &'a [Filter]> + use<'a> {
        let rule = self.chosen.map(|chosen| chosen.rule.filters.as_slice());
        rule.into_iter().chain(self.backend.map(|backend| backend.filters.as_slice()))
    }

    fn rule(&self) -> Option<&'a RouteRule> {
        self.chosen.map(|chosen| &**chosen.rule)
    }

    pub fn retry(&self) -> Option<&'a RetryPolicy> {
        self.rule().and_then(|rule| rule.retry.as_ref()).or(self.traffic.retry.as_ref())
    }

    /// What the request's client has shown of its session, if its backend or the rule keeps any.
    pub fn session(&self, headers: &HeaderMap, now: impl FnOnce() -> Timestamp) -> Option<Session<'a>> {
        let own = self.backend.and_then(|backend| backend.session.as_ref());
        let persistence = own.or(self.rule()?.session.as_ref())?;
        let (service, port) = self.of?;
        Some(Session::of(persistence, (service, port.port), headers, now()))
    }

    /// The place of its endpoint, if that is still one.
    pub fn place_of(&self, session: &Session<'_>) -> Option<usize> {
        let (_, port) = self.of?;
        session.endpoints().find_map(|alias| port.place_of(alias, &self.endpoints))
    }

    /// For the whole request.
    pub fn request_timeout(&self) -> Option<Duration> {
        self.rule().and_then(|rule| rule.request_timeout).or(self.traffic.request_timeout)
    }

    pub fn plan(&'a self, snapshot: &'a Snapshot, started: Instant) -> Plan<'a> {
        Plan {
            snapshot,
            target: Target {
                service: self.of.map(|(service, _)| service.clone()),
                port: self.of.map_or(self.asked.port(), |(_, port)| port.port),
                protocol: self.version.into(),
                require_mesh_tls: self.source.require_mesh_tls,
                outlives_certificate: self.source.outlives_its_certificate(),
            },
            endpoints: &self.endpoints,
            session: None,
            affinity: self.of.zip(self.affinity).map(|((service, port), timeout)| Affinity {
                client: &self.client,
                service,
                port: port.port,
                timeout,
            }),
            version: self.version,
            traffic: self.traffic,
            retry: self.retry(),
            retry_budget: self.retry_budget,
            deadline: self.request_timeout().and_then(|limit| started.checked_add(limit)),
            attempt_timeout: self.rule().and_then(|rule| rule.backend_timeout),
        }
    }

    pub fn describe(&self, record: &mut RequestRecord) {
        record.route = self.rule().map(|rule| rule.to_string().into());
        if self.chosen.is_some() {
            record.backend = self.backend_port();
        }
    }
}
