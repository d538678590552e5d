//! The mesh says of itself that it is there and what it can do (GEP-3949).

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use super::promise;
use crate::Promise;
use crate::cluster::{Cluster, PATIENCE};
use crate::controller::Controller;

const DEFINITION: &str = "xmeshes.gateway.networking.x-k8s.io";

pub fn promises() -> Vec<Promise> {
    vec![promise("the_mesh_introduces_itself_and_touches_nobodys_words", introduced)]
}

/// Waits until an `XMesh` is answered: `True/Accepted` and the like. The object.
fn await_answer(cluster: &Cluster, name: &str, wanted: &str) -> Result<Value> {
    wait::until(&format!("the XMesh {name} to be answered {wanted}"), PATIENCE, || {
        let mesh = cluster.get("XMesh", "", name)?;
        let accepted = &mesh["status"]["conditions"][0];
        let told = [&accepted["status"], &accepted["reason"]].map(|text| text.as_str().unwrap_or_default()).join("/");
        ensure!(told == wanted && accepted["type"] == "Accepted", "{}", mesh["status"]);
        if wanted != PENDING {
            ensure!(accepted["observedGeneration"] == mesh["metadata"]["generation"], "{accepted}");
        }
        Ok(mesh)
    })
}

/// As the definition has it.
const PENDING: &str = "Unknown/Pending";

pub fn await_accepted(cluster: &Cluster, name: &str) -> Result<Value> {
    await_answer(cluster, name, "True/Accepted")
}

fn mesh(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XMesh", "metadata": {"name": name}, "spec": spec,
    })
}

fn introduced(cluster: &mut Cluster) -> Result<()> {
    super::shop(cluster)?;
    let mut controller = Controller::launch(cluster, "controller", 15010)?;
    controller.await_generation()?;
    cluster.define(&cluster.gateway_experiment("xmeshes")?)?;
    let made = await_accepted(cluster, "weft")?;
    let owner = &made["metadata"]["labels"]["app.kubernetes.io/part-of"];
    ensure!(owner == "weft", "nobody knows who made it: {owner}");
    ensure!(made["spec"] == json!({"controllerName": "weft.dev/controller"}), "{}", made["spec"]);
    let message = made["status"]["conditions"][0]["message"].as_str().context("no message")?;
    ensure!(message.starts_with("accepted by Weft ") && message.ends_with(" in namespace weft-system"), "{message}");
    let features = made["status"]["supportedFeatures"].as_array().context("it says nothing of features")?;
    let claimed = include_str!("../../../../controller/supported-features.txt").lines();
    ensure!(*features == claimed.map(|name| json!({"name": name})).collect::<Vec<_>>(), "{features:?}");

    // What a person writes there stays, and is answered.
    cluster.put(&mesh("weft", &json!({"controllerName": "weft.dev/controller", "description": "ours"})))?;
    let edited = await_accepted(cluster, "weft")?;
    ensure!(edited["metadata"]["generation"] == 2 && edited["spec"]["description"] == "ours", "{edited}");
    ensure!(edited["status"]["supportedFeatures"] == made["status"]["supportedFeatures"], "{}", edited["status"]);

    // Others' are theirs, and what cannot be read from an object is refused.
    cluster.put(&mesh("theirs", &json!({"controllerName": "example.com/mesh"})))?;
    let parameters = json!({"group": "", "kind": "ConfigMap", "name": "more", "namespace": "shop"});
    cluster.put(&mesh("more", &json!({"controllerName": "weft.dev/controller", "parametersRef": parameters})))?;
    let refused = await_answer(cluster, "more", "False/InvalidParameters")?;
    ensure!(refused["status"]["supportedFeatures"] == json!([]), "{}", refused["status"]);
    await_answer(cluster, "theirs", PENDING)?;

    // What another writer says of it stays.
    let status = cluster.get("XMesh", "", "weft")?["status"].clone();
    let audited = json!({
        "type": "Audited", "status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let mut more = status["conditions"].as_array().context("no conditions")?.clone();
    more.push(audited.clone());
    cluster.put_status("XMesh", "", "weft", &json!({"conditions": more}))?;
    cluster.put(&mesh("weft", &json!({"controllerName": "weft.dev/controller", "description": "audited"})))?;
    let kept = await_accepted(cluster, "weft")?;
    ensure!(kept["status"]["conditions"].as_array().is_some_and(|all| all.contains(&audited)), "{}", kept["status"]);

    // Whoever builds on it learns that Weft goes.
    cluster.merge("MeshConfig", "", "default", &json!({"spec": {"state": "Removing"}}))?;
    let leaving = await_answer(cluster, "weft", "False/Removing")?;
    ensure!(leaving["status"]["supportedFeatures"] == json!([]), "{}", leaving["status"]);
    cluster.merge("MeshConfig", "", "default", &json!({"spec": {"state": "Active"}}))?;
    await_accepted(cluster, "weft")?;

    // It is there again, whoever takes it away, with its definition or alone.
    cluster.delete("XMesh", "", "weft")?;
    await_accepted(cluster, "weft")?;
    cluster.delete("CustomResourceDefinition", "", DEFINITION)?;
    cluster.await_gone("CustomResourceDefinition", "", DEFINITION)?;
    cluster.define(&cluster.gateway_experiment("xmeshes")?)?;
    await_accepted(cluster, "weft")?;
    controller.await_no_error()?;
    controller.stop()
}
