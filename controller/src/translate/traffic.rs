//! Which `TrafficPolicy` decides for each Service port (a section's before the whole Service's, the older one among
//! equals), and which `XBackendTrafficPolicy` constrains the retries towards it, in place of the other's budget.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weft_proto::{resource, v1, v1::resource::Body};

use super::part::Draft;
use super::target;
use super::world::World;
use crate::limits;
use crate::object::{BackendTrafficPolicy, Key, Kind, Metadata, Target, TrafficPolicy};
use crate::status::{Aspect, PolicyCondition, Reason, Subject};
use crate::store::Name;

/// Agents without it balance as if there were no policy.
const FEATURE: &str = "traffic";
/// The same, where retries are constrained.
const CONSTRAINT: &str = "traffic.constraint";

/// Of one namespace's Services.
#[derive(Debug)]
pub struct Elected<'a, P> {
    winners: BTreeMap<(Name, u16), &'a P>,
    /// Of each policy's targets that have not won everywhere.
    verdicts: HashMap<(Key, usize), (Reason, String)>,
}

impl<'a, P> Elected<'a, P> {
    pub fn of(&self, service: &Name, port: u16) -> Option<&'a P> {
        self.winners.get(&(service.clone(), port)).copied()
    }

    fn verdict(&mut self, policy: Key, target: usize) -> (Reason, String) {
        let in_force = || (Reason::Accepted, "the policy is in force".to_owned());
        self.verdicts.remove(&(policy, target)).unwrap_or_else(in_force)
    }
}

/// A policy as far as its election goes.
struct Entrant<'a, P> {
    policy: &'a P,
    kind: Kind,
    metadata: &'a Metadata,
    targets: &'a [Target],
}

impl<P> Entrant<'_, P> {
    fn key(&self) -> Key {
        target::key(self.kind, self.metadata)
    }
}

struct Candidate<'b, 'a, P> {
    of: &'b Entrant<'a, P>,
    /// Which of its targets.
    target: usize,
    names_section: bool,
}

/// The own namespace's, which everybody gets.
pub fn share<'a>(world: &World<'a>, out: &mut Draft) -> Elected<'a, TrafficPolicy> {
    let mut elected = elect(world, world.namespace);
    let mut constraints = election(world, world.namespace, &constraints(world));
    let places: BTreeSet<(Name, u16)> = elected.winners.keys().chain(constraints.winners.keys()).cloned().collect();
    for (service, port) in places {
        let constraint = constraints.of(&service, port);
        let mut requires = vec![FEATURE.to_owned()];
        requires.extend(constraint.map(|_| CONSTRAINT.to_owned()));
        let body = body(&service, port, elected.of(&service, port), constraint);
        out.share(resource::traffic(&service.0, &service.1, port, None), requires, Body::Traffic(body));
    }
    for policy in world.own.traffic.values() {
        let conditions = policy.targets.iter().enumerate().map(|(index, wanted)| {
            let (reason, mut message) = elected.verdict(key(policy), index);
            if let Some(other) =
                constrained(policy, wanted, &elected, &constraints).filter(|_| reason == Reason::Accepted)
            {
                message = format!("{message}, but for its retryBudget: {other} constrains retries");
            }
            target::condition(&policy.metadata, wanted, reason, message)
        });
        out.conditions.insert(key(policy), conditions.collect());
    }
    for policy in world.own.backend_traffic.values() {
        let key = target::key(Kind::BackendTrafficPolicy, &policy.metadata);
        let mut conditions = Vec::new();
        for (index, wanted) in policy.targets.iter().enumerate() {
            let (reason, message) = constraints.verdict(key.clone(), index);
            conditions.push(target::condition(&policy.metadata, wanted, reason, message));
            conditions.extend(policy.asks_for_sessions.then(|| without_sessions(&policy.metadata, wanted)));
        }
        out.conditions.insert(key, conditions);
    }
    elected
}

pub fn elect<'a>(world: &World<'a>, namespace: &str) -> Elected<'a, TrafficPolicy> {
    let policies = world.contents(namespace).into_iter().flat_map(|contents| contents.traffic.values());
    let entrants = policies.map(|policy| Entrant {
        policy: &**policy,
        kind: Kind::TrafficPolicy,
        metadata: &policy.metadata,
        targets: &policy.targets,
    });
    election(world, namespace, &entrants.collect::<Vec<_>>())
}

fn constraints<'a>(world: &World<'a>) -> Vec<Entrant<'a, BackendTrafficPolicy>> {
    let entrants = world.own.backend_traffic.values().map(|policy| Entrant {
        policy: &**policy,
        kind: Kind::BackendTrafficPolicy,
        metadata: &policy.metadata,
        targets: &policy.targets,
    });
    entrants.collect()
}

