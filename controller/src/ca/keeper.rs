//! Looks after the roots: learns what others made of them, leads one root to take another's place, and tells when they
//! are lost.
//!
//! Only the controller that leads changes anything, and only from what it has just read. Each step is kept first and told
//! afterwards, so whoever goes on after a crash finds out by reading what is left to tell. Absent: when (`rotation`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_proto::names::NodeName;
use weft_proto::resource::TRUST;
use weft_proto::v1::{Trust, resource::Body};

use super::Authority;
use super::record::Roots;
use super::report::RootReport;
use super::root::Written;
use super::rotation::{self, Heard, Situation, Step, after, looks};
use super::store::Store;
use crate::api::Unanswered;
use crate::leader::Standing;
use crate::limits;
use crate::mesh::Mesh;
use crate::publish::Published;
use crate::source::Defect;
use crate::translate::MESH;
use crate::trouble::Troubles;

#[derive(Debug)]
pub struct Keeper {
    store: Store,
    authority: Arc<Authority>,
    troubles: Troubles,
    /// Since when this controller has led without a break, and known the roots as whoever led before has left them.
    leads: Option<Instant>,
    /// The first generation that was seen to have agents believe the roots as they are.
    told_by: Option<u64>,
    /// What was last said in the mesh's status. None: another controller may have said something.
    said: Option<RootReport>,
    /// When it was last tried to say something there.
    spoke: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(store: Store, authority: Arc<Authority>, troubles: Troubles) -> Self {
        Self { store, authority, troubles, leads: None, told_by: None, said: None, spoke: None }
    }

    /// Runs until `stop`.
    pub async fn run(
        mut self,
        mesh: Mesh,
        mut standing: watch::Receiver<Standing>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut next_look = tokio::time::Instant::now() + looks(&self.authority.roots().record);
        loop {
            let (now, leads) = (Instant::now(), standing.borrow_and_update().leads);
            // Whoever led before may have gone on.
            let begins = leads && self.leads.is_none();
            let roots = self.authority.roots();
            let heard = self.hear(&mesh, &roots, now);
            let report = RootReport::new(&roots, &heard, is_due(&mesh, &roots));
            self.authority.tell(&report);
            let (judged, news) = (self.judge(&mesh, &roots, &heard), self.news(&mesh, report, now));
            let begun = tokio::time::Instant::now();
            if begins || judged != Step::Wait || news.is_some() || begun >= next_look {
                next_look = begun + looks(&roots.record);
                let turn = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    turn = Box::pin(self.turn(leads, judged, news)) => turn,
                };
                match turn {
                    Ok(changed) => {
                        self.troubles.clear("root");
                        self.leads = leads.then(|| self.leads.unwrap_or(now));
                        // The traces do not say it yet.
                        next_look = if changed { begun } else { next_look };
                    }
                    Err(error) => self.troubles.raise("root", lost(error)),
                }
            }
            if !leads {
                (self.leads, self.said) = (None, None);
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(limits::ROTATION_INTERVAL) => {}
                Ok(()) = standing.changed() => {}
            }
        }
    }

    /// What the mesh's status does not say yet, if it is our turn to say it.
    fn news(&mut self, mesh: &Mesh, report: RootReport, now: Instant) -> Option<RootReport> {
        self.leads?;
        let is_there = mesh.readings.borrow().objects.mesh_config.is_some();
        let phase = |report: &RootReport| report.rotation.as_ref().map(|rotation| rotation.phase);
        let same = self.said.as_ref().is_some_and(|said| phase(said) == phase(&report));
        // Whom it waits for changes from moment to moment.
        let rests = same && self.spoke.is_some_and(|spoke| now - spoke < limits::STATUS_INTERVAL);
        let is_news = is_there && !rests && self.said.as_ref() != Some(&report);
        is_news.then(|| {
            self.spoke = Some(now);
            report
        })
    }

    /// Reads what is kept, makes the traces agree with it, and takes the step if all is still as it was judged. True if the
    /// roots are others by that.
    async fn turn(&mut self, leads: bool, step: Step, news: Option<RootReport>) -> anyhow::Result<bool> {
        let asked = OffsetDateTime::now_utc();
        let traces = self.store.traces().await?;
        let names = self.store.names();
        let found = self.store.read().await?.with_context(|| format!("{} is missing", names.record))?;
        let before = self.authority.roots();
        let known = found == before.record;
        let roots = if known { before } else { Arc::new(self.store.parse(found)?) };
        traces.agree(&roots, &names)?;
        // Without a word about it in the mesh's status, a root that we do not know came from anywhere.
        ensure!(
            known || traces.remembered.is_some() || roots.shares(&self.authority.roots()),
            "{} holds another root than the one that agents trust",
            names.record
        );
        if !known {
            self.adopt(Arc::clone(&roots));
        }
        self.authority.confirm(asked);
        if leads {
            self.authority.lead();
        }
        if !self.store.announce(&roots, &traces, leads).await? || !leads {
            return Ok(false);
        }
        if let Some(news) = news {
            self.said = self.store.tell(&news).await?.then_some(news);
        }
        if known { self.take(step, &roots).await } else { Ok(false) }
    }

    async fn take(&mut self, step: Step, roots: &Roots) -> anyhow::Result<bool> {
        let made = match step {
            Step::Make(_) => Some(Written::make(self.authority.trust_domain())?),
            Step::Wait | Step::Lengthen(_) | Step::Enter(_) | Step::Finish => None,
        };
        let Some(record) = after(&roots.record, step, OffsetDateTime::now_utc(), made) else { return Ok(false) };
        let next = Arc::new(self.store.parse(record)?);
        let replaced = self.store.replace(&roots.record, &next.record).await?;
        if replaced {
            self.adopt(next);
        }
        Ok(replaced)
    }

    fn adopt(&mut self, roots: Arc<Roots>) {
        let phase = roots.record.phase().map_or("none", |phase| phase.as_str());
        tracing::info!(signs = roots.issuer().fingerprint, phase, "the mesh's roots are others now");
        self.told_by = None;
        self.authority.adopt(roots);
    }

    fn judge(&self, mesh: &Mesh, roots: &Roots, heard: &Heard) -> Step {
        if self.leads.is_none() {
            return Step::Wait;
        }
        let now = OffsetDateTime::now_utc();
        let longest =
            mesh.readings.borrow().objects.mesh_config.as_ref().and_then(|mesh| mesh.workload_certificate_life);
        let overlap = self.authority.overlap(longest);
        rotation::step(&roots.record, &Situation { now, due: is_due(mesh, roots), overlap, agents: heard })
    }

    fn hear(&mut self, mesh: &Mesh, roots: &Roots, now: Instant) -> Heard {
        if roots.record.next.is_none() || self.leads.is_none() {
            return Heard::default();
        }
        let published = mesh.published.borrow().clone();
        if self.told_by.is_none() && believes(&published).is_some_and(|told| *told == roots.trusted_der()) {
            self.told_by = Some(published.generation);
        }
        let agents = mesh.agents();
        let knows = |acknowledged: u64| self.told_by.is_some_and(|generation| acknowledged >= generation);
        let live = || agents.iter().filter(|(_, agent)| agents.is_live(agent, now));
        let late = live().filter(|(_, agent)| !knows(agent.acknowledged)).map(|(node, _)| node.clone());
        let speaking: BTreeSet<&NodeName> = live().map(|(node, _)| node).collect();
        Heard {
            settled: self.told_by.is_some() && self.leads.is_some_and(|since| now - since >= agents.lease()),
            late: late.collect(),
            silent: inhabited(&published).filter(|node| !speaking.contains(node)).cloned().collect(),
        }
    }
}

