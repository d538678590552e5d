//! How pods leave: in two phases, and leaving nothing behind.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

use weft_proto::names::WorkloadUid;

use super::{Enroller, sysctl};
use crate::bpf::CapturedPod;
use crate::limits;
use crate::model::Snapshot;
use crate::node::pod::Pod;

/// A pod that is not enrolled any more; its connections may go on as long as its namespace is there.
pub(super) struct Left {
    pod: Weak<Pod>,
    uid: WorkloadUid,
    named: Option<PathBuf>,
}

impl Enroller {
    /// First its own connections go direct; what others still send to the agent is served for a grace, because they
    /// hear of the change at the same moment as this node; then the pod is left alone.
    pub(super) fn disenrol_unwanted(&mut self, snapshot: &Snapshot) {
        let unwanted: Vec<_> =
            self.enrolled.keys().filter(|uid| !snapshot.enrolments.contains_key(*uid)).cloned().collect();
        for uid in unwanted {
            let since = self.leave(&uid);
            if since.elapsed() >= limits::DISENROLMENT_GRACE {
                self.disenrol(&uid);
            }
        }
        self.waiting.retain(|uid, _| snapshot.enrolments.contains_key(uid));
        self.guarded.retain(|uid, _| snapshot.enrolments.contains_key(uid));
        self.problems.retain(|uid, _| snapshot.enrolments.contains_key(uid) || self.newcomers.contains_key(uid));
        self.retain_rows(snapshot);
    }

    /// Rows that a predecessor left for pods that are gone. Those of wanted pods go on deciding by their failure mode
    /// until each is enrolled anew; when any of them cannot be looked at, nothing is removed.
    fn retain_rows(&self, snapshot: &Snapshot) {
        let mut stay: Vec<_> = self.enrolled.values().map(|enrolled| enrolled.pod.netns.cookie()).collect();
        stay.extend(self.newcomers.values().flatten().map(|guarded| guarded.netns));
        for enrolment in snapshot.enrolments.values() {
            match self.surroundings.sandboxes.netns(&enrolment.uid, enrolment.netns.as_deref()) {
                Ok(netns) => stay.push(netns.cookie()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return,
            }
        }
        if let Err(error) = self.datapath.retain(&stay) {
            tracing::warn!(%error, "the rows of pods that are gone stay in the kernel");
        }
    }

    fn leave(&mut self, uid: &WorkloadUid) -> Instant {
        let Some(enrolled) = self.enrolled.get_mut(uid) else { return Instant::now() };
        if let Some(since) = enrolled.leaving {
            return since;
        }
        let quiet = CapturedPod { outbound: false, ..enrolled.row.clone() };
        match self.datapath.update(&quiet) {
            Ok(()) => enrolled.row = quiet,
            Err(error) => tracing::warn!(workload = %uid, %error, "a pod that leaves is still captured"),
        }
        *enrolled.leaving.insert(Instant::now())
    }

    pub(super) fn disenrol(&mut self, uid: &WorkloadUid) {
        let Some(enrolled) = self.enrolled.remove(uid) else { return };
        let cookie = enrolled.pod.netns.cookie();
        // The row goes first, so that nothing new is led to listeners that are about to close.
        if let Err(error) = self.datapath.disenrol(cookie) {
            tracing::warn!(workload = %uid, %error, "a pod could not be taken off the kernel");
        }
        enrolled.pod.retired.cancel();
        let original = self.originals.take(cookie);
        let restored = original.map(|original| {
            let root = &self.surroundings.sysctl_root;
            enrolled.pod.netns.run(|| sysctl::restore(root, &original)).and_then(|result| result)
        });
        if let Some(Err(error)) = restored {
            tracing::warn!(workload = %uid, %error, "a pod's settings could not be restored");
        }
        self.left.push(Left { pod: Arc::downgrade(&enrolled.pod), uid: uid.clone(), named: enrolled.named });
        tracing::info!(workload = %uid, "disenrolled");
    }

    /// The pod's namespace is gone: nothing of ours may pin it.
    pub(super) fn lose(&mut self, uid: &WorkloadUid) {
        if let Some(enrolled) = self.enrolled.get(uid) {
            enrolled.pod.gone.cancel();
            self.disenrol(uid);
        }
    }

    /// Cuts the connections of pods that left the mesh first and the node then.
    pub(super) fn end_what_left(&mut self) {
        let sandboxes = &self.surroundings.sandboxes;
        self.left.retain(|left| {
            let Some(pod) = left.pod.upgrade() else { return false };
            match sandboxes.netns(&left.uid, left.named.as_deref()) {
                Ok(netns) if netns.cookie() == pod.netns.cookie() => true,
                Err(error) if error.kind() != io::ErrorKind::NotFound => true,
                Ok(_) | Err(_) => {
                    pod.gone.cancel();
                    false
                }
            }
        });
    }
}
