//! CPU time of whole processes, to the nanosecond, and the core that they run on.
//!
//! The scheduler's own clock of every thread is read: the ticks of /proc/PID/stat are 10 ms wide and
//! miss whatever runs between them. A thread that has ended is no longer counted.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::CpuSet;

/// The CPU time that the threads of a process have used so far.
pub fn time_of(process: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in threads_of(process)? {
        // A thread may end between the listing and the reading.
        let Ok(line) = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")) else { continue };
        let ran = line.split(' ').next().unwrap_or_default();
        total += Duration::from_nanos(ran.parse().with_context(|| format!("schedstat of {process}: {line:?}"))?);
    }
    Ok(total)
}

/// The CPU time of this process.
pub fn own_time() -> Result<Duration> {
    time_of(std::process::id())
}

/// Keeps every thread of a process on one core. Threads that it starts later inherit it.
pub fn pin(process: u32, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    for thread in threads_of(process)? {
        match rustix::thread::sched_setaffinity(Pid::from_raw(thread), &set) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot keep process {process} on core {core}"));
            }
        }
    }
    Ok(())
}

fn threads_of(process: u32) -> Result<Vec<i32>> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_shows_on_the_clock() {
        let before = own_time().unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(own_time().unwrap() > before);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(time_of(u32::MAX).is_err());
    }
}
