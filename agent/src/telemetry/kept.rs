//! The last records, for `weft why`, `/records` and `/requests`.
//!
//! What was carried and what was not are kept apart: a person asks about the one connection or request that failed, and a
//! busy service's good ones would have washed it away within a second.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::filter::{RecordFilter, RequestFilter};
use super::{ConnectionRecord, RequestRecord, Verdict};
use crate::limits;

#[derive(Debug, Default)]
pub(super) struct Kept {
    connections: Shelf<ConnectionRecord>,
    requests: Shelf<RequestRecord>,
}

/// Newest last; bound: [`limits::RECORDS_KEPT`] of each kind.
#[derive(Debug)]
struct Shelf<Record> {
    carried: VecDeque<Arc<Record>>,
    failed: VecDeque<Arc<Record>>,
}

trait Ended {
    fn is_failure(&self) -> bool;
    fn ended(&self) -> Timestamp;
}

impl Kept {
    pub(super) fn extend(&mut self, records: Vec<Arc<ConnectionRecord>>, requests: Vec<Arc<RequestRecord>>) {
        self.connections.extend(records);
        self.requests.extend(requests);
    }

    /// Those that ended last come first.
    pub(super) fn find(&self, filter: &RecordFilter) -> Vec<Arc<ConnectionRecord>> {
        self.connections.find(filter.limit, |record| filter.fits(record))
    }

    /// Those that ended last come first.
    pub(super) fn find_requests(&self, filter: &RequestFilter) -> Vec<Arc<RequestRecord>> {
        self.requests.find(filter.limit, |record| filter.fits(record))
    }
}

impl<Record: Ended> Shelf<Record> {
    fn extend(&mut self, records: Vec<Arc<Record>>) {
        for record in records {
            let kept = if record.is_failure() { &mut self.failed } else { &mut self.carried };
            if kept.len() == limits::RECORDS_KEPT {
                kept.pop_front();
            }
            kept.push_back(record);
        }
    }

    fn find(&self, limit: Option<usize>, fits: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let limit = limit.unwrap_or(limits::ADMIN_RECORDS_DEFAULT);
        let newest = |kept: &VecDeque<Arc<Record>>| -> Vec<_> {
            kept.iter().rev().filter(|record| fits(record)).take(limit).map(Arc::clone).collect()
        };
        let mut found = newest(&self.carried);
        found.extend(newest(&self.failed));
        found.sort_by_key(|record| Reverse(record.ended()));
        found.truncate(limit);
        found
    }
}

impl<Record> Default for Shelf<Record> {
    fn default() -> Self {
        Self { carried: VecDeque::new(), failed: VecDeque::new() }
    }
}

impl Ended for ConnectionRecord {
    fn is_failure(&self) -> bool {
        self.verdict() != Verdict::Allow
    }

    fn ended(&self) -> Timestamp {
        self.ended()
    }
}

impl Ended for RequestRecord {
    fn is_failure(&self) -> bool {
        self.is_failure()
    }

    fn ended(&self) -> Timestamp {
        self.ended()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConnectionId, Direction};
    use super::*;
    use crate::error::Reason;
    use crate::model::SnapshotVersion;

    fn record(source: &str, asked: &str) -> Arc<ConnectionRecord> {
        let mut record = ConnectionRecord::begin(Direction::Outbound, SnapshotVersion("v".into()));
        record.source.address = source.parse().ok();
        record.original_destination = asked.parse().ok();
        Arc::new(record)
    }

    fn failed() -> Arc<ConnectionRecord> {
        let mut record = ConnectionRecord::begin(Direction::Outbound, SnapshotVersion("v".into()));
        record.reason = Reason::NoEndpoint;
        Arc::new(record)
    }

    fn by_id(kept: &Kept, id: ConnectionId) -> usize {
        kept.find(&RecordFilter { id: Some(id), ..RecordFilter::default() }).len()
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let mut kept = Kept::default();
        let first = record("10.0.0.1:1", "10.1.0.1:80");
        kept.extend(vec![Arc::clone(&first)], vec![]);
        assert_eq!(by_id(&kept, first.id), 1);
        for _ in 0..limits::RECORDS_KEPT {
            kept.extend(vec![record("10.0.0.2:1", "10.1.0.1:80")], vec![]);
        }
        assert_eq!(kept.connections.carried.len(), limits::RECORDS_KEPT);
        assert_eq!(by_id(&kept, first.id), 0);
        let last = record("10.0.0.3:1", "10.1.0.1:80");
        kept.extend(vec![Arc::clone(&last)], vec![]);
        assert_eq!(kept.find(&RecordFilter::default())[0].id, last.id);
    }

    #[test]
    fn connections_that_succeed_do_not_wash_away_one_that_failed() {
        let mut kept = Kept::default();
        let odd = failed();
        kept.extend(vec![Arc::clone(&odd)], vec![]);
        for _ in 0..limits::RECORDS_KEPT * 2 {
            kept.extend(vec![record("10.0.0.2:1", "10.1.0.1:80")], vec![]);
        }
        assert_eq!(by_id(&kept, odd.id), 1);
        for _ in 0..limits::RECORDS_KEPT {
            kept.extend(vec![failed()], vec![]);
        }
        assert_eq!((by_id(&kept, odd.id), kept.connections.failed.len()), (0, limits::RECORDS_KEPT));
    }

    #[test]
    fn a_filter_finds_by_address_and_port() {
        let mut kept = Kept::default();
        kept.extend(vec![record("10.0.0.1:1", "10.1.0.1:80"), record("10.0.0.1:2", "10.1.0.2:443")], vec![]);
        let find = |source: Option<&str>, destination: Option<&str>, port| {
            let filter = RecordFilter {
                source: source.map(Into::into),
                destination: destination.map(Into::into),
                port,
                ..RecordFilter::default()
            };
            kept.find(&filter).len()
        };
        assert_eq!(find(Some("10.0.0.1"), None, None), 2);
        assert_eq!(find(Some("10.0.0.1:2"), None, None), 1);
        assert_eq!(find(None, Some("10.1.0.2"), None), 1);
        assert_eq!(find(None, Some("10.1.0.2"), Some(80)), 0);
        assert_eq!(find(None, None, Some(80)), 1);
    }

    #[test]
    fn an_answer_that_is_an_error_is_kept_apart_too() {
        let mut kept = Kept::default();
        let request = |status| {
            let snapshot = SnapshotVersion("v".into());
            let mut request = RequestRecord::begin(ConnectionId::random(), Direction::Outbound, snapshot);
            request.status = Some(status);
            Arc::from(request)
        };
        let odd = request(500);
        kept.extend(vec![], vec![Arc::clone(&odd)]);
        kept.extend(vec![], (0..limits::RECORDS_KEPT * 2).map(|_| request(200)).collect());
        let found = kept.find_requests(&RequestFilter { failed: true, ..RequestFilter::default() });
        assert_eq!(found.iter().map(|record| record.id).collect::<Vec<_>>(), [odd.id]);
        let all = RequestFilter { limit: Some(usize::MAX), ..RequestFilter::default() };
        assert_eq!(kept.find_requests(&all).len(), limits::RECORDS_KEPT + 1);
    }
}
