//! The side that answers: the requests of a connection, one after the other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version, response};
use tokio::task::coop;
use tokio::time::{Sleep, sleep};

use super::connection::{self, Arrived, Connection, End};
use super::head::{self, Announced, Lines, Refused, RequestHead};
use super::outgoing::{Failure, Outgoing};
use super::tunnel::Handover;
use super::{Incoming, RequestBody};
use crate::error::{ConnectionError, Side};
use crate::http::answer::{Asker, refusal};
use crate::http::engine::interim::Interim;
use crate::http::engine::{Body, Leave, Served, Transport, with_causes};
use crate::limits;

/// Answers every request on `stream` with `answer` until it ends, an answer says `Connection: close`, or `drain` says to leave.
pub async fn serve<F>(
    stream: impl Transport,
    drain: impl Future<Output = Leave>,
    answer: impl Fn(Request<Body>) -> F,
) -> Served
where
    F: Future<Output = Response<Body>>,
{
    let connection = Rc::new(RefCell::new(Connection::new(stream, End::Server)));
    let _served = ToTheEnd(&connection);
    let mut drain = Drain { signal: pin!(drain), leave: None, rest: None };
    loop {
        let next = poll_fn(|task| poll_request(&mut connection.borrow_mut(), &mut drain, task)).await;
        let goes_on = match next {
            Ok(Next::Request(head)) => answer_one(&connection, *head, &mut drain, &answer).await,
            Ok(Next::End) => Ok(Then::End),
            Ok(Next::Refused(refused)) => refuse(&connection, refused).await,
            Err(error) => Err(failed(&error)),
        };
        match goes_on {
            Ok(Then::Next) => connection.borrow_mut().rest(),
            Ok(Then::Nothing) => return Served::Ended,
            Ok(Then::End) => return end(&connection).await,
            Err(served) => return served,
        }
    }
}

/// Whoever stops serving ends the connection too, whoever may still hold a body of it.
struct ToTheEnd<'a>(&'a RefCell<Connection>);

impl Drop for ToTheEnd<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().abandon();
    }
}

/// What follows an answer.
enum Then {
    Next,
    End,
    /// The connection is somebody else's.
    Nothing,
}

enum Next {
    Request(Box<RequestHead>),
    End,
    Refused(Refused),
}

/// Whether another request is wanted.
struct Drain<'a, D> {
    signal: Pin<&'a mut D>,
    leave: Option<Leave>,
    /// The end of a rest that began after the signal, or was interrupted by it.
    rest: Option<Pin<Box<Sleep>>>,
}

impl<D: Future<Output = Leave>> Drain<'_, D> {
    fn poll(&mut self, task: &mut Context<'_>) -> Option<Leave> {
        if self.leave.is_none()
            && let Poll::Ready(leave) = self.signal.as_mut().poll(task)
        {
            self.leave = Some(leave);
        }
        self.leave
    }

    /// Ready when a connection that rests goes.
    fn poll_rest(&mut self, task: &mut Context<'_>) -> Poll<()> {
        match self.poll(task) {
            None => Poll::Pending,
            Some(Leave::AtOnce) => Poll::Ready(()),
            Some(Leave::WithNextAnswer) => {
                self.rest.get_or_insert_with(|| Box::pin(sleep(limits::DRAIN_REST))).as_mut().poll(task)
            }
        }
    }
}

fn poll_request<D: Future<Output = Leave>>(
    connection: &mut Connection,
    drain: &mut Drain<'_, D>,
    task: &mut Context<'_>,
) -> Poll<io::Result<Next>> {
    let arrived = connection.poll_head(task, Lines::Strict)?;
    let Poll::Ready(arrived) = arrived else {
        // Without a budget nothing was read, however much there is.
        let rests = connection.has_read_all() && coop::has_budget_remaining();
        return if rests { drain.poll_rest(task).map(|()| Ok(Next::End)) } else { Poll::Pending };
    };
    Poll::Ready(Ok(match arrived {
        Arrived::Head(head) => {
            head::read_request(&head).map_or_else(Next::Refused, |request| Next::Request(Box::new(request)))
        }
        Arrived::End => Next::End,
        Arrived::Refused(refused) => Next::Refused(refused),
    }))
}

