//! Sends requests and tells who answered what. It never retries.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::client::resolve;
use crate::{percentile, print};

/// A request without an answer by then counts as hung.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

#[derive(Args, Clone)]
pub struct Requests {
    /// Host and port.
    #[arg(long)]
    to: String,
    #[arg(long, default_value = "/")]
    path: String,
    #[arg(long, default_value = "GET")]
    method: String,
    /// `name: value`, as often as needed.
    #[arg(long)]
    header: Vec<String>,
    /// The Host header, or the authority, where it is not the one of `--to`.
    #[arg(long)]
    host: Option<String>,
    /// How many, on all connections together.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Goes on until this file is there, however many.
    #[arg(long)]
    until: Option<PathBuf>,
    /// Connections at the same time; each has one request under way.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// HTTP/2 on one connection, with as many requests under way as `--connections` says.
    #[arg(long)]
    http2: bool,
    /// A gRPC call with an empty message (implies HTTP/2).
    #[arg(long)]
    grpc: bool,
    /// Bytes of each body.
    #[arg(long, default_value_t = 0)]
    bytes: usize,
    /// Give every request a number of its own in the header `x-request-number`, from this one on.
    #[arg(long)]
    numbered: Option<usize>,
    /// Answers that are no failure besides 200: `503`, or `grpc 14`.
    #[arg(long)]
    allow: Vec<String>,
    /// Owns the tasks of the connections.
    #[arg(skip)]
    tasks: TaskTracker,
}

#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    statuses: BTreeMap<String, u32>,
    names: BTreeMap<String, u32>,
    reasons: BTreeMap<String, u32>,
    failures: BTreeMap<String, u32>,
    next: usize,
    last: Option<(HeaderMap, Bytes)>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

pub async fn send(mut plan: Requests) -> Result<()> {
    plan.http2 |= plan.grpc;
    let tally = Rc::new(RefCell::new(Tally::default()));
    let plan = Rc::new(plan);
    LocalSet::new().run_until(send_all(&plan, &tally)).await?;
    let mut tally = tally.borrow_mut();
    tally.latencies.sort_unstable();
    let micros = |percent| u64::try_from(percentile(&tally.latencies, percent).as_micros()).unwrap_or(u64::MAX);
    let last = tally.last.as_ref().map(|(headers, body)| {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        json!({"headers": headers, "body": String::from_utf8_lossy(body)})
    });
    print(&json!({
        "answered": tally.latencies.len(), "statuses": tally.statuses, "names": tally.names, "reasons": tally.reasons,
        "failures": tally.failures, "p50_us": micros(50), "p99_us": micros(99), "max_us": micros(100), "last": last,
    }));
    let good = |status: &str| ["200", "grpc 0"].contains(&status) || plan.allow.iter().any(|allowed| allowed == status);
    let bad: u32 = tally.statuses.iter().filter(|(status, _)| !good(status)).map(|(_, count)| count).sum();
    ensure!(tally.failures.is_empty() && bad == 0, "{:?} {:?}", tally.failures, tally.statuses);
    Ok(())
}

