//! When the exchanges of an open loop begin: planned before the run, and jittered.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Planned times, in order.
pub(super) struct Schedule {
    start: Instant,
    interval: f64,
    count: u64,
    next: u64,
    random: StdRng,
}

impl Schedule {
    /// `rate` times a second for `seconds`; each time falls at random within its own interval, so that two
    /// generators never beat together.
    pub(super) fn new(start: Instant, rate: f64, seconds: f64, seed: u64) -> Self {
        let interval = 1.0 / rate.max(f64::MIN_POSITIVE);
        Self { start, interval, count: whole(rate * seconds), next: 0, random: StdRng::seed_from_u64(seed) }
    }
}

impl Iterator for Schedule {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        if self.next >= self.count {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a run has far fewer exchanges than 2^52")]
        let at = (self.next as f64 + self.random.random::<f64>()) * self.interval;
        self.next += 1;
        Some(self.start + Duration::from_secs_f64(at))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "negative and endless become a bound")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interval_has_its_one_time() {
        let start = Instant::now();
        let times: Vec<Instant> = Schedule::new(start, 1000.0, 2.0, 7).collect();
        assert_eq!(times.len(), 2000);
        for (number, time) in times.iter().enumerate() {
            let slot = u32::try_from(number).unwrap();
            let from = start + Duration::from_millis(1) * slot;
            assert!((from..from + Duration::from_micros(1001)).contains(time), "time {number}");
        }
    }
}
