//! Bytes both ways, with SHA-256 of each direction checked by the other side.
//!
//! The client says how many bytes it will send; the server answers with their hash, then sends as many
//! of its own, and their hash. The streams differ by connection, so bytes of one cannot pass for another's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::{print, server};

/// One write and one read.
const PIECE: usize = 16 << 10;
/// A transfer that makes no progress for so long hangs.
const PROGRESS_LIMIT: Duration = Duration::from_secs(30);

/// Sends and receives with hashes.
#[derive(Args)]
pub struct Transfer {
    /// Host and port of a sink.
    #[arg(long)]
    to: String,
    /// Bytes each way on each connection.
    #[arg(long)]
    bytes: u64,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1)]
    connections: u64,
}

pub async fn serve(port: u16) -> Result<()> {
    server::serve(port, |mut stream| async move {
        let seed = stream.read_u64().await?;
        let bytes = stream.read_u64().await?;
        let hash = receive(&mut stream, bytes).await?;
        stream.write_all(&hash).await?;
        let hash = send(&mut stream, !seed, bytes).await?;
        stream.write_all(&hash).await?;
        Ok(stream.shutdown().await?)
    })
    .await
}

pub async fn run(plan: Transfer) -> Result<()> {
    let mut outcomes = Vec::new();
    LocalSet::new()
        .run_until(async {
            let mut tasks = JoinSet::new();
            for seed in 0..plan.connections {
                let to = plan.to.clone();
                tasks.spawn_local(async move { one(&to, seed, plan.bytes).await });
            }
            while let Some(outcome) = tasks.join_next().await {
                outcomes.push(outcome.context("a transfer panicked").flatten());
            }
        })
        .await;
    let failures: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(|error| format!("{error:#}")).collect();
    let done = outcomes.len() - failures.len();
    print(
        &json!({"ok": done, "failed": failures.len(), "bytes_each_way": plan.bytes, "first_failure": failures.first()}),
    );
    ensure!(failures.is_empty(), "{} of {} transfers failed: {}", failures.len(), plan.connections, failures[0]);
    Ok(())
}

async fn one(to: &str, seed: u64, bytes: u64) -> Result<()> {
    let mut stream = timeout(PROGRESS_LIMIT, TcpStream::connect(to)).await.context("connect hung")??;
    stream.write_u64(seed).await?;
    stream.write_u64(bytes).await?;
    let sent = send(&mut stream, seed, bytes).await?;
    expect_hash(&mut stream, &sent).await.context("what the server got")?;
    let received = receive(&mut stream, bytes).await?;
    expect_hash(&mut stream, &received).await.context("what the client got")?;
    ensure!(timeout(PROGRESS_LIMIT, stream.read(&mut [0])).await.context("the end hung")?? == 0, "bytes after the end");
    Ok(())
}

async fn expect_hash(stream: &mut TcpStream, expected: &[u8; 32]) -> Result<()> {
    let mut hash = [0; 32];
    timeout(PROGRESS_LIMIT, stream.read_exact(&mut hash)).await.context("the hash hung")??;
    ensure!(hash == *expected, "the hashes differ");
    Ok(())
}

async fn send(stream: &mut TcpStream, seed: u64, bytes: u64) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut left = bytes;
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        for word in piece.chunks_mut(8) {
            // Xorshift: cheap, and different for every seed.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_ne_bytes()[..word.len()]);
        }
        hash.update(&piece[..count]);
        timeout(PROGRESS_LIMIT, stream.write_all(&piece[..count])).await.context("sending hung")??;
        left -= count as u64;
    }
    Ok(hash.finalize().into())
}

async fn receive(stream: &mut TcpStream, bytes: u64) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut left = bytes;
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let count = timeout(PROGRESS_LIMIT, stream.read(&mut piece[..most])).await.context("receiving hung")??;
        ensure!(count > 0, "ended {left} bytes early");
        hash.update(&piece[..count]);
        left -= count as u64;
    }
    Ok(hash.finalize().into())
}
