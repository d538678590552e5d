//! An HTTP server that tells what it saw, in either version, and does what the path asks for.
//!
//! `/status/503` answers with that status, `/delay/50` after so many milliseconds, `/drop` ends the connection without an
//! answer, `/bytes/1000` answers with as many, `/shared` tells browsers that every page may read it, anything else answers
//! 200. A gRPC call is echoed with status 0, or with the one of its header `want-grpc-status`; what was seen is in the
//! answer's header `server-saw`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::server;

#[derive(Args)]
pub struct Http {
    #[arg(long)]
    port: u16,
    /// Told in every answer.
    #[arg(long)]
    name: String,
    /// Milliseconds before every answer.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Answers every request with this status, whatever its path asks for.
    #[arg(long)]
    broken: Option<u16>,
    /// Only every so many requests are broken.
    #[arg(long, default_value_t = 1)]
    every: u64,
    #[arg(skip)]
    answered: AtomicU64,
    /// The value of the header `x-request-number` of every request is appended to this file before it is answered.
    #[arg(long)]
    journal: Option<PathBuf>,
}

pub async fn serve(plan: Http) -> Result<()> {
    let port = plan.port;
    let plan = Arc::new(plan);
    server::serve(port, |stream| carry(Arc::clone(&plan), stream)).await
}

async fn carry(plan: Arc<Http>, stream: TcpStream) -> Result<()> {
    let client = stream.peer_addr()?.to_string();
    let service = service_fn(move |request| answer(Arc::clone(&plan), request, client.clone()));
    let served = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    served.map_err(anyhow::Error::from_boxed)
}

async fn answer(plan: Arc<Http>, request: Request<Incoming>, client: String) -> Result<Response<Answer>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if let (Some(journal), Some(number)) = (&plan.journal, head.headers.get("x-request-number")) {
        let line = [number.as_bytes(), b"\n"].concat();
        OpenOptions::new().create(true).append(true).open(journal)?.write_all(&line)?;
    }
    tokio::time::sleep(Duration::from_millis(plan.delay)).await;
    if head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return Ok(grpc(&head.headers, &plan.name, &seen(&plan, &head, &client, body.len()), body));
    }
    let (word, argument) = head.uri.path()[1..].split_once('/').unwrap_or((&head.uri.path()[1..], ""));
    let mut status = 200;
    match word {
        "status" => status = argument.parse()?,
        "delay" => tokio::time::sleep(Duration::from_millis(argument.parse()?)).await,
        "drop" => bail!("asked to end without an answer"),
        "bytes" => {
            let bytes = Bytes::from(vec![b'x'; argument.parse()?]);
            return Ok(Response::new(Answer { bytes: Some(bytes), trailers: None }));
        }
        _ => {}
    }
    let number = plan.answered.fetch_add(1, Ordering::Relaxed) + 1;
    status = plan.broken.filter(|_| number.is_multiple_of(plan.every)).unwrap_or(status);
    let seen = seen(&plan, &head, &client, body.len());
    let mut response =
        Response::builder().status(status).header(CONTENT_TYPE, "application/json").header("server-name", &plan.name);
    if word == "shared" {
        response = response.header(ACCESS_CONTROL_ALLOW_ORIGIN, "*").header(ACCESS_CONTROL_ALLOW_METHODS, "*");
    }
    Ok(response.body(Answer { bytes: Some(Bytes::from(format!("{seen}\n"))), trailers: None })?)
}

fn seen(plan: &Http, head: &Parts, client: &str, bytes: usize) -> Value {
    json!({
        "name": plan.name, "client": client, "method": head.method.as_str(), "target": head.uri.to_string(),
        "version": format!("{:?}", head.version), "headers": listed(&head.headers), "bytes": bytes,
    })
}

/// Every field, in lower case, in order.
fn listed(headers: &HeaderMap) -> Vec<Value> {
    headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])).collect()
}

fn grpc(headers: &HeaderMap, name: &str, seen: &Value, body: Bytes) -> Response<Answer> {
    let wanted = headers.get("want-grpc-status").cloned().unwrap_or(HeaderValue::from_static("0"));
    let mut response = Response::new(Answer { bytes: None, trailers: None });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    for (field, value) in [("server-name", name), ("server-saw", &seen.to_string())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(field, value);
        }
    }
    if wanted == "0" {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", wanted);
        *response.body_mut() = Answer { bytes: Some(body), trailers: Some(trailers) };
    } else {
        response.headers_mut().insert("grpc-status", wanted);
    }
    response
}

/// All bytes at once, and trailers where there are some.
struct Answer {
    bytes: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let data = self.bytes.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.trailers.is_none()
    }
}
