//! The clients. None retries; each failure is counted by the name the system gives it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{percentile, print};

/// A connection without an answer by then counts as hung.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Bytes that a client sends after the server has closed its side: more than fits into one buffer.
const LAST_WORDS: usize = 300_000;

/// Opens new connections at a fixed rate.
#[derive(Args)]
pub struct Connect {
    /// Host and port.
    #[arg(long)]
    to: String,
    /// New connections per second.
    #[arg(long)]
    rate: u32,
    /// For how long.
    #[arg(long)]
    seconds: u32,
    /// Wait for a greeting before the first word.
    #[arg(long)]
    greeted: bool,
    /// Also count refusals as an answer: then only hung connections fail.
    #[arg(long)]
    refusals_allowed: bool,
    /// Seconds after which a connection without an answer counts as hung.
    #[arg(long, default_value_t = ANSWER_LIMIT.as_secs())]
    patience: u64,
}

/// Opens connections one after the other.
#[derive(Args)]
pub struct Greetings {
    /// Host and port.
    #[arg(long)]
    to: String,
    /// How many.
    #[arg(long)]
    count: u32,
}

/// Opens connections and keeps them.
#[derive(Args)]
pub struct Hold {
    /// Host and port of an echo.
    #[arg(long)]
    to: String,
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// For how long, once all are open.
    #[arg(long)]
    seconds: u64,
    /// Milliseconds between two echoes on each connection; without, one echo at the start and one at the end.
    #[arg(long)]
    beat: Option<u64>,
    /// What is echoed.
    #[arg(long, default_value = "tick")]
    message: String,
    /// Bytes of each echo; the message is repeated.
    #[arg(long)]
    bytes: Option<usize>,
}

#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    /// The longest wait for an answer of either kind.
    decided_max: Duration,
    /// Milliseconds since 1970, to be found in logs.
    first_failure_at: Option<u128>,
    failures: BTreeMap<String, u32>,
}

impl Tally {
    fn count(&mut self, outcome: Result<Duration>, took: Duration) {
        self.decided_max = self.decided_max.max(took);
        match outcome {
            Ok(latency) => self.latencies.push(latency),
            Err(error) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.first_failure_at.get_or_insert(now.as_millis());
                *self.failures.entry(name_of(&error)).or_default() += 1;
            }
        }
    }

    fn report(&mut self) -> serde_json::Value {
        self.latencies.sort_unstable();
        let micros = |percent| u64::try_from(percentile(&self.latencies, percent).as_micros()).unwrap_or(u64::MAX);
        json!({
            "ok": self.latencies.len(), "failed": self.failures.values().sum::<u32>(), "failures": self.failures,
            "first_failure_at": self.first_failure_at.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX)),
            "p50_us": micros(50), "p99_us": micros(99), "max_us": micros(100),
            "decided_max_us": u64::try_from(self.decided_max.as_micros()).unwrap_or(u64::MAX),
        })
    }
}

fn name_of(error: &anyhow::Error) -> String {
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => format!("{:?}", error.kind()),
        None => error.to_string(),
    }
}

/// One connection, one word each way.
async fn exchange(to: &str, greeted: bool, patience: Duration) -> Result<Duration> {
    let start = Instant::now();
    let talk = async {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::with_capacity(256, stream);
        let mut line = String::new();
        if greeted {
            ensure!(stream.read_line(&mut line).await? > 0, "closed before the greeting");
            line.clear();
        }
        stream.get_mut().write_all(b"ping\n").await?;
        ensure!(stream.read_line(&mut line).await? > 0, "closed before the answer");
        ensure!(line == "ping\n", "wrong answer");
        // The end in order: our FIN, then theirs. A reset here would be a fault too.
        stream.get_mut().shutdown().await?;
        ensure!(stream.read_line(&mut line).await? == 0, "more than the answer");
        Ok(start.elapsed())
    };
    timeout(patience, talk).await.unwrap_or_else(|_| bail!("hung"))
}

/// What comes of one such connection, in a word.
pub async fn outcome(to: &str) -> String {
    exchange(to, false, ANSWER_LIMIT).await.map_or_else(|error| name_of(&error), |_| "ok".to_owned())
}

pub async fn attempt(to: &str) -> Result<()> {
    let to = resolve(to).await?;
    let start = Instant::now();
    let outcome = outcome(&to).await;
    let millis = u64::try_from(start.elapsed().as_millis())?;
    print(&json!({"outcome": outcome, "ms": millis}));
    Ok(())
}

