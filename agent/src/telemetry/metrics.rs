//! Connections and requests counted, as Prometheus reads them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use weft_proto::names::NamespacedName;

use super::series::{self, ConnectionLabels, EdgeLabels, RequestEdgeLabels, RequestLabels, RetryLabels, SeriesBudgets};
use super::{ConnectionRecord, Direction, Party, RequestRecord, Security};
use crate::error::Reason;
use crate::model::Workload;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

/// Atomics only where workers count; everything with labels is touched by the recorder's thread and by scrapes.
pub(super) struct Metrics {
    registry: Registry,
    opened: PerDirection<Counter>,
    active: PerDirection<Gauge>,
    closed: Family<ConnectionLabels, Counter>,
    bytes_sent: Family<ConnectionLabels, Counter>,
    bytes_received: Family<ConnectionLabels, Counter>,
    duration: Family<EdgeLabels, Histogram, fn() -> Histogram>,
    connect: Family<DirectionLabels, Histogram, fn() -> Histogram>,
    resumed: Family<DirectionLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<RequestEdgeLabels, Histogram, fn() -> Histogram>,
    retries: Family<RetryLabels, Counter>,
    dropped: Counter,
    access_log_failed: Counter,
    overflowed: Counter,
}

/// Where requests of one kind are counted.
struct RequestSeries {
    count: Counter,
    duration: Histogram,
    overflowed: bool,
}

/// All that labels are made of: two records of the same kind have the same ones.
#[derive(PartialEq, Eq, Hash)]
struct Kind<'a> {
    direction: Direction,
    /// Rows of a snapshot, by where they are: the records keep them there.
    workloads: [Option<*const Workload>; 2],
    security: Security,
    service: Option<&'a NamespacedName>,
    route: Option<&'a str>,
    backend: Option<&'a (NamespacedName, u16)>,
    status: Option<u16>,
    grpc_status: Option<u32>,
    reason: Reason,
}

impl<'a> Kind<'a> {
    fn of(record: &'a RequestRecord) -> Self {
        let row = |party: &Party| party.workload.as_ref().map(Arc::as_ptr);
        Self {
            direction: record.direction,
            workloads: [row(&record.source), row(&record.destination)],
            security: record.security,
            service: record.service.as_ref(),
            route: record.route.as_deref(),
            backend: record.backend.as_ref(),
            status: record.status,
            grpc_status: record.grpc_status,
            reason: record.reason,
        }
    }
}

/// One of a thing for each direction, without a lookup.
#[derive(Debug, Default)]
struct PerDirection<T> {
    outbound: T,
    inbound: T,
}

