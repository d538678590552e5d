//! Label sets and how many of them there may be.
//!
//! Every value of a label comes from the snapshot or from a closed list of words. When a budget is
//! spent, a connection is counted under `overflow` and nothing is lost but the detail.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;

use super::{ConnectionRecord, Direction, Party, RequestRecord, Security, namespace_of};
use crate::limits;

pub(super) type Label = Cow<'static, str>;

const UNKNOWN: Label = Cow::Borrowed("unknown");
const NOTHING: Label = Cow::Borrowed("");
const OVERFLOW: Label = Cow::Borrowed("overflow");

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ConnectionLabels {
    pub direction: &'static str,
    pub source_namespace: Label,
    pub source_workload: Label,
    pub destination_namespace: Label,
    pub destination_workload: Label,
    pub security: &'static str,
    pub verdict: &'static str,
    pub reason: &'static str,
}

/// Fewer labels: each set of a histogram is a dozen series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EdgeLabels {
    pub direction: &'static str,
    pub source_namespace: Label,
    pub source_workload: Label,
    pub destination_namespace: Label,
    pub destination_workload: Label,
    pub security: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub direction: &'static str,
    pub source_namespace: Label,
    pub source_workload: Label,
    pub destination_namespace: Label,
    pub destination_workload: Label,
    pub security: &'static str,
    /// The Service that was asked for, namespace/name; empty where none was.
    pub service: Label,
    /// The rule that decided, as the access log names it; empty where none did.
    pub route: Label,
    /// The Service and port that the rule led to, namespace/name:port; empty where none did.
    pub backend: Label,
    /// "2xx" and so on; "none" where no answer was given.
    pub class: &'static str,
    /// The number, where gRPC was spoken; else empty.
    pub grpc_status: Label,
    pub reason: &'static str,
}

/// Fewer labels, for the histogram.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestEdgeLabels {
    pub direction: &'static str,
    pub source_namespace: Label,
    pub source_workload: Label,
    pub destination_namespace: Label,
    pub destination_workload: Label,
    pub service: Label,
    pub route: Label,
    pub backend: Label,
    pub class: &'static str,
}

/// For what only few requests have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RetryLabels {
    pub direction: &'static str,
    pub service: Label,
    pub route: Label,
    pub backend: Label,
}

#[derive(Debug)]
pub(super) struct SeriesBudgets {
    pub connections: Budget<ConnectionLabels>,
    pub edges: Budget<EdgeLabels>,
    pub requests: Budget<RequestLabels>,
    pub request_edges: Budget<RequestEdgeLabels>,
    pub retries: Budget<RetryLabels>,
}

impl SeriesBudgets {
    pub(super) fn new() -> Self {
        Self {
            connections: Budget::new(),
            edges: Budget::new(),
            requests: Budget::new(),
            request_edges: Budget::new(),
            retries: Budget::new(),
        }
    }
}

/// What a connection's record and a request's have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    direction: Direction,
    source: &'a Party,
    destination: &'a Party,
    security: Security,
}

impl<'a> From<&'a ConnectionRecord> for Ends<'a> {
    fn from(record: &'a ConnectionRecord) -> Self {
        let (direction, security) = (record.direction, record.security);
        Self { direction, source: &record.source, destination: &record.destination, security }
    }
}

impl<'a> From<&'a RequestRecord> for Ends<'a> {
    fn from(record: &'a RequestRecord) -> Self {
        let (direction, security) = (record.direction, record.security);
        Self { direction, source: &record.source, destination: &record.destination, security }
    }
}

/// The workload of this node that a label set is charged to.
type Owner = (Label, Label);

/// Which label sets of one family exist.
#[derive(Debug)]
pub(super) struct Budget<Labels> {
    touched: HashMap<Labels, (Owner, Instant)>,
    of_owner: HashMap<Owner, usize>,
}

/// The answer of a budget.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted<Labels> {
    pub labels: Labels,
    /// Sets that nobody touched for long and that must be removed from the family.
    pub expired: Vec<Labels>,
    pub overflowed: bool,
}

impl<Labels: Clone + Eq + Hash> Budget<Labels> {
    fn new() -> Self {
        Self { touched: HashMap::new(), of_owner: HashMap::new() }
    }

