//! The one place where the mesh's state is made: readings and reports come in, published generations go out.
//!
//! A change is translated at once when nothing is being translated; what comes meanwhile is one more translation.
//! Disenrolment has two phases: a workload stops being mesh-capable first, and its enrolment goes when the other
//! agents have acknowledged that, or after a few leases.

mod retire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::agents::{Agents, Refusals, Remembered, STATE_FILE};
use crate::object::Key;
use crate::publish::Published;
use crate::source::Defect;
use crate::source::directory::Reading;
use crate::state;
use crate::status::{self, PolicyCondition, PolicyReport, StatusFolder};
use crate::translate::{Facts, Finding, Observed, Translation, translate};

use retire::Retiring;

/// What streams and requests share: the newest of everything.
#[derive(Debug, Clone)]
pub struct Mesh {
    pub readings: watch::Receiver<Arc<Reading>>,
    pub published: watch::Receiver<Arc<Published>>,
    pub told: watch::Receiver<Arc<Told>>,
    agents: Arc<Mutex<Agents>>,
    /// Agents said something that the mesh should know.
    reported: Arc<Notify>,
}

/// What people are told about the last translation.
#[derive(Debug, Default)]
pub struct Told {
    pub policies: BTreeMap<Key, Vec<PolicyReport>>,
    pub findings: BTreeSet<Finding>,
    /// How long the last translation took, in microseconds.
    pub translation_micros: u128,
}

impl Mesh {
    /// The agents, for a moment: never held across an await.
    pub fn agents(&self) -> MutexGuard<'_, Agents> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn announce_report(&self) {
        self.reported.notify_one();
    }
}

/// Makes generations until it is stopped.
#[derive(Debug)]
pub struct Maker {
    mesh: Mesh,
    facts: Facts,
    published: watch::Sender<Arc<Published>>,
    told: watch::Sender<Arc<Told>>,
    folder: StatusFolder,
    retiring: Retiring,
    state_file: PathBuf,
    remembered: Remembered,
    /// Of the last translation.
    conditions: BTreeMap<Key, Vec<PolicyCondition>>,
    /// What agents could not apply, as people are told.
    refusals: Refusals,
    /// Told in the log already.
    defects: Vec<Defect>,
}

