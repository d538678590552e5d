//! What each row of the table shows, and how it comes from a measurement.

use super::measure::{Measurement, Step};
use crate::histogram::Histogram;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Better {
    Lower,
    Higher,
}

/// A row of the table.
pub(super) struct Metric {
    pub(super) step: Step,
    /// The heading of its rows.
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// The value, if the path has one.
    pub(super) value: fn(&Measurement) -> Option<f64>,
}

const CONNECT: &str = "new connection, 64 B each way, 400/s";
const GREETING: &str = "new connection, server speaks first, 400/s";
const ONE: &str = "round trip 1 KiB, 1 connection";
const MANY: &str = "round trip 1 KiB, 16 connections";
const BULK: &str = "one connection, one way";

pub(super) const METRICS: [Metric; 20] = [
    cost(Step::Connect, CONNECT, "connect() p50", "us", |seen| quantile(&seen.report.connect, 500)),
    cost(Step::Connect, CONNECT, "connect() p99", "us", |seen| quantile(&seen.report.connect, 990)),
    cost(Step::Connect, CONNECT, "answered p50", "us", |seen| quantile(&seen.report.answer, 500)),
    cost(Step::Connect, CONNECT, "answered p99", "us", |seen| quantile(&seen.report.answer, 990)),
    cost(Step::Connect, CONNECT, "agents' CPU, 1,000", "ms", |seen| by_thousand(agents(seen), seen)),
    cost(Step::Connect, CONNECT, "everybody's CPU, 1,000", "ms", |seen| by_thousand(Some(everybody(seen)), seen)),
    cost(Step::Greeting, GREETING, "greeted p50", "us", |seen| quantile(&seen.report.answer, 500)),
    cost(Step::Greeting, GREETING, "greeted p99", "us", |seen| quantile(&seen.report.answer, 990)),
    cost(Step::RoundTripOne, ONE, "p50", "us", |seen| quantile(&seen.report.answer, 500)),
    cost(Step::RoundTripOne, ONE, "p99", "us", |seen| quantile(&seen.report.answer, 990)),
    cost(Step::RoundTripOne, ONE, "agents' CPU, 1,000", "ms", |seen| by_thousand(agents(seen), seen)),
    cost(Step::RoundTripOne, ONE, "everybody's CPU, 1,000", "ms", |seen| by_thousand(Some(everybody(seen)), seen)),
    cost(Step::RoundTripMany, MANY, "p50", "us", |seen| quantile(&seen.report.answer, 500)),
    cost(Step::RoundTripMany, MANY, "p99", "us", |seen| quantile(&seen.report.answer, 990)),
    rate(Step::RoundTripMany, MANY, "rate", "1,000/s", |seen| per_second(count(seen.report.completed) / 1e3, seen)),
    cost(Step::RoundTripMany, MANY, "agents' CPU, 1,000", "ms", |seen| by_thousand(agents(seen), seen)),
    cost(Step::RoundTripMany, MANY, "everybody's CPU, 1,000", "ms", |seen| by_thousand(Some(everybody(seen)), seen)),
    rate(Step::Bulk, BULK, "throughput", "Gb/s", |seen| per_second(count(seen.report.bytes) * 8e-9, seen)),
    cost(Step::Bulk, BULK, "agents' CPU, GB", "ms", |seen| by_gigabyte(agents(seen), seen)),
    cost(Step::Bulk, BULK, "everybody's CPU, GB", "ms", |seen| by_gigabyte(Some(everybody(seen)), seen)),
];

type Value = fn(&Measurement) -> Option<f64>;

const fn cost(step: Step, group: &'static str, name: &'static str, unit: &'static str, value: Value) -> Metric {
    Metric { step, group, name, unit, better: Better::Lower, value }
}

const fn rate(step: Step, group: &'static str, name: &'static str, unit: &'static str, value: Value) -> Metric {
    Metric { step, group, name, unit, better: Better::Higher, value }
}

/// In microseconds.
fn quantile(histogram: &Histogram, per_mille: u64) -> Option<f64> {
    (histogram.count() > 0).then(|| histogram.quantile(per_mille).as_secs_f64() * 1e6)
}

/// Seconds of CPU time; none on a path without agents, whose idling is no cost of that path.
fn agents(seen: &Measurement) -> Option<f64> {
    match seen.path {
        super::Path::Direct => None,
        super::Path::OneNode | super::Path::TwoNode => Some(seen.agents.as_secs_f64()),
    }
}

/// Seconds of CPU time of client, agents and server together: what the kernel does for them included.
fn everybody(seen: &Measurement) -> f64 {
    seen.report.generator_cpu_seconds + seen.server.as_secs_f64() + agents(seen).unwrap_or(0.0)
}

fn by_thousand(seconds: Option<f64>, seen: &Measurement) -> Option<f64> {
    (seen.report.exchanges > 0).then_some(())?;
    Some(seconds? * 1e3 / (count(seen.report.exchanges) / 1e3))
}

fn by_gigabyte(seconds: Option<f64>, seen: &Measurement) -> Option<f64> {
    (seen.report.bytes > 0).then_some(())?;
    Some(seconds? * 1e3 / (count(seen.report.bytes) / 1e9))
}

fn per_second(amount: f64, seen: &Measurement) -> Option<f64> {
    (seen.report.seconds > 0.0).then(|| amount / seen.report.seconds)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}
