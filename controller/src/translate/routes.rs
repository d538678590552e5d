//! Routes and the Services that they are attached to become one resource for each Service port and audience.
//!
//! A route of the Service's own namespace is for everybody (producer), one of another namespace for the clients of that
//! namespace alone (consumer). What is said to the routes' owners is `verdict`'s business, and to those of `XBackend`s `x_backend`'s.

mod backend;
mod bind;
mod merge;
mod session;
mod verdict;
mod x_backend;

use std::collections::{BTreeMap, BTreeSet};

use weft_proto::{resource, v1, v1::resource::Body};

use super::part::Draft;
use super::traffic::{self, Elected};
use super::world::World;
use crate::object::{Key, Route, RouteKind, TrafficPolicy};
use crate::status::Reason;
use crate::store::Name;

use backend::Problems;
use merge::{Age, Resolved, Shadow, Silent};

pub use x_backend::x_backends;

/// Agents without them refuse every request, or every connection, to the port.
fn features(body: &v1::Routes, kind: RouteKind) -> Vec<String> {
    let kind = if kind.is_of_requests() { "routes.http" } else { "routes.l4" };
    let keeps = body.rules.iter().any(|rule| rule.session_persistence.is_some());
    let mut backends = body.rules.iter().flat_map(|rule| &rule.backends);
    let own = backends.any(|backend| backend.session_persistence.is_some());
    let of_sessions = [keeps.then_some("routes.sessions"), own.then_some("routes.sessions.backend")];
    [kind].into_iter().chain(of_sessions.into_iter().flatten()).map(str::to_owned).collect()
}

/// What one resource is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    service: Name,
    port: u16,
    /// The clients' namespace; None for everybody.
    audience: Option<String>,
}

/// A route as it is attached.
struct Attached<'a> {
    resolved: Resolved<'a>,
    problems: Problems,
    /// For each of the route's parents.
    bound: Vec<Result<BTreeSet<Place>, (Reason, String)>>,
}

/// Where a route is attached and yet not in force, and why.
#[derive(Debug, Default)]
pub struct Losses(BTreeMap<Key, BTreeMap<Place, (Reason, String)>>);

/// A consumer's routes are made of another namespace's Services, and count there for its own clients alone.
pub fn share(world: &World<'_>, own: Elected<'_, TrafficPolicy>, out: &mut Draft) {
    let mut elected = BTreeMap::from([(world.namespace, own)]);
    let routes = world.own.routes().filter(|route| !route.parents.is_empty());
    let attached: Vec<Attached<'_>> = routes.map(|route| attach(world, route)).collect();
    let mut losses = Losses::default();
    let places = places(&attached, &mut losses);
    for (place, routes) in places {
        let Some(kind) = winner(place, &routes, &mut losses) else { continue };
        let winners: Vec<&Resolved<'_>> = routes.into_iter().filter(|one| one.route.kind == kind).collect();
        let namespace = place.service.0.as_str();
        let elected = elected.entry(namespace).or_insert_with(|| traffic::elect(world, namespace));
        let timeout = elected.of(&place.service, place.port).and_then(|policy| policy.settings.request_timeout_ms);
        let mut body = v1::Routes {
            namespace: place.service.0.clone(),
            service: place.service.1.clone(),
            port: place.port.into(),
            audience: place.audience.clone().unwrap_or_default(),
            kind: written(kind).into(),
            ..v1::Routes::default()
        };
        let merged = merge::merge(&winners, Silent { request_timeout_ms: timeout }, &mut body);
        for route in merged.left_out {
            let message =
                format!("{} has more and larger routes than agents can hold; this one is too much", describe(place));
            losses.add(route, place, (Reason::UnsupportedValue, message));
        }
        for shadow in merged.shadows {
            losses.add(shadow.route, place, (Reason::Accepted, overtaken(&shadow, place)));
        }
        let name = resource::routes(&place.service.0, &place.service.1, place.port, place.audience.as_deref());
        out.share(name, features(&body, kind), Body::Routes(body));
    }
    for one in &attached {
        let conditions = verdict::conditions(one, &losses);
        if !conditions.is_empty() {
            out.conditions.insert(key(one.resolved.route), conditions);
        }
    }
    x_backend::answer(world, &attached, &losses, out);
}

