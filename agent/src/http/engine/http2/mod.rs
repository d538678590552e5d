//! HTTP/2, by hyper: its streams, with the bounds that it does not keep.

mod meter;
mod premature;
mod stream;
pub mod stuck;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Body, BodyError, Leave, Peer, Served, Transport, Unsent, with_causes};
use crate::limits;
use meter::End;
use premature::Premature;
use stream::Guarded;

/// Spawns a connection's own tasks where its worker counts them. None of them waits for ever for a peer that takes nothing.
#[derive(Debug, Clone)]
struct OnWorker(TaskTracker);

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnWorker {
    fn execute(&self, future: F) {
        self.0.spawn_local(stuck::bounded(future));
    }
}

/// Answers every stream with `answer` until the connection ends. When `drain` is ready no new one is taken.
pub async fn serve<S, F>(
    peer: Peer,
    stream: S,
    tasks: &TaskTracker,
    drain: impl Future<Output = Leave>,
    answer: impl Fn(Request<Body>) -> F,
) -> Served
where
    S: Transport,
    F: Future<Output = Response<Body>> + 'static,
{
    let premature = Rc::new(Premature::default());
    let service = service_fn(|request: Request<Incoming>| {
        let begun = premature.begin();
        let answered = answer(request.map(Body::of_stream));
        async move {
            let response = answered.await;
            begun.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(
        server::Builder::new(OnWorker(tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
            .max_concurrent_streams(limits::HTTP2_STREAMS)
            .max_header_list_size(limits::HTTP2_HEADER_LIST)
            .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
            .max_pending_accept_reset_streams(match peer {
                Peer::Stranger => limits::HTTP2_RESETS_UNSEEN,
                Peer::Agent => limits::HTTP2_RESETS_UNSEEN_OF_AGENT,
            })
            .max_local_error_reset_streams(limits::HTTP2_ERRORS)
            .keep_alive_interval(limits::HTTP2_PING)
            .keep_alive_timeout(limits::HTTP2_PING_TIMEOUT)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(Guarded::new(stream, End::Server)), service)
    );
    let flood = async {
        match peer {
            Peer::Stranger => premature.is_flood().await,
            Peer::Agent => std::future::pending().await,
        }
    };
    let (mut drain, mut flood) = (pin!(drain), pin!(flood));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return judge(ended),
            () = flood.as_mut() => return Served::Flooded("the client resets most of its requests at once".to_owned()),
            _ = drain.as_mut(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn judge(ended: Result<(), hyper::Error>) -> Served {
    let Err(error) = ended else { return Served::Ended };
    let text = with_causes(&error);
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        if error.is::<BodyError>() {
            return Served::Truncated(text);
        }
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => return Served::TooSlow(text),
            Some(io::ErrorKind::QuotaExceeded) => return Served::Flooded(text),
            Some(_) | None => cause = error.source(),
        }
    }
    Served::Failed(text)
}

/// A share of a connection that requests are sent on. Each holder has at most one request under way, from its head to the end
/// of its answer.
#[derive(Debug)]
pub struct Line(client::SendRequest<Body>, Rc<()>);

/// Speaks HTTP/2 on `stream`, whose own task runs where `tasks` counts it and cancels `ended` when the connection is over.
///
/// # Errors
/// The preface cannot be sent.
pub async fn open<S>(stream: S, tasks: &TaskTracker, ended: CancellationToken) -> Result<Line, hyper::Error>
where
    S: Transport,
{
    let io = TokioIo::new(Guarded::new(stream, End::Client));
    let (line, connection) = client::Builder::new(OnWorker(tasks.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_header_list_size(limits::HTTP2_HEADER_LIST)
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
        .keep_alive_interval(limits::HTTP2_PING)
        .keep_alive_timeout(limits::HTTP2_PING_TIMEOUT)
        .max_concurrent_reset_streams(limits::HTTP2_RESETS_REMEMBERED)
        .max_pending_accept_reset_streams(limits::HTTP2_RESETS_UNSEEN)
        .max_local_error_reset_streams(limits::HTTP2_ERRORS)
        .handshake(io)
        .await?;
    tasks.spawn_local(async move {
        // How it ended is told to whoever waits for an answer on it.
        let _ = connection.await;
        ended.cancel();
    });
    Ok(Line(line, Rc::default()))
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Body>, Unsent> {
        let answered = self.0.try_send_request(request).await;
        answered.map(|response| response.map(Body::of_stream)).map_err(unsent)
    }

    /// Ready when a request can be sent at once; false when the connection has ended.
    pub async fn is_usable(&mut self) -> bool {
        self.0.ready().await.is_ok()
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// A second one on the same connection.
    pub fn share(&self) -> Self {
        Self(self.0.clone(), Rc::clone(&self.1))
    }

    /// Requests under way on the connection, seen from a holder that has none.
    pub fn under_way(&self) -> usize {
        Rc::strong_count(&self.1) - 1
    }

    /// Whether both are shares of one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.1, &other.1)
    }
}

fn unsent(mut failure: hyper::client::conn::TrySendError<Request<Body>>) -> Unsent {
    let request = failure.take_message();
    let error = failure.into_error();
    let cause = h2_error(&error);
    Unsent {
        request,
        refused: cause.is_some_and(is_refused),
        of_stream: cause.is_some_and(h2::Error::is_reset),
        why: with_causes(&error),
    }
}

fn is_refused(error: &h2::Error) -> bool {
    (error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away()) && error.is_remote()
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |error| error.source()).find_map(|error| error.downcast_ref())
}
