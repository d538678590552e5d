//! Reads just enough of an accepted connection to tell mesh TLS from plaintext.
//!
//! Invariant: every byte read is in `FirstBytes` until it is handed out to be replayed, also when a wait is given up, so the
//! caller may wait for the application's greeting at the same time. Absent: the decision what plaintext may do.

use std::io;

use tokio::net::TcpStream;

use super::hello::{Beginning, judge};
use crate::error::{ConnectionError, Reason, Side};
use crate::limits;

/// What a connection began with. The bytes are to be replayed (`Prefixed`).
#[derive(Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A whole `ClientHello` that offers `weft/1`.
    MeshTls(Vec<u8>),
    /// Anything else, an application's own TLS too.
    Plaintext(Vec<u8>),
    /// The peer has ended its sending without a byte: it may still want to read.
    Closed,
}

/// Bytes read from a connection's beginning, kept until somebody takes them to be replayed.
#[derive(Debug)]
pub struct FirstBytes {
    seen: Vec<u8>,
    most: usize,
}

impl Default for FirstBytes {
    fn default() -> Self {
        Self::up_to(limits::SNIFF_MAXIMUM)
    }
}

impl FirstBytes {
    #[must_use]
    pub const fn up_to(most: usize) -> Self {
        Self { seen: Vec::new(), most }
    }

    /// Reads what is there next; false when the peer has ended its sending. Cancel-safe, unbounded in time.
    pub async fn more(&mut self, stream: &TcpStream) -> Result<bool, ConnectionError> {
        loop {
            stream.readable().await.map_err(|error| failed(&error))?;
            let room = self.most.saturating_sub(self.seen.len());
            // Nothing is allocated before the first byte: connections that say nothing cost nothing.
            self.seen.reserve_exact(room.min(FIRST_READ.max(self.seen.len())));
            let read = {
                let mut limited = bytes::BufMut::limit(&mut self.seen, room);
                stream.try_read_buf(&mut limited)
            };
            match read {
                Ok(count) => return Ok(count > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// Goes on after bytes that were read before.
    #[must_use]
    pub const fn beginning_with(seen: Vec<u8>) -> Self {
        Self { seen, most: limits::SNIFF_MAXIMUM }
    }

    #[must_use]
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.seen)
    }
}

#[derive(Debug, Default)]
pub struct Sniffer {
    first: FirstBytes,
}

impl Sniffer {
    /// Waits until the first bytes decide. Cancel-safe: what was read is kept for the next call or `into_seen`.
    /// Unbounded in time: the caller has the timeout, and on a strict port it is the handshake's.
    pub async fn sniff(&mut self, stream: &TcpStream) -> Result<Sniffed, ConnectionError> {
        while self.first.more(stream).await? {
            match judge(self.first.seen()) {
                Beginning::Mesh => return Ok(Sniffed::MeshTls(self.first.take())),
                Beginning::Plaintext => return Ok(Sniffed::Plaintext(self.first.take())),
                Beginning::Undecided => {}
            }
        }
        // The end cuts a possible ClientHello short: it can only be plaintext.
        Ok(if self.has_seen() { Sniffed::Plaintext(self.first.take()) } else { Sniffed::Closed })
    }

    /// Whether the peer has said something that does not decide yet.
    #[must_use]
    pub fn has_seen(&self) -> bool {
        !self.first.seen().is_empty()
    }

    /// What was read so far, for a caller that decides without waiting on.
    #[must_use]
    pub fn into_seen(mut self) -> Vec<u8> {
        self.first.take()
    }
}

/// A `ClientHello` with ML-KEM and no ticket is 1.8 KB.
const FIRST_READ: usize = 2048;

fn failed(error: &io::Error) -> ConnectionError {
    ConnectionError::new(Side::Downstream, Reason::DownstreamReset).with_detail(error.to_string())
}
