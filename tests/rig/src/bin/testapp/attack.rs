//! A client that means harm, in one of several ways, and tells how it was stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::client::resolve;
use crate::frames::{self, frame};
use crate::print;

/// Between two bytes of a slow attack.
const DRIP: Duration = Duration::from_millis(500);
/// What one field may have at most in the peer's table of fields.
const TABLE: usize = 3900;

#[derive(Args, Clone)]
pub struct Attack {
    /// Host and port.
    #[arg(long)]
    to: String,
    #[arg(long)]
    kind: Kind,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Who was not stopped by then goes home, and fails.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A head that never ends, byte by byte.
    SlowHead,
    /// The beginning of a body.
    SlowBody,
    /// A large answer that nobody reads.
    SlowRead,
    /// Fields without end.
    HeaderBomb,
    /// One large field, named again by one byte each time (RFC 7541, section 6.1).
    TableBomb,
    /// A head that goes on in small pieces for ever.
    Continuation,
    Settings,
    Ping,
    Windows,
    EmptyData,
    /// Requests that are reset at once.
    RapidReset,
    /// As many large answers as a connection may have, and no window for any of them.
    ZeroWindow,
}

struct Assault {
    first: Vec<u8>,
    again: Vec<u8>,
    pause: Duration,
}

impl Kind {
    fn assault(self, host: &str) -> Assault {
        let whole = |first: Vec<u8>, again: Vec<u8>| Assault { first, again, pause: Duration::ZERO };
        let first = |setting: &[u8], further: &[Vec<u8>]| {
            [frames::PREFACE.to_vec(), frame(frames::SETTINGS, 0, 0, setting), further.concat()].concat()
        };
        let get = |flags, path| frame(frames::HEADERS, flags, 1, &frames::get(host, path));
        let many = |kind, flags, payload: &[u8]| frame(kind, flags, 0, payload).repeat(100);
        match self {
            Self::SlowHead => {
                let first = format!("GET / HTTP/1.1\r\nHost: {host}\r\nx: ");
                Assault { first: first.into(), again: b"a".to_vec(), pause: DRIP }
            }
            Self::SlowBody => {
                whole(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nx").into(), Vec::new())
            }
            Self::SlowRead => {
                whole(format!("GET /bytes/100000000 HTTP/1.1\r\nHost: {host}\r\n\r\n").into(), Vec::new())
            }
            Self::HeaderBomb => {
                let field = [b"x-field: ".as_slice(), &[b'x'; TABLE], b"\r\n"].concat();
                whole(format!("GET / HTTP/1.1\r\nHost: {host}\r\n").into(), field)
            }
            Self::TableBomb => {
                let size = u8::try_from((TABLE - 127) & 0x7f).unwrap_or(0) | 0x80;
                let rest = u8::try_from((TABLE - 127) >> 7).unwrap_or(0);
                let large = [&[0x40, 1, b'x', 0x7f, size, rest][..], &[b'x'; TABLE]].concat();
                let head = frame(frames::HEADERS, 0, 1, &[frames::get(host, "/"), large].concat());
                whole(first(&[], &[head]), frame(frames::CONTINUATION, 0, 1, &[0xbe; 16000]))
            }
            Self::Continuation => whole(first(&[], &[get(0, "/")]), frame(frames::CONTINUATION, 0, 1, &[]).repeat(100)),
            Self::Settings => whole(first(&[], &[]), many(frames::SETTINGS, 0, &[])),
            Self::Ping => whole(first(&[], &[]), many(frames::PING, 0, &[7; 8])),
            Self::Windows => whole(first(&[], &[]), many(frames::WINDOW_UPDATE, 0, &[0, 0, 0, 1])),
            Self::EmptyData => {
                let again = frame(frames::DATA, 0, 1, &[]).repeat(100);
                whole(first(&[], &[get(frames::END_HEADERS, "/")]), again)
            }
            Self::RapidReset => whole(first(&[], &[]), Vec::new()),
            Self::ZeroWindow => {
                let asked = |stream| {
                    let flags = frames::END_HEADERS | frames::END_STREAM;
                    frame(frames::HEADERS, flags, stream, &frames::get(host, "/bytes/1000000"))
                };
                let requests: Vec<_> = (0..100).map(|number| asked(2 * number + 1)).collect();
                whole(first(&[0, 4, 0, 0, 0, 0], &requests), Vec::new())
            }
        }
    }

    /// What follows in this turn; empty: nothing more.
    fn next(self, assault: &Assault, host: &str, turn: u32) -> Vec<u8> {
        let Self::RapidReset = self else { return assault.again.clone() };
        let streams = (0..20).map(|number| 2 * (20 * turn + number) + 1);
        let flags = frames::END_HEADERS | frames::END_STREAM;
        let pair = |stream| {
            let asked = frame(frames::HEADERS, flags, stream, &frames::get(host, "/delay/5000"));
            [asked, frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        };
        streams.flat_map(pair).collect()
    }
}

#[derive(Default)]
struct Tally {
    sent: u64,
    ends: BTreeMap<String, u32>,
    codes: BTreeMap<u32, u32>,
    heard: String,
}

pub async fn run(plan: Attack) -> Result<()> {
    let mut tally = Tally::default();
    let mut tasks = JoinSet::new();
    let local = LocalSet::new();
    for _ in 0..plan.connections {
        let plan = plan.clone();
        tasks.spawn_local_on(async move { once(&plan).await }, &local);
    }
    local
        .run_until(async {
            while let Some(ended) = tasks.join_next().await {
                let (sent, end, code, heard) = ended??;
                tally.sent += sent;
                *tally.ends.entry(end).or_default() += 1;
                if let Some(code) = code {
                    *tally.codes.entry(code).or_default() += 1;
                }
                tally.heard = heard;
            }
            anyhow::Ok(())
        })
        .await?;
    print(&json!({"sent": tally.sent, "ends": tally.ends, "codes": tally.codes, "heard": tally.heard}));
    ensure!(!tally.ends.contains_key("never"), "it was not stopped");
    Ok(())
}

/// Bytes sent, how it ended, GOAWAY's code, and the first line that was heard.
async fn once(plan: &Attack) -> Result<(u64, String, Option<u32>, String)> {
    let assault = plan.kind.assault(&plan.to);
    let mut stream = TcpStream::connect(resolve(&plan.to).await?).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&assault.first).await?;
    let mut sent = assault.first.len() as u64;
    let limit = Duration::from_secs(plan.seconds);
    if matches!(plan.kind, Kind::SlowRead) {
        let broken = timeout(limit, stream.ready(Interest::ERROR)).await;
        let end = if broken.is_ok() { "ConnectionReset" } else { "never" };
        return Ok((sent, end.to_owned(), None, String::new()));
    }
    let (reader, mut writer) = stream.into_split();
    let shouting = async {
        for turn in 0.. {
            let bytes = plan.kind.next(&assault, &plan.to, turn);
            if bytes.is_empty() || writer.write_all(&bytes).await.is_err() {
                break;
            }
            sent += bytes.len() as u64;
            sleep(assault.pause).await;
        }
        std::future::pending::<()>().await;
    };
    let heard = tokio::select! {
        heard = timeout(limit, listen(reader)) => heard,
        () = shouting => unreachable!(),
    };
    let (end, code, text) = heard.unwrap_or_else(|_| ("never".to_owned(), None, String::new()));
    Ok((sent, end, code, text))
}

/// How the connection ended, GOAWAY's code, and the first line.
async fn listen(mut reader: OwnedReadHalf) -> (String, Option<u32>, String) {
    let (mut buffer, mut code, mut line) = (Vec::new(), None, String::new());
    let end = loop {
        match reader.read_buf(&mut buffer).await {
            Ok(0) => break "closed".to_owned(),
            Ok(_) => {}
            Err(error) => break format!("{:?}", error.kind()),
        }
        if buffer.starts_with(b"HTTP/") {
            line = String::from_utf8_lossy(&buffer).lines().next().unwrap_or_default().to_owned();
            continue;
        }
        while let Some(frame) = frames::take(&mut buffer) {
            if let (frames::GOAWAY, Some(bytes)) = (frame.kind, frame.payload.get(4..).and_then(<[u8]>::first_chunk)) {
                code = Some(u32::from_be_bytes(*bytes));
            }
        }
    };
    (end, code, line)
}