/// Whether a root is to be replaced: by its age, or because the operator wants none that was made before some time, which has come.
fn is_due(mesh: &Mesh, roots: &Roots) -> bool {
    let (now, root) = (OffsetDateTime::now_utc(), roots.issuer());
    let wanted = mesh.readings.borrow().objects.mesh_config.as_ref().and_then(|mesh| mesh.root_made_after);
    let wanted = wanted.and_then(|wanted| OffsetDateTime::from_unix_timestamp(wanted.as_second()).ok());
    root.is_old(now) || wanted.is_some_and(|wanted| root.made < wanted && wanted <= now)
}

/// What agents are told to believe.
fn believes(published: &Published) -> Option<&Vec<Vec<u8>>> {
    let Some(Body::Trust(Trust { roots_der })) = &published.portion(MESH)?.shared.get(TRUST)?.body else { return None };
    Some(roots_der)
}

/// Nodes with pods that are in the mesh.
fn inhabited(published: &Published) -> impl Iterator<Item = &NodeName> {
    let nodes = published.portions().flat_map(|(_, portion)| &portion.nodes);
    nodes
        .filter(|(_, own)| own.values().any(|resource| matches!(resource.body, Some(Body::Enrolment(_)))))
        .map(|(node, _)| node)
}

fn lost(error: anyhow::Error) -> Defect {
    let error = match error.downcast::<Unanswered>() {
        Ok(Unanswered(defect)) => return defect,
        Err(error) => error,
    };
    let fix = "restore it; a controller that begins without it would not start".to_owned();
    Defect { file: None, line: 0, object: None, key: None, field: None, problem: format!("{error:#}"), fix }
}

#[cfg(test)]
mod tests;
