//! Moves what a record says out of the memory of the connection that it is about.
//!
//! A record lives on while thousands of connections come and go. A text of it that was allocated in the middle of a
//! handshake would keep a whole page of that handshake's memory: six kilobytes for each record, measured. Invariant: a
//! settled record holds only what it shares with others or what was allocated by the thread that keeps records.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::Method;
use weft_proto::names::{Identity, NamespacedName};

use super::{ConnectionRecord, Party, RequestRecord};
use crate::limits;

/// Names that many records have in common; bound: [`limits::RECORD_NAMES`] of each kind.
#[derive(Debug, Default)]
pub(super) struct Names {
    identities: HashSet<Identity, RandomState>,
    services: HashSet<NamespacedName, RandomState>,
    routes: HashSet<Arc<str>, RandomState>,
}

impl Names {
    pub(super) fn settle(&mut self, record: &mut ConnectionRecord) {
        self.settle_parties([&mut record.source, &mut record.destination]);
        record.service = record.service.take().map(|service| shared(&mut self.services, service));
        for text in [&mut record.rule, &mut record.detail] {
            *text = text.as_deref().map(str::to_owned);
        }
        record.noted = record.noted.iter().map(|rule| rule.as_str().to_owned()).collect();
    }

    pub(super) fn settle_request(&mut self, record: &mut RequestRecord) {
        self.settle_parties([&mut record.source, &mut record.destination]);
        record.service = record.service.take().map(|service| shared(&mut self.services, service));
        record.backend = record.backend.take().map(|(service, port)| (shared(&mut self.services, service), port));
        record.route = record.route.take().map(|route| shared(&mut self.routes, route));
        for text in [&mut record.rule, &mut record.detail] {
            *text = text.as_deref().map(str::to_owned);
        }
        for text in [&mut record.host, &mut record.path] {
            *text = text.as_str().to_owned();
        }
        record.method = Method::from_bytes(record.method.as_str().as_bytes()).unwrap_or_default();
        record.noted = record.noted.iter().map(|rule| rule.as_str().to_owned()).collect();
        record.failed_attempts = record.failed_attempts.clone();
        record.ejected = record.ejected.clone();
    }

    fn settle_parties(&mut self, parties: [&mut Party; 2]) {
        for party in parties {
            party.identity = party.identity.take().map(|identity| shared(&mut self.identities, identity));
        }
    }
}

fn shared<Name: Hash + Eq + Clone>(known: &mut HashSet<Name, RandomState>, name: Name) -> Name {
    if let Some(known) = known.get(&name) {
        return known.clone();
    }
    if known.len() >= limits::RECORD_NAMES {
        // Whoever is still talked about comes back at once.
        known.clear();
    }
    known.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SnapshotVersion;
    use crate::telemetry::Direction;

    fn record(account: &str) -> ConnectionRecord {
        let mut record = ConnectionRecord::begin(Direction::Inbound, SnapshotVersion("v".into()));
        record.source.identity = format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().ok();
        record.service = "shop/web".parse().ok();
        record
    }

    #[test]
    fn records_of_the_same_client_share_its_name() {
        let mut names = Names::default();
        let (mut first, mut second) = (record("client"), record("client"));
        names.settle(&mut first);
        names.settle(&mut second);
        let account = |record: &ConnectionRecord| Arc::clone(&record.source.identity.as_ref().unwrap().service_account);
        assert!(Arc::ptr_eq(&account(&first), &account(&second)));
        assert!(Arc::ptr_eq(&first.service.unwrap().name, &second.service.unwrap().name));
    }

    #[test]
    fn many_clients_cannot_make_it_grow() {
        let mut names = Names::default();
        for number in 0..=limits::RECORD_NAMES * 2 {
            let account = format!("client-{number}");
            let mut record = record(&account);
            names.settle(&mut record);
            assert_eq!(&*record.source.identity.unwrap().service_account, account);
            assert!(names.identities.len() <= limits::RECORD_NAMES);
        }
    }
}
