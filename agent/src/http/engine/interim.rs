//! Answers of status 1xx, which come before the one that counts (RFC 9110, section 15.2).
//!
//! Whoever asks on a line leaves them in the [`Interim`] that travels with the request; whoever serves the request passes them
//! on each time it has polled the answer. Invariants: they go one way, to the one connection that the request came on; a slow
//! client holds up nobody, for what it does not take is dropped. Absent: 101, which is an answer of its own (`http/upgrade`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{Extensions, HeaderMap, StatusCode, response};

use crate::http::answer::REASON;
use crate::http::canonical::strip_hop_by_hop;
use crate::limits;

/// Where the 1xx answers to one request wait for its client.
#[derive(Debug, Clone, Default)]
pub struct Interim(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    heads: VecDeque<response::Parts>,
    /// The client was told to send its body.
    goes_on: bool,
}

impl Interim {
    /// Leaves one for whoever has sent the request with these extensions, if anybody takes it.
    pub(super) fn leave(extensions: &Extensions, mut head: response::Parts) {
        // HTTP/2 has no 101 (RFC 9113, section 8.6), and nobody may be told one unasked.
        if is_interim(head.status)
            && let Some(interim) = extensions.get::<Self>()
        {
            clean(&mut head.headers);
            interim.push(head);
        }
    }

    /// Tells the client to send its body.
    pub(super) fn go_on(&self) {
        let mut head = http::Response::new(()).into_parts().0;
        head.status = StatusCode::CONTINUE;
        self.push(head);
    }

    fn push(&self, head: response::Parts) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = head.status == StatusCode::CONTINUE && std::mem::replace(&mut waiting.goes_on, true);
        if !again && waiting.heads.len() < limits::INTERIM_WAITING {
            waiting.heads.push_back(head);
        }
    }

    /// The next one.
    pub(super) fn take(&self) -> Option<response::Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).heads.pop_front()
    }

    /// Nobody is to hear of the 1xx answers to a copy.
    pub fn forget(extensions: &mut Extensions) {
        extensions.remove::<Self>();
    }
}

/// No body follows, so nothing may speak of one: somebody could wait for it (RFC 9112, section 6.1).
fn clean(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, REASON] {
        headers.remove(name);
    }
}

/// Whether the sender of a body waits to be told to send it (RFC 9110, section 10.1.1).
pub(super) fn expects(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether another answer follows.
pub(super) fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
