//! Gives memory that connections have left behind back to the system.
//!
//! The allocator keeps what was freed for the next allocation, in arenas of each thread, and an agent that once carried
//! thousands of connections would look like one that still does. Invariant: what is given back was of no use for a whole
//! interval, so a steady load is not slowed down. Absent: allocators other than glibc's, which are left alone.

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::limits;

/// Looks now and then, until `stop`. For the control side: giving back takes milliseconds.
pub async fn give_back(stop: CancellationToken) {
    let mut tick = interval(limits::MEMORY_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut free_before = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let free = allocator::free();
        if free.min(free_before) > limits::MEMORY_SPARE {
            allocator::trim();
            free_before = allocator::free();
            tracing::debug!(before = free, after = free_before, "memory was given back");
        } else {
            free_before = free;
        }
    }
}

#[cfg(target_env = "gnu")]
mod allocator {
    /// Bytes that are neither in use nor given back.
    pub(super) fn free() -> usize {
        // SAFETY: mallinfo2 has no preconditions; it takes each arena's lock in turn.
        unsafe { libc::mallinfo2() }.fordblks
    }

    pub(super) fn trim() {
        // SAFETY: malloc_trim has no preconditions; it takes each arena's lock in turn and touches free chunks alone.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(target_env = "gnu"))]
mod allocator {
    pub(super) fn free() -> usize {
        0
    }

    pub(super) fn trim() {}
}
