//! One connection of HTTP/1, on either side: its bytes, and the body that is arriving on it.
//!
//! Invariants: what was not ended in order is reset when it is dropped, so no peer takes a failure for an end; a connection
//! at rest owns no buffer; whoever still holds the body of an earlier message reads nothing of a later one. Absent: what is
//! said on it, which is `server`'s and `client`'s.

mod ending;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{StatusCode, Version, response};
use http_body::Frame;
use tokio::io::AsyncWrite as _;
use tokio::task::coop;
use tokio::time::Instant;

use super::framing::{Decoder, Framing, Malformed, Piece};
use super::head::{self, Announced, Lines, Refused, Search};
use super::tunnel::Tunnel;
use crate::http::engine::alarm::{Alarm, Owed};
use crate::http::engine::{BodyError, Transport};
use crate::limits;

pub use ending::end;

pub struct Connection {
    /// Gone where it has ended or has become a tunnel.
    stream: Option<Box<dyn Transport>>,
    /// What has arrived and was not read yet.
    input: BytesMut,
    /// What one read asks for.
    read_size: usize,
    /// What was said and is not written yet.
    output: BytesMut,
    alarm: Alarm,
    /// What the peer owes on the reading side, and since when; since when it takes no bytes.
    owes: Option<(Owed, Instant)>,
    blocked: Option<Instant>,
    /// The peer has ended its sending.
    is_ended: bool,
    /// Why it takes no more.
    refused: Option<io::ErrorKind>,
    search: Search,
    /// The body that arrives, and which message's it is.
    body: Decoder,
    message: u32,
    go_on: GoOn,
    end: End,
    /// Why nothing more comes of the body.
    broken: Option<(io::ErrorKind, String)>,
    /// Another message may follow this one.
    lasts: bool,
    /// Somebody may still read it.
    has_reader: bool,
    /// Who waits for more of the body.
    reader: Option<Waker>,
    /// Who wants to know that the body has come or broken, or that nobody reads it any more.
    watcher: Option<Waker>,
}

/// Which end of the connection this agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A stall in a body whose length was announced is the client's fault.
    Server,
    Client,
}

/// Whether the sender of the arriving body is told that it is wanted (RFC 9110, section 10.1.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum GoOn {
    /// Nobody waits to be told.
    #[default]
    Unasked,
    /// This agent says so when somebody wants the body.
    Awaited,
    /// Whoever answers says so, and this agent passes it on.
    Left,
    BeingSaid,
    Said,
}

/// What comes next on a connection where a head is awaited.
pub enum Arrived {
    Head(Bytes),
    /// The peer has ended its sending, with nothing begun.
    End,
    Refused(Refused),
}

impl Connection {
    pub fn new(stream: impl Transport, end: End) -> Self {
        stream.acknowledge_within(Some(limits::ACKNOWLEDGE));
        Self {
            stream: Some(Box::new(stream)),
            input: BytesMut::new(),
            read_size: limits::HTTP1_READ,
            output: BytesMut::new(),
            alarm: Alarm::new(),
            owes: None,
            blocked: None,
            is_ended: false,
            refused: None,
            search: Search::default(),
            body: Decoder::DONE,
            message: 0,
            go_on: GoOn::Unasked,
            end,
            broken: None,
            lasts: true,
            has_reader: false,
            reader: None,
            watcher: None,
        }
    }

    /// It can carry nothing any more.
    pub const fn is_closed(&self) -> bool {
        self.stream.is_none() || self.is_ended
    }

    /// Where a message is said.
    pub fn output(&mut self) -> &mut BytesMut {
        if self.output.capacity() == 0 {
            self.output.reserve(limits::HTTP1_WRITE_AT_FIRST);
        }
        &mut self.output
    }

    /// Something that was said is not written yet.
    pub fn has_said(&self) -> bool {
        !self.output.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.output.len() >= limits::HTTP1_WRITE
    }

    /// The whole of the body has come.
    pub fn has_body(&self) -> bool {
        self.body.is_done()
    }

