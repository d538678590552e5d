//! How a connection of HTTP/1 ends: in order, or as a failure.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;
use tokio::time::timeout;

use super::{Connection, at_once};
use crate::http::engine::Transport;
use crate::limits;

impl Connection {
    /// Ends it in order, where nothing is under way: at once, or not at all.
    pub fn close(&mut self) {
        if let Some(mut stream) = self.take_stream() {
            let ended = at_once(|task| Pin::new(&mut stream).poll_shutdown(task));
            if !matches!(ended, Poll::Ready(Ok(()))) {
                stream.reset_on_close();
            }
        }
    }

    /// The end of the connection, said as a failure.
    pub fn abandon(&mut self) {
        if let Some(stream) = self.take_stream() {
            stream.reset_on_close();
        }
    }

    /// Its tasks find out: the stream wakes nobody when it goes.
    pub(super) fn take_stream(&mut self) -> Option<Box<dyn Transport>> {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        self.stream.take()
    }

    fn poll_shutdown(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(task))?;
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        if let Poll::Ready(ended) = Pin::new(stream).poll_shutdown(task) {
            return Poll::Ready(ended);
        }
        self.poll_blocked(task).map(Err)
    }

    fn is_still_sent_to(&mut self, unread: bool) -> bool {
        if self.has_read_all() && !self.is_ended {
            // What waits in the kernel counts too. An error is found out by whoever lingers.
            let _ = at_once(|task| self.poll_fill(task, None));
        }
        !self.is_ended && (unread || !self.has_read_all())
    }

    fn poll_linger(&mut self, task: &mut Context<'_>, room: &mut usize) -> Poll<()> {
        loop {
            self.input.clear();
            if !matches!(ready!(self.poll_fill(task, None)), Ok(true)) || self.input.len() > *room {
                return Poll::Ready(());
            }
            *room -= self.input.len();
        }
    }
}

/// Ends the sending, and reads on for a moment where the peer is still sending. Bytes that nobody has read turn a close into
/// a reset, which would take the last answer away (RFC 9112, section 9.6).
///
/// `unread`: nobody knows how much more the peer has to say.
pub async fn end(connection: &RefCell<Connection>, unread: bool) -> io::Result<()> {
    poll_fn(|task| connection.borrow_mut().poll_shutdown(task)).await?;
    if connection.borrow_mut().is_still_sent_to(unread) {
        let mut room = limits::LINGER_BYTES;
        let lingering = poll_fn(|task| connection.borrow_mut().poll_linger(task, &mut room));
        // What comes later is not waited for.
        let _ = timeout(limits::LINGER, lingering).await;
    }
    drop(connection.borrow_mut().take_stream());
    Ok(())
}
