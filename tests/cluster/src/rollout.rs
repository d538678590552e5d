//! An application is updated as anybody updates one, under load: it ends at SIGTERM with requests in its hands, and has no
//! hook that would wait until nobody asks it any more.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::Promise;
use crate::load::Load;
use crate::namespace::{IMAGE, Namespace, PORT};
use crate::nodes::{NODES, said};
use crate::weft;

/// Requests a second, every other of which must not be delivered twice.
const RATE: u32 = 200;
/// Requests before the update and after it.
const AROUND: u64 = 400;
/// From when an application writes down that it ends until its connections have, in nanoseconds, on a busy machine.
const DYING: u64 = 100_000_000;
/// How many pods answer at once.
const REPLICAS: u32 = 3;
/// Three pods, one after the other, on a busy machine.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(3);

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "an_update_of_an_application_harms_nobody", run: an_update_of_an_application_harms_nobody }]
}

fn an_update_of_an_application_harms_nobody(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.capture()?;
    namespace.create_object(&deployment(namespace))?;
    let url = format!("http://{}:80", namespace.service("app")?);
    await_rollout(namespace)?;
    let load = Load::create(namespace, "client", "node1", ("http", &url), RATE)?;
    await_all_captured(namespace)?;
    load.goes_on(AROUND)?;
    let before = load.report()?;

    namespace.kubectl(["rollout", "restart", "deployment/app"]).run()?.expect_success()?;
    await_rollout(namespace)?;
    load.goes_on(AROUND)?;

    let report = load.report()?;
    let replaced = report.pods.difference(&before.pods).count();
    ensure!(replaced == REPLICAS as usize, "{:?} have answered after {:?}", report.pods, before.pods);
    ensure!(report.carried == report.done, "Weft has carried {} of {}", report.carried, report.done);
    let book = Ledger::read(namespace)?;
    let twice: Vec<_> =
        book.deliveries.iter().filter(|(name, count)| name.starts_with("/post-") && **count > 1).collect();
    ensure!(twice.is_empty(), "delivered more than once were {twice:?}");
    for failure in &report.failures {
        ensure!(failure.name.starts_with("post-"), "what may be sent again was not: {failure:?}");
        let in_flight = book.ends.iter().any(|end| failure.start <= end + DYING && *end <= failure.end);
        ensure!(in_flight, "no application ended while this was in flight: {failure:?}; {:?}", book.ends);
    }
    let (done, failed, ends) = (report.done, report.failures.len(), book.ends.len());
    namespace.note(&format!("{done} requests went well; {failed} POSTs were in flight at {ends} ends, and failed"));
    Ok(())
}

/// Pods on both nodes that share a file with their successors.
fn deployment(namespace: &Namespace) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app"},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}},
                "spec": {
                    "containers": [{
                        "name": "app",
                        "image": IMAGE,
                        "imagePullPolicy": "Never",
                        "args": ["serve", format!(":{PORT}"), "/ledger/book"],
                        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
                        "volumeMounts": [{"name": "ledger", "mountPath": "/ledger"}],
                    }],
                    "volumes": [{
                        "name": "ledger",
                        "hostPath": {"path": folder(namespace), "type": "DirectoryOrCreate"},
                    }],
                },
            },
        },
    })
}

/// On a node, in memory: it goes with the node.
fn folder(namespace: &Namespace) -> String {
    format!("/run/ledger-of-{}", namespace.name())
}

/// The client's pod and those of the application.
fn await_all_captured(namespace: &Namespace) -> Result<()> {
    let list = namespace.kubectl(["get", "pods", "--output=jsonpath={.items[*].metadata.name}"]);
    let names = list.run()?.expect_success()?;
    weft::await_captured(namespace, &names.split(' ').collect::<Vec<_>>())
}

fn await_rollout(namespace: &Namespace) -> Result<()> {
    let timeout = format!("--timeout={}s", ROLLOUT_LIMIT.as_secs());
    let status = namespace.kubectl(["rollout", "status", "deployment/app", &timeout]);
    status.within(ROLLOUT_LIMIT * 2).run()?.expect_success().map(drop)
}

/// What the applications of both nodes have written down.
#[derive(Default)]
struct Ledger {
    /// How often each request came to an application.
    deliveries: BTreeMap<String, u32>,
    /// When an application ended.
    ends: Vec<u64>,
}

impl Ledger {
    fn read(namespace: &Namespace) -> Result<Self> {
        let mut book = Self::default();
        for node in NODES {
            let lines = said(node, &["cat", &format!("{}/book", folder(namespace))])?;
            for line in lines.lines() {
                let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
                match entry["request"].as_str() {
                    Some(request) => *book.deliveries.entry(request.to_owned()).or_default() += 1,
                    None => book.ends.push(entry["at"].as_u64().context("an end without a time")?),
                }
            }
        }
        Ok(book)
    }
}
