//! The snapshot in force, for everybody who decides by it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::model::{Snapshot, SnapshotVersion};

/// A resource that could not be applied as written; its kind's safe reading is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nack {
    pub resource: String,
    #[serde(skip)]
    pub version: Vec<u8>,
    pub reason: String,
}

/// What is known of the snapshot in force besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    pub version: SnapshotVersion,
    /// When it came into force here; None before the first one.
    pub at: Option<Timestamp>,
    /// A controller has said since this process began that this is all; false for what was read from the disk alone.
    pub confirmed: bool,
    /// A stream stands on which a controller has said so: what is not in the snapshot is not meant to be there. False while none is.
    pub in_step: bool,
    /// All that stand now, by name; at most `limits::NACKS_MAXIMUM`.
    pub nacks: Vec<Nack>,
}

/// Reads the snapshot in force. Cheap to clone; every clone sees every later snapshot.
#[derive(Debug, Clone)]
pub struct Snapshots {
    current: Arc<ArcSwap<Snapshot>>,
    applied: watch::Receiver<Arc<Applied>>,
}

/// Puts a snapshot in force. There is one.
#[derive(Debug)]
pub(super) struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    applied: watch::Sender<Arc<Applied>>,
}

impl Snapshots {
    /// Without a lock. Keep the snapshot for the whole of one decision; do not ask again in the middle.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// For followers on the control side: changes after every snapshot; one that is slow sees the newest alone.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Arc<Applied>> {
        self.applied.clone()
    }

    /// One snapshot that never changes, for tests and tools.
    #[must_use]
    pub fn fixed(snapshot: Snapshot) -> Self {
        publication(snapshot, Vec::new(), None).1
    }
}

impl Publisher {
    pub(super) fn publish(&self, snapshot: Snapshot, nacks: Vec<Nack>, at: Timestamp) {
        let version = snapshot.version.clone();
        let applied = Applied { version, at: Some(at), confirmed: true, in_step: true, nacks };
        self.current.store(Arc::new(snapshot));
        self.applied.send_replace(Arc::new(applied));
    }

    /// The snapshot in force is what the controller has now.
    pub(super) fn confirm(&self) {
        self.applied.send_if_modified(|applied| {
            let news = !applied.in_step;
            if news {
                *applied = Arc::new(Applied { confirmed: true, in_step: true, ..Applied::clone(applied) });
            }
            news
        });
    }

    /// No controller tells what changes.
    pub(super) fn lose_step(&self) {
        self.applied.send_if_modified(|applied| {
            let news = applied.in_step;
            if news {
                *applied = Arc::new(Applied { in_step: false, ..Applied::clone(applied) });
            }
            news
        });
    }

    pub(super) fn applied(&self) -> Arc<Applied> {
        Arc::clone(&self.applied.borrow())
    }
}

pub(super) fn publication(snapshot: Snapshot, nacks: Vec<Nack>, at: Option<Timestamp>) -> (Publisher, Snapshots) {
    let applied = Applied { version: snapshot.version.clone(), at, confirmed: false, in_step: false, nacks };
    let current = Arc::new(ArcSwap::from_pointee(snapshot));
    let (sender, receiver) = watch::channel(Arc::new(applied));
    (Publisher { current: Arc::clone(&current), applied: sender }, Snapshots { current, applied: receiver })
}
