//! Which worker takes a connection, and whether there is one: a pure function of the tuple and of who
//! is alive, because with SYN cookies the same connection is looked up twice.

use crate::limits::{HEARTBEAT_LIMIT_NANOSECONDS, MAX_WORKERS};

/// What the choice reads.
pub trait Workers {
    /// When the worker last beat, in nanoseconds of the monotonic clock; 0 for never.
    fn beat_at(&self, worker: u32) -> u64;
    /// The monotonic clock in nanoseconds.
    fn now(&self) -> u64;
    /// Whether the worker has a socket in state LISTEN for this pod and role.
    fn listens(&self, role: u32, worker: u32) -> bool;
}

/// The agent, as far as one pod and role is concerned.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agent {
    /// This worker takes the connection.
    Ready(u32),
    /// Somebody listens, but no worker has beaten for two seconds.
    Hung,
    /// Nobody listens.
    Gone,
}

/// Chooses among the live workers of a pod, or, if none is alive, asks one of all whether it listens.
///
/// One listener answers for all: a pod's listeners are in the map before its row is, and they go
/// together, with the agent's process.
#[inline(always)]
pub fn choose(workers: u32, role: u32, hash: u32, lookups: &impl Workers) -> Agent {
    let live = fresh(workers, lookups);
    let candidates = if live == 0 { workers } else { live };
    let Some(worker) = nth_set(candidates, hash) else {
        return Agent::Gone;
    };
    if !lookups.listens(role, worker) {
        return Agent::Gone;
    }
    if live == 0 { Agent::Hung } else { Agent::Ready(worker) }
}

/// The workers with a fresh heartbeat.
#[inline(always)]
fn fresh(workers: u32, lookups: &impl Workers) -> u32 {
    let now = lookups.now();
    let mut live = 0;
    let mut worker = 0;
    while worker < MAX_WORKERS {
        live |= freshness(lookups.beat_at(worker), now) << worker;
        worker += 1;
    }
    live & workers
}

/// 1 if a worker that beat then is alive now, else 0. Without a branch: with one for each worker the
/// verifier would walk through every set of live workers. A beat a little in the future is fresh; "never"
/// is fresh only in the first two seconds of a kernel's life.
#[inline(always)]
#[must_use]
pub const fn freshness(beat_at: u64, now: u64) -> u32 {
    let age = now.wrapping_sub(beat_at);
    (age.wrapping_sub(HEARTBEAT_LIMIT_NANOSECONDS + 1) >> 63) as u32
}

/// The set bit that the hash falls on, each with the same probability; none if no bit is set. Without a
/// branch for each bit, for the verifier's sake.
#[inline(always)]
#[must_use]
pub const fn nth_set(mask: u32, hash: u32) -> Option<u32> {
    let count = mask.count_ones();
    if count == 0 {
        return None;
    }
    let mut skip = hash % count;
    let mut searching = 1;
    let mut found = 0;
    let mut bit = 0;
    while bit < MAX_WORKERS {
        let set = mask >> bit & 1;
        let hit = set & skip.wrapping_sub(1) >> 31 & searching;
        found |= bit * hit;
        searching ^= hit;
        skip = skip.wrapping_sub(set & searching);
        bit += 1;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_bit_is_chosen_equally_often() {
        for mask in 1..1_u32 << MAX_WORKERS {
            let bits: Vec<u32> = (0..MAX_WORKERS).filter(|bit| mask >> bit & 1 == 1).collect();
            for (at, bit) in bits.iter().enumerate() {
                let hash = u32::try_from(at).unwrap();
                assert_eq!(nth_set(mask, hash), Some(*bit), "mask {mask:b}");
                assert_eq!(nth_set(mask, hash + 7 * mask.count_ones()), Some(*bit), "mask {mask:b}");
            }
        }
        assert_eq!(nth_set(0, 5), None);
    }

    #[test]
    fn a_heartbeat_is_fresh_for_two_seconds_and_a_little_ahead() {
        let now = 100_000_000_000;
        assert_eq!(freshness(now, now), 1);
        assert_eq!(freshness(now + 1000, now), 1);
        assert_eq!(freshness(now - HEARTBEAT_LIMIT_NANOSECONDS, now), 1);
        assert_eq!(freshness(now - HEARTBEAT_LIMIT_NANOSECONDS - 1, now), 0);
        assert_eq!(freshness(0, now), 0);
    }
}
