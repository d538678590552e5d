//! Asks a silent peer whether it still lives (RFC 9113, section 6.7).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits;

pub struct Pulse {
    pings: Option<PingPong>,
    /// The end of the rest, or of the wait for an answer.
    due: Pin<Box<Sleep>>,
    is_asked: bool,
}

impl Pulse {
    pub fn new(pings: Option<PingPong>) -> Self {
        Self { pings, due: Box::pin(sleep(limits::HTTP2_PING)), is_asked: false }
    }

    /// Ready when the peer does not answer.
    pub fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            if self.is_asked && pings.poll_pong(task).is_ready() {
                // An error is one of the connection, which finds it out for itself.
                self.is_asked = false;
                self.due.as_mut().reset(Instant::now() + limits::HTTP2_PING);
            }
            ready!(self.due.as_mut().poll(task));
            if self.is_asked {
                return Poll::Ready(());
            }
            self.is_asked = pings.send_ping(Ping::opaque()).is_ok();
            let patience = if self.is_asked { limits::HTTP2_PING_TIMEOUT } else { limits::HTTP2_PING };
            self.due.as_mut().reset(Instant::now() + patience);
        }
    }
}
