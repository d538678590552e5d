//! A timer with the kernel's full precision. The runtime's own counts in milliseconds.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;

/// A timer for one task.
pub(super) struct Timer {
    descriptor: AsyncFd<OwnedFd>,
}

impl Timer {
    pub(super) fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: an owned descriptor stays open and the same until it is dropped, and nothing here gives it away.
        let descriptor = unsafe { AsyncFd::register(descriptor) }?;
        Ok(Self { descriptor })
    }

    /// Waits until `due`; lets the other tasks have their turn even if that has passed.
    pub(super) async fn until(&mut self, due: Instant) -> std::io::Result<()> {
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let value = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(wait) };
        rustix::time::timerfd_settime(self.descriptor.get_ref(), TimerfdTimerFlags::empty(), &value)?;
        let mut expirations = [0; 8];
        loop {
            let mut ready = self.descriptor.readable().await?;
            match ready.try_io(|descriptor| Ok(rustix::io::read(descriptor, &mut expirations)?)) {
                Ok(read) => return read.map(drop),
                Err(_not_yet) => {}
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_again_and_again_and_never_ends_early() {
        let mut timer = Timer::new().unwrap();
        for _ in 0..3 {
            let due = Instant::now() + Duration::from_micros(300);
            timer.until(due).await.unwrap();
            assert!(Instant::now() >= due);
        }
    }
}
