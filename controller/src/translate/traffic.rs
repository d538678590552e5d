//! Which `TrafficPolicy` decides for each Service port: a section's before the whole Service's, the older one among equals.

use std::collections::{BTreeMap, HashMap};

use weft_proto::{resource, v1, v1::resource::Body};

use super::part::Draft;
use super::target;
use super::world::World;
use crate::limits;
use crate::object::{Key, Kind, Target, TrafficPolicy};
use crate::status::Reason;
use crate::store::Name;

/// Agents without it balance as if there were no policy.
const FEATURE: &str = "traffic";

/// Of one namespace's Services.
#[derive(Debug, Default)]
pub struct Elected<'a> {
    winners: BTreeMap<(Name, u16), &'a TrafficPolicy>,
    /// Of each policy's targets that have not won everywhere.
    verdicts: HashMap<(Key, usize), (Reason, String)>,
}

impl<'a> Elected<'a> {
    pub fn of(&self, service: &Name, port: u16) -> Option<&'a TrafficPolicy> {
        self.winners.get(&(service.clone(), port)).copied()
    }
}

#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    policy: &'a TrafficPolicy,
    /// Which of its targets.
    target: usize,
    names_section: bool,
}

/// The own namespace's, which everybody gets.
pub fn share<'a>(world: &World<'a>, out: &mut Draft) -> Elected<'a> {
    let mut elected = elect(world, world.namespace);
    for ((service, port), winner) in &elected.winners {
        let name = resource::traffic(&service.0, &service.1, *port, None);
        out.share(name, vec![FEATURE.to_owned()], Body::Traffic(body(service, *port, winner)));
    }
    for policy in world.own.traffic.values() {
        let conditions = policy.targets.iter().enumerate().map(|(index, wanted)| {
            let in_force = || (Reason::Accepted, "the policy is in force".to_owned());
            let (reason, message) = elected.verdicts.remove(&(key(policy), index)).unwrap_or_else(in_force);
            target::condition(&policy.metadata, wanted, reason, message)
        });
        out.conditions.insert(key(policy), conditions.collect());
    }
    elected
}

pub fn elect<'a>(world: &World<'a>, namespace: &str) -> Elected<'a> {
    let mut contests: BTreeMap<(Name, u16), Vec<Candidate<'_>>> = BTreeMap::new();
    let mut elected = Elected::default();
    for policy in world.contents(namespace).into_iter().flat_map(|contents| contents.traffic.values()) {
        for (index, wanted) in policy.targets.iter().enumerate() {
            let Target::Service { name, section } = wanted else { continue };
            match ports(world, namespace, name, section.as_deref()) {
                Ok(ports) => {
                    let candidate = Candidate { policy, target: index, names_section: section.is_some() };
                    for port in ports {
                        contests.entry(((namespace.to_owned(), name.clone()), port)).or_default().push(candidate);
                    }
                }
                Err(why) => {
                    elected.verdicts.insert((key(policy), index), why);
                }
            }
        }
    }
    for ((service, port), mut contest) in contests {
        contest.sort_by_key(|candidate| (!candidate.names_section, candidate.policy.metadata.age_order()));
        let winner = contest[0];
        for loser in contest[1..].iter().filter(|loser| loser.names_section == winner.names_section) {
            if !std::ptr::eq(loser.policy, winner.policy) {
                let age = if loser.policy.metadata.created == winner.policy.metadata.created {
                    "comes first by name"
                } else {
                    "is older"
                };
                let message = format!("{} is as specific for port {port} and {age}", key(winner.policy));
                elected.verdicts.insert((key(loser.policy), loser.target), (Reason::Conflicted, message));
            }
        }
        elected.winners.insert((service, port), winner.policy);
    }
    elected
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

fn body((namespace, service): &Name, port: u16, policy: &TrafficPolicy) -> v1::Traffic {
    let settings = &policy.settings;
    v1::Traffic {
        namespace: namespace.clone(),
        service: service.clone(),
        port: port.into(),
        audience: String::new(),
        policy: key(policy).to_string(),
        balancing: settings.balancing.into(),
        retry_budget_percent: settings.retry_budget_percent,
        retry_budget_minimum_per_second: settings.retry_budget_minimum_per_second,
        ejection: settings.ejection,
        retry: settings.retry.clone(),
        request_timeout_ms: settings.request_timeout_ms.unwrap_or(0),
    }
}

fn key(policy: &TrafficPolicy) -> Key {
    target::key(Kind::TrafficPolicy, &policy.metadata)
}
