//! One question to one admin socket: HTTP/1.1 and JSON over a Unix socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// An agent that has not answered by then hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The largest answer that is read: a snapshot of some 10,000 pods is a fifth of it.
const ANSWER_BYTES: usize = 64 << 20;
/// The longest line of an answer that goes on: several times the longest record.
const LINE_BYTES: usize = 256 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing is there.
    #[error("there is no admin socket: nothing has run here, or its directory was removed")]
    Gone,
    /// The socket's file is left, its owner is not.
    #[error("the admin socket is stale: the process that made it is dead")]
    Stale,
    #[error("the admin socket may not be opened: run as root")]
    Forbidden,
    #[error("it takes the question and does not answer within {} s: it hangs", ANSWER_LIMIT.as_secs())]
    Silent,
    /// It answered that it cannot answer.
    #[error("{0}")]
    Declined(String),
    #[error("{0}")]
    Broken(String),
}

/// Asks for `path` with `parameters`.
pub async fn ask<T: DeserializeOwned>(socket: &Path, path: &str, parameters: &[(&str, &str)]) -> Result<T, AskError> {
    let target = target(path, parameters);
    let text = timeout(ANSWER_LIMIT, fetch(socket, &target)).await.unwrap_or(Err(AskError::Silent))?;
    let unreadable = |error: serde_json::Error| {
        AskError::Broken(format!("its answer to {path} cannot be read ({error}): is it of another version?"))
    };
    serde_json::from_slice(&text).map_err(unreadable)
}

/// Asks for what is no JSON, or as it is.
pub async fn ask_text(socket: &Path, path: &str, parameters: &[(&str, &str)]) -> Result<String, AskError> {
    let target = target(path, parameters);
    let text = timeout(ANSWER_LIMIT, fetch(socket, &target)).await.unwrap_or(Err(AskError::Silent))?;
    String::from_utf8(text.into()).map_err(|_| AskError::Broken(format!("its answer to {path} is no text")))
}

/// Asks for an answer that goes on, line by line. Ends with it, or when nobody takes the lines any more.
pub async fn ask_lines(
    socket: &Path,
    path: &str,
    parameters: &[(&str, &str)],
    lines: impl AsyncFn(Vec<u8>) -> bool,
) -> Result<(), AskError> {
    exchange(socket, &target(path, parameters), async |mut response| {
        let mut begun = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                begun.extend_from_slice(part);
                if begun.len() > LINE_BYTES {
                    return Err(AskError::Broken("it writes a line without an end".to_owned()));
                }
                if part.ends_with(b"\n") && !lines(std::mem::take(&mut begun)).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
    .await
}

async fn fetch(socket: &Path, target: &str) -> Result<Bytes, AskError> {
    exchange(socket, target, async |response| collected(response.into_body()).await).await
}

async fn collected(body: Incoming) -> Result<Bytes, AskError> {
    let collected = Limited::new(body, ANSWER_BYTES).collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| AskError::Broken(format!("the answer broke off: {error}")))
}

/// One question, and what is made of its answer while that comes.
async fn exchange<T>(
    socket: &Path,
    target: &str,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, AskError>,
) -> Result<T, AskError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let request = Request::get(target)
        .header("host", "agent")
        .body(Empty::<Bytes>::new())
        .map_err(|error| AskError::Broken(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        if response.status().is_success() {
            return read(response).await;
        }
        let status = response.status();
        let body = collected(response.into_body()).await?;
        Err(AskError::Declined(problem(status, &body)))
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => {
            ended.map_err(|error| broken(&error))?;
            exchange.await
        }
    }
}

fn broken(error: &hyper::Error) -> AskError {
    AskError::Broken(format!("the answer broke off: {error}"))
}

fn unreachable(error: &io::Error) -> AskError {
    let kinds = [
        (io::ErrorKind::NotFound, AskError::Gone),
        (io::ErrorKind::ConnectionRefused, AskError::Stale),
        (io::ErrorKind::PermissionDenied, AskError::Forbidden),
    ];
    let known = kinds.into_iter().find(|(kind, _)| *kind == error.kind());
    known.map_or_else(|| AskError::Broken(error.to_string()), |(_, known)| known)
}

/// What a refusal says: the `error` of its JSON, else the status.
fn problem(status: hyper::StatusCode, body: &[u8]) -> String {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    said.as_ref()
        .and_then(|said| said.get("error"))
        .and_then(serde_json::Value::as_str)
        .map_or_else(|| status.to_string(), ToOwned::to_owned)
}

fn target(path: &str, parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_cannot_become_others() {
        assert_eq!(target("/why", &[("source", "a&b=c/d")]), "/why?source=a%26b%3Dc%2Fd");
        assert_eq!(target("/status", &[]), "/status");
    }
}
