//! Observed pods: their connections are noted, and nothing else happens to them.
//!
//! Invariant: a pod is observed only once nothing of it is captured any more, also while it leaves.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use weft_proto::names::WorkloadUid;

use super::Enroller;
use crate::bpf::NetnsCookie;
use crate::model::{Enrolment, Snapshot};

/// What became of one pod that is to be observed.
#[derive(Debug, Clone)]
pub struct ObservedPod {
    pub uid: WorkloadUid,
    pub name: Arc<str>,
    /// Where it is observed. None, without a problem: it has not begun to run, or still leaves the mesh.
    pub netns: Option<NetnsCookie>,
    /// Why it is not observed, in a sentence.
    pub problem: Option<String>,
}

impl Enroller {
    /// Brings what is noted to what the snapshot wants. `confirmed`: a controller has said so in this process' life; until
    /// then nothing that was seen is forgotten.
    pub fn observe(&self, snapshot: &Snapshot, confirmed: bool) -> Vec<ObservedPod> {
        let wanted = snapshot.observations.values().filter(|pod| !snapshot.enrolments.contains_key(&pod.uid));
        let followed: Vec<ObservedPod> = wanted.map(|pod| self.observe_one(snapshot, pod)).collect();
        let stay: HashSet<NetnsCookie> = followed.iter().filter_map(|pod| pod.netns).collect();
        // One that could not be looked at may be observed all the same.
        let sure = followed.iter().all(|pod| pod.problem.is_none());
        if confirmed
            && sure
            && let Err(error) = self.datapath.observe_only(&stay)
        {
            tracing::warn!(%error, "what was seen of pods that are not observed any more stays in the kernel");
        }
        followed
    }

    fn observe_one(&self, snapshot: &Snapshot, pod: &Enrolment) -> ObservedPod {
        let name = snapshot.workloads.get(&pod.uid).map_or_else(|| Arc::from(""), |row| Arc::clone(&row.name));
        let (netns, problem) = match self.try_observe(pod) {
            Ok(netns) => (netns, None),
            Err(problem) => (None, Some(problem)),
        };
        ObservedPod { uid: pod.uid.clone(), name, netns, problem }
    }

    fn try_observe(&self, pod: &Enrolment) -> Result<Option<NetnsCookie>, String> {
        if self.enrolled.contains_key(&pod.uid) {
            return Ok(None);
        }
        let netns = match self.surroundings.sandboxes.netns(&pod.uid, pod.netns.as_deref()) {
            Ok(netns) => netns,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("its network namespace cannot be opened: {error}")),
        };
        let entered = netns.run(|| self.datapath.observe(netns.cookie()));
        let noted = entered.map_err(|error| format!("its network namespace cannot be entered: {error}"))?;
        noted.map_err(|error| format!("the kernel refused it: {error}"))?;
        Ok(Some(netns.cookie()))
    }
}
