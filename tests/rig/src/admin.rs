//! Questions to an agent's admin socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// An agent that does not answer by then hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const ANSWER_BYTES: u64 = 32 << 20;

/// What an agent says about itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Whether it serves.
    pub ready: bool,
    /// The version of the configuration it decides on.
    #[serde(default)]
    pub snapshot: Value,
    /// The pods of the node that it knows of.
    #[serde(default)]
    pub pods: Vec<PodStatus>,
}

/// What an agent says about a pod of its node.
#[derive(Debug, Clone, Deserialize)]
pub struct PodStatus {
    /// `namespace/name`.
    pub name: String,
    /// The uid of the object.
    pub uid: String,
    /// Whether its connections are captured.
    pub enrolled: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// Asks for /status.
pub fn status(socket: &Path) -> Result<Status> {
    serde_json::from_value(ask(socket, "/status")?).context("the agent's status is not as agreed")
}

/// Asks for any path that answers with JSON.
pub fn ask(socket: &Path, path: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("cannot reach {}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    // Version 1.0: the answer ends with the connection and never comes in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer).with_context(|| format!("no answer to {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    let first = head.lines().next().unwrap_or_default();
    if !first.contains(" 200") {
        bail!("{path} was answered with {first:?}: {body}");
    }
    serde_json::from_str(body).with_context(|| format!("the answer to {path} is not JSON"))
}
