//! What Weft wants to reach beside its peers, and whether it does. Printed, never asserted: times judge no build.

use serde::Serialize;

use super::layout::{Layout, Proxy};
use super::measure::Step;
use super::rest::Resting;
use super::summary::{Measure, Summary, ratios};
use crate::spread::Spread;

/// One target.
#[derive(Debug, Serialize)]
pub(super) struct Target {
    pub(super) name: &'static str,
    /// A ratio: at most this.
    pub(super) at_most: f64,
    pub(super) ratio: Spread,
    /// By the median.
    pub(super) met: bool,
}

/// Every target whose peer was measured.
pub(super) fn all(summary: &Summary, resting: &[Resting]) -> Vec<Target> {
    let envoy =
        |step, measure| Spread::of(&ratios(&weft(summary, step, measure), &peer(summary, Proxy::Envoy, step, measure)));
    let candidates = [
        ("added p50, 1 connection, Weft's pair / Envoy's", 0.30, envoy(Step::ONE, Measure::AddedP50)),
        (
            "added p50, 1 connection, Weft's pair / the better of HAProxy's and nginx's",
            1.0,
            Spread::of(&ratios(&weft(summary, Step::ONE, Measure::AddedP50), &better(summary))),
        ),
        ("proxies' CPU of a request, 16 connections, Weft's pair / Envoy's", 0.35, envoy(Step::LOADED, Measure::Cpu)),
        ("memory at rest (RSS), Weft / Envoy", 0.25, idle(resting)),
    ];
    let targets = candidates.into_iter().filter_map(|(name, at_most, ratio)| {
        let ratio = ratio?;
        Some(Target { name, at_most, ratio, met: ratio.median <= at_most })
    });
    targets.collect()
}

fn weft(summary: &Summary, step: Step, measure: Measure) -> Vec<f64> {
    peer(summary, Proxy::Weft, step, measure)
}

fn peer(summary: &Summary, proxy: Proxy, step: Step, measure: Measure) -> Vec<f64> {
    summary.rounds(Layout::Pair(proxy), step, measure).unwrap_or_default().to_vec()
}

/// Of each round the one that added less.
fn better(summary: &Summary) -> Vec<f64> {
    let of = |proxy| peer(summary, proxy, Step::ONE, Measure::AddedP50);
    of(Proxy::Haproxy).into_iter().zip(of(Proxy::Nginx)).map(|(haproxy, nginx)| haproxy.min(nginx)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn idle(resting: &[Resting]) -> Option<Spread> {
    let of = |proxy| {
        let resting = resting.iter().find(|resting| resting.proxy == proxy)?;
        Some(resting.idle.iter().sum::<u64>() as f64)
    };
    Spread::of(&[of(Proxy::Weft)? / of(Proxy::Envoy)?])
}
