//! Ends streams of HTTP/2 whose peer gives no window (RFC 9113, section 5.2) while bytes wait for it.
//!
//! The engine runs each stream as a task: it takes a piece of the body and waits for the peer's window. A task that waits for
//! more of the body is at rest instead, for as long as that likes. Ending the task resets its stream and gives back whatever
//! it held, also of the connection that the body came on.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep};

use crate::limits;

thread_local! {
    static LAST: Cell<Option<Piece>> = const { Cell::new(None) };
}

/// What the body that a task forwards said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Given,
    Awaited,
}

/// Called by every body that is asked for a piece.
pub fn note(piece: Option<Piece>) {
    LAST.set(piece);
}

/// Runs a task of the engine until it has ended or is stuck.
pub async fn bounded(task: impl Future) {
    let mut task = pin!(task);
    let mut stuck: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| {
        LAST.set(None);
        if task.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        match (LAST.take(), &mut stuck) {
            (Some(Piece::Given), Some(stuck)) => stuck.as_mut().reset(Instant::now() + limits::HTTP2_STREAM_STALL),
            (Some(Piece::Given), None) => stuck = Some(Box::pin(sleep(limits::HTTP2_STREAM_STALL))),
            (Some(Piece::Awaited), _) => stuck = None,
            (None, _) => {}
        }
        stuck.as_mut().map_or(Poll::Pending, |stuck| stuck.as_mut().poll(context))
    })
    .await;
}
