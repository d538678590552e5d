//! Which endpoint gets the next connection: the least busy one, weighted by how long connecting takes.
//!
//! Each worker owns one [`Balancer`] and nothing is shared between workers. Latencies up to twice the
//! best count as equal, so that noise never gathers connections on one endpoint; what an endpoint was
//! slow or failed at is forgotten with time, so that it is tried again. Clock and randomness are given.
//! Absent: locality, hashing, outlier ejection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

use crate::limits;
use crate::model::Endpoint;

/// The share of a new sample in the average.
const SAMPLE_SHARE: f64 = 0.25;
/// Latencies below this are equal: the differences inside one data centre are noise, not distance.
const LATENCY_FLOOR: f64 = 0.001;
/// A latency up to this many times the best one counts as the best.
const LATENCY_TOLERANCE: f64 = 2.0;
/// After this time half of what is known against an endpoint is forgotten, in seconds.
const FORGETTING_HALF_LIFE: f64 = 10.0;

/// What one worker knows about endpoints.
#[derive(Debug, Default)]
pub struct Balancer {
    loads: HashMap<Endpoint, Load>,
}

/// Counts one connection against its endpoint until it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Outstanding(Arc<AtomicU32>);

#[derive(Debug, Default)]
struct Load {
    /// Shared with the guards alone.
    outstanding: Arc<AtomicU32>,
    latency: Option<Latency>,
    touched: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Latency {
    seconds: f64,
    sampled: Instant,
}

impl Outstanding {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Balancer {
    /// Chooses among `endpoints` without those in `tried`; None when nothing is left. Small sets are looked at whole, of
    /// larger ones two that chance names.
    pub fn pick(
        &mut self,
        endpoints: &[Endpoint],
        tried: &[Endpoint],
        random: &mut impl Rng,
    ) -> Option<(Endpoint, Outstanding)> {
        self.pick_at(Instant::now(), endpoints, tried, random)
    }

    /// The connection to `endpoint` stood after `took`.
    pub fn connected(&mut self, endpoint: &Endpoint, took: Duration) {
        self.sample(Instant::now(), endpoint, took);
    }

    /// The kernel's smoothed round-trip time of a connection to `endpoint`.
    pub fn measured(&mut self, endpoint: &Endpoint, round_trip: Duration) {
        self.sample(Instant::now(), endpoint, round_trip);
    }

    /// An attempt to reach `endpoint` failed: others go first for a while.
    pub fn failed(&mut self, endpoint: &Endpoint) {
        self.failed_at(Instant::now(), endpoint);
    }

    /// Connections that this worker carries to `endpoint` now.
    #[must_use]
    pub fn outstanding(&self, endpoint: &Endpoint) -> u32 {
        self.loads.get(endpoint).map_or(0, Load::outstanding)
    }

    fn pick_at(
        &mut self,
        now: Instant,
        endpoints: &[Endpoint],
        tried: &[Endpoint],
        random: &mut impl Rng,
    ) -> Option<(Endpoint, Outstanding)> {
        let eligible = |index: &usize| endpoints.get(*index).is_some_and(|endpoint| !tried.contains(endpoint));
        let candidates: Vec<usize> = if endpoints.len() <= limits::BALANCE_SCAN_MAXIMUM {
            (0..endpoints.len()).filter(eligible).collect()
        } else {
            two_of(endpoints.len(), eligible, random)
        };
        let chosen = endpoints.get(self.cheapest(now, endpoints, &candidates, random)?)?;
        self.make_room(chosen);
        if self.is_full(chosen) {
            // Every row is busy: this connection is served as any other, only uncounted.
            return Some((chosen.clone(), Outstanding::new(&Arc::default())));
        }
        let load = self.loads.entry(chosen.clone()).or_default();
        load.touched = Some(now);
        Some((chosen.clone(), Outstanding::new(&load.outstanding)))
    }

