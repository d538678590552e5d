//! Connections that move some bytes each and rest until the generator is told to go on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exchange::{Exchange, Form};
use super::socket;
use crate::report::{Failure, Report, Step};

/// Connections that are opened at the same time: enough to be quick, below every backlog.
const AT_ONCE: usize = 64;
/// A connection without an answer by then hangs.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);

/// How many and for how long.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Hold {
    /// Address and port.
    #[arg(long)]
    pub to: SocketAddr,
    /// How many.
    #[arg(long)]
    pub connections: usize,
    /// Bytes that each moves each way, at the beginning and at the end.
    #[arg(long, default_value_t = 1024)]
    pub bytes: usize,
    /// How long they rest at most; SIGUSR1 ends the rest earlier.
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// As POST requests and their answers.
    #[arg(long)]
    pub http: bool,
}

impl Hold {
    pub(super) fn words(&self) -> Vec<String> {
        let (to, connections) = (self.to.to_string(), self.connections.to_string());
        let (bytes, seconds) = (self.bytes.to_string(), self.seconds.to_string());
        let words = ["hold", "--to", &to, "--connections", &connections, "--bytes", &bytes, "--seconds", &seconds];
        words.into_iter().chain(self.http.then_some("--http")).map(str::to_owned).collect()
    }
}

/// A connection and what it says.
struct Held {
    stream: TcpStream,
    exchange: Exchange,
}

pub(super) async fn run(plan: &Hold) -> Result<Report> {
    // First of all: a signal that comes early must not be lost.
    let mut told = signal(SignalKind::user_defined1())?;
    let start = Instant::now();
    let mut report = Report::default();
    let held = open_all(plan, &mut report).await;
    announce(held.len(), &report);
    let rest = Duration::from_secs_f64(plan.seconds);
    // Both ends of the wait mean the same.
    timeout(rest, told.recv()).await.ok();
    for mut connection in held {
        let begun = Instant::now();
        let outcome = talk(&mut connection.stream, &mut connection.exchange).await;
        count(&mut report, outcome, begun, &connection.exchange);
    }
    report.measured_for(start.elapsed());
    Ok(report)
}

async fn open_all(plan: &Hold, report: &mut Report) -> Vec<Held> {
    let mut held = Vec::with_capacity(plan.connections);
    let mut opening = JoinSet::new();
    for number in 0..plan.connections as u64 {
        if opening.len() >= AT_ONCE {
            keep(&mut held, report, opening.join_next().await);
        }
        opening.spawn_local(open(plan.to, Exchange::new(Form::from(plan.http), plan.bytes, number)));
    }
    while let Some(ended) = opening.join_next().await {
        keep(&mut held, report, Some(ended));
    }
    held
}

type Opened = Result<Result<(Held, Instant, Instant), Failure>, tokio::task::JoinError>;

fn keep(held: &mut Vec<Held>, report: &mut Report, ended: Option<Opened>) {
    match ended {
        Some(Ok(Ok((connection, begun, connected)))) => {
            report.connect.record(connected - begun);
            count(report, Ok(()), begun, &connection.exchange);
            held.push(connection);
        }
        Some(Ok(Err(failure))) => report.fail(&failure),
        // No task is cancelled and a panic ends the process.
        Some(Err(_)) | None => {}
    }
}

async fn open(to: SocketAddr, mut exchange: Exchange) -> Result<(Held, Instant, Instant), Failure> {
    let begun = Instant::now();
    let connecting = timeout(EXCHANGE_LIMIT, socket::connect(to)).await;
    let mut stream = connecting.unwrap_or_else(|_| Err(Failure::late(Step::Connect)))?;
    let connected = Instant::now();
    talk(&mut stream, &mut exchange).await?;
    Ok((Held { stream, exchange }, begun, connected))
}

async fn talk(stream: &mut TcpStream, exchange: &mut Exchange) -> Result<(), Failure> {
    timeout(EXCHANGE_LIMIT, exchange.run(stream)).await.unwrap_or_else(|_| Err(Failure::late(Step::Answer)))
}

fn count(report: &mut Report, outcome: Result<(), Failure>, begun: Instant, exchange: &Exchange) {
    match outcome {
        Ok(()) => {
            report.exchanges += 1;
            report.completed += 1;
            report.bytes += exchange.bytes();
            report.answer.record(begun.elapsed());
        }
        Err(failure) => report.fail(&failure),
    }
}

#[expect(clippy::print_stdout, reason = "whoever started this process waits for the line")]
fn announce(held: usize, report: &Report) {
    println!("{}", serde_json::json!({"event": "holding", "connections": held, "errors": report.errors}));
}