    /// Decides which set is counted under: `labels` itself, the owner's overflow, or the overflow of all. What only a new
    /// set needs is asked for only then.
    pub(super) fn admit(
        &mut self,
        labels: Labels,
        owner: impl FnOnce() -> Owner,
        overflows: impl FnOnce() -> [Labels; 2],
        now: Instant,
    ) -> Admitted<Labels> {
        if let Some((_, touched)) = self.touched.get_mut(&labels) {
            *touched = now;
            return Admitted { labels, expired: Vec::new(), overflowed: false };
        }
        let owner = owner();
        // The last of the budget is the overflow of all itself.
        let full = |have: usize| have + 1 >= limits::METRIC_SERIES;
        let expired = if full(self.touched.len()) { self.expire(now) } else { Vec::new() };
        let spent = self.of_owner.get(&owner).copied().unwrap_or(0);
        let chosen = if full(self.touched.len()) {
            let [_, overflow] = overflows();
            overflow
        } else if spent >= limits::METRIC_SERIES_PER_WORKLOAD {
            let [owner_overflow, _] = overflows();
            owner_overflow
        } else {
            *self.of_owner.entry(owner.clone()).or_default() += 1;
            self.touched.insert(labels.clone(), (owner, now));
            return Admitted { labels, expired, overflowed: false };
        };
        self.touched.entry(chosen.clone()).or_insert((owner, now)).1 = now;
        Admitted { labels: chosen, expired, overflowed: true }
    }

    fn expire(&mut self, now: Instant) -> Vec<Labels> {
        let idle = |touched: Instant| now.saturating_duration_since(touched) >= limits::METRIC_SERIES_IDLE;
        let gone: Vec<_> = self
            .touched
            .extract_if(|_, (_, touched)| idle(*touched))
            .map(|(labels, (owner, _))| (labels, owner))
            .collect();
        for (_, owner) in &gone {
            if let Some(count) = self.of_owner.get_mut(owner) {
                *count = count.saturating_sub(1);
            }
        }
        self.of_owner.retain(|_, count| *count > 0);
        gone.into_iter().map(|(labels, _)| labels).collect()
    }
}

/// The workload of this node: the one whose connection it was here.
pub(super) fn owner(ends: Ends<'_>) -> Owner {
    names(match ends.direction {
        Direction::Outbound => ends.source,
        Direction::Inbound => ends.destination,
    })
}

/// The labels of a record.
pub(super) fn connection_labels(record: &ConnectionRecord) -> ConnectionLabels {
    with_reason(edge_labels(record.into()), record, record.reason.code())
}

/// Those with the far side folded, and those with everything folded.
pub(super) fn connection_overflows(record: &ConnectionRecord) -> [ConnectionLabels; 2] {
    edge_overflows(record.into()).map(|edge| with_reason(edge, record, "overflow"))
}

fn with_reason(edge: EdgeLabels, record: &ConnectionRecord, reason: &'static str) -> ConnectionLabels {
    ConnectionLabels {
        direction: edge.direction,
        source_namespace: edge.source_namespace,
        source_workload: edge.source_workload,
        destination_namespace: edge.destination_namespace,
        destination_workload: edge.destination_workload,
        security: edge.security,
        verdict: record.verdict().word(),
        reason,
    }
}

/// As [`connection_labels`], for requests.
pub(super) fn request_labels(record: &RequestRecord) -> RequestLabels {
    // Seventeen statuses are defined; an application may send any number.
    let grpc =
        record.grpc_status.filter(|status| *status <= 16).map_or(NOTHING, |status| Cow::Owned(status.to_string()));
    with_answer(edge_labels(record.into()), record, (way(record), grpc, record.reason.code()))
}

/// As [`connection_overflows`], for requests.
pub(super) fn request_overflows(record: &RequestRecord) -> [RequestLabels; 2] {
    edge_overflows(record.into()).map(|edge| with_answer(edge, record, ([OVERFLOW; 3], NOTHING, "overflow")))
}

