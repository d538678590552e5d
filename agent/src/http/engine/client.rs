//! The side that sends requests: one connection as a [`Line`].

use std::task::{Context, Poll};

use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Body, Transport, Version, http1, http2};

/// A connection that requests can be sent on. HTTP/1 carries one at a time, HTTP/2 many: each holder of a share has at most
/// one request under way, from its head to the end of its answer.
#[derive(Debug)]
pub enum Line {
    Http1(http1::Line),
    Http2(http2::Line),
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
    /// The peer takes no such request, which says nothing of how it fares, and asking again changes nothing.
    pub impossible: bool,
}

impl Unsent {
    /// No byte of it has left.
    pub(super) fn untouched(request: Request<Body>, why: &str) -> Self {
        Self { request: Some(request), why: why.to_owned(), refused: false, of_stream: false, impossible: false }
    }

    /// Some of it may have left.
    pub(super) const fn begun(why: String) -> Self {
        Self { request: None, why, refused: false, of_stream: false, impossible: false }
    }
}

/// Speaks `version` on `stream`. Where that needs a task of its own, it runs where `tasks` counts it and cancels `ended` when
/// the connection is over; a line of HTTP/1 is asked ([`Line::poll_closed`]).
///
/// # Errors
/// The HTTP/2 preface cannot be sent.
pub async fn open<S>(
    version: Version,
    stream: S,
    tasks: &TaskTracker,
    ended: CancellationToken,
) -> Result<Line, h2::Error>
where
    S: Transport,
{
    match version {
        Version::Http1 => Ok(Line::Http1(http1::Line::new(stream, tasks.clone()))),
        Version::Http2 => http2::open(stream, tasks, ended).await.map(Line::Http2),
    }
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Body>, Unsent> {
        match self {
            Self::Http1(line) => line.send(request).await,
            Self::Http2(line) => line.send(request).await,
        }
    }

    /// Ready when a request can be sent at once; false when the connection has ended.
    pub async fn is_usable(&mut self) -> bool {
        match self {
            Self::Http1(line) => !line.is_closed(),
            Self::Http2(line) => line.is_usable().await,
        }
    }

    /// Whether another request can follow the one that was answered last.
    #[must_use]
    pub fn lasts(&self) -> bool {
        match self {
            Self::Http1(line) => line.lasts(),
            Self::Http2(line) => !line.is_closed(),
        }
    }

    /// The peer has ended it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(line) => line.is_closed(),
            Self::Http2(line) => line.is_closed(),
        }
    }

    /// Ready when a line that nobody else looks after has ended. Pending, and woken for nothing, while a request is under way
    /// on it.
    pub fn poll_closed(&self, task: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(line) => line.poll_closed(task),
            Self::Http2(_) => Poll::Pending,
        }
    }

    /// A second one on the same connection, where it carries several requests at a time.
    #[must_use]
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(line) => Some(Self::Http2(line.share())),
        }
    }

    /// Requests under way on the connection, seen from a holder that has none.
    #[must_use]
    pub fn under_way(&self) -> usize {
        match self {
            Self::Http1(line) => usize::from(!line.is_ready()),
            Self::Http2(line) => line.under_way(),
        }
    }

    /// Whether both are shares of one connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http2(own), Self::Http2(others)) => own.is_same(others),
            (Self::Http1(_), _) | (_, Self::Http1(_)) => false,
        }
    }
}
