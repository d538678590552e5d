//! The side that answers requests.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;

use super::meter::End;
use super::premature::Premature;
use super::stream::Guarded;
use super::watch::{Awaited, Watch};
use super::{Body, BodyError, OnWorker, Version, timer};
use crate::error::{ConnectionError, Reason, Side};
use crate::limits;
use crate::node::socket::OverTcp;

/// How a connection that requests came on has ended.
#[derive(Debug)]
pub enum Served {
    /// In order, or upgraded to something else.
    Ended,
    /// The peer broke the protocol, or the connection.
    Failed(String),
    /// The peer owed something for too long.
    TooSlow(String),
    /// The peer asked for more than it waited for.
    Flooded(String),
    /// An answer ended too early, and so did the connection.
    Truncated(String),
}

impl Served {
    pub fn into_result(self) -> Result<(), ConnectionError> {
        let failed = |side, reason, why| Err(ConnectionError::new(side, reason).with_detail(why));
        match self {
            Self::Ended => Ok(()),
            Self::Failed(why) => failed(Side::Downstream, Reason::DownstreamReset, why),
            Self::TooSlow(why) => failed(Side::Downstream, Reason::TooSlow, why),
            Self::Flooded(why) => failed(Side::Downstream, Reason::Flooded, why),
            Self::Truncated(why) => failed(Side::Upstream, Reason::UpstreamReset, why),
        }
    }
}

/// Whom requests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An application.
    Stranger,
    /// A mesh agent, which speaks for several clients of its pod and has bounded each of them.
    Agent,
}

/// Answers every request on `stream` with `answer` until it ends. When `drain` is ready, requests under way are still
/// answered and no new one is taken.
pub async fn serve<S, F>(
    version: Version,
    peer: Peer,
    stream: S,
    tasks: &TaskTracker,
    drain: impl Future<Output = ()>,
    answer: impl Fn(Request<Body>) -> F,
) -> Served
where
    S: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    match version {
        Version::Http1 => serve_one_by_one(stream, drain, answer).await,
        Version::Http2 => serve_streams(peer, stream, tasks, drain, answer).await,
    }
}

async fn serve_one_by_one<S, F>(
    stream: S,
    drain: impl Future<Output = ()>,
    answer: impl Fn(Request<Body>) -> F,
) -> Served
where
    S: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let watch = Watch::default();
    let ungranted = Rc::new(RefCell::new(None));
    let io = TokioIo::new(Guarded::http1(stream, watch.clone()));
    let service = service_fn(|request: Request<Incoming>| {
        let (watch, ungranted) = (watch.clone(), Rc::clone(&ungranted));
        watch.request(awaited(request.body()));
        let wanted = request.extensions().get::<OnUpgrade>().cloned();
        let answered = answer(request.map(|body| Body::of_request(body, watch.clone())));
        async move {
            let response = answered.await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                watch.becomes_tunnel();
            } else {
                ungranted.replace(wanted);
            }
            Ok::<_, Infallible>(response.map(|body| body.answering(watch)))
        }
    });
    // A head's time is the stream's affair, and so is the end of a client that still waits for its answer.
    let mut connection = pin!(
        http1::Builder::new()
            .half_close(false)
            .preserve_header_case(true)
            .auto_date_header(false)
            .max_headers(limits::HTTP_HEADERS)
            .max_buf_size(limits::HTTP_HEAD_MAXIMUM)
            .serve_connection(io, service)
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    // The engine gives a connection away that was to be upgraded once, and leaves its end to whoever wanted that.
    if let Some(ungranted) = ungranted.take()
        && ended.is_ok()
        && let Ok(connection) = ungranted.await
    {
        let _ = TokioIo::new(connection).shutdown().await;
    }
    judge(ended)
}

fn awaited(body: &Incoming) -> Awaited {
    use hyper::body::Body as _;
    match body.size_hint().exact() {
        _ if body.is_end_stream() => Awaited::Nothing,
        Some(_) => Awaited::Announced,
        None => Awaited::Unknown,
    }
}

async fn serve_streams<S, F>(
    peer: Peer,
    stream: S,
    tasks: &TaskTracker,
    drain: impl Future<Output = ()>,
    answer: impl Fn(Request<Body>) -> F,
) -> Served
where
    S: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let premature = Rc::new(Premature::default());
    let service = service_fn(|request: Request<Incoming>| {
        let begun = premature.begin();
        let answered = answer(request.map(Body::received));
        async move {
            let response = answered.await;
            begun.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(
        http2::Builder::new(OnWorker(tasks.clone()))
            .timer(timer())
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
            .serve_connection(TokioIo::new(Guarded::http2(stream, End::Server)), service)
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
            () = drain.as_mut(), if !draining => {
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

/// An error in one line, with what caused it.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
