//! Pods that no controller has told of go their namespace's way: direct where it is open, refused where it is closed.
//!
//! Invariants: this lasts while no controller tells, and no moment longer: it knows better. No row of a pod that anybody has told of is
//! touched: a process of one pod may be in the namespace of another. What cannot be looked at stays as it is.

use std::collections::HashMap;
use std::sync::Arc;

use weft_policy::{Policy, PolicyName};
use weft_proto::names::WorkloadUid;

use super::{Enroller, Outcome, put};
use crate::bpf::{CapturedPod, NetnsCookie};
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
    /// Whether pods may come that are not to say a word before they are guarded.
    #[must_use]
    pub fn awaits_newcomers(snapshot: &Snapshot, applied: &Applied) -> bool {
        !applied.in_step && snapshot.namespaces.values().any(|way| *way == FailureMode::Closed)
    }

    /// Guards those that came while no controller is there.
    pub fn follow_newcomers(&mut self, snapshot: &Snapshot, applied: &Applied) -> Vec<Outcome> {
        let found = if applied.in_step { Ok(Vec::new()) } else { look(&self.surroundings.pod_logs, snapshot) };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "new pods cannot be looked for; those that were refused still are");
                return Vec::new();
            }
        };
        let found: HashMap<&WorkloadUid, &Newcomer> = found.iter().map(|newcomer| (&newcomer.uid, newcomer)).collect();
        let stays = |uid: &WorkloadUid| found.contains_key(uid) && self.surroundings.sandboxes.is_there(uid);
        let gone: Vec<_> = self.newcomers.keys().filter(|uid| !stays(uid)).cloned().collect();
        for uid in gone {
            self.leave_newcomer(&uid, snapshot);
        }
        found.into_values().filter_map(|newcomer| self.follow_newcomer(snapshot, newcomer)).collect()
    }

    /// None: it has no namespace of its own (yet, or any more).
    fn follow_newcomer(&mut self, snapshot: &Snapshot, newcomer: &Newcomer) -> Option<Outcome> {
        let uid = &newcomer.uid;
        let netns = self.surroundings.sandboxes.netns(uid, None).ok()?;
        let cookie = netns.cookie();
        if self.belongs_to_others(uid, cookie) {
            return None;
        }
        let before = self.newcomers.entry(uid.clone()).or_default().clone();
        let mut problem = if newcomer.way == FailureMode::Open { DIRECT } else { REFUSED }.to_owned();
        let wanted = (newcomer.way == FailureMode::Closed).then(|| row::pod(snapshot, &nobody(uid.clone()), cookie));
        if let Some(wanted) = wanted.filter(|wanted| before.as_ref() != Some(wanted)) {
            if let Some(before) = before.filter(|before| before.netns != cookie) {
                self.let_go(uid, before.netns);
            }
            match put(&self.datapath, &wanted, &netns, &[]) {
                Ok(()) => drop(self.newcomers.insert(uid.clone(), Some(wanted))),
                Err(error) => problem = format!("it is not guarded: {error}"),
            }
        }
        let cookie = self.newcomers.get(uid).and_then(|guarded| Some(guarded.as_ref()?.netns));
        let (uid, name) = (uid.clone(), newcomer.name.clone());
        let outcome = Outcome { uid, name, cookie, enrolled: false, problem: Some(problem) };
        self.say_once(&outcome);
        Some(outcome)
    }

    /// Whether a pod that somebody has told of, or another newcomer, is in that namespace, now or by what a predecessor hands over.
    fn belongs_to_others(&self, uid: &WorkloadUid, cookie: NetnsCookie) -> bool {
        let others = self.newcomers.iter().filter(|(other, _)| *other != uid).filter_map(|(_, row)| row.as_ref());
        self.enrolled.values().any(|enrolled| enrolled.pod.netns.cookie() == cookie)
            || self.guarded.values().chain(others).any(|row| row.netns == cookie)
            || self.inherited.keys().any(|(_, inherited)| *inherited == cookie.0)
    }

    /// One that is to be captured stays guarded until it is enrolled.
    fn leave_newcomer(&mut self, uid: &WorkloadUid, snapshot: &Snapshot) {
        self.problems.remove(uid);
        let Some(CapturedPod { netns, .. }) = self.newcomers.remove(uid).flatten() else { return };
        if !snapshot.enrolments.contains_key(uid) && !self.belongs_to_others(uid, netns) {
            self.let_go(uid, netns);
        }
    }

    fn let_go(&self, uid: &WorkloadUid, netns: NetnsCookie) {
        if let Err(error) = self.datapath.disenrol(netns) {
            tracing::warn!(workload = %uid, %error, "a pod could not be taken off the kernel");
        }
    }
}
