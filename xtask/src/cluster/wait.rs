//! Waiting for a condition: it names what it waits for, ends at a limit, and at once when somebody asks xtask to stop.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::run;

/// Short enough not to be felt, long enough to leave the processor to what is awaited.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is an answer; an error of the look ends the wait.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_whatever_happens(what, limit, || {
        if run::interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        look()
    })
}

/// The same for a clean-up, which a request to stop does not cut short.
pub fn until_whatever_happens<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if started.elapsed() >= limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
}
