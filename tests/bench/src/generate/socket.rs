//! One exchange on one socket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report::{Failure, Step};

/// Connects, without Nagle's delay.
pub(super) async fn connect(to: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(to).await.map_err(Failure::of_system(Step::Connect))?;
    stream.set_nodelay(true).map_err(Failure::of_system(Step::Connect))?;
    Ok(stream)
}

/// What one connection sends and expects back; every exchange differs from the one before.
pub(super) struct Exchange {
    sent: Vec<u8>,
    received: Vec<u8>,
    serial: u64,
}

impl Exchange {
    /// Exchanges of `bytes` bytes; the numbers of different connections must differ.
    pub(super) fn new(bytes: usize, number: u64) -> Self {
        let sent = (0..bytes).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
        Self { sent, received: vec![0; bytes], serial: number << 32 }
    }

    /// Sends and reads the same back.
    pub(super) async fn run(&mut self, stream: &mut TcpStream) -> Result<(), Failure> {
        self.serial += 1;
        let mark = self.serial.to_be_bytes();
        let marked = mark.len().min(self.sent.len());
        self.sent[..marked].copy_from_slice(&mark[mark.len() - marked..]);
        stream.write_all(&self.sent).await.map_err(Failure::of_system(Step::Send))?;
        stream.read_exact(&mut self.received).await.map_err(Failure::of_system(Step::Answer))?;
        if self.received == self.sent { Ok(()) } else { Err(Failure::changed()) }
    }

    /// Bytes of one exchange, both ways.
    pub(super) fn bytes(&self) -> u64 {
        2 * self.sent.len() as u64
    }
}
