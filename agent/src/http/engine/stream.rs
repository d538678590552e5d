//! A connection as the engine reads and writes it, with the bounds that the engine does not keep.
//!
//! Invariant: what was not ended in order is reset when it is dropped, so no peer takes a failure for an end. Bounded in time
//! are a head that has begun, a body whose length was announced, bytes that the peer does not take, and silence. A quiet
//! connection is none of these.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::meter::{End, Meter};
use super::watch::{Phase, Watch};
use crate::limits;
use crate::node::socket::OverTcp;

pub struct Guarded<S: OverTcp> {
    stream: S,
    watch: Watch,
    meter: Option<Meter>,
    /// Runs to the earliest of what is bounded now, or to the next look whether anything has moved.
    alarm: Pin<Box<Sleep>>,
    /// The next look, and whether anything has moved since the last one.
    look_at: Instant,
    moved: bool,
    /// Since when the rest of a body that was announced is waited for, and since when the peer takes no bytes.
    stalled: Option<Instant>,
    blocked: Option<Instant>,
    /// The peer has ended its sending, and the engine was not told yet.
    held_end: bool,
    tunnel: bool,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Head,
    Body,
    Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// This side has ended its sending, and lets the peer read that.
    Lingering {
        until: Instant,
        room: usize,
    },
    InOrder,
}

impl<S: OverTcp> Guarded<S> {
    /// A connection of HTTP/1, on either side.
    pub fn http1(stream: S, watch: Watch) -> Self {
        Self::new(stream, watch, None)
    }

    pub fn http2(stream: S, end: End) -> Self {
        Self::new(stream, Watch::default(), Some(Meter::new(end)))
    }

    fn new(stream: S, watch: Watch, meter: Option<Meter>) -> Self {
        stream.acknowledge_within(Some(limits::ACKNOWLEDGE));
        let look_at = Instant::now() + limits::IDLE_TIMEOUT;
        Self {
            stream,
            watch,
            meter,
            alarm: Box::pin(sleep_until(look_at)),
            look_at,
            moved: false,
            stalled: None,
            blocked: None,
            held_end: false,
            tunnel: false,
            ending: Ending::Open,
        }
    }

    /// What the peer owes, and since when.
    fn owed(&mut self) -> Option<(Owed, Instant)> {
        if self.blocked.is_some() || self.meter.is_some() {
            return self.blocked.map(|since| (Owed::Reading, since));
        }
        if let Some(since) = self.watch.waits_for_head() {
            return Some((Owed::Head, since));
        }
        if self.watch.lacks_announced() {
            return Some((Owed::Body, *self.stalled.get_or_insert_with(Instant::now)));
        }
        self.stalled = None;
        None
    }

    /// Ready: a bound is exceeded, which the error names.
    fn poll_alarm(&mut self, task: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let owed = self.owed();
            let due = owed.map_or(self.look_at, |(owed, since)| self.look_at.min(since + owed.limit()));
            // An alarm that is too early costs one look; moving it at every turn would cost more.
            if due < self.alarm.deadline() || self.alarm.is_elapsed() {
                self.alarm.as_mut().reset(due);
            }
            ready!(self.alarm.as_mut().poll(task));
            let now = Instant::now();
            if let Some((owed, since)) = owed
                && now >= since + owed.limit()
            {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, owed.text()));
            }
            if now >= self.look_at {
                if !self.moved {
                    return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "nothing has moved for long"));
                }
                self.moved = false;
                self.look_at = now + limits::IDLE_TIMEOUT;
            }
        }
    }

    fn came(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.moved = true;
        self.stalled = None;
        if let Some(meter) = &mut self.meter {
            return meter.received(bytes).map_err(|_| {
                io::Error::new(io::ErrorKind::QuotaExceeded, "a flood of frames without a request or an answer")
            });
        }
        self.watch.came(bytes);
        Ok(())
    }

    /// A tunnel rests for as long as its two ends like, however little one of them reads.
    fn note_tunnel(&mut self) {
        if !self.tunnel && self.meter.is_none() && self.watch.phase() == Phase::Tunnel {
            self.tunnel = true;
            self.blocked = None;
            self.stream.acknowledge_within(None);
        }
    }

    fn wrote<T>(&mut self, task: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.moved = true;
            self.blocked = None;
            return result;
        }
        self.note_tunnel();
        if !self.tunnel {
            self.blocked.get_or_insert_with(Instant::now);
        }
        self.poll_alarm(task).map(Err)
    }
}

