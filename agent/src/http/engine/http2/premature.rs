//! Requests that a client resets before they were answered: a few are ordinary, most of very many are a rapid reset flood
//! (CVE-2023-44487), which costs the client next to nothing and everybody behind it a request each.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits;

/// The requests of one connection.
#[derive(Debug, Default)]
pub struct Premature {
    requests: Cell<u32>,
    reset: Cell<u32>,
    flood: Notify,
}

/// One of them. Dropped without its answer: it was reset.
#[derive(Debug)]
pub struct Begun {
    connection: Rc<Premature>,
    since: Instant,
    answered: bool,
}

impl Premature {
    pub fn begin(self: &Rc<Self>) -> Begun {
        let requests = self.requests.get() + 1;
        if requests < limits::HTTP2_PREMATURE_SAMPLE {
            self.requests.set(requests);
        } else {
            // What was long ago counts for less.
            self.requests.set(requests / 2);
            self.reset.set(self.reset.get() / 2);
        }
        Begun { connection: Rc::clone(self), since: Instant::now(), answered: false }
    }

    /// Ready when most of enough requests were reset.
    pub async fn is_flood(&self) {
        self.flood.notified().await;
    }
}

impl Begun {
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.answered || self.since.elapsed() >= limits::HTTP2_PREMATURE {
            return;
        }
        let Premature { requests, reset, flood } = &*self.connection;
        reset.set(reset.get() + 1);
        if reset.get() > limits::HTTP2_PREMATURE_SAMPLE / 4 && reset.get() > requests.get() / 2 {
            flood.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn flooded(answered: u32, reset: u32) -> bool {
        let connection = Rc::new(Premature::default());
        for _ in 0..answered {
            connection.begin().answered();
        }
        for _ in 0..reset {
            drop(connection.begin());
        }
        tokio::time::timeout(std::time::Duration::ZERO, connection.is_flood()).await.is_ok()
    }

    #[tokio::test]
    async fn most_of_many_is_a_flood_and_nothing_less() {
        const SAMPLE: u32 = limits::HTTP2_PREMATURE_SAMPLE;
        assert!(flooded(0, SAMPLE).await);
        assert!(flooded(100 * SAMPLE, 2 * SAMPLE).await);
        assert!(!flooded(0, SAMPLE / 4).await);
        assert!(!flooded(SAMPLE / 2, SAMPLE / 3).await);
    }
}
