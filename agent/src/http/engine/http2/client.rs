//! The side that asks: many requests at a time on a connection, whose own task drives it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client;
use http::{Extensions, Method, Request, Response, request};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::meter::End;
use super::outgoing::{Failure, Outgoing};
use super::pulse::Pulse;
use super::stream::Guarded;
use super::{Incoming, Protocol, prepare};
use crate::http::engine::interim::{Interim, expects};
use crate::http::engine::{Body, Transport, Unsent, with_causes};
use crate::limits;

/// A share of a connection that requests are sent on. Each holder has at most one request under way, from its head to the end
/// of its answer.
#[derive(Debug)]
pub struct Line {
    requests: client::SendRequest<Bytes>,
    shares: Rc<Shared>,
    /// Where the rest of a request runs that is answered before it has left.
    tasks: TaskTracker,
}

/// What the holders of a connection have in common.
#[derive(Debug)]
struct Shared {
    /// The peer may have said what it can do.
    heard: Notify,
    /// It has, by its settings or by its silence.
    settled: Rc<Cell<bool>>,
}

/// Speaks HTTP/2 on `stream`, whose own task runs where `tasks` counts it and cancels `ended` when the connection is over.
///
/// # Errors
/// The preface cannot be sent.
pub async fn open<S>(stream: S, tasks: &TaskTracker, ended: CancellationToken) -> Result<Line, h2::Error>
where
    S: Transport,
{
    let stream = Guarded::new(stream, End::Client);
    let shares = Rc::new(Shared { heard: Notify::new(), settled: stream.settled() });
    let (requests, mut connection) = client::Builder::new()
        .initial_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_header_list_size(limits::HTTP2_HEADER_LIST)
        .max_send_buffer_size(limits::HTTP2_SEND_BUFFER)
        .max_concurrent_reset_streams(limits::HTTP2_RESETS_REMEMBERED)
        .max_pending_accept_reset_streams(limits::HTTP2_RESETS_UNSEEN)
        .max_local_error_reset_streams(Some(limits::HTTP2_ERRORS))
        .enable_push(false)
        .handshake(stream)
        .await?;
    let mut pulse = Pulse::new(connection.ping_pong());
    let weak = Rc::downgrade(&shares);
    tasks.spawn_local(async move {
        // How it ended is told to whoever waits for an answer on it.
        poll_fn(|task| {
            let over = Pin::new(&mut connection).poll(task).is_ready() || pulse.poll(task).is_ready();
            if let Some(shares) = weak.upgrade() {
                shares.heard.notify_waiters();
            }
            if over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(connection);
        ended.cancel();
    });
    Ok(Line { requests, shares, tasks: tasks.clone() })
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Body>, Unsent> {
        if let Err(error) = self.ready().await {
            return Err(Unsent::untouched(request, &with_causes(&error)));
        }
        if request.extensions().get::<Protocol>().is_some() && !self.takes_protocols().await {
            let why = "the application takes no WebSocket over HTTP/2 (extended CONNECT)".to_owned();
            return Err(Unsent { impossible: true, of_stream: true, ..Unsent::begun(why) });
        }
        let (mut parts, mut body) = request.into_parts();
        let expected = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
        prepare(&mut parts.headers, &body, expected);
        if expects(&parts.headers) {
            body.leave_word();
        }
        let extensions = std::mem::take(&mut parts.extensions);
        ask_for_protocol(&mut parts, &extensions);
        let is_over = body.is_over();
        let (mut answer, stream) =
            self.requests.send_request(Request::from_parts(parts, ()), is_over).map_err(|error| unsent(&error))?;
        let mut upload = (!is_over).then(|| Outgoing::new(stream, body));
        let mut interim = 0;
        let answered = poll_fn(|task| {
            if let Some(sending) = &mut upload
                && let Poll::Ready(sent) = sending.poll(task)
            {
                if let Err(Failure::Body(error)) = sent {
                    return Poll::Ready(Err(Unsent { of_stream: true, ..Unsent::begun(with_causes(&error)) }));
                }
                // A server may answer without having read everything.
                upload = None;
            }
            poll_answer(&mut answer, task, &extensions, &mut interim)
        });
        let (parts, stream) = answered.await?.into_parts();
        let mut incoming = Incoming::new(stream, &parts.headers);
        // The two directions of a tunnel end each by itself.
        let tunnels = parts.status.is_success() && extensions.get::<Protocol>().is_some();
        if let Some(rest) = upload
            && (tunnels || !incoming.is_end_stream())
        {
            let over = CancellationToken::new();
            if !tunnels {
                incoming = incoming.ending(over.clone().drop_guard());
            }
            self.tasks.spawn_local(finish(rest.answered(), over));
        }
        Ok(Response::from_parts(parts, Body::of_stream(incoming)))
    }

    async fn ready(&mut self) -> Result<(), h2::Error> {
        poll_fn(|task| self.requests.poll_ready(task)).await
    }

    /// Waits until the peer has said what it can do, once.
    async fn takes_protocols(&self) -> bool {
        let said = async {
            loop {
                let heard = self.shares.heard.notified();
                if self.requests.is_extended_connect_protocol_enabled() || self.shares.settled.get() {
                    return;
                }
                heard.await;
            }
        };
        if timeout(limits::HTTP2_SETTINGS_WAIT, said).await.is_err() {
            self.shares.settled.set(true);
        }
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Ready when a request can be sent at once; false when the connection has ended.
    pub async fn is_usable(&mut self) -> bool {
        self.ready().await.is_ok()
    }

    pub fn is_closed(&self) -> bool {
        let mut requests = self.requests.clone();
        matches!(requests.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// A second one on the same connection.
    pub fn share(&self) -> Self {
        Self { requests: self.requests.clone(), shares: Rc::clone(&self.shares), tasks: self.tasks.clone() }
    }

    /// Requests under way on the connection, seen from a holder that has none.
    pub fn under_way(&self) -> usize {
        Rc::strong_count(&self.shares) - 1
    }

    /// Whether both are shares of one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.shares, &other.shares)
    }
}

/// Sends the rest of a request whose answer has begun, until that is over: a server may answer without having read everything.
async fn finish(mut rest: Outgoing, over: CancellationToken) {
    tokio::select! {
        biased;
        // Both sides of it learn how it ended.
        _ = poll_fn(|task| rest.poll(task)) => {}
        () = over.cancelled() => {}
    }
}

fn ask_for_protocol(parts: &mut request::Parts, extensions: &Extensions) {
    if let Some(Protocol(protocol)) = extensions.get() {
        parts.method = Method::CONNECT;
        parts.extensions.insert(h2::ext::Protocol::from(&**protocol));
    }
}

fn poll_answer(
    answer: &mut client::ResponseFuture,
    task: &mut Context<'_>,
    extensions: &Extensions,
    interim: &mut usize,
) -> Poll<Result<Response<h2::RecvStream>, Unsent>> {
    while let Poll::Ready(Some(head)) = answer.poll_informational(task) {
        let head = head.map_err(|error| unsent(&error))?;
        *interim += 1;
        if *interim > limits::INTERIM {
            let why = "the peer announces an answer again and again".to_owned();
            return Poll::Ready(Err(Unsent { of_stream: true, ..Unsent::begun(why) }));
        }
        Interim::leave(extensions, head.into_parts().0);
    }
    Pin::new(answer).poll(task).map_err(|error| unsent(&error))
}

fn unsent(error: &h2::Error) -> Unsent {
    let refused = (error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away()) && error.is_remote();
    Unsent { refused, of_stream: error.is_reset(), ..Unsent::begun(with_causes(error)) }
}
