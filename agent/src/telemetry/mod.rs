//! What the agent tells about connections and requests: access log, metrics, and the records that `weft why` reads.
//!
//! Workers hand over one [`ConnectionRecord`] per ended connection and never wait: the queue is bounded,
//! what does not fit is counted and dropped. One thread of its own writes, counts and keeps. No label and
//! no log field is longer than its bound; nothing that a client sends becomes a label.

mod access_log;
mod account;
mod attempt;
mod callers;
mod ejected;
mod filter;
mod kept;
mod logs;
mod metrics;
mod names;
mod node_metrics;
mod record;
mod recorder;
mod request;
mod series;
mod tap;

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use access_log::AccessLogTarget;
pub use account::Account;
pub use attempt::FailedAttempt;
pub use callers::{Calls, PlaintextCall};
pub use ejected::Ejected;
pub use filter::{RecordFilter, RequestFilter, WantedStatus};
pub use logs::{LogError, start_logs};
pub use record::{ConnectionId, ConnectionRecord, Direction, Party, Security, Verdict};
pub use recorder::Recorder;
pub use request::RequestRecord;
pub use tap::{Sample, Tap, Tapped};

pub(crate) use record::namespace_of;

use crate::admin::NodeView;
use crate::limits;
use callers::Callers;
use ejected::EjectedKept;
use jiff::Timestamp;
use kept::Kept;
use metrics::Metrics;
use recorder::{Batch, Message};
use tap::Taps;

/// The handle that journeys report through. Cheap to clone, callable from any thread.
#[derive(Debug, Clone)]
pub struct Telemetry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: SyncSender<Message>,
    metrics: Metrics,
    kept: Mutex<Kept>,
    ejected: Mutex<EjectedKept>,
    callers: Mutex<Callers>,
    taps: Mutex<Taps>,
}

impl Shared {
    fn new(queue: SyncSender<Message>) -> Self {
        Self {
            queue,
            metrics: Metrics::new(),
            kept: Mutex::default(),
            ejected: Mutex::default(),
            callers: Mutex::new(Callers::new(Timestamp::now())),
            taps: Mutex::default(),
        }
    }
}

impl Telemetry {
    /// Opens the access log and starts the thread that writes. The recorder ends with [`Recorder::finish`].
    ///
    /// # Errors
    /// The access log cannot be opened, or no thread can be started.
    pub fn start(access_log: &AccessLogTarget) -> std::io::Result<(Self, Recorder)> {
        let (queue, arrivals) = sync_channel(limits::ACCESS_LOG_QUEUE);
        let shared = Shared::new(queue.clone());
        let telemetry = Self { shared: Arc::new(shared) };
        let recorder = Recorder::start(access_log, telemetry.clone(), arrivals, queue)?;
        Ok((telemetry, recorder))
    }

    /// Counts a connection as open until the answer is dropped.
    pub fn opened(&self, direction: Direction) -> OpenConnection {
        self.shared.metrics.opened(direction);
        OpenConnection { shared: Arc::clone(&self.shared), direction }
    }

    /// Connections that were ever opened, and those that still are.
    #[must_use]
    pub fn connections(&self) -> (u64, i64) {
        self.shared.metrics.connections()
    }

    /// Takes the record of an ended connection. Never waits: a record that finds the queue full is counted and dropped.
    pub fn record(&self, record: ConnectionRecord) {
        if self.shared.queue.try_send(Message::Record(Box::new(record))).is_err() {
            self.shared.metrics.record_dropped();
        }
    }

    /// Takes the record of an ended request, as [`Self::record`] does.
    pub fn request(&self, record: Box<RequestRecord>) {
        if self.shared.queue.try_send(Message::Request(record)).is_err() {
            self.shared.metrics.record_dropped();
        }
    }

    /// Takes the word of a worker that plaintext was let in, as [`Self::record`] does.
    pub fn plaintext(&self, call: PlaintextCall) {
        if self.shared.queue.try_send(Message::Plaintext(Box::new(call))).is_err() {
            self.shared.metrics.record_dropped();
        }
    }

    /// Takes the word of a worker that an endpoint gets nothing for a while, as [`Self::record`] does.
    pub fn ejected(&self, ejected: Ejected) {
        if self.shared.queue.try_send(Message::Ejected(Box::new(ejected))).is_err() {
            self.shared.metrics.record_dropped();
        }
    }

    /// Kept records that fit the filter, newest first.
    #[must_use]
    pub fn records(&self, filter: &RecordFilter) -> Vec<Arc<ConnectionRecord>> {
        locked(&self.shared.kept).find(filter)
    }

