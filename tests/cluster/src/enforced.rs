//! How long it takes from the API server's answer to a write until requests of both nodes are decided by it.
//!
//! Every test of the tier measures; the time is a bound only where the proof is asked for by name.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use http::{Method, Request, header};
use kube::Client;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use weft_rig::wait;

use crate::capture::await_accepted;
use crate::namespace::{Namespace, PORT};
use crate::nodes::NODES;
use crate::weft::{self, EFFECT_LIMIT};
use crate::{Promise, Proof};

/// What the proof bounds.
const ENFORCED_P99: Duration = Duration::from_millis(100);
/// Changes in the tier, and in the proof.
const FEW: usize = 20;
const MANY: usize = 200;
/// How often `kubectl apply` is measured beside.
const APPLIED: usize = 5;

/// The proof in full.
pub const PROOF: Proof = Proof {
    name: "a_write_is_enforced_on_both_nodes",
    claim: "from the API server's answer to a PATCH to the first request decided by it on both nodes: at most 100 ms (p99)",
    run: prove,
};

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: PROOF.name, run: |namespace| measure(namespace, FEW).map(drop) }]
}

fn prove(namespace: &Namespace) -> Result<()> {
    let p99 = measure(namespace, MANY)?;
    ensure!(p99 <= ENFORCED_P99, "p99 is {p99:?}, more than {ENFORCED_P99:?}");
    Ok(())
}

/// Changes a route this often; the p99 of the times until both nodes obeyed.
fn measure(namespace: &Namespace, changes: usize) -> Result<Duration> {
    weft::need()?;
    namespace.capture()?;
    for (server, node) in [("blue", "node1"), ("green", "node2")] {
        namespace.server(server, node)?;
    }
    namespace.service("green")?;
    let url = format!("http://{}:80", namespace.service("blue")?);
    namespace.create_object(&route(0))?;
    await_accepted(namespace, "httproute/split", "/status/parents/0")?;
    for node in NODES {
        namespace.create_pod(&watcher(node), node, &["watch", &url, &format!(":{PORT}")], |_| {})?;
        namespace.await_ready(&watcher(node))?;
    }
    weft::await_captured(namespace, &["blue", "green", "watch-node1", "watch-node2"])?;
    let server = ApiServer::connect()?;
    // A pod may have asked before it was captured, and before it heard of the route.
    let mut seen = wait::until("both nodes to obey the route", EFFECT_LIMIT, || server.last_of_all(namespace, "blue"))?;

    let mut times = Vec::with_capacity(changes);
    for number in 1..=changes {
        let answered = server.patch(namespace, number)?;
        times.push(server.await_obeyed(namespace, number, &mut seen)?.saturating_sub(answered));
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    namespace.note(&format!(
        "{changes} changes, from the API server's answer to both nodes: p50 {:?}, p99 {:?}, worst {:?}",
        at(50),
        at(99),
        at(100)
    ));

    let mut applied = Vec::new();
    for number in changes + 1..=changes + APPLIED {
        let begun = now()?;
        let apply = namespace.kubectl(["apply", "--server-side", "--force-conflicts", "--filename=-"]);
        apply.input(&route(number).to_string()).run()?.expect_success()?;
        applied.push(server.await_obeyed(namespace, number, &mut seen)?.saturating_sub(begun));
    }
    applied.sort_unstable();
    namespace.note(&format!("`kubectl apply`, from its start to both nodes: median {:?}", applied[APPLIED / 2]));
    Ok(at(99))
}

fn watcher(node: &str) -> String {
    format!("watch-{node}")
}

/// Who is to answer after so many changes.
fn answerer(number: usize) -> &'static str {
    if number.is_multiple_of(2) { "blue" } else { "green" }
}

fn route(number: usize) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "split"},
        "spec": spec(number),
    })
}

fn spec(number: usize) -> Value {
    let weight = |server: &str| json!({"name": server, "port": 80, "weight": u8::from(server == answerer(number))});
    json!({
        "parentRefs": [{"group": "", "kind": "Service", "name": "blue", "port": 80}],
        "rules": [{"backendRefs": [weight("blue"), weight("green")]}],
    })
}

/// The time, as what runs in pods tells it: all of it is one machine.
fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// A client that holds its connection to the API server, as a controller of users would.
struct ApiServer {
    runtime: Runtime,
    client: Client,
}

impl ApiServer {
    fn connect() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::try_default()).context("no API server")?;
        Ok(Self { runtime, client })
    }

    /// Asks for the other answerer; when that was answered.
    fn patch(&self, namespace: &Namespace, number: usize) -> Result<Duration> {
        let path = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes/split", namespace.name());
        let begun = Request::builder().method(Method::PATCH).uri(path);
        let request = begun.header(header::CONTENT_TYPE, "application/merge-patch+json");
        let request = request.body(json!({"spec": spec(number)}).to_string().into_bytes())?;
        self.runtime.block_on(self.client.request_text(request)).context("the PATCH")?;
        now()
    }

    /// Waits until this change is obeyed on both nodes; when it was on the later of the two.
    fn await_obeyed(&self, namespace: &Namespace, number: usize, seen: &mut [usize; 2]) -> Result<Duration> {
        let mut last = Duration::ZERO;
        for (node, seen) in NODES.into_iter().zip(seen) {
            let (pod, at) = wait::until(&format!("{node} to obey change {number}"), EFFECT_LIMIT, || {
                let changes = self.changes(namespace, node, *seen)?;
                changes.into_iter().next().context("nobody else has answered")
            })?;
            ensure!(pod == answerer(number), "change {number} made {pod} answer on {node}");
            *seen += 1;
            last = last.max(at);
        }
        Ok(last)
    }

    /// How many changes each node has seen, if the last made this pod answer on both.
    fn last_of_all(&self, namespace: &Namespace, wanted: &str) -> Result<[usize; 2]> {
        let mut seen = [0; 2];
        for (node, seen) in NODES.into_iter().zip(&mut seen) {
            let changes = self.changes(namespace, node, 0)?;
            let (pod, _) = changes.last().with_context(|| format!("nobody has answered on {node}"))?;
            ensure!(pod == wanted, "{pod} answers on {node}");
            *seen = changes.len();
        }
        Ok(seen)
    }

    /// Who answered on a node, and since when, each time that it was another pod.
    fn changes(&self, namespace: &Namespace, node: &str, after: usize) -> Result<Vec<(String, Duration)>> {
        let path =
            format!("/api/v1/namespaces/{}/pods/{}:{PORT}/proxy/?after={after}", namespace.name(), watcher(node));
        let told = self.runtime.block_on(self.client.request_text(Request::get(path).body(Vec::new())?))?;
        let told: Vec<Value> = serde_json::from_str(&told).with_context(|| told.clone())?;
        let change = |one: &Value| {
            let at = one["at"].as_u64().context("a change without a time")?;
            Ok((one["pod"].as_str().context("a change without a pod")?.to_owned(), Duration::from_nanos(at)))
        };
        told.iter().map(change).collect()
    }
}
