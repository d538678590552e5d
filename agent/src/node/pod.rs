//! One enrolled pod, as the workers see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use weft_proto::names::WorkloadUid;

use super::netns::Netns;
use crate::limits;
use crate::model::{Enrolment, Snapshot};

/// Shared by all workers; nothing in it is ever locked.
#[derive(Debug)]
pub struct Pod {
    pub uid: WorkloadUid,
    pub netns: Netns,
    /// No new connection is accepted any more: disenrolled, or handed over.
    pub retired: CancellationToken,
    /// The pod's namespace is gone: what is left of its connections ends now, so that nothing pins it.
    pub gone: CancellationToken,
    /// What was last known of it: decides what is under way when the snapshot has just let go of the pod.
    last: ArcSwap<Enrolment>,
    outbound: AtomicUsize,
    inbound: AtomicUsize,
}

/// A place in a pod's budget of connections, given back when dropped.
#[derive(Debug)]
pub struct Place {
    pod: Arc<Pod>,
    role: Role,
}

/// Which of a pod's two kinds of listeners accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Outbound,
    Inbound,
}

impl Pod {
    #[must_use]
    pub fn new(enrolment: Arc<Enrolment>, netns: Netns) -> Self {
        Self {
            uid: enrolment.uid.clone(),
            netns,
            retired: CancellationToken::new(),
            gone: CancellationToken::new(),
            last: ArcSwap::new(enrolment),
            outbound: AtomicUsize::new(0),
            inbound: AtomicUsize::new(0),
        }
    }

    /// How the pod is captured and guarded in `snapshot`; where it has just gone from it, how it was until then.
    #[must_use]
    pub fn enrolment(&self, snapshot: &Snapshot) -> Arc<Enrolment> {
        snapshot.enrolments.get(&self.uid).cloned().unwrap_or_else(|| self.last.load_full())
    }

    /// Remembers what is known now.
    pub fn remember(&self, enrolment: &Arc<Enrolment>) {
        if !Arc::ptr_eq(&self.last.load(), enrolment) {
            self.last.store(Arc::clone(enrolment));
        }
    }

    /// Takes a place; None when the pod's budget (`limits::CONNECTIONS_PER_POD`) is spent.
    pub fn admit(self: &Arc<Self>, role: Role) -> Option<Place> {
        let count = self.count(role);
        if count.fetch_add(1, Ordering::Relaxed) >= limits::CONNECTIONS_PER_POD {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { pod: Arc::clone(self), role })
    }

    /// Connections that live now.
    #[must_use]
    pub fn connections(&self, role: Role) -> usize {
        self.count(role).load(Ordering::Relaxed)
    }

    fn count(&self, role: Role) -> &AtomicUsize {
        match role {
            Role::Outbound => &self.outbound,
            Role::Inbound => &self.inbound,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pod.count(self.role).fetch_sub(1, Ordering::Relaxed);
    }
}