/// Who is attached where.
fn places<'a, 'b>(attached: &'b [Attached<'a>], losses: &mut Losses) -> BTreeMap<&'b Place, Vec<&'b Resolved<'a>>> {
    let mut places: BTreeMap<&Place, Vec<&Resolved<'_>>> = BTreeMap::new();
    for one in attached.iter().filter(|one| !verdict::is_dropped(one.resolved.route)) {
        let own: BTreeSet<&Place> = one.bound.iter().flatten().flatten().collect();
        let fits = one.resolved.fits_everywhere(own.len());
        for place in &own {
            if fits {
                places.entry(place).or_default().push(&one.resolved);
            } else {
                let ports = own.len();
                let message =
                    format!("at {ports} ports the route is more than agents can hold; name fewer, or write less");
                losses.add(one.resolved.route, place, (Reason::UnsupportedValue, message));
            }
        }
    }
    places
}

fn attach<'a>(world: &World<'_>, route: &'a Route) -> Attached<'a> {
    let (rules, problems) = backend::rules(world, route);
    let own = &route.metadata.namespace;
    let conflict = session::conflict(world, route);
    let bound = route.parents.iter().map(|parent| {
        if let Some(why) = &conflict {
            return Err(why.clone());
        }
        let namespace = parent.namespace.as_ref().unwrap_or(own);
        let audience = (namespace != own).then(|| own.clone());
        let place =
            |port| Place { service: (namespace.clone(), parent.name.clone()), port, audience: audience.clone() };
        bind::ports(world, route, parent).map(|ports| ports.into_iter().map(place).collect())
    });
    Attached { bound: bound.collect(), resolved: Resolved { route, rules }, problems }
}

/// Routes of one kind share a place, and those of weaker kinds have none there (GEP-1294).
fn winner(place: &Place, routes: &[&Resolved<'_>], losses: &mut Losses) -> Option<RouteKind> {
    let strongest = routes.iter().min_by_key(|one| (one.route.kind, Age::of(&one.route.metadata)))?;
    let kind = strongest.route.kind;
    for loser in routes.iter().filter(|one| one.route.kind != kind) {
        let (winner, place_named) = (strongest.route.title(), describe(place));
        let [stronger, weaker] = [kind, loser.route.kind].map(|kind| kind.object().as_str());
        let message = format!("{winner} speaks for {place_named}, and {stronger}s are stronger than {weaker}s");
        losses.add(loser.route, place, (Reason::Conflicted, message));
    }
    Some(kind)
}

fn written(kind: RouteKind) -> v1::RouteKind {
    match kind {
        RouteKind::Grpc => v1::RouteKind::Grpc,
        RouteKind::Http => v1::RouteKind::Http,
        RouteKind::Tls => v1::RouteKind::Tls,
        RouteKind::Tcp => v1::RouteKind::Tcp,
    }
}

/// Such a route is accepted all the same (GEP-2644), and its owner should know where its connections go.
fn overtaken(shadow: &Shadow<'_>, place: &Place) -> String {
    let (place, older) = (describe(place), shadow.by.title());
    let mut names = shadow.names.iter().filter(|name| !name.is_empty());
    let Some(first) = names.next() else {
        return format!("all connections to {place} follow {older}, which is older");
    };
    let more = names.count();
    let more = if more > 0 { format!(", as are {more} more of the hostnames") } else { String::new() };
    format!("{first} at {place} is taken by {older}, which is older{more}")
}

impl Losses {
    fn add(&mut self, route: &Route, place: &Place, why: (Reason, String)) {
        self.0.entry(key(route)).or_default().insert(place.clone(), why);
    }

    fn of(&self, route: &Route, place: &Place) -> Option<&(Reason, String)> {
        self.0.get(&key(route)).and_then(|lost| lost.get(place))
    }
}

fn key(route: &Route) -> Key {
    super::target::key(route.kind.object(), &route.metadata)
}

fn describe(place: &Place) -> String {
    let Place { service: (namespace, name), port, audience } = place;
    match audience {
        None => format!("Service {namespace}/{name} port {port}"),
        Some(audience) => format!("Service {namespace}/{name} port {port} for clients of {audience}"),
    }
}
