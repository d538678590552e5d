//! The node's state as metrics, made anew from its status at each scrape.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::admin::NodeView;

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PodLabels {
    namespace: String,
    pod: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    namespace: String,
    pod: String,
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    worker: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    /// `namespace/name` of the pod, or the node's name.
    holder: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RootLabels {
    /// The digest of its certificate.
    root: String,
}

/// Adds the node's families and the end mark.
pub(super) fn append(out: &mut String, view: &NodeView) {
    let mut registry = Registry::with_prefix("weft");
    register_node(&mut registry, view);
    register_pods(&mut registry, view);
    register_certificates(&mut registry, view);
    let written = text::encode_registry(out, &registry).and_then(|()| text::encode_eof(out));
    if written.is_err() {
        tracing::error!("the node's metrics cannot be written as text");
    }
}

fn register_node(registry: &mut Registry, view: &NodeView) {
    let mut flag = |name: &str, help: &str, on: bool| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::from(on));
        registry.register(name, help, gauge);
    };
    flag("ready", "1 while the agent serves", view.status.ready);
    flag("draining", "1 while the agent only ends what it carries", view.status.draining);
    flag("controller_connected", "1 while the Discovery stream is open", view.status.controller.connected);
    let by_address = view.status.kernel.hooks.iter().any(|hook| hook.name == "probe_ops" && !hook.attached);
    flag("probes_by_address", "1 while kubelet's probes are known by the node's address alone", by_address);
    if let Some(applied) = view.snapshot_applied {
        let age = Seconds::default();
        age.set((Timestamp::now().duration_since(applied)).as_secs_f64());
        registry.register("snapshot_age_seconds", "Since the snapshot in use was published", age);
    }
    let nacks: Gauge = Gauge::default();
    nacks.set(count(view.nacks.len()));
    registry.register("snapshot_nacks", "Resources that could not be read; their safe reading is in force", nacks);
    let workers = Family::<WorkerLabels, Gauge>::default();
    for worker in &view.status.workers {
        workers.get_or_create(&WorkerLabels { worker: worker.index }).set(i64::from(worker.alive));
    }
    registry.register("worker_alive", "1 while the worker's heartbeat is fresh", workers);
}

fn register_pods(registry: &mut Registry, view: &NodeView) {
    let uncaptured: Gauge = Gauge::default();
    uncaptured.set(count(view.status.pods.iter().filter(|pod| !pod.enrolled).count()));
    registry.register("uncaptured_pods", "Pods of this node that are meant to be captured and are not", uncaptured);
    let enrolled = Family::<PodLabels, Gauge>::default();
    let events = Family::<EventLabels, Counter>::default();
    for pod in &view.status.pods {
        let (namespace, name) = pod.name.split_once('/').unwrap_or(("", &pod.name));
        let labels = PodLabels { namespace: namespace.to_owned(), pod: name.to_owned() };
        enrolled.get_or_create(&labels).set(i64::from(pod.enrolled));
        for (event, value) in pod.counters.each() {
            let labels = EventLabels { namespace: namespace.to_owned(), pod: name.to_owned(), event };
            events.get_or_create(&labels).inc_by(value);
        }
    }
    registry.register("pod_enrolled", "1 while the pod's connections are captured", enrolled);
    registry.register("kernel_connections", "Connections that the hooks decided, by pod and event", events);
}

fn register_certificates(registry: &mut Registry, view: &NodeView) {
    let expiry = Family::<CertificateLabels, Gauge>::default();
    for certificate in &view.certificates {
        let labels = CertificateLabels { holder: certificate.name.clone() };
        let end = certificate.not_after.map_or(0, Timestamp::as_second);
        expiry.get_or_create(&labels).set(end);
    }
    registry.register(
        "certificate_not_after_timestamp_seconds",
        "End of each certificate's validity; 0 while there is none",
        expiry,
    );
    let roots = Family::<RootLabels, Gauge>::default();
    for root in &view.roots {
        roots.get_or_create(&RootLabels { root: root.digest.clone() }).set(root.not_after.as_second());
    }
    registry.register(
        "root_not_after_timestamp_seconds",
        "End of each root that workloads believe; two while one takes the other's place",
        roots,
    );
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
