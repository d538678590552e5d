//! Endpoints that get nothing for a while because they failed too often in a row.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use weft_proto::names::NamespacedName;

use super::{ConnectionId, FailedAttempt, RequestRecord};
use crate::limits;

/// What one worker has decided; each decides by what it has seen itself.
#[derive(Debug, Clone, Serialize)]
pub struct Ejected {
    pub endpoint: SocketAddr,
    /// `namespace/name`.
    pub workload: Option<String>,
    /// Of which it is an endpoint.
    pub service: Option<NamespacedName>,
    pub port: u16,
    pub since: Timestamp,
    pub until: Timestamp,
    /// The request that was one too many.
    pub request: ConnectionId,
}

impl Ejected {
    /// By the worker that made this attempt of this request.
    #[must_use]
    pub fn by(
        record: &RequestRecord,
        attempt: &FailedAttempt,
        of: Option<(&NamespacedName, u16)>,
        away: Duration,
    ) -> Self {
        let since = Timestamp::now();
        Self {
            endpoint: attempt.endpoint,
            workload: attempt.workload.as_deref().map(|row| row.name.to_string()),
            service: of.map(|(service, _)| service.clone()),
            port: of.map_or(attempt.endpoint.port(), |(_, port)| port),
            since,
            until: since.saturating_add(away).unwrap_or(since),
            request: record.id,
        }
    }
}

/// The last word on each endpoint; bound: [`limits::EJECTED_KEPT`].
#[derive(Debug, Default)]
pub(super) struct EjectedKept(Vec<Ejected>);

impl EjectedKept {
    pub(super) fn keep(&mut self, ejected: Ejected) {
        self.0.retain(|other| other.endpoint != ejected.endpoint && other.until > ejected.since);
        if self.0.len() == limits::EJECTED_KEPT {
            self.0.remove(0);
        }
        self.0.push(ejected);
    }

    pub(super) fn now(&self, now: Timestamp) -> Vec<Ejected> {
        self.0.iter().filter(|ejected| ejected.until > now).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ejected(port: u16, since: Timestamp) -> Ejected {
        Ejected {
            endpoint: SocketAddr::from(([10, 0, 0, 1], port)),
            workload: None,
            service: None,
            port: 80,
            since,
            until: since + Duration::from_secs(10),
            request: ConnectionId::random(),
        }
    }

    #[test]
    fn an_ejection_is_known_until_it_is_over_and_never_too_many() {
        let now = Timestamp::now();
        let mut kept = EjectedKept::default();
        kept.keep(ejected(1, now));
        kept.keep(ejected(1, now + Duration::from_secs(5)));
        assert_eq!(kept.now(now + Duration::from_secs(14)).len(), 1);
        assert!(kept.now(now + Duration::from_secs(15)).is_empty());
        for port in 0..1000 {
            kept.keep(ejected(port, now));
        }
        assert_eq!(kept.now(now).len(), limits::EJECTED_KEPT);
        kept.keep(ejected(1, now + Duration::from_secs(20)));
        assert_eq!(kept.0.len(), 1);
    }
}
