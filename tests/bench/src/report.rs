//! What a load generator tells about a run: one JSON line.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// What one generator saw, or several together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How long was measured, without warm-up. Of several generators the longest.
    pub seconds: f64,
    /// Exchanges that went well in that time.
    pub completed: u64,
    /// Exchanges that did not, warm-up included, as `step/kind`. None was tried again.
    pub errors: BTreeMap<String, u64>,
    /// Every exchange of the run, warm-up and errors included: what CPU time is to be divided by.
    pub exchanges: u64,
    /// Application bytes that arrived, of the whole run, both ways together.
    pub bytes: u64,
    /// CPU time of the generator for the whole run.
    pub generator_cpu_seconds: f64,
    /// From the scheduled beginning until the system said that the connection stands.
    pub connect: Histogram,
    /// From the scheduled beginning until the last byte of the answer.
    pub answer: Histogram,
}

/// Why an exchange failed: a word for the step and one for the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    step: Step,
    kind: String,
}

/// The part of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Until the connection stands.
    Connect,
    /// Until everything is sent.
    Send,
    /// Until the answer is there.
    Answer,
    /// It was never begun before the end of the run.
    Begin,
}

impl Failure {
    /// An error of the system.
    pub fn of_system(step: Step) -> impl Fn(std::io::Error) -> Self {
        move |error| Self { step, kind: format!("{:?}", error.kind()) }
    }

    /// The bound of time was met.
    #[must_use]
    pub fn late(step: Step) -> Self {
        Self { step, kind: "Late".to_owned() }
    }

    /// An answer that says that something went wrong.
    #[must_use]
    pub fn refused(start: &str) -> Self {
        Self { step: Step::Answer, kind: start.to_owned() }
    }

    /// Other bytes than those that were sent.
    #[must_use]
    pub fn changed() -> Self {
        Self { step: Step::Answer, kind: "Changed".to_owned() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}/{}", self.step, self.kind)
    }
}

impl Report {
    /// Counts an exchange that failed.
    pub fn fail(&mut self, failure: &Failure) {
        self.exchanges += 1;
        *self.errors.entry(failure.to_string()).or_default() += 1;
    }

    /// How many exchanges failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Takes over what another generator saw at the same time.
    pub fn merge(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.completed += other.completed;
        self.exchanges += other.exchanges;
        self.bytes += other.bytes;
        self.generator_cpu_seconds += other.generator_cpu_seconds;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        self.connect.merge(&other.connect);
        self.answer.merge(&other.answer);
    }

    pub(crate) fn measured_for(&mut self, time: Duration) {
        self.seconds = time.as_secs_f64();
    }
}
