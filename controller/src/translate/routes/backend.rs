//! A route's rules with their backends looked up. A backend that cannot be used keeps its share, which is answered with
//! an error: its siblings never get it.

use weft_proto::names;
use weft_proto::v1::{self, route_filter};

use super::super::protocol::Protocol;
use super::super::world::World;
use super::verdict::told;
use super::{session, x_backend};
use crate::limits;
use crate::object::{Backend, BackendReference, Filter, Refusal, Route, Rule};
use crate::status::Reason;

/// What is wrong with the route's references, in order.
pub type Problems = Vec<(Reason, String)>;

/// The rules that are not dropped, with their place in the route.
pub fn rules<'a>(world: &World<'_>, route: &'a Route) -> (Vec<(&'a Rule, v1::RouteRule)>, Problems) {
    let mut problems = Problems::new();
    let mut rules = Vec::new();
    for (index, rule) in route.rules.iter().enumerate().filter(|(_, rule)| !rule.is_dropped()) {
        let backends = rule.backends.iter().map(|backend| resolved(world, route, backend, &mut problems)).collect();
        let body = v1::RouteRule {
            route: route.title(),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            name: rule.name.clone(),
            filters: filters(world, route, &rule.filters, &rule.refusals, &mut problems),
            backends,
            // The traffic policy of each port has a word in it.
            request_timeout_ms: 0,
            backend_timeout_ms: rule.backend_timeout_ms,
            retry: rule.retry.clone(),
            session_persistence: session::of(route, index, rule),
        };
        rules.push((rule, body));
    }
    (rules, problems)
}

fn resolved(world: &World<'_>, route: &Route, backend: &Backend, problems: &mut Problems) -> v1::RouteBackend {
    let filters = filters(world, route, &backend.filters, &backend.refusals, problems);
    v1::RouteBackend { weight: backend.weight, filters, ..found(world, route, &backend.reference, problems) }
}

fn filters(
    world: &World<'_>,
    route: &Route,
    filters: &[Filter],
    refusals: &[Refusal],
    problems: &mut Problems,
) -> Vec<v1::RouteFilter> {
    let mut all: Vec<v1::RouteFilter> = Vec::with_capacity(filters.len() + 1);
    if !refusals.is_empty() {
        let sentences = told(refusals.iter().map(ToString::to_string));
        all.push(v1::RouteFilter { kind: Some(route_filter::Kind::Unsupported(sentences)) });
    }
    for filter in filters {
        let kind = match filter {
            Filter::Own(kind) => kind.clone(),
            Filter::Mirror(mirror) => {
                let found = found(world, route, &mirror.backend, problems);
                // A copy's answer is thrown away, and its session with it.
                let backend = v1::RouteBackend { weight: 1, session_persistence: None, ..found };
                let (backend, per_million) = (Some(backend), mirror.per_million);
                route_filter::Kind::Mirror(v1::Mirror { backend, per_million })
            }
        };
        all.push(v1::RouteFilter { kind: Some(kind) });
    }
    all
}

/// Without weight and filters.
fn found(world: &World<'_>, route: &Route, reference: &BackendReference, problems: &mut Problems) -> v1::RouteBackend {
    let namespace = reference.namespace.as_ref().unwrap_or(&route.metadata.namespace);
    let mut backend = v1::RouteBackend {
        namespace: namespace.clone(),
        service: if reference.is_x_backend() { names::x_backend(&reference.name) } else { reference.name.clone() },
        port: reference.port.map_or(0, u32::from),
        ..v1::RouteBackend::default()
    };
    let usable = if reference.is_x_backend() {
        x_backend::usable(world, route, namespace, reference).map(|own| {
            backend.port = own.port.into();
            backend.session_persistence = session::of_backend(own);
        })
    } else {
        usable(world, route, namespace, reference)
    };
    if let Err((reason, problem)) = usable {
        problems.push((reason, format!("{}: {problem}", reference.path)));
        backend.invalid = problem;
    }
    backend
}

/// Gateway API's reasons for `ResolvedRefs`.
fn usable(
    world: &World<'_>,
    route: &Route,
    namespace: &str,
    reference: &BackendReference,
) -> Result<(), (Reason, String)> {
    let BackendReference { group, kind, name, .. } = reference;
    if !reference.is_service() {
        let written = if group.is_empty() { kind.clone() } else { format!("{kind} of {group}") };
        return Err((Reason::InvalidKind, format!("a backend of kind {written} is not supported; name a Service")));
    }
    let title = format!("Service {namespace}/{name}");
    if !is_permitted(world, route, namespace, name) {
        let (kind, own) = (route.kind.object().as_str(), &route.metadata.namespace);
        let message = format!("no ReferenceGrant of {namespace} lets a {kind} of {own} name {title}");
        return Err((Reason::RefNotPermitted, message));
    }
    let Some(service) = world.service(namespace, name) else {
        return Err((Reason::BackendNotFound, format!("there is no {title}")));
    };
    if service.external_name {
        return Err((Reason::InvalidKind, format!("{title} is an ExternalName, which has no endpoints")));
    }
    let Some(number) = reference.port else {
        return Err((Reason::BackendNotFound, format!("it does not say which port of {title}")));
    };
    let Some(port) = service.ports.iter().take(limits::PORTS_PER_SERVICE).find(|port| port.port == number) else {
        return Err((Reason::BackendNotFound, format!("{title} has no TCP port {number}")));
    };
    if !Protocol::of(port).may_be_routed(route.kind) {
        let declared = Protocol::of(port).word();
        let what = if route.kind.is_of_requests() { "requests of a route" } else { "TLS of a route" };
        let message = format!("port {number} of {title} is declared as {declared}, which takes no {what}");
        return Err((Reason::UnsupportedProtocol, message));
    }
    Ok(())
}

/// A mesh route may name a backend of any namespace (GEP-1294), unless the operator demands that namespace's word. Asked
/// before the Service is looked for: without a grant nobody learns what there is.
pub fn is_permitted(world: &World<'_>, route: &Route, namespace: &str, service: &str) -> bool {
    let own = &route.metadata.namespace;
    if namespace == own || !world.mesh.requires_grants() {
        return true;
    }
    let mut grants = world.contents(namespace).into_iter().flat_map(|contents| contents.grants.values());
    grants.any(|grant| grant.permits(route.kind.object(), own, service))
}
