//! The two bodies of a stream as one thing to read from and to write to, for what becomes a tunnel.
//!
//! Invariant: what is dropped before its end was said ends its body as a failure, so no peer takes it for an end.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::Reason;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Body, BodyError};
use crate::limits;

/// What is said here comes out of the [`Body`] that was made with it.
pub struct Speaker(Rc<RefCell<Spoken>>);

/// The other end of a [`Speaker`], as the content of a body.
pub(super) struct Listener(Rc<RefCell<Spoken>>);

#[derive(Default)]
struct Spoken {
    waiting: BytesMut,
    ended: bool,
    /// The speaker was dropped before its end.
    broken: bool,
    /// Nobody listens any more.
    unheard: bool,
    listener: Option<Waker>,
    speaker: Option<Waker>,
}

/// A body that says what is said to its speaker.
#[must_use]
pub fn spoken() -> (Speaker, Body) {
    let shared = Rc::new(RefCell::new(Spoken::default()));
    (Speaker(Rc::clone(&shared)), Body::spoken(Listener(shared)))
}

/// What arrives by one body and leaves by another.
pub struct Duplex {
    incoming: Body,
    /// What has arrived and was not read.
    left: Bytes,
    outgoing: Speaker,
}

impl Duplex {
    #[must_use]
    pub const fn new(incoming: Body, outgoing: Speaker) -> Self {
        Self { incoming, left: Bytes::new(), outgoing }
    }
}

impl Speaker {
    /// Nothing more is said.
    pub fn end(&self) {
        let mut spoken = self.0.borrow_mut();
        spoken.ended = true;
        spoken.wake_listener();
    }
}

impl Spoken {
    fn wake_listener(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.wake();
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let mut spoken = self.0.borrow_mut();
        spoken.broken = !spoken.ended;
        spoken.wake_listener();
    }
}

impl Listener {
    pub fn is_end_stream(&self) -> bool {
        let spoken = self.0.borrow();
        spoken.ended && spoken.waiting.is_empty()
    }

    pub fn poll_frame(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut spoken = self.0.borrow_mut();
        if !spoken.waiting.is_empty() {
            if let Some(speaker) = spoken.speaker.take() {
                speaker.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut spoken.waiting).freeze()))));
        }
        if spoken.ended {
            return Poll::Ready(None);
        }
        if spoken.broken {
            // RFC 8441, section 5: a connection that was reset.
            return Poll::Ready(Some(Err(BodyError::Stream(Reason::CANCEL.into()))));
        }
        spoken.listener = Some(task.waker().clone());
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut spoken = self.0.borrow_mut();
        spoken.unheard = true;
        if let Some(speaker) = spoken.speaker.take() {
            speaker.wake();
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            let Some(frame) = ready!(self.incoming.poll_piece(task)) else { return Poll::Ready(Ok(())) };
            // Trailers have no place in a tunnel.
            self.left = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
        }
        let taken = self.left.len().min(buffer.remaining());
        buffer.put_slice(&self.left[..taken]);
        self.left.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut spoken = self.outgoing.0.borrow_mut();
        if spoken.unheard {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = limits::RELAY_BUFFER.saturating_sub(spoken.waiting.len());
        if room == 0 {
            spoken.speaker = Some(task.waker().clone());
            return Poll::Pending;
        }
        let taken = room.min(bytes.len());
        spoken.waiting.extend_from_slice(&bytes[..taken]);
        spoken.wake_listener();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.end();
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listener").finish_non_exhaustive()
    }
}
