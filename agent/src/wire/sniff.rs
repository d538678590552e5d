//! Reads just enough of an accepted connection to tell mesh TLS from plaintext.
//!
//! Invariant: every byte read is in `Sniffer` until it is handed out to be replayed, also when a wait is given up, so the
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

#[derive(Debug, Default)]
pub struct Sniffer {
    seen: Vec<u8>,
}

impl Sniffer {
    /// Waits until the first bytes decide. Cancel-safe: what was read is kept for the next call or `into_seen`.
    /// Unbounded in time: the caller has the timeout, and on a strict port it is the handshake's.
    pub async fn sniff(&mut self, stream: &TcpStream) -> Result<Sniffed, ConnectionError> {
        loop {
            stream.readable().await.map_err(|error| failed(&error))?;
            let room = limits::SNIFF_MAXIMUM.saturating_sub(self.seen.len());
            // Nothing is allocated before the first byte: connections that say nothing cost nothing.
            self.seen.reserve_exact(room.min(FIRST_READ.max(self.seen.len())));
            let read = {
                let mut limited = bytes::BufMut::limit(&mut self.seen, room);
                stream.try_read_buf(&mut limited)
            };
            match read {
                Ok(0) if self.seen.is_empty() => return Ok(Sniffed::Closed),
                // The end cuts a possible ClientHello short: it can only be plaintext.
                Ok(0) => return Ok(Sniffed::Plaintext(std::mem::take(&mut self.seen))),
                Ok(_) => match judge(&self.seen) {
                    Beginning::Mesh => return Ok(Sniffed::MeshTls(std::mem::take(&mut self.seen))),
                    Beginning::Plaintext => return Ok(Sniffed::Plaintext(std::mem::take(&mut self.seen))),
                    Beginning::Undecided => {}
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// Whether the peer has said something that does not decide yet.
    #[must_use]
    pub fn has_seen(&self) -> bool {
        !self.seen.is_empty()
    }

    /// What was read so far, for a caller that decides without waiting on.
    #[must_use]
    pub fn into_seen(self) -> Vec<u8> {
        self.seen
    }
}

/// A `ClientHello` with ML-KEM and no ticket is 1.8 KB.
const FIRST_READ: usize = 2048;

fn failed(error: &io::Error) -> ConnectionError {
    ConnectionError::new(Side::Downstream, Reason::DownstreamReset).with_detail(error.to_string())
}