impl Maker {
    pub fn new(
        facts: Facts,
        readings: watch::Receiver<Arc<Reading>>,
        folder: StatusFolder,
        state_dir: &std::path::Path,
    ) -> anyhow::Result<Self> {
        let state_file = state_dir.join(STATE_FILE);
        let remembered: Remembered = match std::fs::read(&state_file) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged", state_file.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Remembered::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", state_file.display())),
        };
        let agents = Agents::new(facts.lease, remembered, Instant::now());
        let remembered = agents.remember();
        let (published, published_receiver) = watch::channel(Arc::default());
        let (told, told_receiver) = watch::channel(Arc::default());
        let mesh = Mesh {
            readings,
            published: published_receiver,
            told: told_receiver,
            agents: Arc::new(Mutex::new(agents)),
            reported: Arc::default(),
        };
        Ok(Self {
            mesh,
            facts,
            published,
            told,
            folder,
            retiring: Retiring::default(),
            state_file,
            remembered,
            conditions: BTreeMap::new(),
            refusals: Refusals::new(),
            defects: Vec::new(),
        })
    }

    #[must_use]
    pub fn mesh(&self) -> Mesh {
        self.mesh.clone()
    }

    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut readings = self.mesh.readings.clone();
        let mut last: Option<(Arc<Reading>, Observed)> = None;
        loop {
            let now = Instant::now();
            let reading = readings.borrow_and_update().clone();
            let observed = self.mesh.agents().observe(now);
            let refusals = self.mesh.agents().refusals(now);
            let refused = std::mem::replace(&mut self.refusals, refusals) != self.refusals;
            let same = last.as_ref().is_some_and(|(known, seen)| Arc::ptr_eq(known, &reading) && *seen == observed);
            if !reading.listed {
                self.tell(&reading.defects);
            } else if reading.withheld {
                self.withhold(&reading);
            } else if !same || self.retiring.is_due(&self.mesh.agents(), now) {
                self.step(&reading, &observed).await?;
                last = Some((reading, observed));
            } else if refused {
                let told = self.told.borrow().clone();
                self.report(&reading, told.findings.clone(), told.translation_micros);
            }
            let end = self.next_look(now);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // Its watcher ends with us, and its error, if it had one, is told by whoever joins it.
                changed = readings.changed() => if changed.is_err() { return Ok(()) },
                () = self.mesh.reported.notified() => {}
                () = sleep_until(end) => {}
            }
        }
    }

    /// Half of a lease is when a silent node begins to count, a whole one when it is gone; retirement has ends of its own.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let lease = self.mesh.agents().next_end(now);
        [lease, self.retiring.next_end()].into_iter().flatten().min()
    }

    async fn step(&mut self, reading: &Arc<Reading>, observed: &Observed) -> anyhow::Result<()> {
        let begun = Instant::now();
        let (facts, objects, observed) = (self.facts.clone(), Arc::clone(reading), observed.clone());
        let translated = tokio::task::spawn_blocking(move || translate(&objects.objects, &observed, &facts));
        let mut translation = translated.await.context("translation failed")?;
        let before = self.mesh.published.borrow().clone();
        let inhabited = reading.objects.pods.values().filter_map(|pod| pod.node.clone()).collect();
        self.retiring.keep(&before, &mut translation, &reading.objects, &self.mesh.agents(), begun);
        let Translation { shared, nodes, conditions, findings } = translation;
        if let Some(next) = before.next(shared, nodes) {
            tracing::debug!(generation = next.generation, micros = begun.elapsed().as_micros(), "published");
            self.retiring.withdrawn_at(next.generation);
            self.published.send_replace(Arc::new(next));
        }
        self.tell(&reading.defects);
        for finding in findings.difference(&self.told.borrow().findings) {
            tracing::warn!(object = finding.object, "{}", finding.message);
        }
        self.mesh.agents().forget(&inhabited, begun);
        self.conditions = conditions;
        self.report(reading, findings, begun.elapsed().as_micros());
        Ok(())
    }

    /// Tells people what became of each object: by the last translation, and by what agents say now.
    fn report(&mut self, reading: &Reading, findings: BTreeSet<Finding>, translation_micros: u128) {
        let mut policies = status::reports(&self.conditions, &reading.defects, &reading.stand_ins);
        let published = self.mesh.published.borrow().clone();
        status::add_refusals(&mut policies, &self.refusals, |name| published.of_any_node(name));
        self.told.send_replace(Arc::new(Told { policies: policies.clone(), findings, translation_micros }));
        self.write(policies, reading);
    }

    /// What was published stays; people are told why nothing follows.
    fn withhold(&mut self, reading: &Reading) {
        self.tell(&reading.defects);
        let mut policies = self.told.borrow().policies.clone();
        policies.extend(status::reports(&BTreeMap::new(), &reading.defects, &reading.stand_ins));
        self.folder.write(policies, &reading.defects, Timestamp::now());
    }

    /// Each defect once in the log, for as long as it lasts.
    fn tell(&mut self, defects: &[Defect]) {
        for defect in defects.iter().filter(|defect| !self.defects.contains(defect)) {
            tracing::warn!("{defect}");
        }
        self.defects = defects.to_vec();
    }

    /// Small files, written on transitions only.
    fn write(&mut self, policies: BTreeMap<Key, Vec<PolicyReport>>, reading: &Reading) {
        self.folder.write(policies, &reading.defects, Timestamp::now());
        let remembered = self.mesh.agents().remember();
        if remembered == self.remembered {
            return;
        }
        let written = serde_json::to_vec(&remembered).map_err(anyhow::Error::from);
        match written.and_then(|text| state::replace(&self.state_file, &text)) {
            Ok(()) => self.remembered = remembered,
            Err(error) => tracing::warn!("cannot remember what agents reported: {error:#}"),
        }
    }
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}
