//! What one connection sends and expects back: the same bytes, alone or as the bodies of a request and its answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::message;
use crate::report::{Failure, Step};

/// The first line of an answer that counts.
const GOOD: &[u8] = b"HTTP/1.1 200";

/// Every exchange differs from the one before.
pub(super) struct Exchange {
    /// A head, if there is one, and the payload behind it.
    sent: Vec<u8>,
    payload: usize,
    received: Vec<u8>,
    serial: u64,
    form: Form,
}

/// What the bytes travel as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Bytes,
    /// POST requests on a connection that is kept alive.
    Http,
}

impl From<bool> for Form {
    fn from(http: bool) -> Self {
        if http { Self::Http } else { Self::Bytes }
    }
}

impl Exchange {
    /// Exchanges of `bytes` bytes; the numbers of different connections must differ.
    pub(super) fn new(form: Form, bytes: usize, number: u64) -> Self {
        let mut sent = match form {
            Form::Bytes => Vec::new(),
            Form::Http => format!(
                "POST /bench HTTP/1.1\r\nhost: bench\r\nuser-agent: weft-bench\r\naccept: */*\r\n\
                 content-type: application/octet-stream\r\ncontent-length: {bytes}\r\n\r\n"
            )
            .into_bytes(),
        };
        let payload = sent.len();
        sent.extend((0..bytes).map(|at| u8::try_from(at % 251).unwrap_or_default()));
        Self { sent, payload, received: Vec::new(), serial: number << 32, form }
    }

    /// Sends and reads the same back.
    pub(super) async fn run(&mut self, stream: &mut TcpStream) -> Result<(), Failure> {
        self.serial += 1;
        let mark = self.serial.to_be_bytes();
        let payload = &mut self.sent[self.payload..];
        let marked = mark.len().min(payload.len());
        payload[..marked].copy_from_slice(&mark[mark.len() - marked..]);
        stream.write_all(&self.sent).await.map_err(Failure::of_system(Step::Send))?;
        match self.form {
            Form::Bytes => self.read_bytes(stream).await,
            Form::Http => self.read_answer(stream).await,
        }
    }

    async fn read_bytes(&mut self, stream: &mut TcpStream) -> Result<(), Failure> {
        self.received.resize(self.sent.len(), 0);
        stream.read_exact(&mut self.received).await.map_err(Failure::of_system(Step::Answer))?;
        if self.received == self.sent { Ok(()) } else { Err(Failure::changed()) }
    }

    async fn read_answer(&mut self, stream: &mut TcpStream) -> Result<(), Failure> {
        let read = message::read(stream, &mut self.received).await.map_err(Failure::of_system(Step::Answer))?;
        let message = read.ok_or_else(Failure::changed)?;
        let start = &self.received[message.start];
        if !start.starts_with(GOOD) {
            return Err(Failure::refused(&String::from_utf8_lossy(start)));
        }
        if self.received[message.body] == self.sent[self.payload..] { Ok(()) } else { Err(Failure::changed()) }
    }

    /// Bytes of the payload, both ways.
    pub(super) fn bytes(&self) -> u64 {
        2 * (self.sent.len() - self.payload) as u64
    }
}
