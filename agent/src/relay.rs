//! Moves bytes between two streams until both directions have ended.
//!
//! FIN becomes FIN (or `close_notify`), a reset becomes a failure that the caller turns into a reset of
//! the other side. A connection at rest owns no buffer: every read goes through one buffer per worker,
//! and only what a slow reader leaves over is kept, so memory is bounded by one buffer a direction.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{ConnectionError, Reason, Side};
use crate::limits;
use crate::wire::Protocol;

/// What precedes the first payload of the source (see `wire.proto`, undeclared protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstByte {
    /// Bytes as they are.
    AsIs,
    /// This agent is the source's: the tag goes out before the first payload.
    AddTag,
    /// This agent is the destination's: the first byte is the tag.
    TakeTag,
}

/// The tag for bytes that nobody parses.
const TAG_OPAQUE: u8 = match Protocol::Opaque.tag() {
    Some(tag) => tag,
    None => 0,
};

/// Payload bytes moved so far, without tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    pub to_upstream: u64,
    pub to_downstream: u64,
}

#[derive(Debug)]
pub enum End {
    /// Both directions ended by FIN.
    Completed,
    DownstreamFailed(io::Error),
    UpstreamFailed(io::Error),
    /// Nothing moved for `limits::IDLE_TIMEOUT`.
    Idle,
    /// Ended from outside, for this reason.
    Cut(Reason),
}

impl End {
    /// What the caller has to say of it.
    pub fn into_result(self) -> Result<(), ConnectionError> {
        let failed =
            |side, reason, error: io::Error| Err(ConnectionError::new(side, reason).with_detail(error.to_string()));
        match self {
            Self::Completed => Ok(()),
            Self::DownstreamFailed(error) => failed(Side::Downstream, Reason::DownstreamReset, error),
            Self::UpstreamFailed(error) => failed(Side::Upstream, Reason::UpstreamReset, error),
            Self::Idle => Err(ConnectionError::new(Side::Local, Reason::IdleTimeout)),
            Self::Cut(reason) => Err(ConnectionError::new(Side::Local, reason)),
        }
    }
}

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; limits::RELAY_BUFFER].into_boxed_slice());
}

