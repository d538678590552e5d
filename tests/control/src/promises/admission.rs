//! The policy that cluster administrators apply beside Weft: nobody sends a kubelet to another pod.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weft_charts::{Chart, Release, Values};
use weft_rig::wait;

use crate::Promise;
use crate::cluster::{Cluster, PATIENCE};
use crate::objects;

pub fn promises() -> Vec<Promise> {
    vec![super::promise("a_probe_that_names_a_host_is_refused", a_probe_that_names_a_host_is_refused)]
}

const ELSEWHERE: &str = "10.1.0.9";

fn a_probe_that_names_a_host_is_refused(cluster: &mut Cluster) -> Result<()> {
    cluster.put(&objects::namespace("shop", "enabled"))?;
    cluster.put(&objects::service_account("shop", "web"))?;
    let release = Release { name: "weft".to_owned(), namespace: "weft-system".to_owned() };
    let installed = Chart::weft()?.render(&release, &Values::default())?;
    for object in installed.iter().filter(|object| object.kind.starts_with("ValidatingAdmissionPolicy")) {
        cluster.put(&object.value)?;
    }
    let probe = |kind: &str, host: &str| json!({kind: {"host": host, "port": 80}});
    let foreign = json!({"livenessProbe": probe("httpGet", ELSEWHERE)});
    // A policy is in force a moment after it is there.
    wait::until("the policy to be in force", PATIENCE, || {
        let outcome = make(cluster, &pod(&foreign, &json!({})));
        cluster.delete("Pod", "shop", "web")?;
        expect_refused(outcome)
    })?;
    for kind in ["httpGet", "tcpSocket"] {
        for field in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let container = json!({field: probe(kind, ELSEWHERE)});
            expect_refused(make(cluster, &pod(&container, &json!({})))).context(container)?;
        }
    }
    for hook in ["postStart", "preStop"] {
        let container = json!({"lifecycle": {hook: probe("httpGet", "other.shop.svc")}});
        expect_refused(make(cluster, &pod(&container, &json!({})))).context(container)?;
    }
    let mut beside = pod(&json!({}), &json!({}));
    beside["spec"]["initContainers"] = json!([{"name": "beside", "image": "app", "restartPolicy": "Always", "livenessProbe": probe("tcpSocket", ELSEWHERE)}]);
    expect_refused(make(cluster, &beside))?;
    let mut mirror = pod(&foreign, &json!({"kubernetes.io/config.mirror": "shown"}));
    // The API server lets no mirror pod have one.
    mirror["spec"]["serviceAccountName"].take();
    let permitted = [
        pod(&json!({}), &json!({})),
        pod(&json!({"livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"grpc": {"port": 81}}}), &json!({})),
        pod(&json!({"livenessProbe": probe("httpGet", "localhost")}), &json!({})),
        mirror,
    ];
    for pod in permitted {
        make(cluster, &pod).with_context(|| pod.to_string())?;
        cluster.delete("Pod", "shop", "web")?;
        cluster.await_gone("Pod", "shop", "web")?;
    }
    Ok(())
}

fn pod(container: &Value, annotations: &Value) -> Value {
    let mut pod = objects::pod("shop", "web", "one", "web");
    pod["metadata"]["annotations"] = annotations.clone();
    let fields = container.as_object().cloned().unwrap_or_default();
    for (field, value) in fields {
        pod["spec"]["containers"][0][field] = value;
    }
    pod
}

fn make(cluster: &Cluster, pod: &Value) -> Result<()> {
    cluster.create_all(vec![pod.clone()]).map(drop)
}

fn expect_refused(outcome: Result<()>) -> Result<()> {
    let error = outcome.err().context("the pod was taken")?;
    let said = format!("{error:#}");
    ensure!(said.contains("names a host"), "it was refused, but differently: {said}");
    Ok(())
}
