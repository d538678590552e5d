//! Upstream connections at rest, for the next request of the same pod to the same endpoint.
//!
//! Each worker owns one. A line belongs to one source pod for ever: its certificate is that pod's. HTTP/1 lines are taken out
//! for one request, the newest first, so that the others reach their idle bound; HTTP/2 lines stay and are shared.
//! Invariant: nothing rests here once the worker drains. Absent: dialling.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use foldhash::fast::RandomState;
use weft_proto::names::WorkloadUid;

use super::engine::{Line, Version};
use crate::limits;
use crate::model::Endpoint;
use crate::telemetry::{ConnectionRecord, Security};

/// What must be the same for a request to travel on a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LineKey {
    pub pod: WorkloadUid,
    pub endpoint: Endpoint,
    pub version: Version,
    pub security: Security,
    /// Of the pod's credential, in mesh TLS: a renewed one, or another trust, begins with connections of its own, so none
    /// outlives what it was judged by. 0: none.
    pub generation: u64,
}

/// A line, and how it was made.
#[derive(Debug)]
pub struct OpenLine {
    pub line: Line,
    pub made: Rc<ConnectionRecord>,
    /// It has carried a request before: its peer may be closing it at this moment.
    pub reused: bool,
    /// Both agents know that it carries requests, so that each is judged.
    pub declared: bool,
}

#[derive(Debug, Default)]
pub struct Pool {
    lines: HashMap<LineKey, Vec<Resting>, RandomState>,
    count: usize,
    closed: bool,
}

#[derive(Debug)]
struct Resting {
    line: Line,
    made: Rc<ConnectionRecord>,
    since: Instant,
}

impl Pool {
    /// A line that can carry a request now.
    pub fn take(&mut self, key: &LineKey, now: Instant) -> Option<OpenLine> {
        let resting = self.lines.get_mut(key)?;
        let before = resting.len();
        resting.retain(|resting| !resting.line.is_closed());
        let taken = match key.version {
            Version::Http1 => {
                let ready = resting.iter().rposition(|resting| resting.line.under_way() == 0);
                ready.map(|place| resting.remove(place)).map(|resting| (resting.line, resting.made))
            }
            Version::Http2 => {
                let free = |resting: &&mut Resting| resting.line.under_way() < limits::HTTP2_STREAMS as usize;
                resting.iter_mut().find(free).and_then(|resting| {
                    resting.since = now;
                    Some((resting.line.share()?, Rc::clone(&resting.made)))
                })
            }
        };
        self.count -= before - resting.len();
        if resting.is_empty() {
            self.lines.remove(key);
        }
        taken.map(|(line, made)| OpenLine { line, made, reused: true, declared: true })
    }

    /// Keeps a line for the next request, if there is room.
    pub fn put(&mut self, key: LineKey, line: Line, made: Rc<ConnectionRecord>, now: Instant) {
        if self.closed || line.is_closed() {
            return;
        }
        let resting = self.lines.entry(key).or_default();
        if let Some(known) = resting.iter_mut().find(|known| known.line.is_same(&line)) {
            known.since = now;
            return;
        }
        if self.count >= limits::LINES_PER_WORKER {
            return;
        }
        if resting.len() < limits::LINES_PER_ENDPOINT {
            resting.push(Resting { line, made, since: now });
            self.count += 1;
        }
    }

    /// Closes what has rested for too long.
    pub fn sweep(&mut self, now: Instant) {
        self.lines.retain(|_, resting| {
            resting.retain(|resting| {
                let busy = resting.line.under_way() > 0;
                !resting.line.is_closed() && (busy || now.duration_since(resting.since) < limits::LINE_IDLE)
            });
            !resting.is_empty()
        });
        self.count = self.lines.values().map(Vec::len).sum();
    }

    /// Closes everything and keeps nothing from now on.
    pub fn close(&mut self) {
        self.closed = true;
        self.lines.clear();
        self.count = 0;
    }
}
