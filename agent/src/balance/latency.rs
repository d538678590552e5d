//! What is known of an endpoint's speed, and what that makes it cost.
//!
//! Latencies up to twice the best count as equal, so that noise never gathers work on one endpoint. A slow answer counts at
//! once and is forgotten with time (Peak-EWMA). The clock is given.

use std::time::{Duration, Instant};

/// The share of a new sample in the average.
const SAMPLE_SHARE: f64 = 0.25;
/// Latencies below this are equal: the differences inside one data centre are noise, not distance.
pub const LATENCY_FLOOR: f64 = 0.001;
/// A sample this many times the average is a peak: it counts at once and whole.
const PEAK: f64 = 2.0;
/// A latency up to this many times the best one counts as the best.
const LATENCY_TOLERANCE: f64 = 2.0;
/// After this time half of what is known against an endpoint is forgotten, in seconds.
const FORGETTING_HALF_LIFE: f64 = 5.0;
/// The most that a slow or failed endpoint costs, as a multiple of the best: forgotten within 35 s.
const WEIGHT_MAXIMUM: f64 = 64.0;
/// An excess below this is forgotten altogether, or short connections would never come back to an endpoint.
const EXCESS_FORGOTTEN: f64 = 0.5;

/// A moving average that jumps up and comes down slowly.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub seconds: f64,
    sampled: Instant,
}

impl Latency {
    pub const fn new(took: Duration, now: Instant) -> Self {
        Self { seconds: took.as_secs_f64(), sampled: now }
    }

    /// With one more sample: a part of it counts, of a peak all.
    #[must_use]
    pub fn with(self, took: Duration, now: Instant) -> Self {
        let sample = took.as_secs_f64();
        let seconds = if self.is_stale(now) || sample > self.seconds * PEAK {
            sample
        } else {
            self.seconds + (sample - self.seconds) * SAMPLE_SHARE
        };
        Self { seconds, sampled: now }
    }

    /// How many times as costly as the best: 1 for everything within the tolerance, and less over time.
    pub fn weight(self, now: Instant, best: f64) -> f64 {
        let age = now.saturating_duration_since(self.sampled).as_secs_f64();
        let known = (self.seconds / (best * LATENCY_TOLERANCE) - 1.0).clamp(0.0, WEIGHT_MAXIMUM - 1.0);
        let excess = known * (-age / FORGETTING_HALF_LIFE).exp2();
        if excess < EXCESS_FORGOTTEN { 1.0 } else { 1.0 + excess }
    }

    /// Old enough to say nothing any more about a new sample.
    fn is_stale(self, now: Instant) -> bool {
        now.saturating_duration_since(self.sampled).as_secs_f64() > FORGETTING_HALF_LIFE
    }
}
