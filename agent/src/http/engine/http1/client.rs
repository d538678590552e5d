//! The side that asks: one request at a time on a [`Line`].

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Frame;
use tokio_util::task::TaskTracker;

use super::Incoming;
use super::connection::{Arrived, Connection, End};
use super::head::{self, Announced, AnswerHead, Lines};
use super::outgoing::{Failure, Outgoing};
use super::rest::Rest;
use super::tunnel::Handover;
use crate::http::engine::interim::{Interim, expects, is_interim};
use crate::http::engine::{Body, BodyError, Transport, Unsent, with_causes};
use crate::limits;

/// A connection that carries a request at a time. Nothing runs for it while it rests: whoever keeps it asks whether it has
/// ended.
pub struct Line {
    connection: Rc<RefCell<Connection>>,
    /// Where the rest of a request runs that is answered before it has left.
    tasks: TaskTracker,
}

/// A request under way. Dropped before its answer has come whole: the peer is told by a reset, for an orderly end after half
/// a body could be taken for the whole.
pub struct Exchange {
    /// None once it is over.
    connection: Option<Rc<RefCell<Connection>>>,
    upload: Upload,
    message: u32,
    /// Another request may follow.
    persistent: bool,
}

/// What is left of a request.
enum Upload {
    Own(Box<Outgoing>),
    /// It goes on by itself, for nobody may read its answer until it has left.
    Apart(Rc<Rest>),
    Done,
    /// The connection takes no more of it: a server may answer without having read everything.
    GivenUp(String),
}

impl Line {
    pub fn new(stream: impl Transport, tasks: TaskTracker) -> Self {
        Self { connection: Rc::new(RefCell::new(Connection::new(stream, End::Client))), tasks }
    }

    /// Nobody waits for an answer on it.
    pub fn is_ready(&self) -> bool {
        Rc::strong_count(&self.connection) == 1
    }

    /// Whether another request can follow the one that was answered last.
    pub fn lasts(&self) -> bool {
        self.connection.borrow().lasts()
    }

    /// The peer has ended it.
    pub fn is_closed(&self) -> bool {
        self.is_ready() && self.connection.borrow_mut().has_ended_at_rest()
    }

    /// Ready when the peer has ended it. Pending, and woken for nothing, while a request is under way.
    pub fn poll_closed(&self, task: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() { self.connection.borrow_mut().poll_end_of_rest(task) } else { Poll::Pending }
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Unsent> {
        if !self.is_ready() || self.is_closed() {
            return Err(Unsent::untouched(request, "the connection has ended"));
        }
        let (parts, mut body) = request.into_parts();
        let announced = announce(&parts, &body);
        if parts.version != Version::HTTP_10 && expects(&parts.headers) {
            body.leave_word();
        }
        head::write_request(self.connection.borrow_mut().output(), &parts, announced);
        let mut exchange = Exchange {
            connection: Some(Rc::clone(&self.connection)),
            upload: Upload::Own(Box::new(Outgoing::new(body, announced))),
            message: 0,
            // HTTP/1.0 keeps a connection only if it is asked to.
            persistent: parts.version != Version::HTTP_10,
        };
        let mut interim = 0;
        let answered = poll_fn(|task| exchange.poll_answer(task, &parts, &mut interim)).await;
        let head = answered.map_err(Unsent::begun)?;
        Ok(exchange.answered(head, &self.tasks))
    }
}

/// An empty body needs no length but where one is expected (RFC 9110, section 8.6).
fn announce(parts: &request::Parts, body: &Body) -> Announced {
    let expected = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH)
        || parts.headers.contains_key(http::header::CONTENT_LENGTH);
    match body.length() {
        None => Announced::Chunked,
        Some(0) if !expected => Announced::Nothing,
        Some(length) => Announced::Length(length),
    }
}

impl Exchange {
    pub const fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    pub fn announced(&self) -> Option<u64> {
        self.connection.as_ref().map_or(Some(0), |connection| connection.borrow().announced(self.message))
    }

