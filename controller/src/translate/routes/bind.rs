//! Which ports of which Service a route's parent means.

use super::super::protocol::Protocol;
use super::super::world::World;
use crate::limits;
use crate::object::{Parent, Route, ServicePort};
use crate::status::Reason;

/// The parent's ports, or why it has none (Gateway API's and our own reading: `NoMatchingParent`).
pub fn ports(world: &World<'_>, route: &Route, parent: &Parent) -> Result<Vec<u16>, (Reason, String)> {
    let namespace = parent.namespace.as_ref().unwrap_or(&route.metadata.namespace);
    let title = format!("Service {namespace}/{}", parent.name);
    let no = |message: String| Err((Reason::NoMatchingParent, message));
    let Some(service) = world.service(namespace, &parent.name) else {
        return no(format!("there is no {title}"));
    };
    if service.external_name {
        return no(format!("{title} is an ExternalName: nobody connects to it, so nothing of it can be routed"));
    }
    if service.addresses.is_empty() {
        return no(format!("{title} is headless: clients connect to its pods, so nothing of it can be routed"));
    }
    let named = |port: &&ServicePort| {
        parent.port.is_none_or(|number| port.port == number)
            && parent.section.as_ref().is_none_or(|name| port.name == *name)
    };
    let ports: Vec<&ServicePort> = service.ports.iter().take(limits::PORTS_PER_SERVICE).filter(named).collect();
    match (parent.port, &parent.section) {
        (None, None) => {
            let routable = ports.iter().filter(|port| Protocol::of(port).may_be_routed(route.kind));
            let routable: Vec<u16> = routable.map(|port| port.port).collect();
            if routable.is_empty() {
                let kind = route.kind.object().as_str();
                return no(format!("every port of {title} is declared as something that a {kind} cannot route"));
            }
            return Ok(routable);
        }
        (Some(number), None) if ports.is_empty() => return no(format!("{title} has no TCP port {number}")),
        (None, Some(name)) if ports.is_empty() => return no(format!("{title} has no TCP port named {name}")),
        (Some(number), Some(name)) if ports.is_empty() => {
            return no(format!("{title} has no TCP port {number} that is named {name}"));
        }
        _ => {}
    }
    Ok(ports.into_iter().map(|port| port.port).collect())
}
