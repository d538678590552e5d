//! Which endpoint gets the next connection or request.
//!
//! Each worker owns one [`Balancer`]. By default the least busy endpoint gets it,
//! weighted by how long it takes; what an endpoint was slow or failed at is forgotten with time, so that it is tried again.
//! Where a Service asks for it a client keeps its endpoint: all workers share that memory, and nothing else.
//! Clock and randomness are given. Absent: locality (what is far is not among the endpoints), slow start.

mod affinity;
mod ejection;
mod latency;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rand::{Rng, RngExt as _};

use crate::limits;
use crate::model::{Balancing, Ejection, Endpoint};

pub use affinity::{Affinities, Affinity};
use ejection::Health;
use latency::{LATENCY_FLOOR, Latency};

/// Among which endpoints, and how, one choice is made.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    pub endpoints: &'a [Endpoint],
    pub balancing: Balancing,
    /// None: no endpoint is ejected.
    pub ejection: Option<Ejection>,
    /// The place of the endpoint that the request's session has; it is chosen if it may be.
    pub session: Option<usize>,
    /// None: each choice is a new one.
    pub affinity: Option<Affinity<'a>>,
}

impl<'a> Terms<'a> {
    /// For a connection whose requests nobody sees.
    #[must_use]
    pub const fn connection(endpoints: &'a [Endpoint]) -> Self {
        Self { endpoints, balancing: Balancing::PeakEwma, ejection: None, session: None, affinity: None }
    }
}

/// What one worker knows about endpoints.
#[derive(Debug, Default)]
pub struct Balancer {
    loads: HashMap<Endpoint, Load, RandomState>,
    turn: u64,
    affinities: Arc<Affinities>,
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
    health: Health,
    touched: Option<Instant>,
    /// When it was chosen last, counted in choices.
    turn: u64,
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
    /// One that sends clients where the others that share `affinities` send them.
    #[must_use]
    pub fn sharing(affinities: Arc<Affinities>) -> Self {
        Self { affinities, ..Self::default() }
    }

    /// Chooses one that is not in `tried`; None when nothing is left. An ejected one is chosen only where all the others are
    /// ejected too. Small sets are looked at whole, of larger ones two that chance names.
    pub fn pick(
        &mut self,
        terms: Terms<'_>,
        tried: &[Endpoint],
        random: &mut impl Rng,
    ) -> Option<(Endpoint, Outstanding)> {
        self.pick_at(Instant::now(), terms, tried, random)
    }

    /// The connection to `endpoint` stood after `took`, or an answer came.
    pub fn answered(&mut self, endpoint: &Endpoint, took: Duration) {
        self.sample(Instant::now(), endpoint, took);
    }

    /// An attempt to reach `endpoint` failed: others go first for a while.
    pub fn failed(&mut self, endpoint: &Endpoint) {
        self.failed_at(Instant::now(), endpoint);
    }

    /// Whether a request was served well, for the ejection of those that do not. Some: that was one failure too many, and
    /// the endpoint gets nothing for so long.
    pub fn judged(&mut self, terms: Terms<'_>, endpoint: &Endpoint, good: bool) -> Option<Duration> {
        self.judged_at(Instant::now(), terms, endpoint, good)
    }

    /// Those of the endpoints that get nothing now.
    #[must_use]
    pub fn ejected(&self, terms: Terms<'_>) -> Vec<SocketAddr> {
        if terms.ejection.is_none() {
            return Vec::new();
        }
        let now = Instant::now();
        let ejected = (0..terms.endpoints.len()).filter(|index| self.is_ejected(now, terms, *index));
        ejected.filter_map(|index| Some(terms.endpoints.get(index)?.address)).collect()
    }

    /// Connections and requests that this worker carries to `endpoint` now.
    #[must_use]
    pub fn outstanding(&self, endpoint: &Endpoint) -> u32 {
        self.loads.get(endpoint).map_or(0, Load::outstanding)
    }

    fn pick_at(
        &mut self,
        now: Instant,
        terms: Terms<'_>,
        tried: &[Endpoint],
        random: &mut impl Rng,
    ) -> Option<(Endpoint, Outstanding)> {
        let chosen = terms.endpoints.get(self.choice(now, terms, tried, random)?)?;
        self.make_room(chosen);
        if self.is_full(chosen) {
            // Every row is busy: this connection is served as any other, only uncounted.
            return Some((chosen.clone(), Outstanding::new(&Arc::default())));
        }
        self.turn += 1;
        let load = self.loads.entry(chosen.clone()).or_default();
        load.touched = Some(now);
        load.turn = self.turn;
        Some((chosen.clone(), Outstanding::new(&load.outstanding)))
    }

