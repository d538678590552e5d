//! Workloads that leave the mesh while they live: their enrolment stays until no other agent dials them as mesh peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use weft_proto::names::{NodeName, WorkloadUid};
use weft_proto::v1::resource::Body;

use crate::agents::Agents;
use crate::beside::beside;
use crate::limits;
use crate::publish::{Portions, Published};
use crate::store::Objects;
use crate::translate::{Encoded, MESH, Portion};

#[derive(Debug, Default)]
pub struct Retiring {
    workloads: BTreeMap<WorkloadUid, Leaving>,
}

#[derive(Debug)]
struct Leaving {
    node: NodeName,
    /// The enrolment and the policies that it names, with the portion that each is in.
    resources: Vec<(Arc<str>, Arc<Encoded>)>,
    /// The generation that withdrew `mesh_capable`; None until it is published.
    withdrawn: Option<u64>,
    end: Instant,
}

impl Retiring {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty()
    }

    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.workloads.values().map(|leaving| leaving.end).min()
    }

    /// Some enrolment may go now.
    #[must_use]
    pub fn is_due(&self, agents: &Agents, now: Instant) -> bool {
        self.workloads.values().any(|leaving| leaving.is_done(agents, now))
    }

    /// Adds to `portions` what has to stay a little longer.
    pub fn keep(
        &mut self,
        before: &Published,
        portions: &mut Portions,
        objects: &Objects,
        agents: &Agents,
        now: Instant,
    ) {
        let end = now + agents.lease() * limits::DISENROLMENT_LEASES;
        let of_all = before.portion(MESH);
        for (namespace, then) in before.portions() {
            let newest = portions.get(namespace);
            if newest.is_some_and(|newest| Arc::ptr_eq(newest, then)) {
                continue;
            }
            for (node, then, now) in beside(Some(&then.nodes), newest.map(|newest| &newest.nodes)) {
                for (name, resource, now) in beside(then, now) {
                    // Nearly all stay where they are, at every change of anything in their namespace.
                    let (Some(own), Some(resource), None) = (then, resource, now) else { continue };
                    let Some(Body::Enrolment(enrolment)) = &resource.body else { continue };
                    let Ok(uid) = enrolment.uid.parse::<WorkloadUid>() else { continue };
                    // Never reported: nobody was told that it is a mesh peer, so nobody has to acknowledge.
                    let known = self.workloads.contains_key(&uid) || !agents.reported(node, &uid);
                    if known || is_enrolled(portions, node, name) {
                        continue;
                    }
                    let policies = enrolment.authorization.iter().filter_map(|name| {
                        let own = own.get(name.as_str()).map(|policy| (Arc::clone(namespace), Arc::clone(policy)));
                        let of_all = || of_all.and_then(|portion| portion.shared.get(name.as_str()));
                        own.or_else(|| Some((Arc::from(MESH), Arc::clone(of_all()?))))
                    });
                    let resources = policies.chain([(Arc::clone(namespace), Arc::clone(resource))]).collect();
                    self.workloads.insert(uid, Leaving { node: node.clone(), resources, withdrawn: None, end });
                }
            }
        }
        self.workloads.retain(|uid, leaving| {
            let lives = objects.pod(uid).is_some_and(|pod| !pod.finished && pod.node.as_ref() == Some(&leaving.node));
            let returned = is_enrolled(portions, &leaving.node, &weft_proto::resource::enrolment(uid.as_str()));
            lives && !returned && !leaving.is_done(agents, now)
        });
        for leaving in self.workloads.values() {
            for (portion, resource) in &leaving.resources {
                let name = Arc::from(resource.name.as_str());
                let known = portions.get(portion);
                if known.is_some_and(|known| known.shared.contains_key(&name) || holds(known, &leaving.node, &name)) {
                    continue;
                }
                let portion = Arc::make_mut(portions.entry(Arc::clone(portion)).or_default());
                portion.nodes.entry(leaving.node.clone()).or_default().insert(name, Arc::clone(resource));
            }
        }
    }

    /// What began to leave is withdrawn from other agents with this generation.
    pub fn withdrawn_at(&mut self, generation: u64) {
        for leaving in self.workloads.values_mut() {
            leaving.withdrawn.get_or_insert(generation);
        }
    }
}

impl Leaving {
    fn is_done(&self, agents: &Agents, now: Instant) -> bool {
        now >= self.end || self.withdrawn.is_some_and(|generation| agents.all_acknowledged(generation, now))
    }
}

/// In any namespace: a pod may be said to be of another one now.
fn is_enrolled(portions: &Portions, node: &NodeName, name: &str) -> bool {
    portions.values().any(|portion| holds(portion, node, name))
}

fn holds(portion: &Portion, node: &NodeName, name: &str) -> bool {
    portion.nodes.get(node).is_some_and(|own| own.contains_key(name))
}

#[cfg(test)]
mod tests;
