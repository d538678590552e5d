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
const FORGETTING_HALF_LIFE: f64 = 5.0;
/// The most that a slow or failed endpoint costs, as a multiple of the best: forgotten within 35 s.
const WEIGHT_MAXIMUM: f64 = 64.0;
/// An excess below this is forgotten altogether, or short connections would never come back to an endpoint.
const EXCESS_FORGOTTEN: f64 = 0.5;

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
        // What is not known yet is taken for the best, so that a new endpoint is tried at once.
        let seconds = |index: &usize| latency(*index).map_or(LATENCY_FLOOR, |known| known.seconds);
        let best = candidates.iter().map(seconds).fold(f64::INFINITY, f64::min).max(LATENCY_FLOOR);
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
        let known = (self.seconds / (best * LATENCY_TOLERANCE) - 1.0).clamp(0.0, WEIGHT_MAXIMUM - 1.0);
        let excess = known * (-age / FORGETTING_HALF_LIFE).exp2();
        if excess < EXCESS_FORGOTTEN { 1.0 } else { 1.0 + excess }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn endpoints(count: usize) -> Vec<Endpoint> {
        let endpoint = |index: usize| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + u32::try_from(index).expect("small"));
            Endpoint { address: (address, 8080).into(), workload: None }
        };
        (0..count).map(endpoint).collect()
    }

    fn random() -> StdRng {
        StdRng::seed_from_u64(7)
    }

    /// How many of `picks` connections each endpoint gets. Each one ends at once when `held` is false.
    fn shares(balancer: &mut Balancer, now: Instant, endpoints: &[Endpoint], picks: usize, held: bool) -> Vec<usize> {
        let mut random = random();
        let mut guards = Vec::new();
        let mut shares = vec![0; endpoints.len()];
        for _ in 0..picks {
            let (chosen, guard) = balancer.pick_at(now, endpoints, &[], &mut random).expect("an endpoint");
            let place = endpoints.iter().position(|endpoint| *endpoint == chosen).expect("one of them");
            shares[place] += 1;
            if held {
                guards.push(guard);
            }
        }
        shares
    }

    #[test]
    fn open_connections_spread_evenly_among_equals() {
        let endpoints = endpoints(5);
        let shares = shares(&mut Balancer::default(), Instant::now(), &endpoints, 1000, true);
        assert_eq!(shares, vec![200; 5]);
    }

    #[test]
    fn short_connections_spread_evenly_among_equals_despite_noise() {
        let now = Instant::now();
        let endpoints = endpoints(4);
        let mut balancer = Balancer::default();
        shares(&mut balancer, now, &endpoints, 400, false);
        for (endpoint, took) in endpoints.iter().zip([200, 350, 500, 900]) {
            balancer.sample(now, endpoint, Duration::from_micros(took));
        }
        let shares = shares(&mut balancer, now, &endpoints, 4000, false);
        assert!(shares.iter().all(|share| (850..1150).contains(share)), "{shares:?}");
    }

    #[test]
    fn large_sets_spread_evenly_among_equals() {
        let endpoints = endpoints(100);
        let shares = shares(&mut Balancer::default(), Instant::now(), &endpoints, 2000, true);
        // Two choices bound the worst of them to a few above the mean of 20 (Mitzenmacher 2001).
        assert!(shares.iter().all(|share| (12..=28).contains(share)), "{shares:?}");
    }

    #[test]
    fn the_faster_endpoint_gets_more() {
        let now = Instant::now();
        let endpoints = endpoints(2);
        let mut balancer = Balancer::default();
        shares(&mut balancer, now, &endpoints, 20, false);
        balancer.sample(now, &endpoints[0], Duration::from_millis(2));
        balancer.sample(now, &endpoints[1], Duration::from_millis(40));
        let shares = shares(&mut balancer, now, &endpoints, 1100, true);
        // 40 ms are ten times the tolerated 4 ms.
        assert!((980..=1020).contains(&shares[0]), "{shares:?}");
    }

    #[test]
    fn a_failed_endpoint_is_avoided_and_tried_again_later() {
        let now = Instant::now();
        let endpoints = endpoints(3);
        let mut balancer = Balancer::default();
        shares(&mut balancer, now, &endpoints, 30, false);
        balancer.failed_at(now, &endpoints[1]);
        assert_eq!(shares(&mut balancer, now, &endpoints, 300, false)[1], 0);
        let later = now + Duration::from_secs(40);
        assert!(shares(&mut balancer, later, &endpoints, 300, false)[1] > 60);
    }

    #[test]
    fn an_ended_connection_no_longer_counts() {
        let endpoints = endpoints(1);
        let mut balancer = Balancer::default();
        let (endpoint, guard) = balancer.pick(&endpoints, &[], &mut random()).expect("an endpoint");
        assert_eq!(balancer.outstanding(&endpoint), 1);
        drop(guard);
        assert_eq!(balancer.outstanding(&endpoint), 0);
    }

    #[test]
    fn an_address_with_a_new_owner_starts_anew() {
        let now = Instant::now();
        let old = Endpoint { workload: Some("old".parse().expect("a uid")), ..endpoints(1)[0].clone() };
        let new = Endpoint { workload: Some("new".parse().expect("a uid")), ..old.clone() };
        let mut balancer = Balancer::default();
        shares(&mut balancer, now, std::slice::from_ref(&old), 1, false);
        balancer.failed_at(now, &old);
        let (chosen, _guard) = balancer.pick_at(now, &[old, new.clone()], &[], &mut random()).expect("an endpoint");
        assert_eq!(chosen, new);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_busy_endpoints() {
        let endpoints = endpoints(limits::BALANCED_ENDPOINTS * 2);
        let mut balancer = Balancer::default();
        let (busy, _guard) = balancer.pick(&endpoints[..1], &[], &mut random()).expect("an endpoint");
        for endpoint in &endpoints[1..] {
            let _ = balancer.pick(std::slice::from_ref(endpoint), &[], &mut random());
            assert!(balancer.loads.len() <= limits::BALANCED_ENDPOINTS);
        }
        assert_eq!(balancer.outstanding(&busy), 1);
    }

    #[test]
    fn a_table_of_busy_endpoints_still_serves_a_new_one() {
        let endpoints = endpoints(limits::BALANCED_ENDPOINTS + 1);
        let mut balancer = Balancer::default();
        let all: Vec<_> = endpoints
            .iter()
            .map(|endpoint| balancer.pick(std::slice::from_ref(endpoint), &[], &mut random()).expect("an endpoint"))
            .collect();
        assert_eq!(all.len(), endpoints.len());
        assert_eq!(balancer.loads.len(), limits::BALANCED_ENDPOINTS);
    }

    proptest! {
        #[test]
        fn what_is_picked_was_offered_and_not_tried(
            count in 0_usize..40,
            tried in proptest::collection::vec(0_usize..40, 0..4),
            slow in proptest::collection::vec((0_usize..40, 0_u64..5000), 0..20),
            seed in any::<u64>(),
        ) {
            let all = endpoints(40);
            let offered = &all[..count];
            let tried: Vec<_> = tried.iter().map(|index| all[*index].clone()).collect();
            let mut balancer = Balancer::default();
            let mut random = StdRng::seed_from_u64(seed);
            let now = Instant::now();
            let _guards: Vec<_> = (0..20).map_while(|_| balancer.pick_at(now, offered, &[], &mut random)).collect();
            for (index, milliseconds) in slow {
                balancer.sample(now, &all[index], Duration::from_millis(milliseconds));
            }
            let left = offered.iter().filter(|endpoint| !tried.contains(endpoint)).count();
            if let Some((chosen, _guard)) = balancer.pick_at(now, offered, &tried, &mut random) {
                prop_assert!(offered.contains(&chosen));
                prop_assert!(!tried.contains(&chosen));
            } else {
                prop_assert_eq!(left, 0);
            }
        }
    }
}
