//! A body that arrives on a stream.
//!
//! Invariant: a body that its sender has reset is never whole, whatever the reason says.

use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Frame;
use tokio_util::sync::DropGuard;

use crate::http::engine::BodyError;
use crate::http::engine::interim::Interim;

pub struct Incoming {
    stream: RecvStream,
    /// Bytes that are still to come, where that was announced.
    announced: Option<u64>,
    /// What comes next are trailers.
    is_at_trailers: bool,
    /// Its sender waits to be told to send it.
    awaits: Option<Interim>,
    /// The rest of the request that this is the answer to is of no use without it.
    upload: Option<DropGuard>,
}

impl Incoming {
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let announced = if stream.is_end_stream() { Some(0) } else { length };
        Self { stream, announced, is_at_trailers: false, awaits: None, upload: None }
    }

    /// Its sender waits to be told to send it, and is told when somebody wants it.
    pub fn awaiting(self, interim: Interim) -> Self {
        Self { awaits: Some(interim), ..self }
    }

    /// At the end of this answer nobody wants the rest of its request.
    pub fn ending(self, upload: DropGuard) -> Self {
        Self { upload: Some(upload), ..self }
    }

    pub fn leave_word(&mut self) {
        self.awaits = None;
    }

    pub fn poll_frame(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_next(task));
        if self.stream.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            self.upload = None;
        }
        Poll::Ready(frame)
    }

    fn poll_next(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(interim) = self.awaits.take().filter(|_| !self.stream.is_end_stream()) {
            interim.go_on();
        }
        if !self.is_at_trailers {
            match ready!(self.stream.poll_data(task)) {
                Some(Ok(piece)) => {
                    // Whoever has taken it holds it, and takes the next one when that is gone.
                    let released = self.stream.flow_control().release_capacity(piece.len());
                    self.announced = self.announced.map(|length| length.saturating_sub(piece.len() as u64));
                    return Poll::Ready(Some(released.map(|()| Frame::data(piece)).map_err(BodyError::from)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.is_at_trailers = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(task));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers).map_err(BodyError::from)))
    }

    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub const fn length(&self) -> Option<u64> {
        self.announced
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Incoming").field("announced", &self.announced).finish_non_exhaustive()
    }
}
