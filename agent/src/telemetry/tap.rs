//! Requests shown live, as they end.
//!
//! Everything happens on the thread that keeps records: a worker does nothing more whoever looks on. Invariant: nobody is
//! waited for; what a reader was too slow for, or what is beyond its rate, is counted and told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use super::{ConnectionId, RequestFilter, RequestRecord};
use crate::limits;

/// One of so many requests, chosen by their ids: the agents of both sides choose the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample(u64);

impl Sample {
    #[must_use]
    pub const fn one_of(count: u64) -> Self {
        Self(if count == 0 { 1 } else { count })
    }

    fn takes(self, id: ConnectionId) -> bool {
        id.number().is_multiple_of(self.0)
    }
}

/// The reader's end; dropping it ends the tap.
#[derive(Debug)]
pub struct Tap {
    records: Receiver<Arc<RequestRecord>>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
pub enum Tapped {
    Request(Arc<RequestRecord>),
    /// So many that fitted were not shown.
    Lost(u64),
}

impl Tap {
    /// What comes next; what was lost before it is told first. Ready with None when the agent ends.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Tapped>> {
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => self.records.poll_recv(context).map(|record| record.map(Tapped::Request)),
            lost => Poll::Ready(Some(Tapped::Lost(lost))),
        }
    }
}

/// Bound: [`limits::TAPS`].
#[derive(Debug, Default)]
pub(super) struct Taps(Vec<Shown>);

#[derive(Debug)]
struct Shown {
    filter: RequestFilter,
    sample: Sample,
    per_second: u32,
    /// Since when so many have been shown.
    second: Option<(Instant, u32)>,
    records: Sender<Arc<RequestRecord>>,
    lost: Arc<AtomicU64>,
}

impl Taps {
    pub(super) fn open(&mut self, filter: RequestFilter, sample: Sample, per_second: u32) -> Option<Tap> {
        self.0.retain(|shown| !shown.records.is_closed());
        if self.0.len() >= limits::TAPS {
            return None;
        }
        let (sender, records) = channel(limits::TAP_QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let per_second = per_second.min(limits::TAP_RATE);
        self.0.push(Shown { filter, sample, per_second, second: None, records: sender, lost: Arc::clone(&lost) });
        Some(Tap { records, lost })
    }

    pub(super) fn show(&mut self, requests: &[Arc<RequestRecord>], now: Instant) {
        self.0.retain_mut(|shown| {
            let wanted = requests.iter().filter(|record| shown.sample.takes(record.id) && shown.filter.fits(record));
            let wanted: Vec<_> = wanted.map(Arc::clone).collect();
            wanted.into_iter().all(|record| shown.show(record, now)) && !shown.records.is_closed()
        });
    }
}

impl Shown {
    /// False when nobody looks on any more.
    fn show(&mut self, record: Arc<RequestRecord>, now: Instant) -> bool {
        let (since, count) = self.second.filter(|(since, _)| now - *since < Duration::from_secs(1)).unwrap_or((now, 0));
        let sent =
            if count < self.per_second { self.records.try_send(record) } else { Err(TrySendError::Full(record)) };
        self.second = Some((since, count + u32::from(sent.is_ok())));
        if matches!(sent, Err(TrySendError::Full(_))) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        !matches!(sent, Err(TrySendError::Closed(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::Direction;
    use super::*;
    use crate::model::SnapshotVersion;

    fn request(status: u16) -> Arc<RequestRecord> {
        let snapshot = SnapshotVersion("v".into());
        let mut record = RequestRecord::begin(ConnectionId::random(), Direction::Outbound, snapshot);
        record.status = Some(status);
        Arc::from(record)
    }

    /// How many records are there, and how many are said to be lost.
    fn read(tap: &mut Tap) -> (usize, u64) {
        let (mut records, mut lost) = (0, 0);
        while let Poll::Ready(Some(tapped)) = tap.poll(&mut Context::from_waker(Waker::noop())) {
            match tapped {
                Tapped::Request(_) => records += 1,
                Tapped::Lost(count) => lost += count,
            }
        }
        (records, lost)
    }

    #[test]
    fn a_reader_that_lags_is_told_what_it_lost() {
        let mut taps = Taps::default();
        let mut tap = taps.open(RequestFilter::default(), Sample::one_of(1), u32::MAX).unwrap();
        let many: Vec<_> = (0..limits::TAP_QUEUE + 7).map(|_| request(200)).collect();
        taps.show(&many, Instant::now());
        assert_eq!(read(&mut tap), (limits::TAP_QUEUE, 7));
        taps.show(&many[..3], Instant::now());
        assert_eq!(read(&mut tap), (3, 0));
    }

    #[test]
    fn what_is_beyond_the_rate_is_counted_and_the_next_second_is_shown_again() {
        let mut taps = Taps::default();
        let mut tap = taps.open(RequestFilter::default(), Sample::one_of(1), 10).unwrap();
        let (many, now): (Vec<_>, _) = ((0..25).map(|_| request(200)).collect(), Instant::now());
        taps.show(&many, now);
        assert_eq!(read(&mut tap), (10, 15));
        taps.show(&many, now + Duration::from_secs(1));
        assert_eq!(read(&mut tap), (10, 15));
    }

    #[test]
    fn only_what_fits_is_shown_and_a_sample_is_the_same_for_everybody() {
        let mut taps = Taps::default();
        let failed = RequestFilter { failed: true, ..RequestFilter::default() };
        let mut of_failures = taps.open(failed, Sample::one_of(1), u32::MAX).unwrap();
        let mut sampled = [0, 1].map(|_| taps.open(RequestFilter::default(), Sample::one_of(4), u32::MAX).unwrap());
        let many: Vec<_> = [200, 503].into_iter().cycle().take(400).map(request).collect();
        taps.show(&many, Instant::now());
        assert_eq!(read(&mut of_failures), (200, 0));
        let [one, other] = [0, 1].map(|index| read(&mut sampled[index]));
        assert_eq!(one, other);
        assert!((40..=160).contains(&one.0), "{one:?}");
    }

    #[test]
    fn there_are_never_too_many_and_one_that_ends_makes_room() {
        let mut taps = Taps::default();
        let open = |taps: &mut Taps| taps.open(RequestFilter::default(), Sample::one_of(1), 1);
        let mut all: Vec<_> = (0..limits::TAPS).map(|_| open(&mut taps).unwrap()).collect();
        assert!(open(&mut taps).is_none());
        all.pop();
        assert!(open(&mut taps).is_some());
    }
}
