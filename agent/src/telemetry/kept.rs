//! The last records, for `weft why` and `/records`.
//!
//! What was carried and what was not are kept apart: a person asks about the one connection that failed, and a busy
//! service's good ones would have washed it away within a second.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{ConnectionId, ConnectionRecord, Party, Verdict};
use crate::limits;

/// Newest last; bound: [`limits::RECORDS_KEPT`] of each kind.
#[derive(Debug, Default)]
pub(super) struct Kept {
    carried: VecDeque<Arc<ConnectionRecord>>,
    failed: VecDeque<Arc<ConnectionRecord>>,
}

/// What a question asks for; an absent field is anything.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    pub id: Option<ConnectionId>,
    /// A pod (`namespace/name`), an address, or an application (`namespace/application`).
    pub source: Option<String>,
    /// The same, or a service (`namespace/name`).
    pub destination: Option<String>,
    pub port: Option<u16>,
    /// At most this many.
    pub limit: Option<usize>,
}

impl Kept {
    pub(super) fn extend(&mut self, records: Vec<Arc<ConnectionRecord>>) {
        for record in records {
            let kept = if record.verdict() == Verdict::Allow { &mut self.carried } else { &mut self.failed };
            if kept.len() == limits::RECORDS_KEPT {
                kept.pop_front();
            }
            kept.push_back(record);
        }
    }

    /// Those that ended last come first.
    pub(super) fn find(&self, filter: &RecordFilter) -> Vec<Arc<ConnectionRecord>> {
        let limit = filter.limit.unwrap_or(limits::ADMIN_RECORDS_DEFAULT);
        let newest = |kept: &VecDeque<Arc<ConnectionRecord>>| -> Vec<_> {
            kept.iter().rev().filter(|record| filter.fits(record)).take(limit).map(Arc::clone).collect()
        };
        let mut found = newest(&self.carried);
        found.extend(newest(&self.failed));
        found.sort_by_key(|record| Reverse(record.ended()));
        found.truncate(limit);
        found
    }
}

impl RecordFilter {
    fn fits(&self, record: &ConnectionRecord) -> bool {
        let port = |port: u16| {
            [record.original_destination, record.destination.address]
                .iter()
                .flatten()
                .any(|address| address.port() == port)
        };
        self.id.is_none_or(|id| id == record.id)
            && self.source.as_deref().is_none_or(|name| names_party(name, &record.source, None))
            && self.destination.as_deref().is_none_or(|name| names_destination(name, record))
            && self.port.is_none_or(port)
    }
}

fn names_destination(name: &str, record: &ConnectionRecord) -> bool {
    record.service.as_ref().is_some_and(|service| service.to_string() == name)
        || names_party(name, &record.destination, record.original_destination)
}

fn names_party(name: &str, party: &Party, asked: Option<SocketAddr>) -> bool {
    let by_row = party.workload.as_deref().is_some_and(|row| {
        *row.name == *name
            || name.rsplit_once('/').is_some_and(|(namespace, application)| {
                *row.application == *application && super::namespace_of(row) == namespace
            })
    });
    let is_address = |address: SocketAddr| name.parse() == Ok(address.ip()) || name.parse() == Ok(address);
    by_row || [party.address, asked].into_iter().flatten().any(is_address)
}

#[cfg(test)]
mod tests {
    use super::super::Direction;
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
        kept.extend(vec![Arc::clone(&first)]);
        assert_eq!(by_id(&kept, first.id), 1);
        for _ in 0..limits::RECORDS_KEPT {
            kept.extend(vec![record("10.0.0.2:1", "10.1.0.1:80")]);
        }
        assert_eq!(kept.carried.len(), limits::RECORDS_KEPT);
        assert_eq!(by_id(&kept, first.id), 0);
        let last = record("10.0.0.3:1", "10.1.0.1:80");
        kept.extend(vec![Arc::clone(&last)]);
        assert_eq!(kept.find(&RecordFilter::default())[0].id, last.id);
    }

    #[test]
    fn connections_that_succeed_do_not_wash_away_one_that_failed() {
        let mut kept = Kept::default();
        let odd = failed();
        kept.extend(vec![Arc::clone(&odd)]);
        for _ in 0..limits::RECORDS_KEPT * 2 {
            kept.extend(vec![record("10.0.0.2:1", "10.1.0.1:80")]);
        }
        assert_eq!(by_id(&kept, odd.id), 1);
        for _ in 0..limits::RECORDS_KEPT {
            kept.extend(vec![failed()]);
        }
        assert_eq!((by_id(&kept, odd.id), kept.failed.len()), (0, limits::RECORDS_KEPT));
    }

    #[test]
    fn a_filter_finds_by_address_and_port() {
        let mut kept = Kept::default();
        kept.extend(vec![record("10.0.0.1:1", "10.1.0.1:80"), record("10.0.0.1:2", "10.1.0.2:443")]);
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
}
