//! Sessions of a route's rules and backends: the names of cookies that have none, and what they cannot go together with.

use sha2::{Digest as _, Sha256};
use weft_proto::v1::{self, session_persistence::Carrier};

use super::super::world::World;
use super::backend;
use crate::hexadecimal::hexadecimal;
use crate::object::{Route, Rule, XBackend};
use crate::status::Reason;

/// As agents read it. A cookie's name is made of the names of route and rule, or of the rule's place where it has none: it
/// stays when the route is made anew.
pub fn of(route: &Route, index: usize, rule: &Rule) -> Option<v1::SessionPersistence> {
    let place = if rule.name.is_empty() { index.to_string() } else { format!("/{}", rule.name) };
    Some(named(rule.session.clone()?, || format!("{} {place}", route.title())))
}

/// One for all routes that lead there: they share the session.
pub fn of_backend(backend: &XBackend) -> Option<v1::SessionPersistence> {
    Some(named(backend.session.clone()?, || backend.title()))
}

fn named(mut session: v1::SessionPersistence, owner: impl Fn() -> String) -> v1::SessionPersistence {
    if let Some(Carrier::Cookie(cookie)) = &mut session.carrier
        && cookie.name.is_empty()
    {
        let digest = Sha256::digest(owner());
        cookie.name = format!("weft-session-{}", hexadecimal(&digest[..6]));
    }
    session
}

/// GEP-1619 has the whole route rejected where Kubernetes keeps clients at their endpoints as well. A Service that the route
/// may not name says nothing, and decides nothing.
pub fn conflict(world: &World<'_>, route: &Route) -> Option<(Reason, String)> {
    let keep = route.rules.iter().filter(|rule| rule.session.is_some());
    let references = keep.flat_map(|rule| &rule.backends).map(|backend| &backend.reference);
    let mut services = references.filter(|reference| reference.is_service()).filter_map(|reference| {
        let namespace = reference.namespace.as_ref().unwrap_or(&route.metadata.namespace);
        let permitted = backend::is_permitted(world, route, namespace, &reference.name);
        let service = permitted.then(|| world.service(namespace, &reference.name)).flatten()?;
        Some((namespace, service, &reference.path))
    });
    let (namespace, service, path) = services.find(|(_, service, _)| service.affinity_seconds.is_some())?;
    let name = &service.metadata.name;
    let message = format!(
        "{path}: Service {namespace}/{name} has sessionAffinity: ClientIP, which excludes sessionPersistence; \
         the route is not in force"
    );
    Some((Reason::UnsupportedValue, message))
}
