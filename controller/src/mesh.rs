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
use crate::ca::Held;
use crate::leader::Standing;
use crate::object::{Capture, Pod};
use crate::pause;
use crate::publish::{Portions, Published};
use crate::source::{Defect, Reading};
use crate::state;
use crate::status::{self, Exceptions, Reports, StatusFolder};
use crate::translate::{Facts, Finding, Observed, Parts, Translator, Workloads};

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
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub policies: Reports,
    pub findings: BTreeSet<Finding>,
    /// How long the last translation took, in microseconds.
    pub translation_micros: u128,
    /// It is about every object: what is not in it has nothing to be told.
    pub complete: bool,
    /// Every pod is to leave the mesh.
    pub removing: bool,
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

/// What was in the state directory of the controller before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is here.
    Kept,
    /// It may have been lost with the pod that it was in, or be older than what agents have told another since.
    MayBeLost,
}

/// Whom agents are to believe, and whether this controller may tell them.
pub type Followed = (watch::Receiver<Held>, watch::Receiver<Standing>);

/// Makes generations until it is stopped.
#[derive(Debug)]
pub struct Maker {
    mesh: Mesh,
    facts: Facts,
    published: watch::Sender<Arc<Published>>,
    told: watch::Sender<Arc<Told>>,
    /// None: statuses are written where the objects are.
    folder: Option<StatusFolder>,
    retiring: Retiring,
    state_file: PathBuf,
    /// What is in the file.
    remembered: Workloads,
    state: State,
    followed: Followed,
    /// The first generation waits until then for agents to say what they serve. None: they were asked before.
    patience: Option<Instant>,
    translator: Translator,
    /// Of the last translation.
    parts: Parts,
    /// What agents could not apply, as people are told.
    refusals: Refusals,
    /// What people were told of the last translation.
    judged: Arc<Told>,
    /// Told in the log already.
    defects: Vec<Defect>,
}

