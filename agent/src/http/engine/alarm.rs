//! How long a peer may keep a connection waiting for what it owes, and for anything at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits;

/// Of one connection.
#[derive(Debug)]
pub struct Alarm {
    /// Runs to the earliest of what is bounded now, or to the next look whether anything has moved.
    sleep: Pin<Box<Sleep>>,
    /// The next look, and whether anything has moved since the last one.
    look_at: Instant,
    moved: bool,
    /// Who was told to be woken.
    woken: Option<Waker>,
}

/// What a peer owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// The rest of a head that has begun.
    Head,
    /// The rest of a body whose length it has announced, while somebody waits for it.
    Body,
    /// To take the bytes that it asked for.
    Reading,
}

impl Alarm {
    pub fn new() -> Self {
        let look_at = Instant::now() + limits::IDLE_TIMEOUT;
        Self { sleep: Box::pin(sleep_until(look_at)), look_at, moved: false, woken: None }
    }

    /// Bytes have moved, in whichever direction.
    pub const fn moved(&mut self) {
        self.moved = true;
    }

    /// Ready: a bound is exceeded, which the error names. `owed`: what the peer owes now, and since when.
    pub fn poll(&mut self, task: &mut Context<'_>, owed: Option<(Owed, Instant)>) -> Poll<io::Error> {
        loop {
            let due = owed.map_or(self.look_at, |(owed, since)| self.look_at.min(since + owed.limit()));
            // An alarm that is too early costs one look; moving it at every turn would cost more.
            let moves = due < self.sleep.deadline() || self.sleep.is_elapsed();
            if !moves && self.woken.as_ref().is_some_and(|woken| woken.will_wake(task.waker())) {
                // The one that asks is the one that will be woken.
                return Poll::Pending;
            }
            if moves {
                self.sleep.as_mut().reset(due);
            }
            // A task that has used up its turn is not noted by the timer, but asked again.
            self.woken = coop::has_budget_remaining().then(|| task.waker().clone());
            ready!(self.sleep.as_mut().poll(task));
            let now = Instant::now();
            if let Some((owed, since)) = owed
                && now >= since + owed.limit()
            {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, owed.text()));
            }
            if now >= self.look_at {
                if !self.moved {
                    return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "nothing has moved for long"));
                }
                self.moved = false;
                self.look_at = now + limits::IDLE_TIMEOUT;
            }
        }
    }
}

impl Owed {
    const fn limit(self) -> Duration {
        match self {
            Self::Head => limits::HTTP1_HEAD,
            Self::Body => limits::HTTP1_BODY_STALL,
            Self::Reading => limits::WRITE_STALL,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Head => "the head of a request did not come whole in time",
            Self::Body => "the rest of a body whose length was announced does not come",
            Self::Reading => "the peer takes no more bytes",
        }
    }
}