async fn answer_one<F, D: Future<Output = Leave>>(
    connection: &Rc<RefCell<Connection>>,
    head: RequestHead,
    drain: &mut Drain<'_, D>,
    answer: impl Fn(Request<Body>) -> F,
) -> Result<Then, Served>
where
    F: Future<Output = Response<Body>>,
{
    let RequestHead { mut parts, framing, persistent, expects } = head;
    let asked = Asked { head: parts.method == Method::HEAD, version: parts.version, persistent };
    let message = connection.borrow_mut().begin_body(framing, expects);
    let giver = parts.headers.contains_key(UPGRADE).then(|| {
        let (giver, handover) = Handover::new();
        parts.extensions.insert(handover);
        giver
    });
    let interim = Interim::default();
    // RFC 9110, section 15.2: HTTP/1.0 knows no answer of status 1xx.
    if asked.version == Version::HTTP_11 {
        parts.extensions.insert(interim.clone());
    }
    let body = if connection.borrow().has_body() {
        Body::empty()
    } else {
        Body::received(Incoming::Request(RequestBody { connection: Rc::clone(connection), message }))
    };
    let response = {
        let mut answered = pin!(answer(Request::from_parts(parts, body)));
        poll_fn(|task| {
            let answered = answered.as_mut().poll(task);
            while let Some(head) = interim.take() {
                connection.borrow_mut().say_interim(&head);
            }
            // Also what the client did not take at once.
            if connection.borrow().has_said()
                && let Poll::Ready(Err(error)) = connection.borrow_mut().poll_flush(task)
            {
                return Poll::Ready(Err(error));
            }
            match answered {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => connection.borrow_mut().poll_failure(task).map(Err),
            }
        })
        .await
        .map_err(|error| failed(&error))?
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (parts, _) = response.into_parts();
        head::write_answer(connection.borrow_mut().output(), &parts, asked.version, Announced::AsIs, None);
        poll_fn(|task| connection.borrow_mut().poll_flush(task)).await.map_err(|error| failed(&error))?;
        if let (Some(giver), Some(tunnel)) = (giver, connection.borrow_mut().take_tunnel()) {
            // Nobody may want it any more: then it is reset.
            let _ = giver.send(tunnel);
        }
        return Ok(Then::Nothing);
    }
    let leave = poll_fn(|task| Poll::Ready(drain.poll(task))).await;
    write(connection, Asked { persistent: asked.persistent && leave.is_none(), ..asked }, response).await
}

/// What an answer must know of its request.
struct Asked {
    head: bool,
    version: Version,
    persistent: bool,
}

impl Asked {
    fn announce(&self, parts: &response::Parts, body: &Body) -> Announced {
        match (parts.status, body.length()) {
            (StatusCode::NOT_MODIFIED, _) => Announced::AsIs,
            _ if self.head => Announced::AsIs,
            (StatusCode::NO_CONTENT, _) => Announced::NoBody,
            (_, Some(length)) => Announced::Length(length),
            (_, None) if self.version == Version::HTTP_11 => Announced::Chunked,
            // It ends with the connection.
            (_, None) => Announced::Nothing,
        }
    }
}

async fn write(connection: &Rc<RefCell<Connection>>, asked: Asked, response: Response<Body>) -> Result<Then, Served> {
    let (mut parts, body) = response.into_parts();
    let announced = asked.announce(&parts, &body);
    let ends = parts.headers.remove(CONNECTION).is_some_and(|value| value == "close");
    let mut persistent = asked.persistent && !ends;
    {
        let mut connection = connection.borrow_mut();
        // A client that was not told to send its body may still do so, and what nobody reads would be in the next one's way.
        let in_the_way = !connection.has_reader() && !connection.skip_body();
        persistent &= !connection.leaves_waiting() && !in_the_way && announced != Announced::Nothing;
        let told = match (persistent, asked.version) {
            (false, _) => Some("close"),
            (true, Version::HTTP_10) => Some("keep-alive"),
            (true, _) => None,
        };
        head::write_answer(connection.output(), &parts, asked.version, announced, told);
    }
    // The answer may be long, and its head holds what was read with it.
    drop(parts);
    let mut outgoing = Outgoing::new(body, announced);
    let written = poll_fn(|task| match outgoing.poll(connection, task) {
        Poll::Ready(written) => Poll::Ready(written),
        Poll::Pending => connection.borrow_mut().poll_failure(task).map(|error| Err(Failure::Connection(error))),
    });
    written.await.map_err(|failure| match failure {
        Failure::Body(error) => Served::Truncated(with_causes(&error)),
        Failure::Connection(error) => failed(&error),
    })?;
    drop(outgoing);
    // The answer may have come before its request had left.
    poll_fn(|task| connection.borrow_mut().poll_body_left(task)).await;
    let goes_on = persistent && connection.borrow_mut().skip_body();
    Ok(if goes_on { Then::Next } else { Then::End })
}

/// Tells the client why nothing more is read of what it sends.
async fn refuse(connection: &Rc<RefCell<Connection>>, refused: Refused) -> Result<Then, Served> {
    let error = ConnectionError::new(Side::Downstream, refused.reason()).with_detail(refused.to_string());
    let mut response = refusal(Asker::Http, &error);
    *response.status_mut() = refused.status();
    let asked = Asked { head: false, version: Version::HTTP_11, persistent: false };
    write(connection, asked, response).await?;
    connection::end(connection, true).await.map_err(|error| failed(&error))?;
    Err(Served::Refused(refused.to_string()))
}

async fn end(connection: &RefCell<Connection>) -> Served {
    match connection::end(connection, false).await {
        Ok(()) => Served::Ended,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Served {
    let text = error.to_string();
    if error.kind() == io::ErrorKind::TimedOut { Served::TooSlow(text) } else { Served::Failed(text) }
}
