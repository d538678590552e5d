//! Which `AuthenticationPolicy` decides for each pod: the most specific as a whole, the older one among equals.
//!
//! A policy on a Service decides for the pods' ports that the Service leads to, one on pods for all others.

use std::collections::{BTreeMap, HashMap};

use super::part::Draft;
use super::target::{self, Resolved};
use super::world::World;
use crate::object::{AuthenticationPolicy, Key, Kind, Pod, Target};
use crate::status::{PolicyCondition, Reason};
use crate::store::Name;

/// Who decides for one pod.
#[derive(Debug, Clone, Default)]
pub struct Decided<'a> {
    pub pod: Option<&'a AuthenticationPolicy>,
    pub ports: BTreeMap<u16, &'a AuthenticationPolicy>,
}

#[derive(Clone, Copy)]
struct Candidate<'a> {
    policy: &'a AuthenticationPolicy,
    target: &'a Target,
    rank: u8,
}

/// A target that lost somewhere against an equally specific policy.
type Conflicts<'a> = HashMap<(Key, usize), String>;

pub fn decide<'a>(world: &World<'a>, out: &mut Draft) -> HashMap<&'a Name, Decided<'a>> {
    let mut per_pod: BTreeMap<&Name, Vec<(Candidate<'_>, Option<u16>)>> = BTreeMap::new();
    let mut accepted = Vec::new();
    for policy in world.own.authentication.values() {
        let namespace = &policy.metadata.namespace;
        for (index, target) in policy.targets.iter().enumerate() {
            match target::resolve(world.own, namespace, target) {
                Ok(resolved) => {
                    accepted.push((policy.as_ref(), index, target));
                    collect(world, policy, target, &resolved, &mut per_pod);
                }
                Err((reason, message)) => {
                    let condition = target::condition(&policy.metadata, target, reason, message);
                    conditions(out, policy).push(condition);
                }
            }
        }
    }
    let mut conflicts = Conflicts::new();
    let elected = per_pod.into_iter().map(|(name, candidates)| (name, elect(&candidates, &mut conflicts)));
    let mut decided: HashMap<&Name, Decided<'_>> = elected.collect();
    for policy in world.own.authentication.values().filter(|policy| policy.stands_in) {
        for (name, _) in target::pods(world.own) {
            decided.insert(name, Decided { pod: Some(policy), ports: BTreeMap::new() });
        }
    }
    for (policy, index, target) in accepted {
        let key = target::key(Kind::AuthenticationPolicy, &policy.metadata);
        let condition = match conflicts.remove(&(key, index)) {
            Some(message) => target::condition(&policy.metadata, target, Reason::Conflicted, message),
            None => target::condition(&policy.metadata, target, Reason::Accepted, "the policy is in force"),
        };
        conditions(out, policy).push(condition);
    }
    decided
}

fn conditions<'a>(out: &'a mut Draft, policy: &AuthenticationPolicy) -> &'a mut Vec<PolicyCondition> {
    out.conditions.entry(target::key(Kind::AuthenticationPolicy, &policy.metadata)).or_default()
}

fn collect<'a>(
    world: &World<'a>,
    policy: &'a AuthenticationPolicy,
    target: &'a Target,
    resolved: &Resolved<'_>,
    per_pod: &mut BTreeMap<&'a Name, Vec<(Candidate<'a>, Option<u16>)>>,
) {
    let candidate = Candidate { policy, target, rank: resolved.rank() };
    let pods: Vec<(&Name, &Pod)> = target::pods(world.own).collect();
    for (name, pod) in pods {
        let Some(ports) = resolved.ports(pod) else { continue };
        let list = per_pod.entry(name).or_default();
        if ports.is_empty() {
            list.push((candidate, None));
        }
        list.extend(ports.into_iter().map(|port| (candidate, Some(port))));
    }
}

fn elect<'a>(candidates: &[(Candidate<'a>, Option<u16>)], conflicts: &mut Conflicts<'a>) -> Decided<'a> {
    let mut contests: BTreeMap<Option<u16>, Vec<Candidate<'a>>> = BTreeMap::new();
    for (candidate, port) in candidates {
        contests.entry(*port).or_default().push(*candidate);
    }
    let mut decided = Decided::default();
    for (port, mut contest) in contests {
        contest.sort_by(|left, right| {
            let age = || left.policy.metadata.age_order().cmp(&right.policy.metadata.age_order());
            right.rank.cmp(&left.rank).then_with(age)
        });
        let winner = contest[0];
        for loser in &contest[1..] {
            if loser.rank == winner.rank && !std::ptr::eq(loser.policy, winner.policy) {
                let index = loser.policy.targets.iter().position(|target| std::ptr::eq(target, loser.target));
                let key = target::key(Kind::AuthenticationPolicy, &loser.policy.metadata);
                let message = format!(
                    "{} is as specific and {}",
                    target::key(Kind::AuthenticationPolicy, &winner.policy.metadata),
                    if loser.policy.metadata.created == winner.policy.metadata.created {
                        "comes first by name"
                    } else {
                        "older"
                    },
                );
                conflicts.insert((key, index.unwrap_or(0)), message);
            }
        }
        match port {
            None => decided.pod = Some(winner.policy),
            Some(port) => {
                decided.ports.insert(port, winner.policy);
            }
        }
    }
    decided
}