impl Owed {
    const fn limit(self) -> Duration {
        match self {
            Self::Head => limits::HTTP1_HEAD,
            Self::Body => limits::HTTP1_BODY_STALL,
            Self::Reading => limits::WRITE_STALL,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Head => "the head of a request did not come whole in time",
            Self::Body => "the rest of a body whose length was announced does not come",
            Self::Reading => "the peer takes no more bytes",
        }
    }
}

impl<S: OverTcp> Drop for Guarded<S> {
    fn drop(&mut self) {
        if self.ending == Ending::Open {
            self.stream.reset_on_close();
        }
    }
}

impl<S: OverTcp + AsyncRead + Unpin> Guarded<S> {
    fn poll_held_end(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.holds_end(task) {
            return self.poll_alarm(task).map(Err);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads on for a moment after the end was said. Bytes that nobody has read turn a close into a reset, which would take
    /// the last answer away from a peer that is still sending (RFC 9112, section 9.6).
    fn poll_linger(&mut self, task: &mut Context<'_>, until: Instant, mut room: usize) -> Poll<()> {
        let mut ignored = [0; 4096];
        loop {
            let mut target = ReadBuf::new(&mut ignored);
            match Pin::new(&mut self.stream).poll_read(task, &mut target) {
                Poll::Ready(Ok(())) if !target.filled().is_empty() && target.filled().len() <= room => {
                    room -= target.filled().len();
                    self.ending = Ending::Lingering { until, room };
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if self.alarm.deadline() != until {
            self.alarm.as_mut().reset(until);
        }
        self.alarm.as_mut().poll(task)
    }
}

impl<S: OverTcp + AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.held_end {
            return me.poll_held_end(task);
        }
        let before = buffer.filled().len();
        let asked = buffer.remaining();
        if Pin::new(&mut me.stream).poll_read(task, buffer)?.is_pending() {
            me.note_tunnel();
            return me.poll_alarm(task).map(Err);
        }
        let read = &buffer.filled()[before..];
        if read.is_empty() && asked > 0 && me.meter.is_none() {
            me.held_end = true;
            me.watch.ended();
            return me.poll_held_end(task);
        }
        Poll::Ready(me.came(read))
    }
}

impl<S: OverTcp + AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        let written = Pin::new(&mut me.stream).poll_write(task, bytes);
        if let (Some(meter), Poll::Ready(Ok(count))) = (&mut me.meter, &written) {
            meter.sent(&bytes[..*count]);
        }
        me.wrote(task, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        let written = Pin::new(&mut me.stream).poll_write_vectored(task, slices);
        if let (Some(meter), Poll::Ready(Ok(count))) = (&mut me.meter, &written) {
            let mut left = *count;
            for slice in slices {
                let taken = left.min(slice.len());
                meter.sent(&slice[..taken]);
                left -= taken;
            }
        }
        me.wrote(task, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let flushed = Pin::new(&mut me.stream).poll_flush(task);
        if let Poll::Ready(Ok(())) = flushed {
            me.blocked = None;
            return flushed;
        }
        me.wrote(task, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.ending == Ending::Open {
            if me.watch.is_abandoned() {
                // It is dropped next, which resets it.
                return Poll::Ready(Ok(()));
            }
            let ended = Pin::new(&mut me.stream).poll_shutdown(task);
            ready!(me.wrote(task, ended))?;
            let lingers = !me.held_end && (me.meter.is_some() || me.watch.leaves_unread());
            me.ending = if lingers {
                Ending::Lingering { until: Instant::now() + limits::LINGER, room: limits::LINGER_BYTES }
            } else {
                Ending::InOrder
            };
        }
        if let Ending::Lingering { until, room } = me.ending {
            ready!(me.poll_linger(task, until, room));
            me.ending = Ending::InOrder;
        }
        Poll::Ready(Ok(()))
    }
}