async fn send_all(plan: &Rc<Requests>, tally: &Rc<RefCell<Tally>>) -> Result<()> {
    let shared = if plan.http2 { Some(connect2(plan).await?) } else { None };
    let mut tasks = JoinSet::new();
    for _ in 0..plan.connections.min(if plan.until.is_some() { usize::MAX } else { plan.count }) {
        let (plan, tally) = (Rc::clone(plan), Rc::clone(tally));
        let mut sender = shared.clone().map(Sender::Http2);
        tasks.spawn_local(async move {
            while let Some(number) = next(&plan, &tally) {
                let started = Instant::now();
                let outcome = timeout(ANSWER_LIMIT, exchange(&plan, &mut sender, number)).await;
                let outcome = outcome.unwrap_or_else(|_| bail!("hung"));
                if outcome.is_err() && !plan.http2 {
                    sender = None;
                }
                tally.borrow_mut().count(outcome, started.elapsed());
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

fn next(plan: &Requests, tally: &RefCell<Tally>) -> Option<usize> {
    let mut tally = tally.borrow_mut();
    let number = tally.next;
    tally.next += 1;
    let goes_on = plan.until.as_ref().map_or(number < plan.count, |file| !file.exists());
    goes_on.then_some(number)
}

async fn exchange(
    plan: &Requests,
    sender: &mut Option<Sender>,
    number: usize,
) -> Result<(Response<()>, Option<HeaderMap>, Bytes)> {
    let usable = match sender {
        Some(Sender::Http1(line)) => line.ready().await.is_ok(),
        Some(Sender::Http2(line)) => line.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        *sender = Some(if plan.http2 { Sender::Http2(connect2(plan).await?) } else { connect1(plan).await? });
    }
    let request = request(plan, number)?;
    let response = match sender {
        Some(Sender::Http1(line)) => line.send_request(request).await?,
        Some(Sender::Http2(line)) => line.send_request(request).await?,
        None => bail!("not connected"),
    };
    let (head, body) = response.into_parts();
    let body = Incoming::collect(body).await?;
    let trailers = body.trailers().cloned();
    Ok((Response::from_parts(head, ()), trailers, body.to_bytes()))
}

async fn connect1(plan: &Requests) -> Result<Sender> {
    let (line, connection) = http1::handshake(TokioIo::new(connect(plan).await?)).await?;
    plan.tasks.spawn_local(connection);
    Ok(Sender::Http1(line))
}

async fn connect2(plan: &Requests) -> Result<http2::SendRequest<Full<Bytes>>> {
    let (line, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(connect(plan).await?)).await?;
    plan.tasks.spawn_local(connection);
    Ok(line)
}

async fn connect(plan: &Requests) -> Result<TcpStream> {
    let stream = TcpStream::connect(resolve(&plan.to).await?).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request(plan: &Requests, number: usize) -> Result<Request<Full<Bytes>>> {
    let host = plan.host.as_ref().unwrap_or(&plan.to);
    let target = if plan.http2 { format!("http://{host}{}", plan.path) } else { plan.path.clone() };
    let method = if plan.grpc { "POST" } else { &plan.method };
    let mut request = Request::builder().method(method).uri(target);
    if !plan.http2 {
        request = request.header(HOST, host);
    }
    if plan.grpc {
        request = request.header(CONTENT_TYPE, "application/grpc").header("te", "trailers");
    }
    if let Some(first) = plan.numbered {
        request = request.header("x-request-number", first + number);
    }
    for header in &plan.header {
        let Some((name, value)) = header.split_once(':') else { bail!("{header:?} is not NAME: VALUE") };
        request = request.header(name.trim(), value.trim());
    }
    let body = if plan.grpc { vec![0; 5] } else { vec![b'x'; plan.bytes] };
    Ok(request.body(Full::new(Bytes::from(body)))?)
}

impl Tally {
    fn count(&mut self, outcome: Result<(Response<()>, Option<HeaderMap>, Bytes)>, took: Duration) {
        match outcome {
            Ok((response, trailers, body)) => {
                self.latencies.push(took);
                let headers = response.headers();
                let text = |headers: &HeaderMap, name: &str| {
                    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
                };
                let grpc = trailers
                    .as_ref()
                    .and_then(|trailers| text(trailers, "grpc-status"))
                    .or_else(|| text(headers, "grpc-status"));
                let status =
                    grpc.map_or_else(|| response.status().as_str().to_owned(), |status| format!("grpc {status}"));
                *self.statuses.entry(status).or_default() += 1;
                for (name, counts) in [("server-name", &mut self.names), ("weft-reason", &mut self.reasons)] {
                    if let Some(value) = text(headers, name) {
                        *counts.entry(value).or_default() += 1;
                    }
                }
                self.last = Some((headers.clone(), body));
            }
            Err(error) => *self.failures.entry(format!("{error:#}")).or_default() += 1,
        }
    }
}
