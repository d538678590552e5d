//! HTTP/1, by hand: strict where two readers could differ, and without a task, a copy of a head or a buffer more than a
//! request needs.
//!
//! A connection's bytes and its arriving body are a [`Connection`], heads and framing are pure; `server` answers what comes on
//! one, `client` asks on one. Both sides of a request run in the task of the connection that it came on; only the rest of a
//! request that is answered too early has one of its own. One gap: when an answer ends before its request has left, the rest of
//! the request is given up.

mod client;
mod connection;
mod framing;
mod head;
mod outgoing;
mod rest;
mod server;
mod tunnel;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::BodyError;
use connection::Connection;

pub use client::Line;
pub use server::serve;
pub use tunnel::{Tunnel, tunnel};

/// A body that arrives.
pub enum Incoming {
    Request(RequestBody),
    Answer(client::Exchange),
}

/// The body of a request, on the client's connection.
pub struct RequestBody {
    connection: Rc<RefCell<Connection>>,
    message: u32,
}

impl Incoming {
    pub fn poll_frame(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Request(body) => body.connection.borrow_mut().poll_body(task, body.message),
            Self::Answer(exchange) => exchange.poll_frame(task),
        }
    }

    pub fn leave_word(&self) {
        match self {
            Self::Request(body) => body.connection.borrow_mut().leave_word(body.message),
            Self::Answer(_) => {}
        }
    }

    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Request(body) => body.connection.borrow().is_body_over(body.message),
            Self::Answer(exchange) => exchange.is_over(),
        }
    }

    /// Bytes that are still to come, where that is known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Request(body) => body.connection.borrow().announced(body.message),
            Self::Answer(exchange) => exchange.announced(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.connection.borrow_mut().leave_body(self.message);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Incoming").field("length", &self.length()).finish_non_exhaustive()
    }
}
