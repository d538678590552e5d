//! Says in the mesh's status whether every pod has left it, after `spec.state: Removing`: what an uninstall waits for.
//!
//! Written by the leader, and only when it changes. Invariant: nothing is said of nodes that are silent; each is cleaned
//! for itself before Weft's objects go.

use std::time::Instant;

use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, Error};
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_crd::ConditionStatus;

use super::condition::{condition, with_condition};
use crate::agents::{Agent, Agents};
use crate::api::{Access, fault, is};
use crate::leader::Standing;
use crate::limits;
use crate::mesh::Mesh;
use crate::object::Kind;
use crate::pause;
use crate::source::kubernetes::resource;
use crate::trouble::Troubles;

/// The type of the condition.
const REMOVED: &str = "Removed";

#[derive(Clone)]
pub struct Farewell {
    pub client: Client,
    pub troubles: Troubles,
}

type Fault = (Access, Error);

impl Farewell {
    /// Runs until `stop`, and writes while this controller leads.
    pub async fn run(
        self,
        mesh: Mesh,
        mut standing: watch::Receiver<Standing>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut told = mesh.told.clone();
        // None: another controller may have said something.
        let mut said = None;
        loop {
            let (leads, about) = (standing.borrow_and_update().leads, told.borrow_and_update().clone());
            let gone =
                about.removing && have_let_go(&mesh.agents(), mesh.published.borrow().generation, Instant::now());
            if !leads {
                said = None;
            } else if about.complete && said != Some(gone) {
                match self.say(gone).await {
                    Ok(()) => {
                        said = Some(gone);
                        self.troubles.clear("removal");
                    }
                    Err((access, error)) => self.troubles.raise("removal", fault(access, &error)),
                }
            }
            let waits = leads && about.complete && (about.removing || said.is_none());
            let again = waits.then(|| Instant::now() + limits::REMOVAL_INTERVAL);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = told.changed() => if changed.is_err() { return Ok(()) },
                changed = standing.changed() => if changed.is_err() { return Ok(()) },
                () = pause::until(again) => {}
            }
        }
    }

    /// That nobody has left is said only where the opposite was.
    async fn say(&self, gone: bool) -> Result<(), Fault> {
        let api: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &resource(Kind::MeshConfig, weft_crd::VERSION));
        let access = |verb, resource| move |error| (Access { verb, group: weft_crd::GROUP, resource }, error);
        let found = api.get_opt(weft_crd::MESH_CONFIG_NAME).await.map_err(access("get", "meshconfigs"))?;
        let Some(mesh) = found else { return Ok(()) };
        let Some(conditions) = changed(&mesh.data["status"]["conditions"], gone, mesh.metadata.generation) else {
            return Ok(());
        };
        let patch = json!({
            "metadata": {"resourceVersion": mesh.metadata.resource_version},
            "status": {"conditions": conditions},
        });
        let patched = api.patch_status(weft_crd::MESH_CONFIG_NAME, &PatchParams::default(), &Patch::Merge(patch)).await;
        match patched {
            Err(error) if is(&error, 404) => Ok(()),
            patched => patched.map(drop).map_err(access("patch", "meshconfigs/status")),
        }
    }
}

/// Every agent that was heard of late knows this generation and serves nobody.
fn have_let_go(agents: &Agents, generation: u64, now: Instant) -> bool {
    let heard = |agent: &Agent| now.duration_since(agent.heard) < agents.lease();
    let serves_nobody = |agent: &Agent| agent.workloads.is_empty() && agent.acknowledged >= generation;
    agents.iter().all(|(_, agent)| !heard(agent) || serves_nobody(agent))
}

/// The conditions with ours as it should be; None if it is so already.
fn changed(known: &Json, gone: bool, generation: Option<i64>) -> Option<Vec<Json>> {
    let conditions = known.as_array().map_or(&[][..], Vec::as_slice);
    let ours = |condition: &&Json| condition["type"] == REMOVED;
    let said = conditions.iter().find(ours).is_some_and(|condition| condition["status"] == "True");
    if said == gone {
        return None;
    }
    let (status, reason, message) = if gone {
        (ConditionStatus::True, "EveryPodHasLeft", "no agent serves a pod any more")
    } else {
        (ConditionStatus::False, "PodsMayBeCaptured", "pods may be captured again")
    };
    Some(with_condition(known, condition(REMOVED, status, reason, message, generation)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_proto::v1;

    use super::*;
    use crate::agents::Remembered;

    #[test]
    fn all_have_let_go_when_everybody_who_speaks_serves_nobody_and_knows_why() {
        let (begin, lease, node) = (Instant::now(), Duration::from_secs(10), "a".parse().unwrap());
        let mut agents = Agents::new(lease, Remembered::default(), begin);
        assert!(have_let_go(&agents, 7, begin), "there is nobody");
        let serves = |uids: &[&str]| {
            let workloads = uids.iter().map(ToString::to_string).collect();
            v1::agent_report::Kind::Enrolled(v1::Enrolled { workloads, failed: vec![] })
        };
        let at = |seconds| begin + Duration::from_secs(seconds);
        agents.hear(&node, serves(&["pod"]), at(0)).unwrap();
        agents.offer(&node, "last".to_owned(), 7, at(20));
        let acknowledgement = v1::Acknowledgement { snapshot: "last".to_owned(), nacks: vec![] };
        agents.hear(&node, v1::agent_report::Kind::Acknowledgement(acknowledgement), at(20)).unwrap();
        assert!(!have_let_go(&agents, 7, at(21)), "it serves a pod");
        agents.hear(&node, serves(&[]), at(21)).unwrap();
        assert!(!have_let_go(&agents, 8, at(22)), "it may not know yet that all are to leave");
        assert!(have_let_go(&agents, 7, at(22)));
        agents.hear(&node, serves(&["pod"]), at(23)).unwrap();
        assert!(have_let_go(&agents, 7, at(33)), "it is silent");
    }

    #[test]
    fn a_condition_is_written_when_it_changes_and_others_stay() {
        let other = json!({"type": "Other", "status": "True"});
        let known = |status: &str| json!([other, {"type": REMOVED, "status": status}]);
        for (before, gone, written) in [
            (Json::Null, false, None),
            (json!([other]), false, None),
            (known("True"), true, None),
            (known("False"), false, None),
            (json!([other]), true, Some("True")),
            (known("False"), true, Some("True")),
            (known("True"), false, Some("False")),
        ] {
            let after = changed(&before, gone, Some(3));
            let Some(status) = written else {
                assert_eq!(after, None, "{before}");
                continue;
            };
            let after = after.unwrap();
            assert_eq!(after.len(), 2, "{before}");
            assert_eq!(after[0], other);
            assert_eq!((&after[1]["type"], &after[1]["status"]), (&json!(REMOVED), &json!(status)), "{before}");
            assert_eq!(after[1]["observedGeneration"], 3);
        }
    }
}
