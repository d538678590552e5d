//! As much as fits through one connection, in one direction.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::socket;
use crate::report::{Failure, Report, Step};

/// One write and one read.
const PIECE: usize = 128 << 10;
/// How long the last bytes may take.
const GRACE: Duration = Duration::from_secs(10);

/// Which way and for how long.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Bulk {
    /// Address and port: of a sink to send, of a source to receive.
    #[arg(long)]
    pub to: SocketAddr,
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Which way.
    #[arg(long, value_enum, default_value_t = Direction::Send)]
    pub direction: Direction,
}

/// Which way the bytes go, seen from the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// To a sink, which tells in the end how much arrived.
    Send,
    /// From a source.
    Receive,
}

impl Bulk {
    pub(super) fn words(&self) -> Vec<String> {
        let (to, seconds) = (self.to.to_string(), self.seconds.to_string());
        let direction = match self.direction {
            Direction::Send => "send",
            Direction::Receive => "receive",
        };
        ["bulk", "--to", &to, "--seconds", &seconds, "--direction", direction].map(str::to_owned).to_vec()
    }
}

pub(super) async fn run(plan: &Bulk) -> Result<Report> {
    let mut report = Report::default();
    let start = Instant::now();
    let limit = Duration::from_secs_f64(plan.seconds) + GRACE;
    let moved = timeout(limit, async {
        match plan.direction {
            Direction::Send => send(plan).await,
            Direction::Receive => receive(plan).await,
        }
    });
    match moved.await.unwrap_or_else(|_| Err(Failure::late(Step::Answer))) {
        Ok(bytes) => {
            report.bytes = bytes;
            report.exchanges = 1;
            report.completed = 1;
        }
        Err(failure) => report.fail(&failure),
    }
    report.measured_for(start.elapsed());
    Ok(report)
}

/// Until the sink has confirmed every byte.
async fn send(plan: &Bulk) -> Result<u64, Failure> {
    let mut stream = socket::connect(plan.to).await?;
    let end = Instant::now() + Duration::from_secs_f64(plan.seconds);
    let piece = vec![0x5a; PIECE];
    let mut sent = 0;
    while Instant::now() < end {
        stream.write_all(&piece).await.map_err(Failure::of_system(Step::Send))?;
        sent += PIECE as u64;
    }
    stream.shutdown().await.map_err(Failure::of_system(Step::Send))?;
    let arrived = stream.read_u64().await.map_err(Failure::of_system(Step::Answer))?;
    if arrived == sent { Ok(arrived) } else { Err(Failure::changed()) }
}

async fn receive(plan: &Bulk) -> Result<u64, Failure> {
    let mut stream = socket::connect(plan.to).await?;
    let end = Instant::now() + Duration::from_secs_f64(plan.seconds);
    let mut piece = vec![0; PIECE];
    let mut received = 0;
    while Instant::now() < end {
        let count = stream.read(&mut piece).await.map_err(Failure::of_system(Step::Answer))?;
        if count == 0 {
            return Err(Failure::changed());
        }
        received += count as u64;
    }
    Ok(received)
}