    /// Kept records of requests that fit the filter, newest first.
    #[must_use]
    pub fn requests(&self, filter: &RequestFilter) -> Vec<Arc<RequestRecord>> {
        locked(&self.shared.kept).find_requests(filter)
    }

    /// Who has spoken plaintext to this node's captured pods, and since when that is known.
    #[must_use]
    pub fn plaintext_calls(&self) -> (Timestamp, Vec<(PlaintextCall, Calls)>) {
        locked(&self.shared.callers).known()
    }

    /// Endpoints that some worker sends nothing to now.
    #[must_use]
    pub fn ejected_now(&self, now: Timestamp) -> Vec<Ejected> {
        locked(&self.shared.ejected).now(now)
    }

    /// Every request that fits, from now on, as it ends. None: as many look on already as may.
    #[must_use]
    pub fn tap(&self, filter: RequestFilter, sample: Sample, per_second: u32) -> Option<Tap> {
        locked(&self.shared.taps).open(filter, sample, per_second)
    }

    /// Everything counted, in the Prometheus text format (`OpenMetrics` 1.0).
    #[must_use]
    pub fn metrics_text(&self, view: &NodeView) -> String {
        let mut text = self.shared.metrics.text();
        node_metrics::append(&mut text, view);
        text
    }

    fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    fn keep(&self, batch: Batch) {
        locked(&self.shared.kept).extend(batch.records, batch.requests);
        if !batch.ejected.is_empty() {
            let mut kept = locked(&self.shared.ejected);
            for ejected in batch.ejected {
                kept.keep(ejected);
            }
        }
        if !batch.plaintext.is_empty() {
            let (mut callers, now) = (locked(&self.shared.callers), Timestamp::now());
            for call in batch.plaintext {
                callers.add(call, now);
            }
        }
    }

    fn show(&self, requests: &[Arc<RequestRecord>]) {
        locked(&self.shared.taps).show(requests, Instant::now());
    }
}

/// Held by the thread that keeps records and by those who ask; never by a worker.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open connection in the gauge of active ones.
#[derive(Debug)]
#[must_use = "the connection counts as open only as long as this lives"]
pub struct OpenConnection {
    shared: Arc<Shared>,
    direction: Direction,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.metrics.ended(self.direction);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{ConnectionError, Reason, Side};
    use crate::model::SnapshotVersion;

    fn ended(direction: Direction, reason: Reason) -> ConnectionRecord {
        let mut record = ConnectionRecord::begin(direction, SnapshotVersion("v".into()));
        record.security = Security::Mtls;
        record.connect = Some(Duration::from_millis(2));
        record.bytes_sent = 100;
        if reason != Reason::Completed {
            record.fail(&ConnectionError::new(Side::Local, reason));
        }
        record
    }

    #[test]
    fn a_connection_is_logged_counted_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (telemetry, recorder) = Telemetry::start(&AccessLogTarget::File(path.clone())).unwrap();
        let open = telemetry.opened(Direction::Outbound);
        let kept_open = telemetry.opened(Direction::Outbound);
        telemetry.record(ended(Direction::Outbound, Reason::Completed));
        telemetry.record(ended(Direction::Inbound, Reason::DeniedByRule));
        drop(open);
        recorder.finish();

        let log = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[1]["reason"]), (2, &serde_json::json!("denied_by_rule")));
        assert_eq!(telemetry.records(&RecordFilter::default()).len(), 2);

        let text = telemetry.metrics_text(&NodeView::default());
        for line in [
            "weft_connections_opened_total{direction=\"outbound\"} 2",
            "weft_connections_active{direction=\"outbound\"} 1",
            "weft_connections_active{direction=\"inbound\"} 0",
            "security=\"mtls\",verdict=\"allow\",reason=\"completed\"} 1",
            "security=\"mtls\",verdict=\"deny\",reason=\"denied_by_rule\"} 1",
            "weft_connection_connect_seconds_count{direction=\"outbound\"} 1",
            "weft_records_dropped_total 0",
            "weft_ready 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
        drop(kept_open);
    }

    #[test]
    fn a_worker_never_waits_for_a_slow_disk() {
        let (queue, _never_read) = sync_channel(2);
        let telemetry = Telemetry { shared: Arc::new(Shared::new(queue)) };
        for _ in 0..5 {
            telemetry.record(ended(Direction::Outbound, Reason::Completed));
        }
        assert!(telemetry.metrics_text(&NodeView::default()).contains("weft_records_dropped_total 3"));
    }
}
