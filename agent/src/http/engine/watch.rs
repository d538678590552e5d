//! What the two ends of a connection's life know of each other: its stream below the engine, its requests above.
//!
//! The engine tells a stream neither where a message begins nor why it stops reading. So the service says when a request has
//! come whole and when its answer has ended, and the bodies say who waits for whom.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::time::Instant;

/// Shared by a stream, the service or line above it, and the bodies in between, all of one worker's thread.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// When a head that is not whole was first waited for.
    head_since: Option<Instant>,
    /// Bytes have come that belong to no body: after the answer it is the next head that has begun.
    early: bool,
    /// The last bytes that came.
    tail: [u8; 3],
    /// What is to come of the request's body.
    awaited: Awaited,
    /// Somebody has asked for more of the body than had come.
    starved: bool,
    /// What was sent on the connection is of no use any more: its end is no orderly one.
    abandoned: bool,
    /// Of whoever reads the body, once it was starved.
    reader: Option<Waker>,
    /// Of the engine, where it was told nothing of the peer's end.
    waiting: Option<Waker>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of a next request has come.
    #[default]
    Resting,
    /// A part of a head.
    Head,
    /// A request is being worked on.
    Serving,
    /// It is no HTTP any more.
    Tunnel,
    /// This side is the one that asks.
    Asking,
}

/// What is to come of a request's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Awaited {
    #[default]
    Nothing,
    /// As many bytes as were announced.
    Announced,
    /// Nobody knows how many: it may pause for as long as it likes.
    Unknown,
}

impl Watch {
    /// Of a connection that this side sends requests on.
    pub fn asking() -> Self {
        Self(Arc::new(Mutex::new(State { phase: Phase::Asking, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come whole, except for this of its body.
    pub fn request(&self, awaited: Awaited) {
        let mut state = self.state();
        state.phase = Phase::Serving;
        state.head_since = None;
        // A head ends with an empty line. Where the last bytes do not, the next head has begun with them.
        let [third, second, last] = state.tail;
        let ended = last == b'\n' && (second == b'\n' || (second == b'\r' && third == b'\n'));
        (state.early, state.starved, state.awaited) = (awaited == Awaited::Nothing && !ended, false, awaited);
    }

    /// Its answer has been handed to the engine to the end.
    pub fn answered(&self) {
        let mut state = self.state();
        if state.phase == Phase::Serving {
            state.phase = if state.early { Phase::Head } else { Phase::Resting };
        }
        state.wake();
    }

    /// What follows is another protocol.
    pub fn becomes_tunnel(&self) {
        let mut state = self.state();
        state.phase = Phase::Tunnel;
        state.wake();
    }

    /// Whoever reads the request's body has nothing to read.
    pub fn body_starves(&self, task: &Context<'_>) {
        let mut state = self.state();
        state.starved = true;
        state.reader = Some(task.waker().clone());
        state.wake();
    }

    /// The request's body has come whole.
    pub fn body_whole(&self) {
        self.state().awaited = Awaited::Nothing;
    }

    /// Nobody waits for what was asked on this connection: it is reset, not ended.
    pub fn abandon(&self) {
        self.state().abandoned = true;
    }

    pub fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Bytes have come.
    pub fn came(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.starved = false;
        for byte in &bytes[bytes.len().saturating_sub(state.tail.len())..] {
            state.tail.rotate_left(1);
            state.tail[2] = *byte;
        }
        match state.phase {
            // A server skips empty lines before a request (RFC 9112, section 2.2), so they begin none.
            Phase::Resting if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) => {}
            Phase::Resting => state.phase = Phase::Head,
            Phase::Serving => state.early |= state.awaited == Awaited::Nothing,
            Phase::Head | Phase::Tunnel | Phase::Asking => {}
        }
    }

    /// Since when the rest of a head is waited for, if it is.
    pub fn waits_for_head(&self) -> Option<Instant> {
        let mut state = self.state();
        (state.phase == Phase::Head).then(|| *state.head_since.get_or_insert_with(Instant::now))
    }

    /// The peer has stalled in the middle of a body whose length it has announced.
    pub fn lacks_announced(&self) -> bool {
        let state = self.state();
        state.phase == Phase::Serving && state.starved && state.awaited == Awaited::Announced
    }

    /// A part of a request has not been read.
    pub fn leaves_unread(&self) -> bool {
        let state = self.state();
        match state.phase {
            Phase::Head => true,
            Phase::Resting | Phase::Serving => state.awaited != Awaited::Nothing,
            Phase::Tunnel | Phase::Asking => false,
        }
    }

    /// The peer has ended its sending. What was starved may have been fed since from what had come before, so it is asked again.
    pub fn ended(&self) {
        let mut state = self.state();
        state.starved = false;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Whether the engine may not hear yet that the peer has ended its sending: it would take that for a client that has
    /// gone, and give up the request. It is woken when it may.
    pub fn holds_end(&self, task: &Context<'_>) -> bool {
        let mut state = self.state();
        let holds = state.phase == Phase::Serving && !state.starved;
        if holds {
            state.waiting = Some(task.waker().clone());
        }
        holds
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}
