//! Pods that no controller has told of go their namespace's way: direct where it is open, refused where it is closed.
//!
//! Invariant: this lasts while no controller tells, and no moment longer: it knows better.

use std::io;
use std::sync::Arc;

use weft_policy::{Policy, PolicyName};
use weft_proto::names::WorkloadUid;

use super::{Enroller, Outcome, put};
use crate::bpf::CapturedPod;
use crate::discovery::Applied;
use crate::model::{Enrolment, FailureMode, Snapshot};
use crate::node::newcomers::{Newcomer, look};
use crate::node::row;

const REFUSED: &str =
    "no controller has told what it is, and its namespace fails closed: what it sends and is sent is refused";
const DIRECT: &str = "no controller has told what it is, and its namespace fails open: its connections go direct";

fn nobody(uid: WorkloadUid) -> Enrolment {
    Enrolment::of_nobody(uid, "no controller", Policy::absent(PolicyName::Operator(Arc::from("no-controller"))))
}

impl Enroller {
    /// Guards those that came while no controller is there. `in_step`: one is.
    pub(super) fn follow_newcomers(&mut self, snapshot: &Snapshot, in_step: bool) -> Vec<Outcome> {
        let found = if in_step { Vec::new() } else { look(&self.surroundings.pod_logs, snapshot) };
        let outcomes: Vec<Outcome> =
            found.iter().filter_map(|newcomer| self.follow_newcomer(snapshot, newcomer)).collect();
        let stays = |uid: &WorkloadUid| outcomes.iter().any(|outcome| outcome.uid == *uid);
        let gone: Vec<_> = self.newcomers.keys().filter(|uid| !stays(uid)).cloned().collect();
        for uid in gone {
            self.leave_newcomer(&uid, snapshot);
        }
        outcomes
    }

    /// Whether pods may come that are not to say a word before they are guarded.
    #[must_use]
    pub fn awaits_newcomers(snapshot: &Snapshot, applied: &Applied) -> bool {
        !applied.in_step && snapshot.namespaces.values().any(|way| *way == FailureMode::Closed)
    }

    /// None: it has no namespace of its own (yet, or any more).
    fn follow_newcomer(&mut self, snapshot: &Snapshot, newcomer: &Newcomer) -> Option<Outcome> {
        let netns = match self.surroundings.sandboxes.netns(&newcomer.uid, None) {
            Ok(netns) => netns,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                return Some(self.outcome_of(newcomer, format!("its network namespace cannot be opened: {error}")));
            }
        };
        let guarded = self.newcomers.entry(newcomer.uid.clone()).or_default();
        if newcomer.way == FailureMode::Open {
            return Some(self.outcome_of(newcomer, DIRECT.to_owned()));
        }
        let wanted = row::pod(snapshot, &nobody(newcomer.uid.clone()), netns.cookie());
        if guarded.as_ref() != Some(&wanted) {
            if let Err(error) = put(&self.datapath, &wanted, &netns, &[]) {
                return Some(self.outcome_of(newcomer, format!("it is not guarded: {error}")));
            }
            *guarded = Some(wanted);
        }
        Some(self.outcome_of(newcomer, REFUSED.to_owned()))
    }

    fn outcome_of(&mut self, newcomer: &Newcomer, problem: String) -> Outcome {
        let (uid, name) = (newcomer.uid.clone(), newcomer.name.clone());
        let cookie = self.newcomers.get(&uid).and_then(|guarded| Some(guarded.as_ref()?.netns));
        let outcome = Outcome { uid, name, cookie, enrolled: false, problem: Some(problem) };
        self.say_once(&outcome);
        outcome
    }

    /// One that is to be captured stays guarded until it is enrolled.
    fn leave_newcomer(&mut self, uid: &WorkloadUid, snapshot: &Snapshot) {
        self.problems.remove(uid);
        let Some(CapturedPod { netns, .. }) = self.newcomers.remove(uid).flatten() else { return };
        if snapshot.enrolments.contains_key(uid) {
            return;
        }
        if let Err(error) = self.datapath.disenrol(netns) {
            tracing::warn!(workload = %uid, %error, "a pod could not be taken off the kernel");
        }
    }
}
