//! The last records, for `weft why` and `/records`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{ConnectionId, ConnectionRecord, Party};
use crate::limits;

/// Newest last; bound: [`limits::RECORDS_KEPT`].
#[derive(Debug)]
pub(super) struct Kept {
    records: VecDeque<Arc<ConnectionRecord>>,
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
    pub(super) fn new() -> Self {
        Self { records: VecDeque::new() }
    }

    pub(super) fn extend(&mut self, records: Vec<Arc<ConnectionRecord>>) {
        for record in records {
            if self.records.len() == limits::RECORDS_KEPT {
                self.records.pop_front();
            }
            self.records.push_back(record);
        }
    }

    pub(super) fn find(&self, filter: &RecordFilter) -> Vec<Arc<ConnectionRecord>> {
        let limit = filter.limit.unwrap_or(limits::ADMIN_RECORDS_DEFAULT);
        self.records.iter().rev().filter(|record| filter.fits(record)).take(limit).map(Arc::clone).collect()
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
    use crate::model::SnapshotVersion;

    fn record(source: &str, asked: &str) -> Arc<ConnectionRecord> {
        let mut record = ConnectionRecord::begin(Direction::Outbound, SnapshotVersion("v".into()));
        record.source.address = source.parse().ok();
        record.original_destination = asked.parse().ok();
        Arc::new(record)
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let mut kept = Kept::new();
        let first = record("10.0.0.1:1", "10.1.0.1:80");
        kept.extend(vec![Arc::clone(&first)]);
        assert_eq!(kept.find(&RecordFilter { id: Some(first.id), ..RecordFilter::default() }).len(), 1);
        for _ in 0..limits::RECORDS_KEPT {
            kept.extend(vec![record("10.0.0.2:1", "10.1.0.1:80")]);
        }
        assert_eq!(kept.records.len(), limits::RECORDS_KEPT);
        assert!(kept.find(&RecordFilter { id: Some(first.id), ..RecordFilter::default() }).is_empty());
        let last = record("10.0.0.3:1", "10.1.0.1:80");
        kept.extend(vec![Arc::clone(&last)]);
        assert_eq!(kept.find(&RecordFilter::default())[0].id, last.id);
    }

    #[test]
    fn a_filter_finds_by_address_and_port() {
        let mut kept = Kept::new();
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
