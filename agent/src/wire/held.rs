//! A stream that holds back what is written until there is a reason to send it.
//!
//! The last flight of a handshake and the first message after it then leave in one segment, and wake the peer once.
//! Invariant: nothing is held while this side waits for the peer, because a read sends it first; so holding can make
//! nobody wait for ever. Absent: the choice when to let go, which the two sides of a mesh connection make.

use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::limits;

#[derive(Debug)]
pub struct Held<S> {
    stream: S,
    /// Written, and not sent yet. Without memory once the holding is over.
    bytes: Vec<u8>,
    sent: usize,
    holding: bool,
}

impl<S> Held<S> {
    /// Holds from the beginning.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, bytes: Vec::new(), sent: 0, holding: true }
    }

    /// From now on a flush or a read sends what was held, and writes go through.
    pub(super) fn let_go(&mut self) {
        self.holding = false;
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    /// Sends what is held, as far as the peer takes it. For the end of a connection, where a failure changes nothing.
    pub(super) async fn send_rest(&mut self) {
        self.let_go();
        let _ = self.flush().await;
    }
}

impl<S> Deref for Held<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_send(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(task, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        if self.holding {
            self.bytes.clear();
        } else {
            self.bytes = Vec::new();
        }
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.bytes.is_empty() {
            // A peer that takes nothing may still say something: why it refuses. The rest is sent by a later write or read.
            let _ = self.poll_send(task);
        }
        Pin::new(&mut self.stream).poll_read(task, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() && !self.holding {
            return Pin::new(&mut self.stream).poll_write(task, bytes);
        }
        if self.bytes.len() + bytes.len() > limits::HELD_MAXIMUM {
            ready!(self.poll_send(task))?;
            return Pin::new(&mut self.stream).poll_write(task, bytes);
        }
        self.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() && !self.holding {
            return Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        }
        let mut written = 0;
        for slice in slices {
            let count = match self.as_mut().poll_write(task, slice) {
                Poll::Ready(Ok(count)) => count,
                // What was taken already must be said; the rest comes again.
                Poll::Pending | Poll::Ready(Err(_)) if written > 0 => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            };
            written += count;
            if count < slice.len() {
                break;
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holding {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(task))?;
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(task))?;
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
