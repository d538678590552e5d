//! A connection after it has changed its protocol (RFC 9110, section 7.8): bytes both ways.
//!
//! Invariant: one that was not ended in order is reset when it is dropped.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::http::engine::Transport;

/// The engine hands a connection over as soon as the head that allows it is written.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Tunnel {
    stream: Box<dyn Transport>,
    /// What had arrived behind the head.
    early: Bytes,
    ended: bool,
}

impl Tunnel {
    pub(super) const fn new(stream: Box<dyn Transport>, early: Bytes) -> Self {
        Self { stream, early, ended: false }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if !self.ended {
            self.stream.reset_on_close();
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(task, buffer);
        }
        let taken = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..taken]);
        self.early.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(task);
        self.ended |= matches!(ended, Poll::Ready(Ok(())));
        ended
    }
}

/// Travels with a message that may change its connection's protocol, to whoever wants what becomes of it.
#[derive(Clone)]
pub(super) struct Handover(Arc<Mutex<Option<oneshot::Receiver<Tunnel>>>>);

impl Handover {
    pub(super) fn new() -> (oneshot::Sender<Tunnel>, Self) {
        let (giver, taker) = oneshot::channel();
        (giver, Self(Arc::new(Mutex::new(Some(taker)))))
    }
}

/// What becomes an upgraded connection once both sides have said 101, by the extensions of the request or the answer. None: it
/// asks for no upgrade, or has been asked before.
pub fn tunnel(extensions: &http::Extensions) -> impl Future<Output = Option<Tunnel>> + use<> {
    let handover: Option<&Handover> = extensions.get();
    let taker = handover.and_then(|handover| handover.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    async move { tokio::time::timeout(HANDOVER_TIMEOUT, taker?).await.ok()?.ok() }
}