impl Maker {
    pub fn new(
        facts: Facts,
        readings: watch::Receiver<Arc<Reading>>,
        folder: Option<StatusFolder>,
        state_dir: &std::path::Path,
        (state, followed): (State, Followed),
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
        let remembered = agents.workloads();
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
            state,
            followed,
            patience: None,
            translator: Translator::default(),
            parts: Parts::new(),
            refusals: Refusals::new(),
            judged: Arc::default(),
            defects: Vec::new(),
        })
    }

    #[must_use]
    pub fn mesh(&self) -> Mesh {
        self.mesh.clone()
    }

    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Agents speak to the controller that leads, so until then nothing is known.
            leads = self.followed.1.wait_for(|standing| standing.serves) => if leads.is_err() { return Ok(()) },
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Nor are they told of roots that another may have replaced.
            held = self.followed.0.wait_for(|held| held.may_be_told) => if held.is_err() { return Ok(()) },
        }
        self.mesh.agents().start(Instant::now());
        self.patience = (self.state == State::MayBeLost).then(|| Instant::now() + self.facts.lease);
        let mut readings = self.mesh.readings.clone();
        let mut last: Option<(Arc<Reading>, Observed)> = None;
        loop {
            let now = Instant::now();
            let reading = readings.borrow_and_update().clone();
            let observed = self.mesh.agents().observe(now);
            let refusals = self.mesh.agents().refusals(now);
            let refused = std::mem::replace(&mut self.refusals, refusals) != self.refusals;
            let same = last.as_ref().is_some_and(|(known, seen)| Arc::ptr_eq(known, &reading) && *seen == observed);
            self.inherit(&reading);
            let same = self.believe() && same;
            if !reading.listed {
                self.tell(&reading.defects);
            } else if reading.withheld {
                self.withhold(&reading);
            } else if self.awaits_agents(&reading, now) {
                self.tell(&reading.defects);
            } else if !same || self.retiring.is_due(&self.mesh.agents(), now) {
                self.step(&reading, &observed).await?;
                last = Some((reading, observed));
            } else if refused {
                self.report(&reading, self.judged.translation_micros);
            }
            let end = self.next_look(now);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // Its watcher ends with us, and its error, if it had one, is told by whoever joins it.
                changed = readings.changed() => if changed.is_err() { return Ok(()) },
                changed = self.followed.0.changed() => if changed.is_err() { return Ok(()) },
                () = self.mesh.reported.notified() => {}
                () = pause::until(end) => {}
            }
        }
    }

    /// What is there when we begin, others may have had enrolled; what comes later, nobody but us. Told by the first
    /// reading and not by a pod's age, because the API server has another clock.
    fn inherit(&mut self, reading: &Reading) {
        if reading.listed && self.facts.agents.is_some() && self.facts.inherited.is_none() {
            let pods = reading.objects.pods().filter(|pod| pod.node.is_some());
            self.facts.inherited = Some(Arc::new(pods.map(|pod| pod.uid.clone()).collect()));
        }
    }

    /// Takes the roots of the moment. True if they are as they were at the last translation.
    fn believe(&mut self) -> bool {
        let roots = self.followed.0.borrow_and_update().roots.trusted_der();
        let same = self.facts.roots_der == roots;
        self.facts.roots_der = roots;
        same
    }

    /// Half of a lease is when a silent node begins to count, a whole one when it is gone; retirement has ends of its own.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let lease = self.mesh.agents().next_end(now);
        // What is over already and could not be acted on waits for whatever has to change first.
        [lease, self.retiring.next_end(), self.patience].into_iter().flatten().filter(|end| *end > now).min()
    }

    /// Agents that run on may serve pods that a controller without a memory knows nothing of: what is unknown is not
    /// published as "speaks no mTLS". Over when every node with pods has spoken, or after a lease.
    fn awaits_agents(&mut self, reading: &Reading, now: Instant) -> bool {
        let Some(end) = self.patience else { return false };
        let captured = |pod: &&Arc<Pod>| {
            let namespace = reading.objects.namespace(&pod.metadata.namespace);
            !pod.finished && namespace.is_some_and(|namespace| namespace.capture == Some(Capture::Enabled))
        };
        let agents = self.mesh.agents();
        let silent = |pod: &Arc<Pod>| pod.node.as_ref().is_some_and(|node| !agents.has_spoken(node));
        let awaits = now < end && reading.objects.pods().filter(captured).any(silent);
        drop(agents);
        if !awaits {
            self.patience = None;
        }
        awaits
    }

    async fn step(&mut self, reading: &Arc<Reading>, observed: &Observed) -> anyhow::Result<()> {
        let begun = Instant::now();
        let parts = self.translate(reading, observed).await?;
        let before = self.mesh.published.borrow().clone();
        let mut portions: Portions =
            parts.iter().map(|(namespace, part)| (Arc::clone(namespace), Arc::clone(&part.portion))).collect();
        self.retiring.keep(&before, &mut portions, &reading.objects, &self.mesh.agents(), begun);
        self.mesh.agents().set_awaited(!self.retiring.is_empty());
        if let Some(next) = before.next(portions) {
            tracing::debug!(generation = next.generation, micros = begun.elapsed().as_micros(), "published");
            self.retiring.withdrawn_at(next.generation);
            self.published.send_replace(Arc::new(next));
        }
        let micros = begun.elapsed().as_micros();
        self.parts = parts;
        let is_inhabited = |node: &_| reading.objects.pods().any(|pod| pod.node.as_ref() == Some(node));
        self.mesh.agents().forget(is_inhabited, begun);
        self.tell(&reading.defects);
        self.report(reading, micros);
        Ok(())
    }

    async fn translate(&mut self, reading: &Arc<Reading>, observed: &Observed) -> anyhow::Result<Parts> {
        let (facts, reading, observed) = (self.facts.clone(), Arc::clone(reading), observed.clone());
        let mut translator = std::mem::take(&mut self.translator);
        let translated = tokio::task::spawn_blocking(move || {
            let parts = translator.translate(&reading.objects, &observed, &facts);
            (translator, parts)
        });
        let (translator, parts) = translated.await.context("translation failed")?;
        self.translator = translator;
        Ok(parts)
    }

    /// Tells people what became of each object: by the last translation, and by what agents say now.
    fn report(&mut self, reading: &Reading, translation_micros: u128) {
        let published = self.mesh.published.borrow().clone();
        let refused = status::refused(&self.refusals, |node, name| published.find(node, name));
        let conditions = self.parts.iter().map(|(namespace, part)| (namespace, &part.conditions));
        let policies = self.judged.policies.next(conditions, &Exceptions::of(reading, refused));
        let findings: BTreeSet<Finding> = self.parts.values().flat_map(|part| part.findings.iter().cloned()).collect();
        for finding in findings.difference(&self.judged.findings) {
            tracing::warn!(object = finding.object, "{}", finding.message);
        }
        let removing = reading.objects.mesh_config.as_ref().is_some_and(|mesh| !mesh.state.is_active());
        self.judged = Arc::new(Told { policies, findings, translation_micros, complete: true, removing });
        self.told.send_replace(Arc::clone(&self.judged));
        self.answer(&reading.defects);
        self.remember();
    }

    /// What was published stays; people are told why nothing follows.
    fn withhold(&mut self, reading: &Reading) {
        self.tell(&reading.defects);
        let policies = self.judged.policies.but(&Exceptions::of(reading, BTreeMap::new()));
        self.told.send_modify(|told| Arc::make_mut(told).policies = policies);
        self.answer(&reading.defects);
    }

    /// Each defect once in the log, for as long as it lasts.
    fn tell(&mut self, defects: &[Defect]) {
        for defect in defects.iter().filter(|defect| !self.defects.contains(defect)) {
            tracing::warn!("{defect}");
        }
        self.defects = defects.to_vec();
    }

    /// Small files, written on transitions only.
    fn answer(&mut self, defects: &[Defect]) {
        if let Some(folder) = &mut self.folder {
            folder.write(&self.told.borrow().policies, defects, Timestamp::now());
        }
    }

    fn remember(&mut self) {
        let workloads = self.mesh.agents().workloads();
        if workloads == self.remembered {
            return;
        }
        let written = serde_json::to_vec(&Remembered::of(&workloads)).map_err(anyhow::Error::from);
        match written.and_then(|text| state::replace(&self.state_file, &text)) {
            Ok(()) => self.remembered = workloads,
            Err(error) => tracing::warn!("cannot remember what agents reported: {error:#}"),
        }
    }
}

#[cfg(test)]
mod tests;
