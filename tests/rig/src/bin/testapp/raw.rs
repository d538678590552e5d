//! Sends bytes exactly as they are given, one connection for each string of them, and tells what came back.
//!
//! After each string an ordinary request goes the same way: its answer says that everything before it has been seen, and
//! an answer that was meant for another request would show. Nothing is parsed here and nothing sent twice.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::print;

/// A server that says nothing and ends nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer longer than that is cut.
const ANSWER_MAXIMUM: u64 = 1 << 20;

/// Sends byte strings and reads each answer to its end.
#[derive(Args)]
pub struct Raw {
    /// Address and port.
    #[arg(long)]
    to: SocketAddr,
    /// A JSON array of strings, each of them made of characters up to U+00FF, one for each byte.
    #[arg(long)]
    bytes: PathBuf,
    /// The connection of the first string has this source port, the next ones those that follow.
    #[arg(long)]
    first_port: u16,
    /// What follows each string, with its number in place of `{}`; in the same form.
    #[arg(long)]
    then: String,
}

pub fn send(plan: &Raw) -> Result<()> {
    let text = std::fs::read_to_string(&plan.bytes).with_context(|| format!("no {}", plan.bytes.display()))?;
    let strings: Vec<String> = serde_json::from_str(&text).context("no array of strings")?;
    for (number, port) in (0..strings.len()).zip(plan.first_port..) {
        let mut report = exchange(plan.to, port, &bytes_of(&strings[number])?)?;
        let then = bytes_of(&plan.then.replace("{}", &number.to_string()))?;
        report["then"] = exchange(plan.to, 0, &then)?;
        print(&report);
    }
    Ok(())
}

/// Sends, ends its own side, and reads until the other side has ended. How that went is the report.
fn exchange(to: SocketAddr, port: u16, bytes: &[u8]) -> Result<Value> {
    let mut stream = match connect(to, port) {
        Ok(stream) => stream,
        Err(error) => return Ok(json!({"port": port, "outcome": error.kind().to_string(), "answer": ""})),
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server may refuse before it has everything: what it says is read all the same.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let ended = (&mut stream).take(ANSWER_MAXIMUM).read_to_end(&mut answer);
    let outcome = match ended.map_err(|error| error.kind()) {
        Ok(_) => "closed".to_owned(),
        Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => "hung".to_owned(),
        Err(kind) => kind.to_string(),
    };
    let answer: String = answer.into_iter().map(char::from).collect();
    Ok(json!({"port": port, "outcome": outcome, "answer": answer}))
}

fn connect(to: SocketAddr, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if port != 0 {
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))?;
    }
    socket.connect_timeout(&SockAddr::from(to), PATIENCE)?;
    Ok(socket.into())
}

fn bytes_of(text: &str) -> Result<Vec<u8>> {
    text.chars().map(|letter| u8::try_from(letter).with_context(|| format!("{letter:?} is no byte"))).collect()
}
