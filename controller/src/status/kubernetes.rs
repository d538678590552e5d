//! Statuses of objects in the API: read, changed and written at the version that was read, by the leader alone.
//!
//! Only our entries are ever touched, on transitions only, each object at most once in [`limits::STATUS_INTERVAL`]; what
//! an object says already (`Answers`) is not written. Absent: who leads (`leader`), and what is said (`policy`).

mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, Error};
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::PolicyReport;
use super::written::status;
use crate::api::{Access, fault, is};
use crate::leader::Standing;
use crate::limits;
use crate::mesh::Told;
use crate::object::{Key, Kind};
use crate::pause;
use crate::source::kubernetes::{Answers, Digest, digest, divide, resource, united};
use crate::trouble::Troubles;
use wishes::{Turn, Wishes};

#[derive(Clone)]
pub struct Writer {
    pub client: Client,
    pub answers: Arc<Answers>,
    pub troubles: Troubles,
}

/// A write that came to an end.
type Ended = (Key, Compared, Result<Outcome, Fault>);
/// What an object should say, and what it was known to say.
type Compared = (Option<Digest>, Option<Digest>);
type Fault = (Access, Error);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    /// The object says what it can say.
    Nothing,
    /// It is not there. What is known of it says so soon, unless its kind is gone with it.
    Gone,
}

/// What was done of late.
#[derive(Debug, Default)]
struct Past {
    writing: BTreeSet<Key>,
    /// Objects that are not looked at before then.
    until: BTreeMap<Key, Instant>,
    /// Objects that were not there when they were asked for.
    gone: BTreeMap<Key, Instant>,
    /// Kinds that may not be written.
    forbidden: BTreeMap<Kind, Instant>,
    /// Objects that could not be written, and when that was last: others come first.
    failed: BTreeMap<Key, Instant>,
    /// What cannot be said any better, as long as neither changes: others' entries leave no room.
    done: BTreeMap<Key, Compared>,
    /// While the API server is away nothing is tried.
    rest: Option<Instant>,
}

impl Past {
    fn forget(&mut self, now: Instant) {
        self.until.retain(|_, end| *end > now);
        self.gone.retain(|_, end| *end > now);
        self.forbidden.retain(|_, end| *end > now);
        self.rest = self.rest.filter(|end| *end > now);
    }

    /// When an object has its turn again; None: now.
    fn end(&self, key: &Key) -> Option<Instant> {
        let ends = [self.until.get(key), self.gone.get(key), self.forbidden.get(&key.kind), self.rest.as_ref()];
        ends.into_iter().flatten().max().copied()
    }

    /// What failed for one object keeps no other waiting, and what is forbidden for one kind no other kind.
    fn fail(&mut self, key: Key, error: &Error, now: Instant) {
        let code = if let Error::Api(status) = error { Some(status.code) } else { None };
        let rest = match code {
            Some(403) => {
                self.forbidden.insert(key.kind, now + limits::STATUS_RETRY);
                limits::STATUS_RETRY
            }
            None | Some(429) => {
                self.rest = Some(now + limits::STATUS_INTERVAL);
                limits::STATUS_INTERVAL
            }
            Some(_) => limits::STATUS_RETRY / 2,
        };
        // Longer than its kind or everybody rests: it may be the only one that cannot be written.
        self.until.insert(key.clone(), now + rest * 2);
        self.failed.insert(key, now);
    }

    /// What became of these is no matter any more.
    fn keep(&mut self, wishes: &Wishes) {
        self.done.retain(|key, _| wishes.contains(key));
        self.gone.retain(|key, _| wishes.contains(key));
        self.failed.retain(|key, _| wishes.contains(key));
    }
}

