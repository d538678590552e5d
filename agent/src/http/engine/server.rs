//! The side that answers requests, in either version.

use http::{Request, Response};
use tokio_util::task::TaskTracker;

use super::{Body, Transport, Version, http1, http2};
use crate::error::{ConnectionError, Reason, Side};

/// How a connection that requests came on has ended.
#[derive(Debug)]
pub enum Served {
    /// In order, or upgraded to something else.
    Ended,
    /// The peer broke the protocol, or the connection.
    Failed(String),
    /// The peer said what is no request, and was told so.
    Refused(String),
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
            Self::Refused(why) => failed(Side::Downstream, Reason::BadRequest, why),
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

/// When a connection goes on which no more requests are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// When nothing is under way.
    AtOnce,
    /// With the next answer, which says so, or after [`limits::DRAIN_REST`] without a request. HTTP/1 has no other way to
    /// say it, and a request that meets a connection that is just ending is lost to a client that cannot send it again.
    WithNextAnswer,
}

/// Answers every request on `stream` with `answer` until it ends, or leaves as `drain` says when that is ready. HTTP/2 says
/// at once which requests it still takes.
pub async fn serve<S, F>(
    version: Version,
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
    match version {
        Version::Http1 => http1::serve(stream, drain, answer).await,
        Version::Http2 => http2::serve(peer, stream, tasks, drain, answer).await,
    }
}
