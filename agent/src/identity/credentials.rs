//! The credentials of this node's workloads, as the data path reads them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;
use weft_proto::names::{Identity, WorkloadUid};

use super::Credential;
use crate::tls::Trust;

/// Reads never wait and take no lock.
#[derive(Debug, Clone)]
pub struct Credentials {
    rows: Arc<ArcSwap<Rows>>,
    facts: Arc<ArcSwap<Vec<CertificateFacts>>>,
    wanted: Arc<watch::Sender<Option<Wanted>>>,
}

pub(super) type Rows = HashMap<WorkloadUid, Arc<Credential>>;

/// What the snapshot asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) workloads: Vec<(WorkloadUid, Identity)>,
    pub(super) trust: Trust,
}

/// A certificate for people: status and `weft why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    /// Nothing for the node's own.
    pub workload: Option<WorkloadUid>,
    /// The SPIFFE identity that it proves or that is asked for.
    pub identity: String,
    /// Nothing while there is none.
    #[serde(serialize_with = "readable")]
    pub not_after: Option<SystemTime>,
    pub generation: u64,
    /// Why the last attempt to get or renew it failed; nothing after a success.
    pub last_error: Option<String>,
}

impl CertificateFacts {
    #[must_use]
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_after.is_some_and(|end| now <= end)
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self { rows: Arc::default(), facts: Arc::default(), wanted: Arc::new(watch::Sender::default()) }
    }
}

impl Credentials {
    /// Credentials that nobody renews.
    #[must_use]
    pub fn fixed(credentials: impl IntoIterator<Item = Credential>) -> Self {
        let this = Self::default();
        this.publish(credentials.into_iter().map(|row| (row.uid.clone(), Arc::new(row))).collect(), Vec::new());
        this
    }

    /// No credential, but these facts about some: for tests of what people are shown.
    #[must_use]
    pub fn shown(facts: Vec<CertificateFacts>) -> Self {
        let this = Self::default();
        this.publish(Rows::default(), facts);
        this
    }

    /// This workload's credential. It may have ended: `Credential::check_time` says so with the reason.
    #[must_use]
    pub fn of(&self, workload: &WorkloadUid) -> Option<Arc<Credential>> {
        self.rows.load().get(workload).cloned()
    }

    /// The whole set of workloads that need a credential, and whom to believe, both from one snapshot. A workload that is
    /// not named loses its credential and its kept key at once, so this is not to be called before a snapshot is known.
    pub fn want(&self, mut workloads: Vec<(WorkloadUid, Identity)>, trust: Trust) {
        workloads.sort_unstable();
        workloads.dedup_by(|one, other| one.0 == other.0);
        let next = Some(Wanted { workloads, trust });
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != next;
            *wanted = next;
            changed
        });
    }

    /// One row per wanted workload.
    #[must_use]
    pub fn facts(&self) -> Arc<Vec<CertificateFacts>> {
        self.facts.load_full()
    }

    pub(super) fn wanted(&self) -> watch::Receiver<Option<Wanted>> {
        self.wanted.subscribe()
    }

    pub(super) fn publish(&self, rows: Rows, facts: Vec<CertificateFacts>) {
        self.rows.store(Arc::new(rows));
        self.facts.store(Arc::new(facts));
    }
}

/// As RFC 3339.
#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn readable<S: serde::Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.and_then(|time| jiff::Timestamp::try_from(time).ok()).serialize(serializer)
}