impl Writer {
    /// Runs until `stop`, and writes while this controller leads.
    pub async fn run(
        self,
        mut told: watch::Receiver<Arc<Told>>,
        mut standing: watch::Receiver<Standing>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut wishes = Wishes::default();
        let mut known = Arc::<Told>::default();
        let mut past = Past::default();
        let mut writing: JoinSet<Ended> = JoinSet::new();
        loop {
            let now = Instant::now();
            past.forget(now);
            let mut due = None;
            if standing.borrow_and_update().leads {
                let (ready, next) = self.answers.compare(|said, changed| {
                    // Of what was gone and has a word again, it is back: it does not wait.
                    past.gone.retain(|key, _| !changed.contains(key));
                    wishes.choose(said, changed, &past)
                });
                due = next;
                for Turn { key, reports, compared } in ready {
                    past.writing.insert(key.clone());
                    past.until.insert(key.clone(), now + limits::STATUS_INTERVAL);
                    let writer = self.clone();
                    writing.spawn(async move {
                        let outcome = writer.write(&key, &reports).await;
                        (key, compared, outcome)
                    });
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = told.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let newest = told.borrow_and_update().clone();
                    wishes.follow(&known.policies, &newest.policies, newest.complete);
                    past.keep(&wishes);
                    known = newest;
                }
                changed = standing.changed() => if changed.is_err() { return Ok(()) },
                () = self.answers.changed.notified() => {}
                Some(ended) = writing.join_next() => self.note(ended?, &mut past),
                () = pause::until(due) => {}
            }
        }
    }

    fn note(&self, (key, compared, outcome): Ended, past: &mut Past) {
        let topic = format!("status of {}", key.kind.as_str());
        past.writing.remove(&key);
        match outcome {
            Ok(outcome) => {
                self.troubles.clear(&topic);
                past.done.remove(&key);
                past.failed.remove(&key);
                match outcome {
                    Outcome::Written => {}
                    Outcome::Nothing => drop(past.done.insert(key, compared)),
                    Outcome::Gone => drop(past.gone.insert(key, Instant::now() + limits::STATUS_RETRY)),
                }
            }
            Err((access, error)) => {
                if is(&error, 403) {
                    self.troubles.raise(&topic, fault(access, &error));
                } else {
                    tracing::warn!(object = %key, "cannot write the status: {}", fault(access, &error).problem);
                }
                past.fail(key, &error, Instant::now());
            }
        }
    }

    /// Conflicts and failures are left to the next turn: what is not said yet is still wished for.
    async fn write(&self, key: &Key, reports: &[PolicyReport]) -> Result<Outcome, Fault> {
        let Some(version) = self.answers.version(key.kind) else { return Ok(Outcome::Gone) };
        let resource = resource(key.kind, version);
        let api: Api<DynamicObject> = if key.kind.is_namespaced() {
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        let group = key.kind.group();
        let read = Access { verb: "get", group, resource: key.kind.plural() };
        let found = api.get_opt(&key.name).await.map_err(|error| (read, error))?;
        let Some(object) = found else { return Ok(Outcome::Gone) };
        let (known, others) = divide(key.kind, &object.data);
        let mut entries = entries(reports, &known, whole_second());
        // Others' entries are never pushed out.
        entries.truncate(limit(key).saturating_sub(others.len()));
        if digest(&entries) == digest(&known) {
            return Ok(Outcome::Nothing);
        }
        let patch = json!({
            "metadata": {"resourceVersion": object.metadata.resource_version},
            "status": united(key.kind, others, entries),
        });
        let patched = api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match patched {
            Ok(_) => {
                for report in reports {
                    let (target, reason) = (&report.target, report.reason.as_str());
                    tracing::info!(object = %key, target, reason, "{}", report.message);
                }
                Ok(Outcome::Written)
            }
            // Somebody else was faster, or the object is gone: the next word of the API says which.
            Err(error) if is(&error, 409) || is(&error, 404) => Ok(Outcome::Written),
            Err(error) => Err((Access { verb: "patch", group, resource: key.kind.status() }, error)),
        }
    }
}

/// None of nothing: a status without reports would still be one.
fn entries(reports: &[PolicyReport], known: &[Json], now: Timestamp) -> Vec<Json> {
    if reports.is_empty() { Vec::new() } else { status(reports, known, now).entries() }
}

/// As the API's own times are.
fn whole_second() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

fn limit(key: &Key) -> usize {
    if key.kind.is_route() { limits::PARENTS_PER_ROUTE } else { limits::ANCESTORS }
}

#[cfg(test)]
mod tests;