    /// Nothing has arrived that was not read.
    pub fn has_read_all(&self) -> bool {
        self.body.is_done() && self.input.is_empty()
    }

    /// Nobody is told any more to send a body: the answer begins. True: somebody still waits for that.
    pub fn leaves_waiting(&mut self) -> bool {
        matches!(std::mem::take(&mut self.go_on), GoOn::Awaited | GoOn::Left) && !self.body.is_done()
    }

    /// The sender of this message's body is told by whoever answers that it is wanted.
    pub fn leave_word(&mut self, message: u32) {
        if message == self.message && self.go_on == GoOn::Awaited {
            self.go_on = GoOn::Left;
        }
    }

    /// Says an answer of status 1xx that was written by whoever answers in the end, but no second 100. How much that may be
    /// is bounded where it comes from.
    pub fn say_interim(&mut self, head: &response::Parts) {
        if head.status == StatusCode::CONTINUE {
            match self.go_on {
                GoOn::BeingSaid | GoOn::Said => return,
                GoOn::Awaited | GoOn::Left => self.go_on = GoOn::BeingSaid,
                GoOn::Unasked => {}
            }
        }
        head::write_answer(self.output(), head, Version::HTTP_11, Announced::NoBody, None);
    }

    /// Reads more. False: the peer has ended its sending.
    fn poll_fill(&mut self, task: &mut Context<'_>, owed: Option<Owed>) -> Poll<io::Result<bool>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if self.is_ended {
            return Poll::Ready(Ok(false));
        }
        if self.input.capacity() - self.input.len() < limits::HTTP1_READ / 8 {
            self.input.reserve(self.read_size);
        }
        let room = self.input.capacity() - self.input.len();
        let read = tokio_util::io::poll_read_buf(Pin::new(stream), task, &mut self.input)?;
        let Poll::Ready(read) = read else {
            if self.input.is_empty() {
                // It may rest for long.
                self.input = BytesMut::new();
            }
            return self.poll_overdue(task, owed).map(Err);
        };
        if read == room {
            self.read_size = (2 * self.read_size).min(limits::HTTP1_READ_MAXIMUM);
        }
        self.alarm.moved();
        self.owes = self.owes.filter(|(owed, _)| *owed == Owed::Head);
        self.is_ended = read == 0;
        Poll::Ready(Ok(read > 0))
    }

    fn poll_overdue(&mut self, task: &mut Context<'_>, owed: Option<Owed>) -> Poll<io::Error> {
        self.owes = owed.map(|owed| match self.owes {
            Some((known, since)) if known == owed => (owed, since),
            Some(_) | None => (owed, Instant::now()),
        });
        self.poll_alarm(task)
    }

    /// The peer takes no bytes. Ready: for too long.
    fn poll_blocked(&mut self, task: &mut Context<'_>) -> Poll<io::Error> {
        self.blocked.get_or_insert_with(Instant::now);
        self.poll_alarm(task)
    }

    fn poll_alarm(&mut self, task: &mut Context<'_>) -> Poll<io::Error> {
        let owed = self.blocked.map(|since| (Owed::Reading, since)).or(self.owes);
        self.alarm.poll(task, owed)
    }

    /// The next head, once the one before and its body have been read.
    pub fn poll_head(&mut self, task: &mut Context<'_>, lines: Lines) -> Poll<io::Result<Arrived>> {
        loop {
            // A server skips empty lines before a request, so they begin none (RFC 9112, section 2.2).
            while lines == Lines::Strict
                && let [b'\r', b'\n', ..] | [b'\n', ..] = self.input.as_ref()
            {
                self.input.advance(if self.input[0] == b'\r' { 2 } else { 1 });
                self.search = Search::default();
            }
            match self.search.end(&self.input, lines) {
                Ok(Some(end)) => {
                    self.owes = None;
                    return Poll::Ready(Ok(Arrived::Head(self.input.split_to(end).freeze())));
                }
                Ok(None) => {}
                Err(refused) => return Poll::Ready(Ok(Arrived::Refused(refused))),
            }
            let owed = (!self.input.is_empty() && lines == Lines::Strict).then_some(Owed::Head);
            if !ready!(self.poll_fill(task, owed))? {
                return Poll::Ready(if self.input.is_empty() {
                    Ok(Arrived::End)
                } else {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer ended in the middle of a head"))
                });
            }
        }
    }

    /// A body follows the head; its number.
    pub fn begin_body(&mut self, framing: Framing, expects: bool) -> u32 {
        self.body = Decoder::new(framing);
        self.go_on = if expects { GoOn::Awaited } else { GoOn::Unasked };
        self.read_size = limits::HTTP1_READ;
        self.has_reader = !self.body.is_done();
        self.message = self.message.wrapping_add(1);
        self.message
    }

    pub const fn set_lasting(&mut self, lasts: bool) {
        self.lasts = lasts;
    }

    pub const fn lasts(&self) -> bool {
        self.lasts && !self.is_closed()
    }

    /// Nobody reads this message's body any more.
    pub fn leave_body(&mut self, message: u32) {
        if message == self.message {
            self.has_reader = false;
            if let Some(watcher) = self.watcher.take() {
                watcher.wake();
            }
        }
    }

    /// Ready when the body has come, broken or been left.
    pub fn poll_body_left(&mut self, task: &Context<'_>) -> Poll<()> {
        if self.body.is_done() || self.broken.is_some() || !self.has_reader {
            return Poll::Ready(());
        }
        self.watcher = Some(task.waker().clone());
        Poll::Pending
    }

    pub const fn has_reader(&self) -> bool {
        self.has_reader
    }

    /// What is left of the body, where that is known.
    pub fn announced(&self, message: u32) -> Option<u64> {
        if message == self.message { self.body.announced() } else { Some(0) }
    }

    pub fn is_body_over(&self, message: u32) -> bool {
        message != self.message || (self.body.is_done() && self.broken.is_none())
    }

    /// The next piece of a message's body; None at its end.
    pub fn poll_body(&mut self, task: &mut Context<'_>, message: u32) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if message != self.message {
            // It was whole, or there would be no later one.
            return Poll::Ready(None);
        }
        if let Some((kind, why)) = &self.broken {
            return Poll::Ready(Some(Err(BodyError::Broken(io::Error::new(*kind, why.clone())))));
        }
        // Pieces that are there already cost no system call, and nobody may take the worker for all of them at once.
        let turn = ready!(coop::poll_proceed(task));
        loop {
            let piece = match self.body.next(&mut self.input) {
                Ok(Piece::More) => match self.poll_more_of_body(task) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return self.broke(task, error),
                    Poll::Pending => {
                        self.reader = Some(task.waker().clone());
                        return Poll::Pending;
                    }
                },
                Ok(Piece::Data(piece)) => Some(Ok(Frame::data(piece))),
                Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Ok(Piece::End) => None,
                Err(Malformed(why)) => return self.broke(task, io::Error::new(io::ErrorKind::InvalidData, why)),
            };
            turn.made_progress();
            if self.go_on == GoOn::Left {
                // Whoever sends does not wait any more.
                self.go_on = GoOn::Said;
            }
            self.tell_watcher(task);
            return Poll::Ready(piece);
        }
    }

    /// Ready when more has come, or the end where that is the body's.
    fn poll_more_of_body(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.go_on == GoOn::Awaited {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.go_on = GoOn::BeingSaid;
        }
        if self.go_on == GoOn::BeingSaid
            && let Poll::Ready(told) = self.poll_flush(task)
        {
            told?;
            self.go_on = GoOn::Said;
        }
        // Whoever waits to be told owes nothing.
        let is_due = self.end == End::Server && self.go_on != GoOn::Left && self.body.announced().is_some();
        let owed = is_due.then_some(Owed::Body);
        // After a reset that the writing has seen, the reading sees an end that looks orderly.
        if ready!(self.poll_fill(task, owed))? || (self.refused.is_none() && self.body.end()) {
            return Poll::Ready(Ok(()));
        }
        let early = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in the middle of the body");
        Poll::Ready(Err(early))
    }

    fn broke(&mut self, task: &Context<'_>, error: io::Error) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.broken = Some((error.kind(), error.to_string()));
        self.tell_watcher(task);
        Poll::Ready(Some(Err(BodyError::Broken(error))))
    }

    fn tell_watcher(&mut self, task: &Context<'_>) {
        if self.body.is_done() || self.broken.is_some() {
            let watcher = self.watcher.take().filter(|watcher| !watcher.will_wake(task.waker()));
            if let Some(watcher) = watcher {
                watcher.wake();
            }
        }
    }

    /// Ready: the peer or its message has failed. A peer that ends its sending still waits for its answer.
    pub fn poll_failure(&mut self, task: &mut Context<'_>) -> Poll<io::Error> {
        match &self.broken {
            // What it has sent is wrong, and it can be told so.
            Some((io::ErrorKind::InvalidData, _)) => return Poll::Pending,
            Some((kind, why)) => return Poll::Ready(io::Error::new(*kind, why.clone())),
            None => {}
        }
        if !self.body.is_done() {
            self.watcher = Some(task.waker().clone());
            // Somebody else reads; who is waited for too long is found out by both.
            return self.poll_alarm(task);
        }
        while !self.is_ended && self.input.len() < limits::HTTP1_AHEAD {
            if let Err(error) = ready!(self.poll_fill(task, None)) {
                return Poll::Ready(error);
            }
        }
        Poll::Pending
    }

    /// Whether a connection at rest is of no use any more; nobody is woken.
    pub fn has_ended_at_rest(&mut self) -> bool {
        at_once(|task| self.poll_end_of_rest(task)).is_ready()
    }

    /// Ready: a connection at rest is of no use any more, because its peer has ended it or speaks unasked.
    pub fn poll_end_of_rest(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if self.stream.is_none() || !self.input.is_empty() {
            return Poll::Ready(());
        }
        self.poll_fill(task, None).map(drop)
    }

    /// Reads over what has come of a body that nobody wants. False: there is more of it.
    pub fn skip_body(&mut self) -> bool {
        while let Ok(Piece::Data(_) | Piece::Trailers(_)) = self.body.next(&mut self.input) {}
        self.body.is_done() && self.broken.is_none()
    }

    /// Writes what was said.
    pub fn poll_flush(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let mut stream = Pin::new(stream);
        let mut written = Poll::Ready(Ok(()));
        while !self.output.is_empty() && matches!(written, Poll::Ready(Ok(()))) {
            written = stream.as_mut().poll_write(task, &self.output).map(|count| {
                let count = count?;
                self.alarm.moved();
                self.blocked = None;
                self.output.advance(count);
                if count > 0 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
            });
        }
        let flushed = if matches!(written, Poll::Ready(Ok(()))) { stream.poll_flush(task) } else { written };
        if let Poll::Ready(Err(error)) = &flushed {
            self.refused = Some(error.kind());
        }
        if flushed.is_pending() {
            return self.poll_blocked(task).map(Err);
        }
        self.blocked = None;
        flushed
    }

    /// Frees what only a message needs.
    pub fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.output = BytesMut::new();
    }

    /// What follows on the connection is another protocol. Nothing, if it has ended.
    pub fn take_tunnel(&mut self) -> Option<Tunnel> {
        let stream = self.take_stream()?;
        stream.acknowledge_within(None);
        Some(Tunnel::new(stream, std::mem::take(&mut self.input).freeze()))
    }
}

/// What can be done without waiting, also at the end of a task's turn.
fn at_once<T>(step: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    pin!(coop::unconstrained(poll_fn(step))).poll(&mut Context::from_waker(Waker::noop()))
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.abandon();
    }
}
