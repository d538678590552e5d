//! The side that sends requests: one connection as a [`Line`].

use std::rc::Rc;

use http::header::TRANSFER_ENCODING;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::meter::End;
use super::server::with_causes;
use super::stream::Guarded;
use super::watch::Watch;
use super::{Body, OnWorker, Version, timer};
use crate::limits;
use crate::node::socket::OverTcp;

/// A connection that requests can be sent on. HTTP/1 carries one at a time, HTTP/2 many: each holder of a share has at most
/// one request under way, from its head to the end of its answer.
#[derive(Debug)]
pub enum Line {
    Http1(http1::SendRequest<Body>, Watch),
    Http2(http2::SendRequest<Body>, Rc<()>),
}

/// A request without an answer.
#[derive(Debug)]
pub struct Unsent {
    /// The whole request, if no byte of it has left.
    pub request: Option<Request<Body>>,
    pub why: String,
    /// The peer never began to work on it, by its own word (`REFUSED_STREAM`, or above GOAWAY's last stream).
    pub refused: bool,
    /// This request alone has ended, and its connection goes on.
    pub of_stream: bool,
}

fn is_refused(error: &h2::Error) -> bool {
    (error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away()) && error.is_remote()
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |error| error.source()).find_map(|error| error.downcast_ref())
}

/// Speaks `version` on `stream`, whose own task runs where `tasks` counts it and cancels `ended` when the connection is over.
///
/// # Errors
/// The HTTP/2 preface cannot be sent.
pub async fn open<S>(
    version: Version,
    stream: S,
    tasks: &TaskTracker,
    ended: CancellationToken,
) -> Result<Line, hyper::Error>
where
    S: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
{
    match version {
        Version::Http1 => {
            let watch = Watch::asking();
            let io = TokioIo::new(Guarded::http1(stream, watch.clone()));
            let (line, connection) = http1::Builder::new()
                .preserve_header_case(true)
                .max_headers(limits::HTTP_HEADERS)
                .max_buf_size(limits::HTTP_HEAD_MAXIMUM)
                .handshake(io)
                .await?;
            tasks.spawn_local(async move {
                // How it ended is told to whoever waits for an answer on it.
                let _ = connection.with_upgrades().await;
                ended.cancel();
            });
            Ok(Line::Http1(line, watch))
        }
        Version::Http2 => {
            let io = TokioIo::new(Guarded::http2(stream, End::Client));
            let (line, connection) = http2::Builder::new(OnWorker(tasks.clone()))
                .timer(timer())
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
                let _ = connection.await;
                ended.cancel();
            });
            Ok(Line::Http2(line, Rc::default()))
        }
    }
}

/// Whoever waits for an answer on a connection. Dropped before it has come: the peer is told by a reset, for an orderly end
/// after half a body could be taken for the whole.
struct Waiting<'a>(Option<&'a Watch>);

impl Waiting<'_> {
    fn over(mut self) -> Watch {
        self.0.take().cloned().unwrap_or_default()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(watch) = self.0 {
            watch.abandon();
        }
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

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, mut request: Request<Body>) -> Result<Response<Body>, Unsent> {
        if matches!(self, Self::Http1(..)) && request.body().length().is_none() {
            // The engine takes a GET without a length for one without a body.
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        match self {
            Self::Http1(line, watch) => {
                let waiting = Waiting(Some(watch));
                let answered = line.try_send_request(request).await;
                let watch = waiting.over();
                let response = answered.map_err(unsent)?;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    watch.becomes_tunnel();
                }
                Ok(response.map(|body| Body::of_answer(body, watch)))
            }
            Self::Http2(line, _) => {
                let answered = line.try_send_request(request).await;
                answered.map(|response| response.map(Body::received)).map_err(unsent)
            }
        }
    }

    /// Ready when a request can be sent at once; false when the connection has ended.
    pub async fn is_usable(&mut self) -> bool {
        match self {
            Self::Http1(line, _) => line.ready().await.is_ok(),
            Self::Http2(line, _) => line.ready().await.is_ok(),
        }
    }

    /// The peer has ended it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(line, _) => line.is_closed(),
            Self::Http2(line, _) => line.is_closed(),
        }
    }

    /// A second one on the same connection, where it carries several requests at a time.
    #[must_use]
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(..) => None,
            Self::Http2(line, streams) => Some(Self::Http2(line.clone(), Rc::clone(streams))),
        }
    }

    /// Requests under way on the connection, seen from a holder that has none.
    #[must_use]
    pub fn under_way(&self) -> usize {
        match self {
            Self::Http1(line, _) => usize::from(!line.is_ready()),
            Self::Http2(_, holders) => Rc::strong_count(holders) - 1,
        }
    }

    /// Whether both are shares of one connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http2(_, own), Self::Http2(_, others)) => Rc::ptr_eq(own, others),
            (Self::Http1(..), _) | (_, Self::Http1(..)) => false,
        }
    }
}
