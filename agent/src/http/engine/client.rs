//! The side that sends requests: one connection as a [`Line`].

use std::cell::Cell;
use std::rc::Rc;

use http::{Request, Response};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

use super::{Body, OnWorker, Version, timer};
use crate::limits;

/// A connection that requests can be sent on. HTTP/1 carries one at a time, HTTP/2 many: a clone shares it.
#[derive(Debug)]
pub enum Line {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>, Rc<Cell<usize>>),
}

/// A request without an answer.
#[derive(Debug)]
pub struct Unsent {
    /// The whole request, if no byte of it has left.
    pub request: Option<Request<Body>>,
    pub error: hyper::Error,
}

impl Unsent {
    /// Ends a request that the peer never began to work on, by its own word (`REFUSED_STREAM`, or above GOAWAY's last stream).
    #[must_use]
    pub fn is_refused_stream(&self) -> bool {
        let mut source = std::error::Error::source(&self.error);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                return error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote());
            }
            source = error.source();
        }
        false
    }
}

/// Speaks `version` on `stream`, whose own task runs where `tasks` counts it.
///
/// # Errors
/// The HTTP/2 preface cannot be sent.
pub async fn open<S>(version: Version, stream: S, tasks: &TaskTracker) -> Result<Line, hyper::Error>
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
                .handshake(io)
                .await?;
            tasks.spawn_local(async move {
                let _ = connection.await;
            });
            Ok(Line::Http2(line, Rc::default()))
        }
    }
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Body>, Unsent> {
        let answered = match self {
            Self::Http1(line) => line.try_send_request(request).await,
            Self::Http2(line, streams) => {
                streams.set(streams.get() + 1);
                let answered = line.try_send_request(request).await;
                streams.set(streams.get() - 1);
                answered
            }
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

    /// Requests whose answer has not begun.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match self {
            Self::Http1(line) => usize::from(!line.is_ready()),
            Self::Http2(_, streams) => streams.get(),
        }
    }
}
