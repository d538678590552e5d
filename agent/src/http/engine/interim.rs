//! Answers of status 1xx, which come before the one that counts (RFC 9110, section 15.2).
//!
//! Whoever asks on a line leaves them in the [`Interim`] that travels with the request; whoever serves the request passes them
//! on each time it has polled the answer. Invariants: they go one way, to the one connection that the request came on; those of
//! one request are few and small, for a slow client holds up nobody and they wait for it; a 100, which can be waited for, is said
//! once whatever came before it. Absent: 101, which is an answer of its own (`http/upgrade`).

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
    /// How many there were in all, and what their fields count.
    passed: usize,
    fields: usize,
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

    fn push(&self, mut head: response::Parts) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passes = if head.status == StatusCode::CONTINUE {
            head.headers.clear();
            !std::mem::replace(&mut waiting.goes_on, true)
        } else {
            waiting.passed += 1;
            waiting.fields = waiting.fields.saturating_add(counted(&head.headers));
            waiting.passed <= limits::INTERIM_PASSED && waiting.fields <= limits::INTERIM_FIELDS
        };
        if passes {
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

/// What fields count for (RFC 9113, section 6.5.2).
pub(super) fn counted(headers: &HeaderMap) -> usize {
    const FIELD: usize = 32;
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum()
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

#[cfg(test)]
mod tests {
    use http::header::LINK;
    use http::{HeaderValue, Response};

    use super::*;

    fn left(interim: &Interim, status: u16, link: &str) {
        let mut head = Response::new(()).into_parts().0;
        head.status = StatusCode::from_u16(status).unwrap();
        head.headers.insert(LINK, HeaderValue::from_str(link).unwrap());
        let mut extensions = Extensions::new();
        extensions.insert(interim.clone());
        Interim::leave(&extensions, head);
    }

    fn taken(interim: &Interim) -> Vec<(u16, usize)> {
        std::iter::from_fn(|| interim.take()).map(|head| (head.status.as_u16(), head.headers.len())).collect()
    }

    #[test]
    fn the_word_to_go_on_passes_once_whatever_came_before_it() {
        for (hints, link, passed) in [(limits::INTERIM, "x", limits::INTERIM_PASSED), (2, &"x".repeat(12 << 10), 1)] {
            let interim = Interim::default();
            for _ in 0..hints {
                left(&interim, 103, link);
            }
            left(&interim, 100, &"x".repeat(limits::INTERIM_FIELDS));
            left(&interim, 100, "x");
            interim.go_on();
            let expected: Vec<_> = std::iter::repeat_n((103, 1), passed).chain([(100, 0)]).collect();
            assert_eq!(taken(&interim), expected);
        }
    }

    #[test]
    fn those_of_one_request_are_bounded_also_where_its_client_takes_them() {
        let interim = Interim::default();
        let passed: usize = (0..limits::INTERIM)
            .map(|_| {
                left(&interim, 103, "x");
                taken(&interim).len()
            })
            .sum();
        assert_eq!(passed, limits::INTERIM_PASSED);
    }
}
