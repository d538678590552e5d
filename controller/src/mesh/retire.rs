//! Workloads that leave the mesh while they live: their enrolment stays until no other agent dials them as mesh peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use weft_proto::names::{NodeName, WorkloadUid};
use weft_proto::v1::{Resource, resource::Body};

use crate::agents::Agents;
use crate::limits;
use crate::publish::Published;
use crate::store::Objects;
use crate::translate::{Resources, Translation};

#[derive(Debug, Default)]
pub struct Retiring {
    workloads: BTreeMap<WorkloadUid, Leaving>,
}

#[derive(Debug)]
struct Leaving {
    node: NodeName,
    /// The enrolment and the policies that it names.
    resources: Vec<Arc<Resource>>,
    /// The generation that withdrew `mesh_capable`; None until it is published.
    withdrawn: Option<u64>,
    end: Instant,
}

impl Retiring {
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.workloads.values().map(|leaving| leaving.end).min()
    }

    /// Some enrolment may go now.
    #[must_use]
    pub fn is_due(&self, agents: &Agents, now: Instant) -> bool {
        self.workloads.values().any(|leaving| leaving.is_done(agents, now))
    }

    /// Adds to `translation` what has to stay a little longer.
    pub fn keep(
        &mut self,
        before: &Published,
        translation: &mut Translation,
        objects: &Objects,
        agents: &Agents,
        now: Instant,
    ) {
        let end = now + agents.lease() * limits::DISENROLMENT_LEASES;
        for (node, own) in &before.nodes {
            for (name, resource) in own {
                let Some(Body::Enrolment(enrolment)) = &resource.body else { continue };
                let wanted = translation.nodes.get(node).is_some_and(|own| own.contains_key(name));
                let Ok(uid) = enrolment.uid.parse::<WorkloadUid>() else { continue };
                if wanted || self.workloads.contains_key(&uid) || !reported(agents, node, &uid) {
                    continue;
                }
                let policies = enrolment.authorization.iter().filter_map(|name| own.get(name.as_str()));
                let resources = policies.chain([resource]).cloned().collect();
                self.workloads.insert(uid, Leaving { node: node.clone(), resources, withdrawn: None, end });
            }
        }
        self.workloads.retain(|uid, leaving| {
            let lives = objects.pod(uid).is_some_and(|pod| !pod.finished && pod.node.as_ref() == Some(&leaving.node));
            let name = weft_proto::resource::enrolment(uid.as_str());
            let returned = translation.nodes.get(&leaving.node).is_some_and(|own| own.contains_key(name.as_str()));
            lives && !returned && !leaving.is_done(agents, now)
        });
        for leaving in self.workloads.values() {
            let own: &mut Resources = translation.nodes.entry(leaving.node.clone()).or_default();
            for resource in &leaving.resources {
                own.entry(Arc::from(resource.name.as_str())).or_insert_with(|| Arc::clone(resource));
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

/// Never reported: nobody was told that it is a mesh peer, so nobody has to acknowledge.
fn reported(agents: &Agents, node: &NodeName, uid: &WorkloadUid) -> bool {
    agents.iter().any(|(name, agent)| name == node && agent.workloads.contains(uid))
}
