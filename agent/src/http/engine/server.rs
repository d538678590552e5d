//! The side that answers requests.

use std::convert::Infallible;
use std::pin::pin;

use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

use super::{Body, OnWorker, Version, timer};
use crate::limits;

/// How a connection that requests came on has ended.
#[derive(Debug)]
pub enum Served {
    /// In order, or upgraded to something else.
    Ended,
    /// The peer broke the protocol, or the connection.
    Failed(String),
}

/// Answers every request on `stream` with `answer` until it ends. When `drain` is ready, requests under way are still
/// answered and no new one is taken.
pub async fn serve<S, F>(
    version: Version,
    stream: S,
    tasks: &TaskTracker,
    drain: impl Future<Output = ()>,
    answer: impl Fn(Request<Body>) -> F,
) -> Served
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + 'static,
{
    let io = TokioIo::new(stream);
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let answered = answer(request.map(Body::received));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut drain = pin!(drain);
    let ended = match version {
        Version::Http1 => {
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(timer())
                    .header_read_timeout(limits::IDLE_TIMEOUT)
                    .half_close(true)
                    .preserve_header_case(true)
                    .auto_date_header(false)
                    .max_headers(limits::HTTP_HEADERS)
                    .max_buf_size(limits::HTTP_HEAD_MAXIMUM)
                    .serve_connection(io, service)
                    .with_upgrades()
            );
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = drain.as_mut() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        Version::Http2 => {
            let mut connection = pin!(
                http2::Builder::new(OnWorker(tasks.clone()))
                    .timer(timer())
                    .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
                    .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
                    .max_concurrent_streams(limits::HTTP2_STREAMS)
                    .max_header_list_size(limits::HTTP2_HEADER_LIST)
                    .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
                    .keep_alive_interval(limits::HTTP2_PING)
                    .keep_alive_timeout(limits::HTTP2_PING_TIMEOUT)
                    .auto_date_header(false)
                    .serve_connection(io, service)
            );
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = drain.as_mut() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    match ended {
        Ok(()) => Served::Ended,
        Err(error) => Served::Failed(with_causes(&error)),
    }
}

/// An error in one line, with what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