fn with_answer(
    edge: EdgeLabels,
    record: &RequestRecord,
    ([service, route, backend], grpc_status, reason): ([Label; 3], Label, &'static str),
) -> RequestLabels {
    RequestLabels {
        direction: edge.direction,
        source_namespace: edge.source_namespace,
        source_workload: edge.source_workload,
        destination_namespace: edge.destination_namespace,
        destination_workload: edge.destination_workload,
        security: edge.security,
        service,
        route,
        backend,
        class: class(record.status),
        grpc_status,
        reason,
    }
}

/// As [`connection_labels`], for the histogram of requests.
pub(super) fn request_edge_labels(record: &RequestRecord) -> RequestEdgeLabels {
    with_way(edge_labels(record.into()), record, way(record))
}

/// As [`connection_overflows`], for the histogram of requests.
pub(super) fn request_edge_overflows(record: &RequestRecord) -> [RequestEdgeLabels; 2] {
    edge_overflows(record.into()).map(|edge| with_way(edge, record, [OVERFLOW; 3]))
}

fn with_way(edge: EdgeLabels, record: &RequestRecord, [service, route, backend]: [Label; 3]) -> RequestEdgeLabels {
    RequestEdgeLabels {
        direction: edge.direction,
        source_namespace: edge.source_namespace,
        source_workload: edge.source_workload,
        destination_namespace: edge.destination_namespace,
        destination_workload: edge.destination_workload,
        service,
        route,
        backend,
        class: class(record.status),
    }
}

/// As [`connection_labels`], for retries.
pub(super) fn retry_labels(record: &RequestRecord) -> RetryLabels {
    let [service, route, backend] = way(record);
    RetryLabels { direction: record.direction.word(), service, route, backend }
}

/// Of either side: retries are the source's alone.
pub(super) fn retry_overflows() -> [RetryLabels; 2] {
    let direction = Direction::Outbound.word();
    [(); 2].map(|()| RetryLabels { direction, service: OVERFLOW, route: OVERFLOW, backend: OVERFLOW })
}

/// The service, the route's rule and the backend.
fn way(record: &RequestRecord) -> [Label; 3] {
    let owned = |text: Option<String>| text.map_or(NOTHING, Cow::Owned);
    [
        owned(record.service.as_ref().map(ToString::to_string)),
        owned(record.route.as_deref().map(ToOwned::to_owned)),
        owned(record.backend.as_ref().map(|(service, port)| format!("{service}:{port}"))),
    ]
}

const fn class(status: Option<u16>) -> &'static str {
    match status {
        Some(100..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..=599) => "5xx",
        Some(_) => "other",
        None => "none",
    }
}

/// As [`connection_labels`], for the histograms of connections.
pub(super) fn edge_labels(ends: Ends<'_>) -> EdgeLabels {
    edge(ends, names(ends.source), names(ends.destination))
}

/// As [`connection_overflows`], for the histograms of connections.
pub(super) fn edge_overflows(ends: Ends<'_>) -> [EdgeLabels; 2] {
    let folded = || (OVERFLOW, OVERFLOW);
    let far_folded = match ends.direction {
        Direction::Outbound => edge(ends, names(ends.source), folded()),
        Direction::Inbound => edge(ends, folded(), names(ends.destination)),
    };
    [far_folded, edge(ends, folded(), folded())]
}

fn edge(ends: Ends<'_>, source: (Label, Label), destination: (Label, Label)) -> EdgeLabels {
    EdgeLabels {
        direction: ends.direction.word(),
        source_namespace: source.0,
        source_workload: source.1,
        destination_namespace: destination.0,
        destination_workload: destination.1,
        security: ends.security.word(),
    }
}

fn names(party: &Party) -> (Label, Label) {
    party.workload.as_deref().map_or((UNKNOWN, UNKNOWN), |row| {
        (Cow::Owned(namespace_of(row).to_owned()), Cow::Owned(row.application.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admit(budget: &mut Budget<String>, owner: &str, labels: &str, now: Instant) -> Admitted<String> {
        let owner_key = (Cow::Borrowed("shop"), Cow::Owned(owner.to_owned()));
        let overflows = || [format!("{owner} overflow"), "overflow".to_owned()];
        budget.admit(labels.to_owned(), || owner_key, overflows, now)
    }

    #[test]
    fn one_tenant_cannot_take_the_labels_of_all() {
        let (mut budget, now) = (Budget::new(), Instant::now());
        for index in 0..limits::METRIC_SERIES_PER_WORKLOAD * 2 {
            admit(&mut budget, "loud", &format!("loud {index}"), now);
        }
        assert_eq!(admit(&mut budget, "loud", "loud new", now).labels, "loud overflow");
        assert_eq!(admit(&mut budget, "loud", "loud 0", now).labels, "loud 0");
        assert_eq!(admit(&mut budget, "quiet", "quiet", now).labels, "quiet");
    }

    #[test]
    fn a_family_never_outgrows_its_bound() {
        let (mut budget, now) = (Budget::new(), Instant::now());
        for index in 0..limits::METRIC_SERIES * 2 {
            admit(&mut budget, &format!("workload {index}"), &format!("{index}"), now);
        }
        assert!(budget.touched.len() <= limits::METRIC_SERIES);
        let last = admit(&mut budget, "late", "late", now);
        assert!(last.overflowed);
        assert_eq!(last.labels, "overflow");
    }

    #[test]
    fn what_nobody_touches_makes_room() {
        let (mut budget, start) = (Budget::new(), Instant::now());
        for index in 0..limits::METRIC_SERIES {
            admit(&mut budget, &format!("workload {index}"), &format!("{index}"), start);
        }
        let later = start + limits::METRIC_SERIES_IDLE + Duration::from_secs(1);
        let admitted = admit(&mut budget, "late", "late", later);
        assert_eq!(admitted.labels, "late");
        assert!(admitted.expired.len() >= limits::METRIC_SERIES - 1);
    }
}
