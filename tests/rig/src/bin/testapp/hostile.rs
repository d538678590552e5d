//! Servers that end, refuse or flood where others would answer, and a client that speaks by hand.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::resolve;
use crate::frames::{self, Frame, frame};
use crate::{print, server};

#[derive(Args)]
pub struct Hostile {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    kind: Kind,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Answers without a length, and resets in the middle.
    Half,
    /// Grants an upgrade, and resets.
    Switch,
    /// Says `heard` when a body begins, and prints how the connection ended.
    Witness,
    /// Answers one request of each connection, promises to go on, and resets at the next.
    Fleeting,
    /// HTTP/2: refuses the first two streams of each connection.
    Refuse,
    /// HTTP/2: goes away at the fifth stream of each connection, which it has not begun with.
    GoAway,
    /// HTTP/2: settings without end.
    Settings,
}

pub async fn serve(plan: Hostile) -> Result<()> {
    let kind = plan.kind;
    server::serve(plan.port, move |stream| carry(kind, stream)).await
}

async fn carry(kind: Kind, mut stream: TcpStream) -> Result<()> {
    match kind {
        Kind::Half => cut(stream, "HTTP/1.0 200 OK\r\n\r\nhalf").await,
        Kind::Switch => {
            let granted = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhalf";
            cut(stream, granted).await
        }
        Kind::Witness => witness(stream).await,
        Kind::Fleeting => {
            let request = head(&mut stream).await?;
            print(&json!({"event": "served", "request": request.lines().next()}));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
            stream.read_u8().await?;
            Ok(reset(&stream)?)
        }
        Kind::Refuse => streams(stream, |number| if number < 2 { Turn::Refuse } else { Turn::Serve }).await,
        Kind::GoAway => streams(stream, |number| if number == 4 { Turn::GoAway } else { Turn::Serve }).await,
        Kind::Settings => {
            let flood = frame(frames::SETTINGS, 0, 0, &[]).repeat(100);
            let (mut reader, mut writer) = stream.into_split();
            let shouting = async { while writer.write_all(&flood).await.is_ok() {} };
            let mut ignored = tokio::io::sink();
            tokio::join!(shouting, tokio::io::copy(&mut reader, &mut ignored)).1?;
            print(&json!({"event": "end"}));
            Ok(())
        }
    }
}

fn reset(stream: &TcpStream) -> std::io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// A request's head, with what came with it.
async fn head(stream: &mut TcpStream) -> Result<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "no request");
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn cut(mut stream: TcpStream, text: &str) -> Result<()> {
    head(&mut stream).await?;
    stream.write_all(text.as_bytes()).await?;
    Ok(reset(&stream)?)
}

async fn witness(mut stream: TcpStream) -> Result<()> {
    let request = head(&mut stream).await?;
    if request.ends_with("\r\n\r\n") {
        stream.read_u8().await?;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nheard\r\n").await?;
    let mut rest = Vec::new();
    let end = match stream.read_to_end(&mut rest).await {
        Ok(_) => "closed".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    print(&json!({"event": "end", "end": end}));
    Ok(())
}

enum Turn {
    Serve,
    Refuse,
    GoAway,
}

/// A server of HTTP/2 that does with each stream, by its number on the connection, what `turn` says.
async fn streams(mut stream: TcpStream, turn: impl Fn(u32) -> Turn) -> Result<()> {
    let mut bytes = vec![0; frames::PREFACE.len()];
    stream.read_exact(&mut bytes).await?;
    bytes.clear();
    stream.write_all(&frame(frames::SETTINGS, 0, 0, &[])).await?;
    let mut gone = false;
    loop {
        while let Some(Frame { kind, flags, stream: number, payload }) = frames::take(&mut bytes) {
            let whole = flags & frames::END_STREAM != 0 && matches!(kind, frames::HEADERS | frames::DATA);
            let answer = match (kind, turn(number / 2)) {
                (frames::SETTINGS, _) if flags & frames::ACK == 0 => frame(kind, frames::ACK, 0, &[]),
                (frames::PING, _) if flags & frames::ACK == 0 => frame(kind, frames::ACK, 0, &payload),
                (frames::HEADERS, Turn::Refuse) => frame(frames::RST_STREAM, 0, number, &[0, 0, 0, 7]),
                (frames::HEADERS, Turn::GoAway) if !gone => {
                    gone = true;
                    let last = (number - 2).to_be_bytes();
                    frame(frames::GOAWAY, 0, 0, &[last, [0; 4]].concat())
                }
                (_, Turn::Serve) if whole && !(gone && number / 2 > 4) => {
                    print(&json!({"event": "served"}));
                    frame(frames::HEADERS, frames::END_STREAM | frames::END_HEADERS, number, &[0x88])
                }
                _ => Vec::new(),
            };
            stream.write_all(&answer).await?;
        }
        if gone || stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

#[derive(Args)]
pub struct Say {
    /// Host and port.
    #[arg(long)]
    to: String,
    /// What is said; `\r` and `\n` are written so.
    #[arg(long)]
    text: String,
    /// Resets as soon as this was heard.
    #[arg(long)]
    reset_after: Option<String>,
    /// A connection that has not ended by then counts as open.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Says something and prints what was heard, and how it ended.
pub async fn say(plan: Say) -> Result<()> {
    let mut stream = TcpStream::connect(resolve(&plan.to).await?).await?;
    let text = plan.text.replace("\\r", "\r").replace("\\n", "\n");
    stream.write_all(text.as_bytes()).await?;
    let mut heard = Vec::new();
    let hearing = async {
        loop {
            match stream.read_buf(&mut heard).await {
                Ok(0) => return "closed".to_owned(),
                Ok(_) => {}
                Err(error) => return format!("{:?}", error.kind()),
            }
            let so_far = String::from_utf8_lossy(&heard);
            if plan.reset_after.as_ref().is_some_and(|awaited| so_far.contains(awaited)) {
                return "reset".to_owned();
            }
        }
    };
    let end = timeout(Duration::from_secs(plan.seconds), hearing).await.unwrap_or_else(|_| "open".to_owned());
    if end == "reset" {
        reset(&stream).context("no reset")?;
    }
    print(&json!({"end": end, "heard": String::from_utf8_lossy(&heard)}));
    Ok(())
}
