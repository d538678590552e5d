//! When one root takes another's place: pure, of what is kept, the time, and what agents have said.
//!
//! Three phases. `TrustNew`: agents learn to believe both. `Reissue`: the new root signs. `RetireOld`: agents believe the
//! new one alone; then the old one is forgotten. Invariant: no agent meets a certificate of a root that it does not
//! believe while that certificate lasts, whoever was away and whichever controller stopped halfway.

use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;
use weft_crd::RotationPhase as Phase;
use weft_proto::names::NodeName;

use super::record::{Next, Record};
use super::root::Written;
use crate::limits;

/// What a step is decided on, beside the record.
#[derive(Debug)]
pub struct Situation<'a> {
    pub now: OffsetDateTime,
    /// The root that signs is too old, or a person wants a younger one.
    pub due: bool,
    /// What is asked of the root that signs (see [`Record::overlap`]).
    pub overlap: Duration,
    pub agents: &'a Heard,
}

/// What agents said about the roots that the leader tells them to believe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// This controller has led for a lease: whoever lives has spoken to it.
    pub settled: bool,
    /// Nodes whose agent has a live lease and does not decide by these roots yet.
    pub late: BTreeSet<NodeName>,
    /// Nodes with pods of the mesh whose agent is silent.
    pub silent: BTreeSet<NodeName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Wait,
    /// The root that signs may sign for longer lives from now on.
    Lengthen(Duration),
    /// A new root is made, for agents to believe, with this overlap.
    Make(Duration),
    Enter(Phase),
    /// The old root is forgotten.
    Finish,
}

#[must_use]
pub fn step(record: &Record, situation: &Situation<'_>) -> Step {
    let Some(overlap) = record.issuers_overlap() else { return Step::Wait };
    if overlap < situation.overlap {
        return Step::Lengthen(situation.overlap);
    }
    let Some(next) = &record.next else { return idle(situation) };
    let agents = situation.agents;
    let ready = agents.settled && agents.late.is_empty() && situation.now >= earliest_end(record, next, agents);
    match next.phase {
        _ if !ready => Step::Wait,
        Phase::TrustNew => Step::Enter(Phase::Reissue),
        Phase::Reissue => Step::Enter(Phase::RetireOld),
        Phase::RetireOld => Step::Finish,
    }
}

fn idle(situation: &Situation<'_>) -> Step {
    if situation.due { Step::Make(situation.overlap) } else { Step::Wait }
}

/// Before that the phase does not end, whatever agents with a live lease say.
pub fn earliest_end(record: &Record, next: &Next, agents: &Heard) -> OffsetDateTime {
    let overlap = record.overlap.unwrap_or_default();
    let least = match next.phase {
        // Whoever is away has not learned of the new root; after that it has no certificate left that anybody would take.
        Phase::TrustNew if !agents.silent.is_empty() => overlap,
        // Every controller that can has learned of the new root, and takes its nodes' certificates.
        Phase::TrustNew => looks(record) * 2,
        // Whatever the old root has signed is over.
        Phase::Reissue => overlap,
        Phase::RetireOld => Duration::ZERO,
    };
    next.since + least
}

/// How often each controller looks at what is kept.
pub fn looks(record: &Record) -> Duration {
    let overlap = record.issuers_overlap().map(|overlap| overlap / limits::ROOT_LOOKS_PER_OVERLAP);
    overlap.map_or(limits::ROOT_INTERVAL, |interval| interval.min(limits::ROOT_INTERVAL))
}

/// The record after the step, or none if it stays. `made` is a new root, for [`Step::Make`].
pub fn after(record: &Record, step: Step, now: OffsetDateTime, made: Option<Written>) -> Option<Record> {
    // Of whole seconds the next: nobody has learned of the phase before it began.
    let since = now.replace_nanosecond(0).unwrap_or(now) + Duration::from_secs(1);
    let mut record = record.clone();
    match (step, record.next.as_mut()) {
        (Step::Lengthen(overlap), Some(next)) if next.phase != Phase::TrustNew => next.overlap = overlap,
        (Step::Lengthen(overlap), _) => record.overlap = Some(overlap),
        (Step::Make(overlap), None) => {
            record.next = Some(Next { root: made?, overlap, phase: Phase::TrustNew, since });
        }
        (Step::Enter(phase), Some(next)) => {
            next.phase = phase;
            next.since = since;
        }
        (Step::Finish, Some(_)) => {
            let next = record.next.take()?;
            record = Record::new(next.root, next.overlap);
        }
        (Step::Wait | Step::Make(_) | Step::Enter(_) | Step::Finish, _) => return None,
    }
    Some(record)
}

#[cfg(test)]
mod tests;
