//! New connections: each is opened, used once and closed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{Instant as Deadline, timeout_at};

use super::exchange::{Exchange, Form};
use super::plan::optional;
use super::schedule::Schedule;
use super::socket;
use super::timer::Timer;
use crate::report::{Failure, Report, Step};

/// An exchange that has no answer by then hangs: above every bound of a mesh that still decides.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);
/// Connections of one generator at the same time. More wait, and their waiting counts as latency.
const AT_ONCE: usize = 4096;
/// What is read of a greeting at most.
const GREETING_BYTES: usize = 256;

/// How many, how fast and for how long.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Short {
    /// Address and port.
    #[arg(long)]
    pub to: SocketAddr,
    /// Open loop: new connections per second.
    #[arg(long, conflicts_with = "connections", required_unless_present = "connections")]
    pub rate: Option<f64>,
    /// Closed loop: so many at the same time, each followed by the next.
    #[arg(long)]
    pub connections: Option<usize>,
    /// How long is measured.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Seconds before that, in which only errors count.
    #[arg(long, default_value_t = 0.0)]
    pub warm_up: f64,
    /// Closed loop: end after so many.
    #[arg(long)]
    pub count: Option<u64>,
    /// Bytes each way.
    #[arg(long, default_value_t = 64)]
    pub bytes: usize,
}

/// What happens on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Echo,
    Greeting,
}

impl Short {
    /// An open loop of 64 bytes each way.
    #[must_use]
    pub fn open(to: SocketAddr, rate: f64, seconds: f64) -> Self {
        Self { to, rate: Some(rate), connections: None, seconds, warm_up: 0.0, count: None, bytes: 64 }
    }

    /// One connection after the other, `count` of them, for at most `seconds`.
    #[must_use]
    pub fn one_by_one(to: SocketAddr, count: u64, seconds: f64) -> Self {
        Self { rate: None, connections: Some(1), count: Some(count), ..Self::open(to, 0.0, seconds) }
    }

    pub(super) fn words(&self, name: &str) -> Vec<String> {
        let (to, seconds, warm_up) = (self.to.to_string(), self.seconds.to_string(), self.warm_up.to_string());
        let bytes = self.bytes.to_string();
        let mut words = [name, "--to", &to, "--seconds", &seconds, "--warm-up", &warm_up, "--bytes", &bytes]
            .map(str::to_owned)
            .to_vec();
        words.extend(optional("--rate", self.rate));
        words.extend(optional("--connections", self.connections));
        words.extend(optional("--count", self.count));
        words
    }
}

/// The times of an exchange that went well.
struct Sample {
    scheduled: Instant,
    connected: Instant,
    answered: Instant,
    bytes: u64,
}

pub(super) async fn run(plan: &Short, kind: Kind) -> Result<Report> {
    let start = Instant::now();
    let measured_from = start + Duration::from_secs_f64(plan.warm_up);
    let mut tally = Tally { report: Report::default(), measured_from };
    match plan.rate {
        Some(rate) => open_loop(plan, rate, kind, start, &mut tally).await?,
        None => closed_loop(plan, kind, start, &mut tally).await,
    }
    tally.report.measured_for(measured_from.elapsed());
    Ok(tally.report)
}

async fn open_loop(plan: &Short, rate: f64, kind: Kind, start: Instant, tally: &mut Tally) -> Result<()> {
    let mut timer = Timer::new()?;
    let mut under_way = JoinSet::new();
    let give_up = start + Duration::from_secs_f64(plan.warm_up + plan.seconds) + EXCHANGE_LIMIT;
    let seed = u64::from(std::process::id());
    for (number, due) in (0..).zip(Schedule::new(start, rate, plan.warm_up + plan.seconds, seed)) {
        timer.until(due).await?;
        while under_way.len() >= AT_ONCE {
            tally.collect(under_way.join_next().await);
        }
        if Instant::now() > give_up {
            tally.report.fail(&Failure::late(Step::Begin));
            continue;
        }
        under_way.spawn_local(exchange(plan.to, kind, plan.bytes, number, due));
        while let Some(ended) = under_way.try_join_next() {
            tally.collect(Some(ended));
        }
    }
    while let Some(ended) = under_way.join_next().await {
        tally.collect(Some(ended));
    }
    Ok(())
}

async fn closed_loop(plan: &Short, kind: Kind, start: Instant, tally: &mut Tally) {
    let end = start + Duration::from_secs_f64(plan.warm_up + plan.seconds);
    let count = plan.count.unwrap_or(u64::MAX);
    let mut under_way = JoinSet::new();
    for number in 0..count {
        if under_way.len() >= plan.connections.unwrap_or(1).min(AT_ONCE) {
            tally.collect(under_way.join_next().await);
        }
        if Instant::now() >= end {
            break;
        }
        under_way.spawn_local(exchange(plan.to, kind, plan.bytes, number, Instant::now()));
    }
    while let Some(ended) = under_way.join_next().await {
        tally.collect(Some(ended));
    }
}

async fn exchange(
    to: SocketAddr,
    kind: Kind,
    bytes: usize,
    number: u64,
    scheduled: Instant,
) -> Result<Sample, Failure> {
    let deadline = Deadline::now() + EXCHANGE_LIMIT;
    let connecting = timeout_at(deadline, socket::connect(to)).await;
    let mut stream = connecting.unwrap_or_else(|_| Err(Failure::late(Step::Connect)))?;
    let connected = Instant::now();
    let talk = async {
        match kind {
            Kind::Echo => {
                let mut exchange = Exchange::new(Form::Bytes, bytes, number);
                exchange.run(&mut stream).await.map(|()| exchange.bytes())
            }
            Kind::Greeting => {
                let mut greeting = [0; GREETING_BYTES];
                let count = stream.read(&mut greeting).await.map_err(Failure::of_system(Step::Answer))?;
                if count == 0 { Err(Failure::changed()) } else { Ok(count as u64) }
            }
        }
    };
    let bytes = timeout_at(deadline, talk).await.unwrap_or_else(|_| Err(Failure::late(Step::Answer)))?;
    Ok(Sample { scheduled, connected, answered: Instant::now(), bytes })
}

struct Tally {
    report: Report,
    measured_from: Instant,
}

impl Tally {
    fn collect(&mut self, ended: Option<Result<Result<Sample, Failure>, tokio::task::JoinError>>) {
        match ended {
            Some(Ok(Ok(sample))) => self.count(&sample),
            Some(Ok(Err(failure))) => self.report.fail(&failure),
            // No task is cancelled and a panic ends the process.
            Some(Err(_)) | None => {}
        }
    }

    fn count(&mut self, sample: &Sample) {
        self.report.exchanges += 1;
        self.report.bytes += sample.bytes;
        if sample.scheduled < self.measured_from {
            return;
        }
        self.report.completed += 1;
        self.report.connect.record(sample.connected - sample.scheduled);
        self.report.answer.record(sample.answered - sample.scheduled);
    }
}
