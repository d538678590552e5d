//! `XBackend`s as backends of routes of requests, and what their owners are told: for each Service by which requests come.

use std::collections::{BTreeMap, BTreeSet};

use super::super::part::Draft;
use super::super::target;
use super::super::world::World;
use super::verdict::told;
use super::{Attached, Losses, Place};
use crate::object::{BackendProtocol, BackendReference, Filter, Kind, Route, RouteKind, Rule, Unsupported, XBackend};
use crate::status::{Aspect, PolicyCondition, Reason, Subject};
use crate::store::Name;

/// Gateway API's reasons for `ResolvedRefs`.
pub fn usable<'a>(
    world: &World<'a>,
    route: &Route,
    namespace: &str,
    reference: &BackendReference,
) -> Result<&'a XBackend, (Reason, String)> {
    let (kind, name) = (route.kind.object().as_str(), &reference.name);
    let title = format!("{} {namespace}/{name}", Kind::XBackend.as_str());
    if !route.kind.is_of_requests() {
        return Err((Reason::InvalidKind, format!("a {kind} leads to Services alone, not to {title}")));
    }
    // Said before it is looked for: nobody learns what there is elsewhere.
    if namespace != world.namespace {
        let message = format!("{title} is for routes of {namespace} alone; write one in {}", world.namespace);
        return Err((Reason::RefNotPermitted, message));
    }
    let Some(backend) = own(world, name) else {
        return Err((Reason::BackendNotFound, format!("there is no {title}, or none that can be read")));
    };
    // Definitions of the standard channel let it pass.
    if reference.port.is_some() {
        return Err((Reason::UnsupportedValue, format!("{title} says its port itself; remove `port` here")));
    }
    if let Some((unsupported, _)) = backend.refusals.first() {
        let reason = match unsupported {
            Unsupported::Type => Reason::InvalidKind,
            Unsupported::Protocol => Reason::UnsupportedProtocol,
            Unsupported::Value => Reason::UnsupportedValue,
        };
        return Err((reason, format!("{title} is not accepted: {}", refused(backend))));
    }
    if route.kind == RouteKind::Grpc && backend.protocol == Some(BackendProtocol::Http11) {
        let message = format!("{title} has spec.protocol HTTP11, in which there is no gRPC");
        return Err((Reason::UnsupportedProtocol, message));
    }
    Ok(backend)
}

/// Nobody is told of one that no route leads to: GEP-4894 has an empty list then.
pub fn answer(world: &World<'_>, attached: &[Attached<'_>], losses: &Losses, out: &mut Draft) {
    let mut ancestors: BTreeMap<&str, BTreeSet<&Name>> = BTreeMap::new();
    for one in attached {
        let route = one.resolved.route;
        // One that an older route overtakes for some names is in force for others.
        let in_force = |place: &&Place| losses.of(route, place).is_none_or(|(reason, _)| *reason == Reason::Accepted);
        let services = || one.bound.iter().flatten().flatten().filter(in_force).map(|place| &place.service);
        for name in x_backends(route) {
            ancestors.entry(name).or_default().extend(services());
        }
    }
    for (name, services) in ancestors {
        let Some(backend) = own(world, name).filter(|_| !services.is_empty()) else { continue };
        let conditions = services.into_iter().map(|service| condition(backend, service)).collect();
        out.conditions.insert(target::key(Kind::XBackend, &backend.metadata), conditions);
    }
}

/// The `XBackend`s of its own namespace that a route sends requests to, or copies of them.
pub fn x_backends(route: &Route) -> impl Iterator<Item = &str> {
    let own = |reference: &&BackendReference| {
        let is_near = reference.namespace.as_ref().is_none_or(|namespace| *namespace == route.metadata.namespace);
        reference.is_x_backend() && is_near
    };
    references(route).filter(own).map(|reference| reference.name.as_str()).filter(|_| route.kind.is_of_requests())
}

/// Of all rules that are in force.
fn references(route: &Route) -> impl Iterator<Item = &BackendReference> {
    let rules = route.rules.iter().filter(|rule| !rule.is_dropped() && rule.refusals.is_empty());
    rules.flat_map(|rule: &Rule| {
        let filters = rule.filters.iter().chain(rule.backends.iter().flat_map(|backend| &backend.filters));
        let mirrors = filters.filter_map(|filter| match filter {
            Filter::Mirror(mirror) => Some(&mirror.backend),
            Filter::Own(_) => None,
        });
        rule.backends.iter().map(|backend| &backend.reference).chain(mirrors)
    })
}

fn condition(backend: &XBackend, service: &Name) -> PolicyCondition {
    let (reason, message) = match backend.refusals.first() {
        None => (Reason::Accepted, "the backend is in force".to_owned()),
        Some((Unsupported::Protocol, _)) => (Reason::UnsupportedProtocol, refused(backend)),
        Some((Unsupported::Type | Unsupported::Value, _)) => (Reason::UnsupportedValue, refused(backend)),
    };
    PolicyCondition {
        subject: Subject::Ancestor(service.clone()),
        aspect: Aspect::Accepted,
        reason,
        message,
        generation: backend.metadata.generation,
    }
}

fn refused(backend: &XBackend) -> String {
    told(backend.refusals.iter().map(|(_, refusal)| refusal.to_string()))
}

fn own<'a>(world: &World<'a>, name: &str) -> Option<&'a XBackend> {
    world.own.backends.get(&(world.namespace.to_owned(), name.to_owned())).map(AsRef::as_ref)
}
