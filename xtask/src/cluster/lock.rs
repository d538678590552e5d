//! Locks between runs of xtask. Each is a file or a folder, and held until everybody who has it open has closed it or ended.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::wait;

/// Longer than the first build on a slow machine, and than a tier: whoever has held a lock that long hangs.
const LIMIT: Duration = Duration::from_hours(2);

/// Takes the lock, as soon as `holder` lets it go. Whoever waits can be interrupted.
pub fn take(lock: &File, holder: &str) -> Result<()> {
    let mut told = false;
    wait::until(&format!("the end of {holder}"), LIMIT, || {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(())),
            Err(Errno::WOULDBLOCK) => {
                if !told {
                    println!("{holder} is at work; waiting for its end");
                    told = true;
                }
                Ok(None)
            }
            Err(error) => Err(error).context("cannot lock"),
        }
    })
}