    /// The candidate with the lowest cost; chance decides between equals.
    fn cheapest(
        &self,
        now: Instant,
        endpoints: &[Endpoint],
        candidates: &[usize],
        random: &mut impl Rng,
    ) -> Option<usize> {
        let load = |index: usize| endpoints.get(index).and_then(|endpoint| self.loads.get(endpoint));
        let latency = |index: usize| load(index).and_then(|load| load.latency);
        let best = candidates.iter().filter_map(|index| latency(*index)).map(|known| known.seconds);
        let best = best.fold(f64::INFINITY, f64::min).max(LATENCY_FLOOR);
        let mut chosen = None;
        let mut lowest = f64::INFINITY;
        let mut equals = 0_u32;
        for index in candidates {
            let busy = f64::from(load(*index).map_or(0, Load::outstanding)) + 1.0;
            let cost = busy * latency(*index).map_or(1.0, |known| known.weight(now, best));
            if cost < lowest {
                (chosen, lowest, equals) = (Some(*index), cost, 1);
            } else if cost <= lowest {
                equals += 1;
                if random.random_range(0..equals) == 0 {
                    chosen = Some(*index);
                }
            }
        }
        chosen
    }

    fn sample(&mut self, now: Instant, endpoint: &Endpoint, took: Duration) {
        // Endpoints that the table had no room for are not followed.
        let Some(load) = self.loads.get_mut(endpoint) else { return };
        let seconds = match load.latency {
            Some(known) if !known.is_stale(now) => known.seconds + (took.as_secs_f64() - known.seconds) * SAMPLE_SHARE,
            Some(_) | None => took.as_secs_f64(),
        };
        load.latency = Some(Latency { seconds, sampled: now });
    }

    fn failed_at(&mut self, now: Instant, endpoint: &Endpoint) {
        if let Some(load) = self.loads.get_mut(endpoint) {
            load.latency = Some(Latency { seconds: limits::PEER_ATTEMPT.as_secs_f64(), sampled: now });
        }
    }

    /// Keeps the table within its bound: the older half of the idle endpoints goes.
    fn make_room(&mut self, newcomer: &Endpoint) {
        if self.loads.len() < limits::BALANCED_ENDPOINTS || self.loads.contains_key(newcomer) {
            return;
        }
        let mut idle: Vec<_> =
            self.loads.values().filter(|load| load.outstanding() == 0).map(|load| load.touched).collect();
        idle.sort_unstable();
        let middle = idle.get(idle.len() / 2).copied().flatten();
        self.loads.retain(|_, load| load.outstanding() > 0 || load.touched > middle);
    }

    fn is_full(&self, newcomer: &Endpoint) -> bool {
        self.loads.len() >= limits::BALANCED_ENDPOINTS && !self.loads.contains_key(newcomer)
    }
}

impl Load {
    fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }
}

impl Latency {
    /// How many times as costly as the best: 1 for everything within the tolerance, and less over time.
    fn weight(self, now: Instant, best: f64) -> f64 {
        let age = now.saturating_duration_since(self.sampled).as_secs_f64();
        let excess = (self.seconds / (best * LATENCY_TOLERANCE) - 1.0).max(0.0);
        1.0 + excess * (-age / FORGETTING_HALF_LIFE).exp2()
    }

    /// Old enough to say nothing any more about a new sample.
    fn is_stale(self, now: Instant) -> bool {
        now.saturating_duration_since(self.sampled).as_secs_f64() > FORGETTING_HALF_LIFE
    }
}

/// Two different eligible indices below `count`, or as many as there are.
fn two_of(count: usize, eligible: impl Fn(&usize) -> bool, random: &mut impl Rng) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(2);
    // Few are ineligible (the attempts of one connection), so walking on from a random place is as good as uniform.
    for _ in 0..2 {
        let start = random.random_range(0..count);
        let found = (start..count).chain(0..start).find(|index| eligible(index) && !chosen.contains(index));
        chosen.extend(found);
    }
    chosen
}
