//! The side that answers: every stream of a connection by itself.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use tokio_util::task::TaskTracker;

use super::meter::End;
use super::outgoing::Outgoing;
use super::premature::{Begun, Premature};
use super::pulse::Pulse;
use super::stream::Guarded;
use super::{Incoming, Protocol, prepare};
use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::{Asker, refusal};
use crate::http::engine::interim::{Interim, counted, expects};
use crate::http::engine::{Body, Leave, Peer, Served, Transport, with_causes};
use crate::limits;

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
    let handshake = builder(peer).handshake::<_, Bytes>(Guarded::new(stream, End::Server));
    let mut connection = match handshake.await {
        Ok(connection) => connection,
        Err(error) => return judge(&error),
    };
    let mut pulse = Pulse::new(connection.ping_pong());
    let premature = Rc::new(Premature::default());
    let flood = async {
        match peer {
            Peer::Stranger => premature.is_flood().await,
            Peer::Agent => std::future::pending().await,
        }
    };
    let (mut drain, mut flood) = (pin!(drain), pin!(flood));
    let mut draining = false;
    poll_fn(|task| {
        loop {
            if !draining && drain.as_mut().poll(task).is_ready() {
                draining = true;
                connection.graceful_shutdown();
            }
            if flood.as_mut().poll(task).is_ready() {
                return Poll::Ready(Served::Flooded("the client resets most of its requests at once".to_owned()));
            }
            let accepted = connection.poll_accept(task);
            let Poll::Ready(accepted) = accepted else {
                return pulse.poll(task).map(|()| Served::Failed("the client answers no ping".to_owned()));
            };
            match accepted {
                None => return Poll::Ready(Served::Ended),
                Some(Err(error)) => return Poll::Ready(judge(&error)),
                Some(Ok((request, respond))) => accept(request, respond, premature.begin(), tasks, &answer),
            }
        }
    })
    .await
}

fn builder(peer: Peer) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_concurrent_streams(limits::HTTP2_STREAMS)
        .max_header_list_size(limits::HTTP2_HEADER_LIST_READ)
        .max_send_buffer_size(limits::HTTP2_SEND_BUFFER)
        .max_pending_accept_reset_streams(match peer {
            Peer::Stranger => limits::HTTP2_RESETS_UNSEEN,
            Peer::Agent => limits::HTTP2_RESETS_UNSEEN_OF_AGENT,
        })
        .max_local_error_reset_streams(Some(limits::HTTP2_ERRORS))
        .enable_connect_protocol();
    builder
}

fn judge(error: &h2::Error) -> Served {
    let text = with_causes(error);
    match error.get_io().map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => Served::TooSlow(text),
        Some(io::ErrorKind::QuotaExceeded) => Served::Flooded(text),
        Some(_) | None => Served::Failed(text),
    }
}

/// Begins to answer a request, where the worker counts it.
fn accept<F>(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    begun: Begun,
    tasks: &TaskTracker,
    answer: impl Fn(Request<Body>) -> F,
) where
    F: Future<Output = Response<Body>> + 'static,
{
    let is_head = request.method() == Method::HEAD;
    let long = is_too_long(request.uri(), request.headers());
    let (request, interim) = read(request);
    if long {
        begun.answered();
        tasks.spawn_local(write(respond, too_long(Asker::of(&request)), is_head));
        return;
    }
    let answer = answer(request);
    tasks.spawn_local(async move {
        if let Some((respond, response)) = answered(respond, answer, interim).await {
            begun.answered();
            write(respond, response, is_head).await;
        }
    });
}

/// What a request is to everybody else, and where its 1xx answers wait.
fn read(request: Request<RecvStream>) -> (Request<Body>, Interim) {
    let (mut parts, stream) = request.into_parts();
    let interim = Interim::default();
    parts.extensions.insert(interim.clone());
    if let Some(protocol) = parts.extensions.remove::<h2::ext::Protocol>() {
        parts.method = Method::GET;
        parts.extensions.insert(Protocol(Box::from(protocol.as_str())));
    }
    join_cookies(&mut parts.headers);
    let incoming = Incoming::new(stream, &parts.headers);
    let incoming = if expects(&parts.headers) { incoming.awaiting(interim.clone()) } else { incoming };
    (Request::from_parts(parts, Body::of_stream(incoming)), interim)
}

/// HTTP/2 alone may send a cookie in pieces (RFC 9113, section 8.2.3). Whoever judges a request sees it whole.
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (pieces.next(), pieces.next()) {
        let mut whole = first.as_bytes().to_vec();
        for piece in std::iter::once(second).chain(pieces) {
            whole.extend_from_slice(b"; ");
            whole.extend_from_slice(piece.as_bytes());
        }
        if let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(whole)) {
            headers.insert(COOKIE, whole);
        }
    }
}

/// Waits for the answer, and passes on what comes before it. None: the client has reset the stream.
async fn answered<F>(
    mut respond: SendResponse<Bytes>,
    answer: F,
    interim: Interim,
) -> Option<(SendResponse<Bytes>, Response<Body>)>
where
    F: Future<Output = Response<Body>>,
{
    let mut answer = pin!(answer);
    let response = poll_fn(|task| {
        let answered = answer.as_mut().poll(task);
        // The engine would say a head also behind a reset.
        let is_reset = respond.poll_reset(task).is_ready();
        while !is_reset && let Some(head) = interim.take() {
            // A field may have no place in HTTP/2.
            let _ = respond.send_informational(Response::from_parts(head, ()));
        }
        match answered {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending if is_reset => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    response.map(|response| (respond, response))
}

async fn write(mut respond: SendResponse<Bytes>, response: Response<Body>, is_head: bool) {
    let (mut parts, body) = response.into_parts();
    let has_none = is_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_over = has_none || body.is_over();
    prepare(&mut parts.headers, &body, false);
    let Ok(stream) = respond.send_response(Response::from_parts(parts, ()), is_over) else {
        // The client is gone, or a field has no place in HTTP/2.
        return respond.send_reset(h2::Reason::INTERNAL_ERROR);
    };
    if !is_over {
        let mut outgoing = Outgoing::new(stream, body);
        // Whoever reads it learns of a failure by the reset, and whoever sends it by the end of its reading.
        let _ = poll_fn(|task| outgoing.poll(task)).await;
    }
}

fn is_too_long(uri: &Uri, headers: &HeaderMap) -> bool {
    let target = uri.path().len() + uri.query().map_or(0, str::len);
    counted(headers) + target > limits::HTTP2_HEADER_LIST as usize
}

fn too_long(asker: Asker) -> Response<Body> {
    let error = ConnectionError::new(Side::Downstream, Reason::HeadTooLong)
        .with_detail(format!("the fields of the head count for more than {} bytes", limits::HTTP2_HEADER_LIST));
    refusal(asker, &error)
}