pub async fn connect(plan: Connect) -> Result<()> {
    let (total, patience) = (plan.rate * plan.seconds, Duration::from_secs(plan.patience));
    let tally = Rc::new(RefCell::new(Tally::default()));
    let to: Rc<str> = resolve(&plan.to).await?.into();
    let mut tick = interval(Duration::from_secs(1) / plan.rate.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    LocalSet::new()
        .run_until(async {
            let mut tasks = JoinSet::new();
            for _ in 0..total {
                tick.tick().await;
                let (tally, to) = (Rc::clone(&tally), Rc::clone(&to));
                tasks.spawn_local(async move {
                    let start = Instant::now();
                    let outcome = exchange(&to, plan.greeted, patience).await;
                    tally.borrow_mut().count(outcome, start.elapsed());
                });
                while tasks.try_join_next().is_some() {}
            }
            while tasks.join_next().await.is_some() {}
        })
        .await;
    let mut tally = tally.borrow_mut();
    print(&tally.report());
    let hung = tally.failures.get("hung").copied().unwrap_or(0);
    let failed = if plan.refusals_allowed { hung } else { tally.failures.values().sum() };
    ensure!(failed == 0, "{failed} of {total} connections failed: {:?}", tally.failures);
    Ok(())
}

pub async fn greetings(plan: &Greetings) -> Result<()> {
    let mut tally = Tally::default();
    let to = resolve(&plan.to).await?;
    for _ in 0..plan.count {
        let start = Instant::now();
        let outcome = timeout(ANSWER_LIMIT, greeting(&to)).await.unwrap_or_else(|_| bail!("hung"));
        tally.count(outcome, start.elapsed());
    }
    print(&tally.report());
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    Ok(())
}

async fn greeting(to: &str) -> Result<Duration> {
    let start = Instant::now();
    let mut line = String::new();
    let mut stream = BufReader::new(TcpStream::connect(to).await?);
    ensure!(stream.read_line(&mut line).await? > 0, "closed before the greeting");
    Ok(start.elapsed())
}

pub async fn resolve(to: &str) -> Result<String> {
    let mut addresses = tokio::net::lookup_host(to).await.with_context(|| format!("cannot resolve {to}"))?;
    Ok(addresses.next().with_context(|| format!("{to} has no address"))?.to_string())
}

pub async fn hold(plan: Hold) -> Result<()> {
    let to = resolve(&plan.to).await?;
    let message = message_of(&plan);
    let mut held = Vec::with_capacity(plan.count);
    for _ in 0..plan.count {
        let stream = TcpStream::connect(&to).await?;
        stream.set_nodelay(true)?;
        held.push(stream);
    }
    let mut beats = 0_u64;
    beat(&mut held, &message, &mut beats).await?;
    print(&json!({"event": "holding", "count": plan.count}));
    let end = Instant::now() + Duration::from_secs(plan.seconds);
    let pause = plan.beat.map_or(Duration::from_secs(plan.seconds), Duration::from_millis);
    while Instant::now() < end {
        tokio::time::sleep(pause).await;
        beat(&mut held, &message, &mut beats).await.with_context(|| format!("after {beats} echoes"))?;
        print(&json!({"event": "beat", "echoes": beats}));
    }
    print(&json!({"event": "done", "count": plan.count, "echoes": beats}));
    Ok(())
}

fn message_of(plan: &Hold) -> Vec<u8> {
    let line = format!("{}\n", plan.message);
    let length = plan.bytes.unwrap_or(line.len());
    line.bytes().cycle().take(length.max(1)).collect()
}

async fn beat(held: &mut [TcpStream], message: &[u8], beats: &mut u64) -> Result<()> {
    let mut answer = vec![0; message.len()];
    for stream in held {
        let echo = async {
            stream.write_all(message).await?;
            stream.read_exact(&mut answer).await
        };
        timeout(ANSWER_LIMIT, echo).await.context("an echo hung")??;
        ensure!(answer == message, "an echo came back changed");
        *beats += 1;
    }
    Ok(())
}

pub async fn half_close(to: &str) -> Result<()> {
    let mut stream = TcpStream::connect(resolve(to).await?).await?;
    let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut received = Vec::new();
    let (mut from, mut into) = stream.split();
    let write = async {
        into.write_all(&sent).await?;
        into.shutdown().await
    };
    let (written, read) =
        timeout(ANSWER_LIMIT, async { tokio::join!(write, from.read_to_end(&mut received)) }).await.context("hung")?;
    written?;
    read?;
    ensure!(received == sent, "sent {} bytes, got {} back", sent.len(), received.len());
    SockRef::from(&stream).set_linger(None)?;
    print(&json!({"ok": 1, "bytes": received.len()}));
    Ok(())
}

pub async fn end_first(to: &str) -> Result<()> {
    let mut stream = TcpStream::connect(resolve(to).await?).await?;
    stream.shutdown().await?;
    let mut heard = String::new();
    timeout(ANSWER_LIMIT, stream.read_to_string(&mut heard)).await.context("the answer never came")??;
    print(&json!({"heard": heard.trim()}));
    Ok(())
}

pub async fn speak_last(to: &str) -> Result<()> {
    let mut stream = TcpStream::connect(resolve(to).await?).await?;
    let mut heard = String::new();
    timeout(ANSWER_LIMIT, stream.read_to_string(&mut heard)).await.context("the server's end never came")??;
    let sent = vec![b'x'; LAST_WORDS];
    timeout(ANSWER_LIMIT, stream.write_all(&sent)).await.context("sending hung")??;
    stream.shutdown().await?;
    print(&json!({"heard": heard.trim(), "sent": sent.len()}));
    Ok(())
}

pub async fn abort(to: &str) -> Result<()> {
    let mut stream = TcpStream::connect(resolve(to).await?).await?;
    stream.write_all(b"never mind").await?;
    timeout(ANSWER_LIMIT, stream.read_u8()).await.context("no answer")??;
    // A linger of zero turns the close into a reset.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    print(&json!({"ok": 1}));
    Ok(())
}
