//! What a question asks of records; an absent field is anything.

use std::net::SocketAddr;

use http::Method;

use super::{ConnectionId, ConnectionRecord, Direction, Party, RequestRecord};

/// Of connections.
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

/// Of requests.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    pub id: Option<ConnectionId>,
    /// The connection that they came on.
    pub connection: Option<ConnectionId>,
    pub direction: Option<Direction>,
    /// As [`RecordFilter::source`].
    pub source: Option<String>,
    /// As [`RecordFilter::destination`]; the Service that a route led to counts too.
    pub destination: Option<String>,
    pub method: Option<Method>,
    /// What the path begins with.
    pub path: Option<String>,
    pub status: Option<WantedStatus>,
    /// Those alone that were not answered well.
    pub failed: bool,
    /// At most this many.
    pub limit: Option<usize>,
}

/// `503`, or a class of them, `5xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedStatus {
    Exactly(u16),
    /// The first digit.
    Class(u16),
}

impl std::str::FromStr for WantedStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a status is a number like 503 or a class like 5xx, not {text:?}");
        let (digits, class) = match text.strip_suffix("xx") {
            Some(digit) => (digit, true),
            None => (text, false),
        };
        let number: u16 = digits.parse().map_err(|_| wrong())?;
        match (class, number) {
            (true, 1..=5) => Ok(Self::Class(number)),
            (false, 100..=599) => Ok(Self::Exactly(number)),
            _ => Err(wrong()),
        }
    }
}

impl RecordFilter {
    pub(super) fn fits(&self, record: &ConnectionRecord) -> bool {
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

impl RequestFilter {
    pub(super) fn fits(&self, record: &RequestRecord) -> bool {
        let destination = |name: &str| {
            let services = [record.service.as_ref(), record.backend.as_ref().map(|(service, _)| service)];
            services.into_iter().flatten().any(|service| service.to_string() == name)
                || names_party(name, &record.destination, record.original_destination)
        };
        let status = |wanted: WantedStatus| match wanted {
            WantedStatus::Exactly(status) => record.status == Some(status),
            WantedStatus::Class(class) => record.status.is_some_and(|status| status / 100 == class),
        };
        self.id.is_none_or(|id| id == record.id)
            && self.connection.is_none_or(|id| id == record.connection)
            && self.direction.is_none_or(|direction| direction == record.direction)
            && self.source.as_deref().is_none_or(|name| names_party(name, &record.source, None))
            && self.destination.as_deref().is_none_or(destination)
            && self.method.as_ref().is_none_or(|method| *method == record.method)
            && self.path.as_deref().is_none_or(|path| record.path.starts_with(path))
            && self.status.is_none_or(status)
            && (!self.failed || record.is_failure())
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
    use super::*;
    use crate::error::Reason;
    use crate::model::SnapshotVersion;

    #[test]
    fn a_status_is_a_number_or_a_class() {
        assert_eq!("503".parse(), Ok(WantedStatus::Exactly(503)));
        assert_eq!("5xx".parse(), Ok(WantedStatus::Class(5)));
        for wrong in ["", "xx", "6xx", "99", "600", "5XX", "-1", "50x"] {
            assert!(wrong.parse::<WantedStatus>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_condition_of_a_request_counts() {
        let mut record = RequestRecord::begin(ConnectionId::random(), Direction::Outbound, SnapshotVersion("v".into()));
        record.source.address = "10.0.0.1:1".parse().ok();
        record.service = "shop/web".parse().ok();
        record.backend = Some(("shop/web-v1".parse().unwrap(), 80));
        (record.path, record.status) = ("/cart/1".to_owned(), Some(503));
        let check = |filter: RequestFilter, fits: bool| assert_eq!(filter.fits(&record), fits, "{filter:?}");
        let any = RequestFilter::default;
        check(any(), true);
        check(RequestFilter { id: Some(record.id), connection: Some(record.connection), ..any() }, true);
        check(RequestFilter { id: Some(ConnectionId::random()), ..any() }, false);
        check(RequestFilter { direction: Some(Direction::Inbound), ..any() }, false);
        check(RequestFilter { source: Some("10.0.0.1".into()), ..any() }, true);
        for (destination, fits) in [("shop/web", true), ("shop/web-v1", true), ("shop/web-v2", false)] {
            check(RequestFilter { destination: Some(destination.into()), ..any() }, fits);
        }
        for (path, fits) in [("/cart", true), ("/else", false)] {
            check(RequestFilter { path: Some(path.into()), ..any() }, fits);
        }
        check(RequestFilter { method: Some(Method::POST), ..any() }, false);
        check(RequestFilter { status: Some(WantedStatus::Class(5)), failed: true, ..any() }, true);
        check(RequestFilter { status: Some(WantedStatus::Class(2)), ..any() }, false);
        let mut good = record.clone();
        (good.status, good.reason) = (Some(200), Reason::Completed);
        assert!(!RequestFilter { failed: true, ..any() }.fits(&good));
    }
}
