//! The side that sends requests: one connection as a [`Line`].

use std::rc::Rc;

use http::header::TRANSFER_ENCODING;
use http::{HeaderValue, Request, Response};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Body, OnWorker, Version, timer};
use crate::limits;

/// A connection that requests can be sent on. HTTP/1 carries one at a time, HTTP/2 many: each holder of a share has at most
/// one request under way, from its head to the end of its answer.
#[derive(Debug)]
pub enum Line {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>, Rc<()>),
}

/// A request without an answer.
#[derive(Debug)]
pub struct Unsent {
    /// The whole request, if no byte of it has left.
    pub request: Option<Request<Body>>,
    pub error: hyper::Error,
}

impl Unsent {
    /// Ended this request alone: the connection goes on.
    #[must_use]
    pub fn is_of_stream(&self) -> bool {
        self.h2_error().is_some_and(h2::Error::is_reset)
    }

    fn h2_error(&self) -> Option<&h2::Error> {
        let first = std::error::Error::source(&self.error);
        std::iter::successors(first, |error| error.source()).find_map(|error| error.downcast_ref())
    }

    /// Ends a request that the peer never began to work on, by its own word (`REFUSED_STREAM`, or above GOAWAY's last stream).
    #[must_use]
    pub fn is_refused_stream(&self) -> bool {
        self.h2_error().is_some_and(|error| {
            error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
        })
    }
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
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    match version {
        Version::Http1 => {
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
            Ok(Line::Http1(line))
        }
        Version::Http2 => {
            let (line, connection) = http2::Builder::new(OnWorker(tasks.clone()))
                .timer(timer())
                .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
                .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
                .max_header_list_size(limits::HTTP2_HEADER_LIST)
                .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
                .keep_alive_interval(limits::HTTP2_PING)
                .keep_alive_timeout(limits::HTTP2_PING_TIMEOUT)
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

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, mut request: Request<Body>) -> Result<Response<Body>, Unsent> {
        if matches!(self, Self::Http1(_)) && request.body().length().is_none() {
            // The engine takes a GET without a length for one without a body.
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let answered = match self {
            Self::Http1(line) => line.try_send_request(request).await,
            Self::Http2(line, _) => line.try_send_request(request).await,
        };
        answered.map(|response| response.map(Body::received)).map_err(|mut failure| {
            let request = failure.take_message();
            Unsent { request, error: failure.into_error() }
        })
    }

    /// Ready when a request can be sent at once; false when the connection has ended.
    pub async fn is_usable(&mut self) -> bool {
        match self {
            Self::Http1(line) => line.ready().await.is_ok(),
            Self::Http2(line, _) => line.ready().await.is_ok(),
        }
    }

    /// The peer has ended it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(line) => line.is_closed(),
            Self::Http2(line, _) => line.is_closed(),
        }
    }

    /// A second one on the same connection, where it carries several requests at a time.
    #[must_use]
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(line, streams) => Some(Self::Http2(line.clone(), Rc::clone(streams))),
        }
    }

    /// Requests under way on the connection, seen from a holder that has none.
    #[must_use]
    pub fn under_way(&self) -> usize {
        match self {
            Self::Http1(line) => usize::from(!line.is_ready()),
            Self::Http2(_, holders) => Rc::strong_count(holders) - 1,
        }
    }

    /// Whether both are shares of one connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http2(_, own), Self::Http2(_, others)) => Rc::ptr_eq(own, others),
            (Self::Http1(_), _) | (_, Self::Http1(_)) => false,
        }
    }
}