fn election<'a, P>(world: &World<'a>, namespace: &str, entrants: &[Entrant<'a, P>]) -> Elected<'a, P> {
    let mut contests: BTreeMap<(Name, u16), Vec<Candidate<'_, 'a, P>>> = BTreeMap::new();
    let mut elected = Elected { winners: BTreeMap::new(), verdicts: HashMap::new() };
    for of in entrants {
        for (target, wanted) in of.targets.iter().enumerate() {
            let Target::Service { name, section } = wanted else { continue };
            match ports(world, namespace, name, section.as_deref()) {
                Ok(ports) => {
                    for port in ports {
                        let candidate = Candidate { of, target, names_section: section.is_some() };
                        contests.entry(((namespace.to_owned(), name.clone()), port)).or_default().push(candidate);
                    }
                }
                Err(why) => {
                    elected.verdicts.insert((of.key(), target), why);
                }
            }
        }
    }
    for ((service, port), mut contest) in contests {
        contest.sort_by_key(|candidate| (!candidate.names_section, candidate.of.metadata.age_order()));
        let winner = &contest[0];
        for loser in contest[1..].iter().filter(|loser| loser.names_section == winner.names_section) {
            if !std::ptr::eq(loser.of, winner.of) {
                let age = if loser.of.metadata.created == winner.of.metadata.created {
                    "comes first by name"
                } else {
                    "is older"
                };
                let message = format!("{} is as specific for port {port} and {age}", winner.of.key());
                elected.verdicts.insert((loser.of.key(), loser.target), (Reason::Conflicted, message));
            }
        }
        elected.winners.insert((service, port), winner.of.policy);
    }
    elected
}

/// Whose word on retries comes before that of a `TrafficPolicy`, at a port for which this one decides.
fn constrained(
    policy: &TrafficPolicy,
    target: &Target,
    elected: &Elected<'_, TrafficPolicy>,
    constraints: &Elected<'_, BackendTrafficPolicy>,
) -> Option<String> {
    let settings = &policy.settings;
    let Target::Service { name, .. } = target else { return None };
    settings.retry_budget_percent.or(settings.retry_budget_minimum_per_second)?;
    let mut own = elected.winners.iter().filter(|(place, winner)| place.0.1 == *name && std::ptr::eq(**winner, policy));
    let stronger = own.find_map(|(place, _)| constraints.winners.get(place))?;
    Some(stronger.constraint.policy.clone())
}

/// What the policy asks for and is not there does not keep the rest of it from being in force.
fn without_sessions(policy: &Metadata, target: &Target) -> PolicyCondition {
    let message = "spec.sessionPersistence: sessions of this kind are deprecated, and Weft has none of them; write it on \
                   an XBackend, or in a route's rule";
    PolicyCondition {
        subject: Subject::Target(target.clone()),
        aspect: Aspect::PartiallyInvalid,
        reason: Reason::UnsupportedValue,
        message: message.to_owned(),
        generation: policy.generation,
    }
}

/// It concerns those who connect to the Service, so a Service without a selector is as good as any.
fn ports(world: &World<'_>, namespace: &str, name: &str, section: Option<&str>) -> Result<Vec<u16>, (Reason, String)> {
    let title = format!("Service {namespace}/{name}");
    let Some(service) = world.service(namespace, name) else {
        return Err((Reason::TargetNotFound, format!("there is no {title}")));
    };
    if service.external_name {
        return Err((Reason::Invalid, format!("{title} is an ExternalName, which has no endpoints to balance")));
    }
    let wanted = service.ports.iter().take(limits::PORTS_PER_SERVICE);
    let ports: Vec<u16> =
        wanted.filter(|port| section.is_none_or(|section| port.name == section)).map(|port| port.port).collect();
    match section {
        Some(section) if ports.is_empty() => {
            Err((Reason::TargetNotFound, format!("{title} has no TCP port named {section}")))
        }
        _ => Ok(ports),
    }
}

fn body(
    (namespace, service): &Name,
    port: u16,
    policy: Option<&TrafficPolicy>,
    constraint: Option<&BackendTrafficPolicy>,
) -> v1::Traffic {
    let silent = v1::Traffic {
        namespace: namespace.clone(),
        service: service.clone(),
        port: port.into(),
        retry_constraint: constraint.map(|policy| policy.constraint.clone()),
        ..v1::Traffic::default()
    };
    let Some(policy) = policy else { return silent };
    let settings = &policy.settings;
    v1::Traffic {
        policy: key(policy).to_string(),
        balancing: settings.balancing.into(),
        retry_budget_percent: settings.retry_budget_percent,
        retry_budget_minimum_per_second: settings.retry_budget_minimum_per_second,
        ejection: settings.ejection,
        retry: settings.retry.clone(),
        request_timeout_ms: settings.request_timeout_ms.unwrap_or(0),
        ..silent
    }
}

fn key(policy: &TrafficPolicy) -> Key {
    target::key(Kind::TrafficPolicy, &policy.metadata)
}
