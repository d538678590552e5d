//! The body of a request or an answer, wherever it comes from.
//!
//! Invariant: who asked to be told of its end is told exactly once, also when the body is dropped half-read.

use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::duplex::Listener;
use super::replay::Replay;
use super::{http1, http2};

/// How a body's journey ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// Every byte and the trailers were handed on.
    Whole,
    /// The side that sent it failed.
    Failed,
    /// The side that received it was gone first.
    Dropped,
}

/// What is known of a body when nothing more comes of it.
#[derive(Debug)]
pub struct Finished {
    pub how: BodyEnd,
    /// Bytes that were handed on.
    pub bytes: u64,
    pub trailers: Option<HeaderMap>,
}

/// Why a body ended too early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("{0}")]
    Stream(#[from] h2::Error),
    #[error("{0}")]
    Broken(#[from] std::io::Error),
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    #[error("the request is being sent another time")]
    Superseded,
}

type Ended = Box<dyn FnOnce(Finished)>;

pub struct Body {
    content: Content,
    moved: u64,
    trailers: Option<HeaderMap>,
    ended: Option<Ended>,
}

#[derive(Debug)]
enum Content {
    Empty,
    Whole(Bytes),
    /// On a connection of HTTP/1.
    Received(http1::Incoming),
    /// On a stream of HTTP/2.
    Stream(http2::Incoming),
    /// Of a tunnel.
    Spoken(Listener),
    Replayed(Replay),
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Body")
            .field("content", &self.content)
            .field("moved", &self.moved)
            .finish_non_exhaustive()
    }
}

impl Body {
    #[must_use]
    pub const fn empty() -> Self {
        Self::of(Content::Empty)
    }

    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::of(Content::Whole(bytes.into()))
    }

    pub(super) const fn received(incoming: http1::Incoming) -> Self {
        Self::of(Content::Received(incoming))
    }

    pub(super) const fn of_stream(incoming: http2::Incoming) -> Self {
        Self::of(Content::Stream(incoming))
    }

    pub(super) const fn spoken(listener: Listener) -> Self {
        Self::of(Content::Spoken(listener))
    }

    /// Calls `ended` when the body has ended or is dropped.
    #[must_use]
    pub fn observed(mut self, ended: impl FnOnce(Finished) + 'static) -> Self {
        self.ended = Some(Box::new(ended));
        self
    }

    /// The exact length, where it is known before the first byte.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.content {
            Content::Empty => Some(0),
            Content::Whole(bytes) => Some(bytes.len() as u64),
            Content::Received(incoming) => incoming.length(),
            Content::Stream(incoming) => incoming.length(),
            Content::Spoken(_) => None,
            Content::Replayed(replay) => replay.length().map(|length| length - self.moved),
        }
    }

    /// Nothing comes of it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Received(incoming) => incoming.is_end_stream(),
            Content::Stream(incoming) => incoming.is_end_stream(),
            Content::Spoken(listener) => listener.is_end_stream(),
            Content::Replayed(replay) => replay.is_end_stream(),
        }
    }

    /// Remembers what it hands on, up to `maximum` bytes, so that [`Self::again`] gives a second one while it is short.
    #[must_use]
    pub fn replayed(self, maximum: usize) -> Self {
        match self.content {
            Content::Received(_) | Content::Stream(_) | Content::Whole(_) => self.replayed_once_more(maximum),
            Content::Empty | Content::Replayed(_) | Content::Spoken(_) => self,
        }
    }

    pub(super) fn replayed_once_more(self, maximum: usize) -> Self {
        Self::of(Content::Replayed(Replay::new(self, maximum)))
    }

    const fn of(content: Content) -> Self {
        Self { content, moved: 0, trailers: None, ended: None }
    }

    /// Makes this the one reading that goes on; others of the same content fail from now on.
    pub fn claim(&self) {
        if let Content::Replayed(replay) = &self.content {
            replay.claim();
        }
    }

    /// Its sender waits to be told to send it (RFC 9110, section 10.1.1): the 100 of whoever answers is passed on to it, and
    /// none is said to it in advance.
    pub(super) fn leave_word(&mut self) {
        match &mut self.content {
            Content::Received(incoming) => incoming.leave_word(),
            Content::Replayed(replay) => replay.leave_word(),
            Content::Stream(incoming) => incoming.leave_word(),
            Content::Empty | Content::Whole(_) | Content::Spoken(_) => {}
        }
    }

    /// Whether all of its content can still come of it.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        match &self.content {
            Content::Replayed(replay) => replay.is_intact(),
            Content::Empty | Content::Whole(_) | Content::Received(_) | Content::Stream(_) | Content::Spoken(_) => true,
        }
    }

    /// A second one with the same content, where it is in memory.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        match &self.content {
            Content::Empty => Some(Self::empty()),
            Content::Whole(bytes) => Some(Self::whole(bytes.clone())),
            Content::Received(incoming) if incoming.is_end_stream() => Some(Self::empty()),
            Content::Stream(incoming) if incoming.is_end_stream() => Some(Self::empty()),
            Content::Received(_) | Content::Stream(_) | Content::Spoken(_) => None,
            Content::Replayed(replay) => Some(Self::of(Content::Replayed(replay.again()?))),
        }
    }

    /// Reads all of it into memory, at most `maximum` bytes. Trailers are left out.
    pub async fn collected(mut self, maximum: usize) -> Result<Bytes, BodyError> {
        let mut bytes = bytes::BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|task| self.poll_piece(task)).await {
            if let Ok(piece) = frame?.into_data() {
                if bytes.len() + piece.len() > maximum {
                    return Err(BodyError::TooLong(maximum));
                }
                bytes.extend_from_slice(&piece);
            }
        }
        Ok(bytes.freeze())
    }

    /// Reads it to its end, at most `maximum` bytes, and keeps nothing of it.
    pub async fn discarded(mut self, maximum: usize) -> Result<(), BodyError> {
        let mut length = 0;
        while let Some(frame) = std::future::poll_fn(|task| self.poll_piece(task)).await {
            length += frame?.data_ref().map_or(0, Bytes::len);
            if length > maximum {
                return Err(BodyError::TooLong(maximum));
            }
        }
        Ok(())
    }

    fn end(&mut self, how: BodyEnd) {
        if let Some(ended) = self.ended.take() {
            ended(Finished { how, bytes: self.moved, trailers: self.trailers.take() });
        }
    }
}