    fn poll_answer(
        &mut self,
        task: &mut Context<'_>,
        asked: &request::Parts,
        interim: &mut usize,
    ) -> Poll<Result<AnswerHead, String>> {
        let Some(connection) = &self.connection else { return Poll::Ready(Err("the connection has ended".to_owned())) };
        loop {
            if let Upload::Own(upload) = &mut self.upload
                && let Poll::Ready(sent) = upload.poll(connection, task)
            {
                self.upload = match sent {
                    Ok(()) => Upload::Done,
                    Err(Failure::Connection(error)) => Upload::GivenUp(error.to_string()),
                    Err(Failure::Body(error)) => return Poll::Ready(Err(with_causes(&error))),
                };
            }
            let why = match ready!(connection.borrow_mut().poll_head(task, Lines::Any)) {
                Ok(Arrived::Head(head)) => match head::read_answer(&head, &asked.method) {
                    Ok(head) if is_interim(head.parts.status) && *interim < limits::INTERIM => {
                        *interim += 1;
                        Interim::leave(&asked.extensions, head.parts);
                        continue;
                    }
                    Ok(head) if is_interim(head.parts.status) => {
                        "the peer announces an answer again and again".to_owned()
                    }
                    Ok(head) if head.parts.status == StatusCode::SWITCHING_PROTOCOLS && !self.has_left() => {
                        "the peer changes its protocol in the middle of a request".to_owned()
                    }
                    Ok(head) => return Poll::Ready(Ok(head)),
                    Err(refused) => refused.to_string(),
                },
                Ok(Arrived::Refused(refused)) => refused.to_string(),
                Ok(Arrived::End) => "the peer ended the connection".to_owned(),
                Err(error) => error.to_string(),
            };
            return Poll::Ready(Err(match &self.upload {
                Upload::GivenUp(earlier) => earlier.clone(),
                Upload::Own(_) | Upload::Apart(_) | Upload::Done => why,
            }));
        }
    }

    /// The whole request is on its way.
    fn has_left(&self) -> bool {
        match &self.upload {
            Upload::Done => true,
            Upload::Apart(rest) => rest.has_left(),
            Upload::Own(_) | Upload::GivenUp(_) => false,
        }
    }

    fn answered(mut self, head: AnswerHead, tasks: &TaskTracker) -> Response<Body> {
        let AnswerHead { mut parts, framing, persistent } = head;
        let Some(connection) = self.connection.clone() else { return Response::from_parts(parts, Body::empty()) };
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let (giver, handover) = Handover::new();
            parts.extensions.insert(handover);
            self.connection = None;
            if let Some(tunnel) = connection.borrow_mut().take_tunnel() {
                // Whoever has asked for it still holds the answer.
                let _ = giver.send(tunnel);
            }
            return Response::from_parts(parts, Body::empty());
        }
        self.persistent &= persistent;
        self.message = connection.borrow_mut().begin_body(framing, false);
        connection.borrow_mut().set_lasting(self.persistent);
        if connection.borrow().has_body() {
            self.finish();
            return Response::from_parts(parts, Body::empty());
        }
        self.upload = match std::mem::replace(&mut self.upload, Upload::Done) {
            Upload::Own(upload) => Upload::Apart(Rest::begin(*upload, &connection, tasks)),
            upload @ (Upload::Apart(_) | Upload::Done | Upload::GivenUp(_)) => upload,
        };
        Response::from_parts(parts, Body::received(Incoming::Answer(self)))
    }

    pub fn poll_frame(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(connection) = &self.connection else { return Poll::Ready(None) };
        if let Upload::Apart(rest) = &self.upload
            && let Some(why) = rest.failure(task)
        {
            self.abandon();
            return Poll::Ready(Some(Err(BodyError::Broken(io::Error::other(why)))));
        }
        let frame = ready!(connection.borrow_mut().poll_body(task, self.message));
        let over = connection.borrow().is_body_over(self.message);
        match &frame {
            Some(Err(_)) => self.abandon(),
            Some(Ok(_)) if !over => {}
            Some(Ok(_)) | None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn abandon(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.borrow_mut().abandon();
        }
        self.leave_upload();
    }

    fn finish(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let has_left = self.has_left();
        self.leave_upload();
        let mut connection = connection.borrow_mut();
        if !has_left {
            connection.abandon();
        } else if self.persistent && connection.has_read_all() && !connection.is_closed() {
            connection.rest();
        } else {
            connection.close();
        }
    }

    fn leave_upload(&mut self) {
        if let Upload::Apart(rest) = std::mem::replace(&mut self.upload, Upload::Done) {
            rest.leave();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_ready() {
            self.connection.borrow_mut().close();
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Line").field("is_ready", &self.is_ready()).finish_non_exhaustive()
    }
}
