//! Warnings that anybody can cause: a few in a while, and then how many were left out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::limits;

/// Shared by all who warn of one thing.
#[derive(Debug, Clone, Default)]
pub struct Sparing(Arc<Mutex<While>>);

#[derive(Debug, Default)]
struct While {
    begun: Option<Instant>,
    told: usize,
    left_out: u64,
}

impl Sparing {
    /// Some: tell it, and that as many were not told before it.
    #[must_use]
    pub fn turn(&self, now: Instant) -> Option<u64> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.begun.is_none_or(|begun| now.duration_since(begun) >= limits::WARNINGS_INTERVAL) {
            (current.begun, current.told) = (Some(now), 0);
        }
        if current.told >= limits::WARNINGS {
            current.left_out += 1;
            return None;
        }
        current.told += 1;
        Some(std::mem::take(&mut current.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_by_its_number() {
        let (sparing, now) = (Sparing::default(), Instant::now());
        let told = (0..1_000).filter_map(|_| sparing.turn(now)).count();
        assert_eq!(told, limits::WARNINGS);
        let left_out = 1_000 - limits::WARNINGS as u64;
        assert_eq!(sparing.turn(now + limits::WARNINGS_INTERVAL), Some(left_out));
        assert_eq!(sparing.turn(now + limits::WARNINGS_INTERVAL), Some(0));
    }
}
