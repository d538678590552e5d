//! A stream whose first bytes were read already and are read again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::node::socket::OverTcp;

#[derive(Debug)]
pub struct Prefixed<S> {
    /// What is still to be replayed, and how much of it was. Freed at the end, because connections live long.
    prefix: Option<Box<Prefix>>,
    stream: S,
}

#[derive(Debug)]
struct Prefix {
    bytes: Vec<u8>,
    replayed: usize,
}

impl<S> Prefixed<S> {
    #[must_use]
    pub fn new(bytes: Vec<u8>, stream: S) -> Self {
        let prefix = if bytes.is_empty() { None } else { Some(Box::new(Prefix { bytes, replayed: 0 })) };
        Self { prefix, stream }
    }

    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The bytes that were not read again yet.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        self.prefix.as_ref().map_or(&[], |prefix| &prefix.bytes[prefix.replayed..])
    }

    /// The stream and the bytes that were not read again yet.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, S) {
        let rest = self.prefix.map_or_else(Vec::new, |mut prefix| prefix.bytes.split_off(prefix.replayed));
        (rest, self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(prefix) = self.prefix.as_mut() else {
            return Pin::new(&mut self.stream).poll_read(task, buffer);
        };
        let rest = &prefix.bytes[prefix.replayed..];
        let taken = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        prefix.replayed += taken;
        if prefix.replayed == prefix.bytes.len() {
            self.prefix = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(task, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

impl<S: OverTcp> OverTcp for Prefixed<S> {
    fn reset_on_close(&self) {
        self.stream.reset_on_close();
    }

    fn acknowledge_within(&self, limit: Option<Duration>) {
        self.stream.acknowledge_within(limit);
    }
}
