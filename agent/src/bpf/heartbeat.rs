//! Heartbeats: each worker's loop writes its own into memory that the programs read.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use weft_abi::MAX_WORKERS;
use weft_abi::limits::HEARTBEAT_LIMIT_NANOSECONDS;
use weft_abi::rows::Heartbeats;

use super::error::BpfError;
use super::load::Folders;
use super::maps::open_heartbeats;
use super::table::Table;

/// One worker's heartbeat. Give it to the loop that accepts, and to nothing else.
#[derive(Debug)]
pub struct Heartbeat {
    memory: Arc<Memory>,
    worker: u32,
}

impl Heartbeat {
    /// Says "alive now". Costs reading a clock and one store. To be called several times in two seconds.
    pub fn beat(&self) {
        self.memory.beat_at(self.worker).store(now(), Ordering::Relaxed);
    }
}

/// The heartbeats' map, mapped into memory.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<Heartbeats>,
}

// SAFETY: the memory is only accessed through atomics.
unsafe impl Send for Memory {}
// SAFETY: the memory is only accessed through atomics.
unsafe impl Sync for Memory {}

impl Memory {
    const LENGTH: usize = size_of::<Heartbeats>();

    /// Maps the map.
    pub(super) fn map(table: &Table<u32, Heartbeats>) -> Result<Self, BpfError> {
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor is a mappable array.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                table.as_fd().as_raw_fd(),
                0,
            )
        };
        match NonNull::new(start.cast::<Heartbeats>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start }),
            Some(_) | None => {
                Err(BpfError::System { action: "map the heartbeats", source: io::Error::last_os_error() })
            }
        }
    }

    /// One worker's place.
    pub(super) fn worker(memory: &Arc<Self>, worker: u32) -> Result<Heartbeat, BpfError> {
        if worker >= MAX_WORKERS {
            return Err(BpfError::Limit("there are at most 16 workers"));
        }
        Ok(Heartbeat { memory: Arc::clone(memory), worker })
    }

    /// Forgets workers that are no more, so that nobody waits for them.
    pub(super) fn forget_stale(&self) {
        let now = now();
        for worker in 0..MAX_WORKERS {
            let beat_at = self.beat_at(worker);
            if now.saturating_sub(beat_at.load(Ordering::Relaxed)) > HEARTBEAT_LIMIT_NANOSECONDS {
                beat_at.store(0, Ordering::Relaxed);
            }
        }
    }

    fn beat_at(&self, worker: u32) -> &AtomicU64 {
        let worker = worker.min(MAX_WORKERS - 1) as usize;
        // SAFETY: the row lies inside the mapping, which lives as long as `self`; the first field is an
        // aligned integer that is only accessed through atomics.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.start.as_ptr()).workers[worker].beat_at) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and nobody can have a reference into it now.
        unsafe { libc::munmap(self.start.as_ptr().cast(), Self::LENGTH) };
    }
}

/// How long each worker of the agent with this layout has been silent, with its number. For the parent
/// process: it holds nothing open. Empty without an agent; workers that never beat are left out.
#[must_use]
pub fn silences(pin_dir: &Path) -> Vec<(u32, Duration)> {
    let Ok(table) = open_heartbeats(&Folders::below(pin_dir).derived) else {
        return Vec::new();
    };
    let Ok(Some(heartbeats)) = table.get(&0) else {
        return Vec::new();
    };
    let now = now();
    let beating = (0..).zip(&heartbeats.workers).filter(|(_, row)| row.beat_at != 0);
    beating.map(|(worker, row)| (worker, Duration::from_nanos(now.saturating_sub(row.beat_at)))).collect()
}

/// The same without the workers' numbers.
#[must_use]
pub fn heartbeats(pin_dir: &Path) -> Vec<Duration> {
    silences(pin_dir).into_iter().map(|(_, silence)| silence).collect()
}

/// The clock that the programs read, too.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
