//! A connection of HTTP/2 as the engine reads and writes it, with the bounds that the engine does not keep.
//!
//! Invariant: what was not ended in order is reset when it is dropped, so no peer takes a failure for an end. Bounded are
//! bytes that the peer does not take, silence, and floods of frames. A quiet connection is none of these.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::meter::{End, Meter};
use crate::http::engine::alarm::{Alarm, Owed};
use crate::limits;
use crate::node::socket::OverTcp;

pub struct Guarded<S: OverTcp> {
    stream: S,
    meter: Meter,
    alarm: Alarm,
    /// Since when the peer takes no bytes.
    blocked: Option<Instant>,
    ending: Ending,
    /// The peer's settings have come.
    settled: Rc<Cell<bool>>,
}

enum Ending {
    Open,
    /// This side has ended its sending, and lets the peer read that.
    Lingering {
        until: Pin<Box<Sleep>>,
        room: usize,
    },
    InOrder,
}

impl<S: OverTcp> Guarded<S> {
    pub fn new(stream: S, end: End) -> Self {
        stream.acknowledge_within(Some(limits::ACKNOWLEDGE));
        let settled = Rc::default();
        Self { stream, meter: Meter::new(end), alarm: Alarm::new(), blocked: None, ending: Ending::Open, settled }
    }

    /// Whether the peer's settings have come; the engine has read them when it has been polled after that.
    pub fn settled(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.settled)
    }

    /// Ready: a bound is exceeded, which the error names.
    fn poll_overdue(&mut self, task: &mut Context<'_>) -> Poll<io::Error> {
        self.alarm.poll(task, self.blocked.map(|since| (Owed::Reading, since)))
    }

    fn wrote<T>(&mut self, task: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.alarm.moved();
            self.blocked = None;
            return result;
        }
        self.blocked.get_or_insert_with(Instant::now);
        self.poll_overdue(task).map(Err)
    }
}

impl<S: OverTcp> Drop for Guarded<S> {
    fn drop(&mut self) {
        if matches!(self.ending, Ending::Open) {
            self.stream.reset_on_close();
        }
    }
}

/// Reads on for a moment after the end was said. Bytes that nobody has read turn a close into a reset, which would take the
/// last answer away from a peer that is still sending.
fn poll_linger(
    stream: &mut (impl AsyncRead + Unpin),
    task: &mut Context<'_>,
    until: &mut Pin<Box<Sleep>>,
    room: &mut usize,
) -> Poll<()> {
    let mut ignored = [0; 4096];
    loop {
        let mut target = ReadBuf::new(&mut ignored);
        match Pin::new(&mut *stream).poll_read(task, &mut target) {
            Poll::Ready(Ok(())) if !target.filled().is_empty() && target.filled().len() <= *room => {
                *room -= target.filled().len();
            }
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => return until.as_mut().poll(task),
        }
    }
}

impl<S: OverTcp + AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let before = buffer.filled().len();
        if Pin::new(&mut me.stream).poll_read(task, buffer)?.is_pending() {
            return me.poll_overdue(task).map(Err);
        }
        me.alarm.moved();
        let met = me.meter.received(&buffer.filled()[before..]);
        if me.meter.has_settings() {
            me.settled.set(true);
        }
        Poll::Ready(met.map_err(|_| {
            io::Error::new(io::ErrorKind::QuotaExceeded, "a flood of frames without a request or an answer")
        }))
    }
}

impl<S: OverTcp + AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        let written = Pin::new(&mut me.stream).poll_write(task, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            me.meter.sent(&bytes[..*count]);
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
        if let Poll::Ready(Ok(count)) = &written {
            let mut left = *count;
            for slice in slices {
                let taken = left.min(slice.len());
                me.meter.sent(&slice[..taken]);
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
        if matches!(me.ending, Ending::Open) {
            let ended = Pin::new(&mut me.stream).poll_shutdown(task);
            ready!(me.wrote(task, ended))?;
            let until = Box::pin(sleep(limits::LINGER));
            me.ending = Ending::Lingering { until, room: limits::LINGER_BYTES };
        }
        if let Ending::Lingering { until, room } = &mut me.ending {
            ready!(poll_linger(&mut me.stream, task, until, room));
            me.ending = Ending::InOrder;
        }
        Poll::Ready(Ok(()))
    }
}
