//! A body that can be sent again from its beginning, as long as it is short.
//!
//! What was handed on is remembered up to a bound, so that nobody waits for the whole of it: a stream flows at once, and only
//! its retry is given up when it grows long. Invariant: the youngest reader that was polled goes on, and the others fail, so
//! that no byte is handed on twice within one attempt.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use super::{Body, BodyError};

/// One reading of the body, from its beginning.
pub(super) struct Replay {
    shared: Rc<RefCell<Shared>>,
    /// Older readings have smaller numbers.
    number: u32,
    /// Pieces that this reading has handed on.
    position: usize,
}

struct Shared {
    source: Body,
    length: Option<u64>,
    remembered: Vec<Piece>,
    bytes: usize,
    maximum: usize,
    /// The reading that is allowed to go on.
    current: u32,
    youngest: u32,
    /// The one reading that has seen what is not remembered.
    beyond: Option<u32>,
    /// Who waits for the source's next piece.
    waiting: Option<Waker>,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl fmt::Debug for Replay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Replay").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Replay {
    pub(super) fn new(source: Body, maximum: usize) -> Self {
        let shared = Shared {
            length: source.length(),
            source,
            remembered: Vec::new(),
            bytes: 0,
            maximum,
            current: 0,
            youngest: 0,
            beyond: None,
            waiting: None,
        };
        Self { shared: Rc::new(RefCell::new(shared)), number: 0, position: 0 }
    }

    /// Another reading, if all that was read is remembered.
    pub(super) fn again(&self) -> Option<Self> {
        let mut shared = self.shared.borrow_mut();
        if shared.beyond.is_some() {
            return None;
        }
        shared.youngest += 1;
        Some(Self { shared: Rc::clone(&self.shared), number: shared.youngest, position: 0 })
    }

    /// Whether every piece can still come of it.
    pub(super) fn is_intact(&self) -> bool {
        let shared = self.shared.borrow();
        shared.current <= self.number && shared.beyond.is_none_or(|number| number == self.number)
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.shared.borrow().length
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        self.position == shared.remembered.len() && shared.source.is_end_stream()
    }

    pub(super) fn poll_frame(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.is_intact() {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        let alone = Rc::strong_count(&self.shared) == 1;
        let mut shared = self.shared.borrow_mut();
        if shared.current < self.number {
            shared.current = self.number;
            // The older reading learns that it is over.
            if let Some(older) = shared.waiting.take() {
                older.wake();
            }
        }
        if let Some(piece) = shared.remembered.get(self.position).cloned() {
            self.position += 1;
            return Poll::Ready(Some(Ok(piece.into())));
        }
        let polled = Pin::new(&mut shared.source).poll_frame(task);
        if polled.is_pending() {
            shared.waiting = Some(task.waker().clone());
        }
        let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
        let frame = frame?;
        if !alone && shared.remember(&frame) {
            self.position += 1;
        } else {
            shared.forget(self.number);
            self.position = 0;
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Shared {
    /// False when it would be more than is remembered.
    fn remember(&mut self, frame: &Frame<Bytes>) -> bool {
        let length = frame.data_ref().map_or(0, Bytes::len);
        if self.beyond.is_some() || self.bytes + length > self.maximum {
            return false;
        }
        let trailers = frame.trailers_ref().cloned().map(Piece::Trailers);
        self.bytes += length;
        self.remembered.extend(frame.data_ref().cloned().map(Piece::Data).or(trailers));
        true
    }

    fn forget(&mut self, reading: u32) {
        self.remembered = Vec::new();
        self.beyond = Some(reading);
    }
}

impl From<Piece> for Frame<Bytes> {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Data(bytes) => Self::data(bytes),
            Piece::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn next(body: &mut Body) -> Option<Result<Bytes, String>> {
        let frame = poll_fn(|task| Pin::new(&mut *body).poll_frame(task)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()))
    }

    #[tokio::test]
    async fn a_short_body_is_read_again_and_the_older_reading_fails() {
        let mut first = Body::whole("abc").replayed(3);
        let mut second = first.again().unwrap();
        assert_eq!(second.length(), Some(3));
        assert_eq!(next(&mut first).await.unwrap().unwrap(), "abc");
        assert!(second.is_intact());
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "abc");
        assert!(next(&mut first).await.unwrap().is_err());
        assert!(next(&mut second).await.is_none());
        assert!(second.again().is_some());
    }

    #[tokio::test]
    async fn a_long_body_flows_and_is_not_read_again() {
        let mut first = Body::whole("abcd").replayed(3);
        let mut second = first.again().unwrap();
        assert_eq!(next(&mut first).await.unwrap().unwrap(), "abcd");
        assert!(!second.is_intact() && first.again().is_none());
        assert!(next(&mut second).await.unwrap().is_err());
        assert!(next(&mut first).await.is_none());
    }

    #[tokio::test]
    async fn a_reading_that_nobody_can_repeat_remembers_nothing() {
        let mut only = Body::whole("abc").replayed(3);
        assert_eq!(next(&mut only).await.unwrap().unwrap(), "abc");
        assert!(only.again().is_none());
    }
}