impl Body {
    /// The next piece, or the end.
    pub(super) fn poll_piece(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.content {
            Content::Empty => None,
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Content::Received(incoming) => ready!(incoming.poll_frame(task)),
            Content::Stream(incoming) => ready!(incoming.poll_frame(task)),
            Content::Spoken(listener) => ready!(listener.poll_frame(task)),
            Content::Replayed(replay) => ready!(replay.poll_frame(task)),
        };
        match &frame {
            None => self.end(BodyEnd::Whole),
            Some(Err(_)) => self.end(BodyEnd::Failed),
            Some(Ok(frame)) => {
                self.moved += frame.data_ref().map_or(0, |piece| piece.len() as u64);
                if self.ended.is_some() {
                    self.trailers = frame.trailers_ref().cloned();
                }
                // Nobody polls a body again that says its end beforehand.
                if self.is_over() {
                    self.end(BodyEnd::Whole);
                }
            }
        }
        Poll::Ready(frame)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let how = if self.is_over() { BodyEnd::Whole } else { BodyEnd::Dropped };
        self.end(how);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    type Told = Rc<RefCell<Vec<(BodyEnd, u64)>>>;

    fn told() -> (Told, impl FnOnce(Finished) + 'static) {
        let told = Rc::new(RefCell::new(Vec::new()));
        let teller = Rc::clone(&told);
        (told, move |finished| teller.borrow_mut().push((finished.how, finished.bytes)))
    }

    #[tokio::test]
    async fn its_end_is_told_once_with_its_bytes() {
        let (seen, tell) = told();
        assert_eq!(Body::whole("abc").observed(tell).collected(10).await.unwrap(), "abc");
        assert_eq!(*seen.borrow(), [(BodyEnd::Whole, 3)]);
        let (seen, tell) = told();
        drop(Body::whole("abc").observed(tell));
        assert_eq!(*seen.borrow(), [(BodyEnd::Dropped, 0)]);
        let (seen, tell) = told();
        drop(Body::empty().observed(tell));
        assert_eq!(*seen.borrow(), [(BodyEnd::Whole, 0)]);
    }

    #[tokio::test]
    async fn it_is_not_collected_beyond_its_bound() {
        assert!(matches!(Body::whole("abcd").collected(3).await, Err(BodyError::TooLong(3))));
    }
}
