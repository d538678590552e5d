//! Waiting for a condition: the only place of the rig that lets time pass.
//!
//! A wait names what it waits for, ends at a limit, and its error shows the last state that was seen.
//! There is no fixed pause anywhere: a test that needs one is waiting for something it has not named.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// First pause between two looks; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Long enough to leave the processor to what is awaited, short enough not to be felt.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `look` succeeds, and returns what it found.
///
/// `look` answers with an error as long as the condition does not hold; the last one becomes the cause
/// of the error that is returned after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(state) if start.elapsed() >= limit => {
                return Err(state.context(format!("waited {:.1} s for {what}", limit.as_secs_f64())));
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Like [`until`], for a condition that is simply true or false.
pub fn until_true(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || if holds() { Ok(()) } else { Err(anyhow!("it never became true")) })
}

/// Looks for the whole of `span` and fails at the first error: for promises of the kind "it stays so".
pub fn throughout(what: &str, span: Duration, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < span {
        look().map_err(|state| {
            state.context(format!("{what} stopped being true after {:.1} s", start.elapsed().as_secs_f64()))
        })?;
        std::thread::sleep(LONGEST_PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_fails_says_what_it_waited_for_and_what_it_last_saw() {
        let mut looks = 0;
        let outcome: Result<()> = until("the moon", Duration::from_millis(5), || {
            looks += 1;
            Err(anyhow!("look {looks}: still dark"))
        });
        let message = format!("{:#}", outcome.unwrap_err());
        assert!(message.contains("the moon") && message.contains(&format!("look {looks}: still dark")), "{message}");
    }

    #[test]
    fn a_wait_returns_what_was_found() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(anyhow!("{looks}")) }
        });
        assert_eq!(found.unwrap(), 3);
    }
}