impl<T> PerDirection<T> {
    const fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        }
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("weft"),
            opened: PerDirection::default(),
            active: PerDirection::default(),
            closed: Family::default(),
            bytes_sent: Family::default(),
            bytes_received: Family::default(),
            duration: Family::new_with_constructor(duration_histogram),
            connect: Family::new_with_constructor(connect_histogram),
            resumed: Family::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(request_histogram),
            retries: Family::default(),
            dropped: Counter::default(),
            access_log_failed: Counter::default(),
            overflowed: Counter::default(),
        };
        metrics.register_directions();
        metrics.register_families();
        metrics
    }

    fn register_directions(&mut self) {
        let (opened, active) =
            (Family::<DirectionLabels, Counter>::default(), Family::<DirectionLabels, Gauge>::default());
        for direction in [Direction::Outbound, Direction::Inbound] {
            let labels = DirectionLabels { direction: direction.word() };
            let (counter, gauge) = (opened.get_or_create_owned(&labels), active.get_or_create_owned(&labels));
            match direction {
                Direction::Outbound => (self.opened.outbound, self.active.outbound) = (counter, gauge),
                Direction::Inbound => (self.opened.inbound, self.active.inbound) = (counter, gauge),
            }
        }
        self.registry.register("connections_opened", "Connections accepted by the agent", opened);
        self.registry.register("connections_active", "Connections that the agent carries now", active);
    }

    fn register_families(&mut self) {
        let registry = &mut self.registry;
        registry.register("connections_closed", "Connections that ended, with verdict and reason", self.closed.clone());
        registry.register("tcp_sent_bytes", "Bytes relayed from source to destination", self.bytes_sent.clone());
        registry.register(
            "tcp_received_bytes",
            "Bytes relayed from destination to source",
            self.bytes_received.clone(),
        );
        registry.register("connection_duration_seconds", "From accept to end", self.duration.clone());
        registry.register(
            "connection_connect_seconds",
            "From accept until bytes could flow to the other application",
            self.connect.clone(),
        );
        registry.register("tls_resumed", "Connections whose TLS session was resumed", self.resumed.clone());
        registry.register(
            "requests",
            "Requests that ended, with the class of their answer and reason",
            self.requests.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "From a request's head to the head of its answer, or to its failure",
            self.request_duration.clone(),
        );
        registry.register("request_retries", "Attempts that a retry budget paid for", self.retries.clone());
        registry.register("records_dropped", "Records that found the queue full", self.dropped.clone());
        registry.register(
            "access_log_failed_records",
            "Records that could not be written to the access log",
            self.access_log_failed.clone(),
        );
        registry.register(
            "metric_overflow",
            "Connections counted under overflow because a bound of label sets was met",
            self.overflowed.clone(),
        );
    }

    pub(super) fn opened(&self, direction: Direction) {
        self.opened.of(direction).inc();
        self.active.of(direction).inc();
    }

    pub(super) fn connections(&self) -> (u64, i64) {
        let (opened, active) = (&self.opened, &self.active);
        (opened.inbound.get() + opened.outbound.get(), active.inbound.get() + active.outbound.get())
    }

    pub(super) fn ended(&self, direction: Direction) {
        self.active.of(direction).dec();
    }

    pub(super) fn record_dropped(&self) {
        self.dropped.inc();
    }

    pub(super) fn access_log_failed(&self, records: usize) {
        self.access_log_failed.inc_by(records as u64);
    }

    pub(super) fn closed(&self, record: &ConnectionRecord, budgets: &mut SeriesBudgets, now: Instant) {
        let owner = || series::owner(record.into());
        let (labels, overflows) = (series::connection_labels(record), || series::connection_overflows(record));
        let admitted = budgets.connections.admit(labels, owner, overflows, now);
        for labels in &admitted.expired {
            self.closed.remove(labels);
            self.bytes_sent.remove(labels);
            self.bytes_received.remove(labels);
        }
        if admitted.overflowed {
            self.overflowed.inc();
        }
        self.closed.get_or_create(&admitted.labels).inc();
        self.bytes_sent.get_or_create(&admitted.labels).inc_by(record.bytes_sent);
        self.bytes_received.get_or_create(&admitted.labels).inc_by(record.bytes_received);

        let (labels, overflows) = (series::edge_labels(record.into()), || series::edge_overflows(record.into()));
        let edge = budgets.edges.admit(labels, owner, overflows, now);
        for labels in &edge.expired {
            self.duration.remove(labels);
        }
        self.duration.get_or_create(&edge.labels).observe(record.duration.as_secs_f64());

        let direction = DirectionLabels { direction: record.direction.word() };
        if let Some(connect) = record.connect {
            self.connect.get_or_create(&direction).observe(connect.as_secs_f64());
        }
        if record.resumed {
            self.resumed.get_or_create(&direction).inc();
        }
    }

    /// Counts ended requests. Those of one batch that are alike find their series once: looking it up costs more than all
    /// the rest.
    pub(super) fn answered<'a>(
        &self,
        requests: impl Iterator<Item = &'a RequestRecord>,
        budgets: &mut SeriesBudgets,
        now: Instant,
    ) {
        let mut known: HashMap<Kind<'a>, RequestSeries, RandomState> = HashMap::default();
        for record in requests {
            let series = known.entry(Kind::of(record)).or_insert_with(|| self.request_series(record, budgets, now));
            series.count.inc();
            let took = record.first_byte.unwrap_or(record.duration);
            series.duration.observe(took.as_secs_f64());
            if record.retries > 0 {
                self.retried(record, budgets, now);
            }
            if series.overflowed {
                self.overflowed.inc();
            }
        }
    }

    fn retried(&self, record: &RequestRecord, budgets: &mut SeriesBudgets, now: Instant) {
        let owner = || series::owner(record.into());
        let retries = budgets.retries.admit(series::retry_labels(record), owner, series::retry_overflows, now);
        for labels in &retries.expired {
            self.retries.remove(labels);
        }
        self.retries.get_or_create(&retries.labels).inc_by(u64::from(record.retries));
    }

    fn request_series(&self, record: &RequestRecord, budgets: &mut SeriesBudgets, now: Instant) -> RequestSeries {
        let owner = || series::owner(record.into());
        let (labels, overflows) = (series::request_labels(record), || series::request_overflows(record));
        let admitted = budgets.requests.admit(labels, owner, overflows, now);
        for labels in &admitted.expired {
            self.requests.remove(labels);
        }
        let (labels, overflows) = (series::request_edge_labels(record), || series::request_edge_overflows(record));
        let edge = budgets.request_edges.admit(labels, owner, overflows, now);
        for labels in &edge.expired {
            self.request_duration.remove(labels);
        }
        RequestSeries {
            count: self.requests.get_or_create_owned(&admitted.labels),
            duration: self.request_duration.get_or_create_owned(&edge.labels),
            overflowed: admitted.overflowed,
        }
    }

    /// Without the end mark: the caller adds its own families.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        if text::encode_registry(&mut out, &self.registry).is_err() {
            tracing::error!("metrics cannot be written as text");
        }
        out
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

fn duration_histogram() -> Histogram {
    Histogram::new([0.005, 0.05, 0.5, 5.0, 60.0, 600.0, 3600.0])
}

/// From a local handshake to the whole of three attempts.
fn connect_histogram() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 3.0, 10.0])
}

/// From an answer on the same node to the longest timeouts that people set.
fn request_histogram() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0])
}
