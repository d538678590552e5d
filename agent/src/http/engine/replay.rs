//! A body that can be sent again from its beginning, as long as it is short.
//!
//! What was handed on is kept up to a bound, so that nobody waits for the whole of it: a stream flows at once, and only its
//! retry is given up when it grows long. Invariants: one reading at a time goes on, the one that claimed it last, so that no
//! byte is handed on twice within one attempt; a body whose sender failed never ends as if it were whole.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::{Body, BodyError};

/// One reading of the body, from its beginning.
pub(super) struct Replay {
    shared: Rc<RefCell<Shared>>,
    /// Older readings have smaller numbers.
    number: u32,
    /// Bytes of what is kept that this reading has handed on.
    position: usize,
    /// It has handed the trailers on.
    trailed: bool,
}

struct Shared {
    source: Body,
    length: Option<u64>,
    /// Copied, so that small pieces cannot hold large buffers.
    kept: BytesMut,
    trailers: Option<HeaderMap>,
    maximum: usize,
    /// The reading that is allowed to go on.
    current: u32,
    youngest: u32,
    /// The one reading that has seen what is not kept.
    beyond: Option<u32>,
    failed: bool,
    /// Who waits for the source's next piece.
    waiting: Option<Waker>,
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
            kept: BytesMut::new(),
            trailers: None,
            maximum,
            current: 0,
            youngest: 0,
            beyond: None,
            failed: false,
            waiting: None,
        };
        Self { shared: Rc::new(RefCell::new(shared)), number: 0, position: 0, trailed: false }
    }

    /// Another reading, if all that was read is kept.
    pub(super) fn again(&self) -> Option<Self> {
        let mut shared = self.shared.borrow_mut();
        if shared.beyond.is_some() || shared.failed {
            return None;
        }
        shared.youngest += 1;
        Some(Self { shared: Rc::clone(&self.shared), number: shared.youngest, position: 0, trailed: false })
    }

    /// Whether every byte can still come of it.
    pub(super) fn is_intact(&self) -> bool {
        self.shared.borrow().is_intact(self.number)
    }

    /// From now on this reading goes on, and older ones fail. Nothing, if it is not intact.
    pub(super) fn claim(&self) {
        let mut shared = self.shared.borrow_mut();
        if shared.is_intact(self.number) && shared.current < self.number {
            shared.current = self.number;
            // The older reading learns that it is over.
            if let Some(older) = shared.waiting.take() {
                older.wake();
            }
        }
    }

    pub(super) fn leave_word(&self) {
        self.shared.borrow_mut().source.leave_word();
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.shared.borrow().length
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        let rest = self.position < shared.kept.len() || (shared.trailers.is_some() && !self.trailed);
        !rest && !shared.failed && shared.source.is_over()
    }

    pub(super) fn poll_frame(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.claim();
        if !self.is_intact() {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        let alone = Rc::strong_count(&self.shared) == 1;
        let mut shared = self.shared.borrow_mut();
        if let Some(rest) = shared.kept.get(self.position..).filter(|rest| !rest.is_empty()) {
            self.position += rest.len();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(rest)))));
        }
        if let Some(trailers) = shared.trailers.clone().filter(|_| !self.trailed) {
            self.trailed = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let polled = shared.source.poll_piece(task);
        if polled.is_pending() {
            shared.waiting = Some(task.waker().clone());
        }
        let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
        let frame = frame.inspect_err(|_| shared.failed = true)?;
        if !alone && shared.keep(&frame) {
            self.position = shared.kept.len();
            self.trailed = shared.trailers.is_some();
        } else {
            shared.forget(self.number);
            (self.position, self.trailed) = (0, false);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Shared {
    fn is_intact(&self, reading: u32) -> bool {
        !self.failed && self.current <= reading && self.beyond.is_none_or(|number| number == reading)
    }

    /// False when it would be more than is kept.
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        let trailers = frame.trailers_ref();
        let fields =
            trailers.into_iter().flatten().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        let length = frame.data_ref().map_or(fields, Bytes::len);
        if self.beyond.is_some() || self.kept.len() + length > self.maximum {
            return false;
        }
        if let Some(data) = frame.data_ref() {
            self.kept.extend_from_slice(data);
        }
        self.trailers = trailers.cloned();
        true
    }

    fn forget(&mut self, reading: u32) {
        (self.kept, self.trailers) = (BytesMut::new(), None);
        self.beyond = Some(reading);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn next(body: &mut Body) -> Option<Result<Bytes, String>> {
        let frame = poll_fn(|task| body.poll_piece(task)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()))
    }

    #[tokio::test]
    async fn a_short_body_is_read_again_and_the_older_reading_fails() {
        let mut first = Body::whole("abc").replayed(3);
        let mut second = first.again().unwrap();
        assert_eq!(second.length(), Some(3));
        assert_eq!(next(&mut first).await.unwrap().unwrap(), "abc");
        assert!(second.is_intact() && !second.is_over());
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "abc");
        assert!(second.is_over());
        assert!(next(&mut first).await.unwrap().is_err());
        assert!(next(&mut second).await.is_none());
        assert!(second.again().is_some());
    }

    #[tokio::test]
    async fn a_reading_that_was_claimed_is_not_overtaken() {
        let mut first = Body::whole("abcd").replayed(3);
        let second = first.again().unwrap();
        second.claim();
        assert!(next(&mut first).await.unwrap().is_err());
        assert!(second.is_intact());
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
    async fn a_reading_that_nobody_can_repeat_keeps_nothing() {
        let mut only = Body::whole("abc").replayed(3);
        assert_eq!(next(&mut only).await.unwrap().unwrap(), "abc");
        assert!(only.again().is_none());
    }

    #[tokio::test]
    async fn a_body_whose_sender_failed_never_ends_as_if_it_were_whole() {
        // The inner one fails by being superseded; to the outer it is a sender that failed.
        let inner = Body::whole("abc").replayed(3);
        let usurper = inner.again().unwrap();
        let mut first = inner.replayed_once_more(3);
        let mut second = first.again().unwrap();
        usurper.claim();
        assert!(next(&mut first).await.unwrap().is_err());
        assert!(!second.is_intact() && first.again().is_none());
        assert!(next(&mut second).await.unwrap().is_err());
        assert!(next(&mut second).await.unwrap().is_err());
    }
}
