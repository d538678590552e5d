//! Answers that nobody reads: another attempt follows them, or a budget is answered in their place.
//!
//! On HTTP/1 what is left of such an answer stands before the next one: it is read if that is soon done, so that an
//! application that says 503 to many requests is not also asked for as many connections. Invariant: so many are read at once
//! as there are permits; an answer without one goes, and its connection with it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::time::timeout;

use crate::http::{Response, Version};
use crate::limits;
use crate::worker::Worker;

use super::line;
use super::send::Rest;

/// Leaves an answer unread. Its line is free for the next request by now if the answer is all there, as short ones are;
/// otherwise soon, or never.
pub fn leave(worker: &Rc<Worker>, response: Response, rest: Rest) {
    let Rest { outstanding, key, line } = rest;
    // Nobody waits for its endpoint any more.
    drop(outstanding);
    let body = response.into_body();
    let is_long = body.length().is_some_and(|length| length > limits::UNREAD_ANSWER_MAXIMUM as u64);
    // On HTTP/2 others go on beside it.
    if key.version == Version::Http2 || is_long {
        return;
    }
    let own = Rc::clone(worker);
    let mut reading = Box::pin(async move {
        if body.discarded(limits::UNREAD_ANSWER_MAXIMUM).await.is_ok() {
            line::keep(&own, key, line);
        }
    });
    if reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
        return;
    }
    if let Ok(permit) = Arc::clone(&worker.unread).try_acquire_owned() {
        worker.spawn(async move {
            // A connection that is not free by then is closed.
            let _ = timeout(limits::UNREAD_ANSWER_TIMEOUT, reading).await;
            drop(permit);
        });
    }
}