    fn choice(&self, now: Instant, terms: Terms<'_>, tried: &[Endpoint], random: &mut impl Rng) -> Option<usize> {
        let left = |index: &usize| terms.endpoints.get(*index).is_some_and(|endpoint| !tried.contains(endpoint));
        let healthy = |index: &usize| left(index) && !self.is_ejected(now, terms, *index);
        if let Some(kept) = terms.session.filter(healthy) {
            return Some(kept);
        }
        if let Some(affinity) = terms.affinity {
            let kept =
                |eligible: &dyn Fn(&usize) -> bool| self.affinities.choose(now, affinity, terms.endpoints, eligible);
            return kept(&healthy).or_else(|| kept(&left));
        }
        let mut candidates = eligible(terms, healthy, random);
        if candidates.is_empty() && terms.ejection.is_some() {
            if let Some(kept) = terms.session.filter(left) {
                return Some(kept);
            }
            candidates = eligible(terms, left, random);
        }
        match terms.balancing {
            Balancing::PeakEwma => {
                let cost = self.cost(now, terms.endpoints, &candidates);
                lowest(&candidates, cost, random)
            }
            Balancing::LeastRequest => lowest(&candidates, |index| f64::from(self.busy(terms, index)), random),
            // Whoever was chosen longest ago is next; a new one is at once.
            Balancing::RoundRobin => {
                candidates.into_iter().min_by_key(|index| self.load(terms, *index).map_or(0, |load| load.turn))
            }
        }
    }

    fn load(&self, terms: Terms<'_>, index: usize) -> Option<&Load> {
        self.loads.get(terms.endpoints.get(index)?)
    }

    fn busy(&self, terms: Terms<'_>, index: usize) -> u32 {
        self.load(terms, index).map_or(0, Load::outstanding)
    }

    fn is_ejected(&self, now: Instant, terms: Terms<'_>, index: usize) -> bool {
        terms.ejection.is_some() && self.load(terms, index).is_some_and(|load| load.health.is_ejected(now))
    }

    /// How busy each candidate is, weighted by how slow it is beside the best of them.
    fn cost(&self, now: Instant, endpoints: &[Endpoint], candidates: &[usize]) -> impl Fn(usize) -> f64 {
        let load = move |index: usize| endpoints.get(index).and_then(|endpoint| self.loads.get(endpoint));
        let latency = move |index: usize| load(index).and_then(|load| load.latency);
        // What is not known yet is taken for the best, so that a new endpoint is tried at once.
        let seconds = |index: &usize| latency(*index).map_or(LATENCY_FLOOR, |known| known.seconds);
        let best = candidates.iter().map(seconds).fold(f64::INFINITY, f64::min).max(LATENCY_FLOOR);
        move |index| {
            let busy = f64::from(load(index).map_or(0, Load::outstanding)) + 1.0;
            busy * latency(index).map_or(1.0, |known| known.weight(now, best))
        }
    }

    fn sample(&mut self, now: Instant, endpoint: &Endpoint, took: Duration) {
        // Endpoints that the table had no room for are not followed.
        let Some(load) = self.loads.get_mut(endpoint) else { return };
        load.latency = Some(load.latency.map_or_else(|| Latency::new(took, now), |known| known.with(took, now)));
    }

    fn failed_at(&mut self, now: Instant, endpoint: &Endpoint) {
        if let Some(load) = self.loads.get_mut(endpoint) {
            load.latency = Some(Latency::new(limits::PEER_ATTEMPT, now));
        }
    }

    fn judged_at(&mut self, now: Instant, terms: Terms<'_>, endpoint: &Endpoint, good: bool) -> Option<Duration> {
        let ejection = terms.ejection?;
        if good {
            self.loads.get_mut(endpoint)?.health.succeeded(now, ejection);
            return None;
        }
        let ejected = (0..terms.endpoints.len()).filter(|index| self.is_ejected(now, terms, *index)).count();
        let load = self.loads.get_mut(endpoint)?;
        load.health.failed(now, ejection, ejection::has_room(ejection, ejected, terms.endpoints.len()))
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

/// A turn goes through all of them; else small sets are looked at whole.
fn eligible(terms: Terms<'_>, is_eligible: impl Fn(&usize) -> bool, random: &mut impl Rng) -> Vec<usize> {
    let count = terms.endpoints.len();
    if count <= limits::BALANCE_SCAN_MAXIMUM || terms.balancing == Balancing::RoundRobin {
        (0..count).filter(is_eligible).collect()
    } else {
        two_of(count, is_eligible, random)
    }
}

/// The candidate with the lowest cost; chance decides between equals.
fn lowest(candidates: &[usize], cost: impl Fn(usize) -> f64, random: &mut impl Rng) -> Option<usize> {
    let mut chosen = None;
    let mut lowest = f64::INFINITY;
    let mut equals = 0_u32;
    for index in candidates {
        let cost = cost(*index);
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
