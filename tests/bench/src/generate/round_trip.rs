//! Connections that stay: an exchange after the other on each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant as Deadline, timeout_at};

use super::exchange::Exchange;
use super::plan::optional;
use super::schedule::Schedule;
use super::socket;
use super::timer::Timer;
use crate::report::{Failure, Report, Step};

/// How much later than planned a connection may be at the end before it counts as hung.
const GRACE: Duration = Duration::from_secs(10);

/// How many, how fast and for how long.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct RoundTrip {
    /// Address and port.
    #[arg(long)]
    pub to: SocketAddr,
    /// Connections side by side.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Open loop: exchanges per second on all connections together. Without it each answer is followed by the next
    /// request.
    #[arg(long)]
    pub rate: Option<f64>,
    /// How long is measured.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Seconds before that, in which only errors count.
    #[arg(long, default_value_t = 0.1)]
    pub warm_up: f64,
    /// Bytes each way.
    #[arg(long, default_value_t = 1024)]
    pub bytes: usize,
    /// As POST requests and their answers.
    #[arg(long)]
    pub http: bool,
}

impl RoundTrip {
    /// A closed loop of 1 KiB each way.
    #[must_use]
    pub fn closed(to: SocketAddr, connections: usize, seconds: f64) -> Self {
        Self { to, connections, rate: None, seconds, warm_up: 0.1, bytes: 1024, http: false }
    }

    pub(super) fn words(&self) -> Vec<String> {
        let (to, seconds, warm_up) = (self.to.to_string(), self.seconds.to_string(), self.warm_up.to_string());
        let (bytes, connections) = (self.bytes.to_string(), self.connections.to_string());
        let mut words = ["round-trip", "--to", &to, "--seconds", &seconds, "--warm-up", &warm_up, "--bytes", &bytes]
            .map(str::to_owned)
            .to_vec();
        words.extend(optional("--connections", Some(connections)));
        words.extend(optional("--rate", self.rate));
        words.extend(self.http.then(|| "--http".to_owned()));
        words
    }
}

/// The times of a run, the same for all its connections.
#[derive(Clone, Copy)]
struct Span {
    start: Instant,
    measured_from: Instant,
    end: Instant,
}

pub(super) async fn run(plan: &RoundTrip) -> Result<Report> {
    let start = Instant::now();
    let measured_from = start + Duration::from_secs_f64(plan.warm_up);
    let span = Span { start, measured_from, end: measured_from + Duration::from_secs_f64(plan.seconds) };
    let give_up = Deadline::from_std(span.end + GRACE);
    let mut connections = JoinSet::new();
    for number in 0..plan.connections as u64 {
        let plan = plan.clone();
        connections.spawn_local(async move {
            let mut report = Report::default();
            let outcome = timeout_at(give_up, keep_talking(&plan, number, span, &mut report)).await;
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => report.fail(&failure),
                Err(_) => report.fail(&Failure::late(Step::Answer)),
            }
            report
        });
    }
    let mut report = Report::default();
    while let Some(ended) = connections.join_next().await {
        report.merge(&ended?);
    }
    report.measured_for(measured_from.elapsed());
    Ok(report)
}

async fn keep_talking(plan: &RoundTrip, number: u64, span: Span, report: &mut Report) -> Result<(), Failure> {
    let mut stream = socket::connect(plan.to).await?;
    report.connect.record(span.start.elapsed());
    let mut exchange = Exchange::new(plan.http.into(), plan.bytes, number);
    let mut times = Times::new(plan, number, span).map_err(Failure::of_system(Step::Begin))?;
    while let Some(scheduled) = times.next().await.map_err(Failure::of_system(Step::Begin))? {
        exchange.run(&mut stream).await?;
        let answered = Instant::now();
        report.exchanges += 1;
        report.bytes += exchange.bytes();
        if scheduled >= span.measured_from {
            report.completed += 1;
            report.answer.record(answered - scheduled);
        }
    }
    Ok(())
}

/// When the exchanges of one connection begin.
enum Times {
    Closed { end: Instant },
    Open { schedule: Box<Schedule>, timer: Timer },
}

impl Times {
    fn new(plan: &RoundTrip, number: u64, span: Span) -> std::io::Result<Self> {
        let Some(rate) = plan.rate else { return Ok(Self::Closed { end: span.end }) };
        #[expect(clippy::cast_precision_loss, reason = "connections are a few thousand at most")]
        let rate = rate / plan.connections.max(1) as f64;
        let schedule = Schedule::new(span.start, rate, plan.warm_up + plan.seconds, number);
        Ok(Self::Open { schedule: Box::new(schedule), timer: Timer::new()? })
    }

    async fn next(&mut self) -> std::io::Result<Option<Instant>> {
        match self {
            Self::Closed { end } => Ok(Some(Instant::now()).filter(|now| now < end)),
            Self::Open { schedule, timer } => {
                let Some(due) = schedule.next() else { return Ok(None) };
                timer.until(due).await?;
                Ok(Some(due))
            }
        }
    }
}
