//! When to try again.

use std::time::{Duration, SystemTime};

use rand::RngExt as _;
use tokio::time::Instant;

use crate::limits;

/// Pauses between failed attempts: doubled up to a maximum, each shortened at random by up to a half, so that agents that
/// failed together do not come back together.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackOff {
    next: Duration,
}

impl BackOff {
    pub(super) fn new() -> Self {
        Self { next: limits::RECONNECT_FIRST }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(limits::RECONNECT_MAXIMUM);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

/// When a certificate is to be renewed: after a third of its life, give or take the jitter.
pub(super) fn renewal(not_before: SystemTime, not_after: SystemTime) -> Instant {
    let third = not_after.duration_since(not_before).unwrap_or_default() / 3;
    let jitter = f64::from(limits::RENEWAL_JITTER_PERCENT) / 100.0;
    let age = third.mul_f64(rand::rng().random_range(1.0 - jitter..=1.0 + jitter));
    let wait = (not_before + age).duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now() + wait.max(limits::RENEWAL_MINIMUM)
}

/// The pause after a failed renewal, while the old certificate serves.
pub(super) fn renewal_pause() -> Duration {
    limits::RENEWAL_RETRY.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// When a certificate is to be renewed because the mesh's roots are others now: not when all others are.
pub(super) fn reissue() -> Instant {
    Instant::now() + limits::REISSUE_SPREAD.mul_f64(rand::rng().random_range(0.0..=1.0))
}
