//! A body on its way out on a stream, by the window that the peer gives (RFC 9113, section 5.2).
//!
//! Invariants: what the peer gives no window for is one piece; a message never looks whole that is not. A peer that gives none
//! for long has its stream reset, which gives back whatever the body held, also of the connection that it came on; a body
//! that is waited for is at rest instead, for as long as that likes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep};

use crate::http::canonical::strip_hop_by_hop;
use crate::http::engine::{Body, BodyError};
use crate::limits;

pub struct Outgoing {
    stream: SendStream<Bytes>,
    body: Body,
    /// What waits for the peer's window.
    piece: Bytes,
    stuck: Option<Pin<Box<Sleep>>>,
    /// The other direction of the stream goes on without it.
    yields: bool,
}

/// Why a body was not sent whole. Its stream has been reset, but where it yields.
#[derive(Debug)]
pub enum Failure {
    Body(BodyError),
    /// The peer has reset it, or the connection is gone.
    Stream,
    /// The peer gives no window.
    Stuck,
}

impl Outgoing {
    pub const fn new(stream: SendStream<Bytes>, body: Body) -> Self {
        Self { stream, body, piece: Bytes::new(), stuck: None, yields: false }
    }

    /// The answer has begun: a peer that takes no more of its request is no reason to lose it.
    pub fn answered(self) -> Self {
        Self { yields: true, ..self }
    }

    /// Ready when all of it is in the connection's hands.
    pub fn poll(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let sent = ready!(self.poll_sent(task));
        match &sent {
            Err(Failure::Body(error)) => self.stream.send_reset(reason(error)),
            Err(Failure::Stuck) if !self.yields => self.stream.send_reset(Reason::CANCEL),
            Err(Failure::Stuck | Failure::Stream) | Ok(()) => {}
        }
        Poll::Ready(sent)
    }

    fn poll_sent(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.stream.poll_reset(task).is_ready() {
            return Poll::Ready(Err(Failure::Stream));
        }
        loop {
            while !self.piece.is_empty() {
                ready!(self.poll_window(task))?;
                let taken = self.stream.capacity().min(self.piece.len());
                let piece = self.piece.split_to(taken);
                let is_last = self.piece.is_empty() && self.body.is_over();
                self.stream.send_data(piece, is_last).map_err(|_| Failure::Stream)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            // Whoever has taken all that there was owes nothing, however long the next piece is waited for.
            self.stuck = None;
            match ready!(self.body.poll_piece(task)).transpose().map_err(Failure::Body)?.map(Frame::into_data) {
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true).map_err(|_| Failure::Stream)),
                Some(Ok(piece)) => {
                    self.stream.reserve_capacity(piece.len());
                    self.piece = piece;
                }
                Some(Err(frame)) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    strip_hop_by_hop(&mut trailers);
                    return Poll::Ready(self.stream.send_trailers(trailers).map_err(|_| Failure::Stream));
                }
            }
        }
    }

    /// Ready when there is a window for some of the piece.
    fn poll_window(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(task) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Failure::Stream)),
                Poll::Pending => {
                    let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(limits::HTTP2_STREAM_STALL)));
                    return stuck.as_mut().poll(task).map(|()| Err(Failure::Stuck));
                }
            }
        }
        if let Some(stuck) = &mut self.stuck {
            stuck.as_mut().reset(Instant::now() + limits::HTTP2_STREAM_STALL);
        }
        Poll::Ready(Ok(()))
    }
}

/// What whoever gets the rest of a message is told: the word of whoever reset it, where there is one.
fn reason(error: &BodyError) -> Reason {
    let reason = match error {
        BodyError::Stream(error) => error.reason(),
        BodyError::Broken(_) | BodyError::TooLong(_) | BodyError::Superseded => None,
    };
    reason.filter(|reason| *reason != Reason::NO_ERROR).unwrap_or(Reason::INTERNAL_ERROR)
}
