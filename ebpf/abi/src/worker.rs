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

/// Chooses among the live workers of a pod.
#[inline(always)]
pub fn choose(workers: u32, role: u32, hash: u32, lookups: &impl Workers) -> Agent {
    let live = fresh(workers, lookups);
    if let Some(first) = nth_set(live, hash)
        && lookups.listens(role, first)
    {
        return Agent::Ready(first);
    }
    // Rare: the agent died less than two seconds ago, or opens this pod's listeners right now.
    let mut hung = false;
    let mut worker = 0;
    while worker < MAX_WORKERS {
        if workers >> worker & 1 == 1 && lookups.listens(role, worker) {
            if live >> worker & 1 == 1 {
                return Agent::Ready(worker);
            }
            hung = true;
        }
        worker += 1;
    }
    if hung { Agent::Hung } else { Agent::Gone }
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

/// The set bit that the hash falls on, each with the same probability; none if no bit is set.
#[inline(always)]
#[must_use]
pub const fn nth_set(mask: u32, hash: u32) -> Option<u32> {
    let count = mask.count_ones();
    if count == 0 {
        return None;
    }
    let mut skip = hash % count;
    let mut bit = 0;
    while bit < MAX_WORKERS {
        if mask >> bit & 1 == 1 {
            if skip == 0 {
                return Some(bit);
            }
            skip -= 1;
        }
        bit += 1;
    }
    None
}
