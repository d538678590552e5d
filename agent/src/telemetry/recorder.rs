//! The one thread that writes, counts and keeps records.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Instant;

use super::access_log::{AccessLog, AccessLogTarget};
use super::names::Names;
use super::series::SeriesBudgets;
use super::{ConnectionRecord, Ejected, PlaintextCall, RequestRecord, Telemetry};
use crate::limits;

#[derive(Debug)]
pub(super) enum Message {
    /// Boxed: the queue's slots are made at start, and eight thousand whole records would be megabytes of an idle agent.
    Record(Box<ConnectionRecord>),
    Request(Box<RequestRecord>),
    Ejected(Box<Ejected>),
    Plaintext(Box<PlaintextCall>),
    Stop,
}

/// Owns the thread. Dropping it without [`Recorder::finish`] leaves the last records unwritten.
#[derive(Debug)]
pub struct Recorder {
    thread: JoinHandle<()>,
    queue: SyncSender<Message>,
}

impl Recorder {
    pub(super) fn start(
        target: &AccessLogTarget,
        telemetry: Telemetry,
        arrivals: Receiver<Message>,
        queue: SyncSender<Message>,
    ) -> io::Result<Self> {
        let mut log = AccessLog::open(target)?;
        let thread = Builder::new().name("weft-records".to_owned()).spawn(move || {
            give_way();
            let mut budgets = SeriesBudgets::new();
            let mut names = Names::default();
            while let Some(batch) = next_batch(&arrivals, &mut names) {
                settle(&telemetry, &mut log, &mut budgets, &batch);
                telemetry.show(&batch.requests);
                let last = batch.last;
                telemetry.keep(batch);
                if last {
                    return;
                }
            }
        })?;
        Ok(Self { thread, queue })
    }

    /// Writes what was recorded until now and ends the thread. Waits for the disk: not for a worker thread.
    pub fn finish(self) {
        // A queue whose receiver is gone belongs to a thread that has ended already.
        let _ = self.queue.send(Message::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that writes records had panicked");
        }
    }
}

/// A worker that has something to carry goes first. Linux keeps this for each thread; where it is refused, nothing is lost.
fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, limits::RECORDER_NICENESS) {
        tracing::debug!(%error, "the thread that writes records keeps the workers' priority");
    }
}

#[derive(Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Arc<ConnectionRecord>>,
    pub(super) requests: Vec<Arc<RequestRecord>>,
    pub(super) ejected: Vec<Ejected>,
    pub(super) plaintext: Vec<PlaintextCall>,
    last: bool,
}

/// Waits for a record, then lets a burst gather, so that workers wake this thread once for all of them.
fn next_batch(arrivals: &Receiver<Message>, names: &mut Names) -> Option<Batch> {
    let mut batch = Batch::default();
    batch.take(arrivals.recv().ok()?, names);
    if !batch.last {
        sleep(limits::RECORD_BATCH);
    }
    while batch.len() < limits::ACCESS_LOG_QUEUE {
        match arrivals.try_recv() {
            Ok(message) => batch.take(message, names),
            Err(_) => break,
        }
    }
    Some(batch)
}

impl Batch {
    fn len(&self) -> usize {
        self.records.len() + self.requests.len() + self.ejected.len() + self.plaintext.len()
    }

    fn take(&mut self, message: Message, names: &mut Names) {
        match message {
            Message::Record(mut record) => {
                record.bounded();
                names.settle(&mut record);
                self.records.push(Arc::from(record));
            }
            Message::Request(mut request) => {
                request.bounded();
                names.settle_request(&mut request);
                self.requests.push(Arc::from(request));
            }
            Message::Ejected(ejected) => self.ejected.push(*ejected),
            Message::Plaintext(call) => self.plaintext.push(*call),
            Message::Stop => self.last = true,
        }
    }
}

fn settle(telemetry: &Telemetry, log: &mut AccessLog, budgets: &mut SeriesBudgets, batch: &Batch) {
    let now = Instant::now();
    for record in &batch.records {
        telemetry.metrics().closed(record, budgets, now);
    }
    telemetry.metrics().answered(batch.requests.iter().map(AsRef::as_ref), budgets, now);
    let written = log.write(&batch.records).and_then(|()| log.write(&batch.requests));
    if let Err(error) = written {
        let records = batch.records.len() + batch.requests.len();
        telemetry.metrics().access_log_failed(records);
        tracing::warn!(%error, records, "the access log cannot be written");
    }
}