/// Relays until both directions have ended, one side failed or `cut` is ready. The streams are left for the caller to
/// close or reset.
pub async fn relay<D, U>(
    downstream: &mut D,
    upstream: &mut U,
    first: FirstByte,
    cut: impl Future<Output = Reason>,
) -> (Moved, End)
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut forward = Direction::new(first);
    let mut backward = Direction::new(FirstByte::AsIs);
    let mut idle = Box::pin(sleep_until(Instant::now() + limits::IDLE_TIMEOUT));
    let mut rested_at = Moved::default();
    tokio::pin!(cut);
    let mut refused = None;
    let end = poll_fn(|context| {
        let to_upstream = forward.poll(context, downstream, upstream);
        let to_downstream = backward.poll(context, upstream, downstream);
        let both = to_upstream.is_ready() && to_downstream.is_ready();
        for (progress, flow) in [(to_upstream, Flow::Forward), (to_downstream, Flow::Backward)] {
            match progress {
                Poll::Ready(Err(failure @ Failure::Reading(_))) => {
                    return Poll::Ready(refused.take().unwrap_or_else(|| failure.into_end(flow)));
                }
                // Who takes no more bytes may have said its last word before (an early refusal of an upload): that
                // still arrives, so the other direction goes on to its end.
                Poll::Ready(Err(failure @ Failure::Writing(_))) => {
                    refused.get_or_insert_with(|| failure.into_end(flow));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        if both {
            // After a refusal the other direction ended in order: what was said last has been passed on.
            return Poll::Ready(End::Completed);
        }
        if let Poll::Ready(reason) = cut.as_mut().poll(context) {
            return Poll::Ready(End::Cut(reason));
        }
        let moved = Moved { to_upstream: forward.moved, to_downstream: backward.moved };
        poll_idle(context, idle.as_mut(), &mut rested_at, moved)
    })
    .await;
    (Moved { to_upstream: forward.moved, to_downstream: backward.moved }, end)
}

/// The timer runs to its end and looks then whether anything moved, so that moving bytes never touches it.
fn poll_idle(context: &mut Context<'_>, mut idle: Pin<&mut Sleep>, rested_at: &mut Moved, moved: Moved) -> Poll<End> {
    while idle.as_mut().poll(context).is_ready() {
        if *rested_at == moved {
            return Poll::Ready(End::Idle);
        }
        *rested_at = moved;
        idle.as_mut().reset(Instant::now() + limits::IDLE_TIMEOUT);
    }
    Poll::Pending
}

#[derive(Debug, Clone, Copy)]
enum Flow {
    Forward,
    Backward,
}

/// Which end of a direction failed.
enum Failure {
    Reading(io::Error),
    Writing(io::Error),
}

impl Failure {
    fn into_end(self, flow: Flow) -> End {
        match (self, flow) {
            (Self::Reading(error), Flow::Forward) | (Self::Writing(error), Flow::Backward) => {
                End::DownstreamFailed(error)
            }
            (Self::Writing(error), Flow::Forward) | (Self::Reading(error), Flow::Backward) => {
                End::UpstreamFailed(error)
            }
        }
    }
}

struct Direction {
    first: FirstByte,
    /// Read, but not yet taken by the writer; empty and without memory while the writer keeps up.
    unsent: Vec<u8>,
    sent: usize,
    moved: u64,
    source_ended: bool,
    unflushed: bool,
    closed: bool,
}

/// Reads taken in one poll before other connections of the worker get their turn.
const READS_PER_TURN: usize = 8;

impl Direction {
    fn new(first: FirstByte) -> Self {
        Self { first, unsent: Vec::new(), sent: 0, moved: 0, source_ended: false, unflushed: false, closed: false }
    }

    fn poll<R, W>(&mut self, context: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        let progress = self.poll_open(context, reader, writer);
        if progress.is_ready() {
            self.closed = true;
        }
        progress
    }

    fn poll_open<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..READS_PER_TURN {
            ready!(self.poll_unsent(context, writer)).map_err(Failure::Writing)?;
            if self.source_ended {
                ready!(Pin::new(&mut *writer).poll_shutdown(context)).map_err(Failure::Writing)?;
                return Poll::Ready(Ok(()));
            }
            let read = BUFFER.with_borrow_mut(|buffer| self.poll_move(context, reader, writer, buffer));
            match read {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(context)).map_err(Failure::Writing)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read, and as much of it written as the writer takes now.
    fn poll_move<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // Room for the tag in front, so that tag and payload leave in one write.
        let (tag, room) = buffer.split_at_mut(1);
        let mut target = ReadBuf::new(room);
        ready!(Pin::new(reader).poll_read(context, &mut target)).map_err(Failure::Reading)?;
        let length = target.filled().len();
        if length == 0 {
            self.source_ended = true;
            return Poll::Ready(Ok(()));
        }
        let payload = match std::mem::replace(&mut self.first, FirstByte::AsIs) {
            FirstByte::AsIs => &buffer[1..=length],
            FirstByte::AddTag => {
                tag[0] = TAG_OPAQUE;
                &buffer[..=length]
            }
            FirstByte::TakeTag if Protocol::of_tag(room[0]).is_some() => &buffer[2..=length],
            FirstByte::TakeTag => {
                let unknown = io::Error::new(io::ErrorKind::InvalidData, "the peer's protocol tag is unknown");
                return Poll::Ready(Err(Failure::Reading(unknown)));
            }
        };
        self.moved += payload.len() as u64;
        let mut written = 0;
        while written < payload.len() {
            match Pin::new(&mut *writer).poll_write(context, &payload[written..]).map_err(Failure::Writing)? {
                Poll::Ready(0) => return Poll::Ready(Err(Failure::Writing(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(count) => written += count,
                Poll::Pending => {
                    self.unsent = payload[written..].to_vec();
                    self.sent = 0;
                    break;
                }
            }
        }
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_unsent<W>(&mut self, context: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while self.sent < self.unsent.len() {
            match ready!(Pin::new(&mut *writer).poll_write(context, &self.unsent[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        if !self.unsent.is_empty() {
            self.unsent = Vec::new();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Relays between two in-memory pipes, the outer ends of which a test holds.
    async fn relayed<F>(
        first: FirstByte,
        capacity: usize,
        test: impl FnOnce(tokio::io::DuplexStream, tokio::io::DuplexStream) -> F,
    ) where
        F: Future<Output = ()>,
    {
        let (client, mut downstream) = duplex(capacity);
        let (mut upstream, server) = duplex(capacity);
        let carry = async move { relay(&mut downstream, &mut upstream, first, std::future::pending()).await };
        let ((_, end), ()) = tokio::join!(carry, test(client, server));
        assert!(matches!(end, End::Completed), "{end:?}");
    }

    #[tokio::test]
    async fn a_half_close_leaves_the_other_direction_open() {
        relayed(FirstByte::AsIs, 64, |mut client, mut server| async move {
            client.write_all(b"ask").await.unwrap();
            client.shutdown().await.unwrap();
            let mut asked = Vec::new();
            server.read_to_end(&mut asked).await.unwrap();
            assert_eq!(asked, b"ask");
            server.write_all(b"answer").await.unwrap();
            drop(server);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"answer");
        })
        .await;
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order_through_a_slow_reader() {
        let sent: Vec<u8> = (0..500_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        relayed(FirstByte::AsIs, 7, |mut client, mut server| async move {
            let writing = async move {
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
                let mut rest = Vec::new();
                client.read_to_end(&mut rest).await.unwrap();
            };
            let reading = async move {
                let mut received = Vec::new();
                server.read_to_end(&mut received).await.unwrap();
                assert!(received == expected);
            };
            tokio::join!(writing, reading);
        })
        .await;
    }

    #[tokio::test]
    async fn the_tag_goes_with_the_first_payload_only() {
        relayed(FirstByte::AddTag, 64, |mut client, mut server| async move {
            client.write_all(b"one").await.unwrap();
            let mut first = [0; 4];
            server.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"\0one");
            client.write_all(b"two").await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"two");
        })
        .await;
    }

    #[tokio::test]
    async fn a_source_that_says_nothing_sends_no_tag() {
        relayed(FirstByte::AddTag, 64, |mut client, mut server| async move {
            client.shutdown().await.unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            assert!(received.is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn the_tag_is_taken_off_even_when_it_comes_alone() {
        relayed(FirstByte::TakeTag, 64, |mut client, mut server| async move {
            client.write_all(&[TAG_OPAQUE]).await.unwrap();
            client.flush().await.unwrap();
            server.write_all(b"early").await.unwrap();
            let mut early = [0; 5];
            client.read_exact(&mut early).await.unwrap();
            client.write_all(b"late").await.unwrap();
            client.shutdown().await.unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"late");
        })
        .await;
    }

    /// A server that answers and closes while the client still sends.
    #[tokio::test]
    async fn an_answer_given_before_the_upload_was_read_still_arrives() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut client, mut downstream) = duplex(1 << 20);
        let dialled = tokio::net::TcpStream::connect(address);
        let (upstream, accepted) = tokio::join!(dialled, listener.accept());
        let (mut upstream, (mut server, _)) = (upstream.unwrap(), accepted.unwrap());
        let serving = async move {
            let mut head = [0; 4];
            server.read_exact(&mut head).await.unwrap();
            server.write_all(b"413").await.unwrap();
            // Closing with unread bytes is a reset.
        };
        let sending = async move {
            client.write_all(&vec![7; 1 << 20]).await.unwrap();
            let mut answer = [0; 3];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"413");
        };
        let relaying = relay(&mut downstream, &mut upstream, FirstByte::AsIs, std::future::pending());
        tokio::join!(serving, sending, Box::pin(relaying));
    }

    #[tokio::test]
    async fn an_unknown_tag_ends_the_connection() {
        let (mut client, mut downstream) = duplex(64);
        let (mut upstream, _server) = duplex(64);
        client.write_all(&[99, 1, 2]).await.unwrap();
        let (moved, end) = relay(&mut downstream, &mut upstream, FirstByte::TakeTag, std::future::pending()).await;
        assert!(matches!(end, End::DownstreamFailed(_)), "{end:?}");
        assert_eq!(moved, Moved::default());
    }
}
