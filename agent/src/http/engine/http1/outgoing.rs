//! A body on its way out.
//!
//! Invariant: a message never looks whole that is not: a body that fails, or is not as long as its head says, is an error.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::super::{Body, BodyError};
use super::connection::Connection;
use super::framing;
use super::head::Announced;

/// Written behind its head.
#[derive(Debug)]
pub struct Outgoing {
    /// None once all of it is in the connection's hands.
    body: Option<Body>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// So many bytes are to come.
    Length(u64),
    Chunked,
    UntilEnd,
}

/// Why a message was not written whole.
#[derive(Debug)]
pub enum Failure {
    Body(BodyError),
    Connection(io::Error),
}

impl Outgoing {
    /// `announced`: what the head says of it.
    pub fn new(body: Body, announced: Announced) -> Self {
        let form = match announced {
            Announced::Length(length) => Form::Length(length),
            Announced::Chunked => Form::Chunked,
            Announced::Nothing => Form::UntilEnd,
            // Nothing follows such a head, whatever the body would be.
            Announced::AsIs | Announced::NoBody => return Self { body: None, form: Form::UntilEnd },
        };
        Self { body: Some(body), form }
    }

    /// Ready when all of it is written.
    pub fn poll(&mut self, connection: &RefCell<Connection>, task: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if self.body.is_none() {
                return connection.borrow_mut().poll_flush(task).map_err(Failure::Connection);
            }
            if connection.borrow().is_full() {
                ready!(connection.borrow_mut().poll_flush(task)).map_err(Failure::Connection)?;
            }
            let Some(body) = &mut self.body else { continue };
            let Poll::Ready(frame) = body.poll_piece(task) else {
                let flushed = connection.borrow_mut().poll_flush(task);
                return match flushed {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Connection(error))),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                };
            };
            let frame = frame.transpose().map_err(|error| {
                // What was said before the failure is said here too, as far as the connection takes it at once.
                let _ = connection.borrow_mut().poll_flush(task);
                Failure::Body(error)
            })?;
            let over = self.form.write(frame, &mut connection.borrow_mut()).map_err(Failure::Body)?;
            if over {
                // What it holds may be of this same connection.
                self.body = None;
            }
        }
    }
}

impl Form {
    /// Writes a piece of the body, or its end. True: nothing follows.
    fn write(&mut self, frame: Option<Frame<Bytes>>, connection: &mut Connection) -> Result<bool, BodyError> {
        let trailers = match frame.map(Frame::into_data) {
            Some(Ok(piece)) => {
                match self {
                    Self::Length(left) => {
                        *left = left.checked_sub(piece.len() as u64).ok_or_else(|| wrong("longer"))?;
                        connection.output().extend_from_slice(&piece);
                    }
                    Self::Chunked if piece.is_empty() => {}
                    Self::Chunked => framing::write_chunk(connection.output(), &piece),
                    Self::UntilEnd => connection.output().extend_from_slice(&piece),
                }
                return Ok(false);
            }
            Some(Err(frame)) => frame.into_trailers().ok(),
            None => None,
        };
        match self {
            Self::Length(0) | Self::UntilEnd => {}
            Self::Length(_) => return Err(wrong("shorter")),
            Self::Chunked => framing::write_last_chunk(connection.output(), trailers.as_ref()),
        }
        Ok(true)
    }
}

fn wrong(how: &str) -> BodyError {
    BodyError::Broken(io::Error::new(io::ErrorKind::InvalidData, format!("the body is {how} than its head says")))
}
