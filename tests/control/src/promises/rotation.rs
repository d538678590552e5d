//! One root takes another's place by itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use weft_rig::wait;

use crate::agent::{AUDIENCE, join, pod_token};
use crate::cluster::{Cluster, NAMESPACE};
use crate::controller::Controller;
use crate::peers::Peers;
use crate::{Promise, objects};

/// Certificates live so short that a rotation takes half a minute; a lease is as users have it.
const LIVES: [&str; 4] = ["--certificate-life", "10", "--node-certificate-life", "10"];
/// Of a phase, with a controller that has to take over first.
const PHASE_LIMIT: Duration = Duration::from_mins(2);

pub fn promises() -> Vec<Promise> {
    let (name, run) = ("the_root_is_rotated_hands_free", the_root_is_rotated_hands_free as _);
    vec![Promise { name, proof: None, limit: Duration::from_mins(6), run }]
}

fn the_root_is_rotated_hands_free(cluster: &mut Cluster) -> Result<()> {
    let nodes = shop(cluster)?;
    let mut first = Controller::launch_flagged(cluster, "first", 15010, &LIVES)?;
    first.await_log("this controller writes statuses")?;
    let mut second = Controller::launch_flagged(cluster, "second", 15011, &LIVES)?;
    second.await_log("serving agents")?;
    let addresses = [first.address.clone(), second.address.clone()];
    let peers = Peers::start(cluster, &addresses, &nodes)?;
    let (old, _) = wait::until("the agents to serve", PHASE_LIMIT, || peers.expect(1))?;
    let (secret, before) = (cluster.get("Secret", NAMESPACE, "weft-ca")?, await_current(cluster)?);

    cluster.put(&objects::mesh_with_a_root_of(Timestamp::now() + Duration::from_secs(1)))?;
    await_phase(cluster, &peers, &json!("TrustNew"))?;
    await_phase(cluster, &peers, &json!("Reissue"))?;
    // The leader dies at once, and another goes on.
    first.process.kill();
    second.await_log("this controller writes statuses")?;
    await_phase(cluster, &peers, &json!("RetireOld"))?;
    await_phase(cluster, &peers, &Value::Null)?;
    let (new, issued) = wait::until("everybody to believe the new root alone", PHASE_LIMIT, || peers.expect(1))?;
    ensure!(new != old && issued > 20, "{issued} certificates were issued");

    let after = await_current(cluster)?;
    ensure!(after["rootFingerprint"] != before["rootFingerprint"], "{after:#}");
    ensure!(after["roots"].as_array().map(Vec::len) == Some(1), "{after:#}");
    let kept = cluster.get("Secret", NAMESPACE, "weft-ca")?;
    let names = kept["data"].as_object().context("it holds nothing")?.keys().collect::<Vec<_>>();
    ensure!(names == ["rotation.json", "tls.crt", "tls.key"], "the old root is still there: {names:?}");

    // One that was away all the time finds everything as it is now, and whoever begins makes nothing anew.
    let mut third = Controller::launch_flagged(cluster, "first", 15010, &LIVES)?;
    third.await_log("serving agents")?;
    let token = pod_token(cluster, "agent-three", "three", "weft-agent", AUDIENCE)?;
    for controller in [&third, &second] {
        join(cluster, controller, "three", &token)?.context("who was away cannot come back")?;
    }
    ensure!(status(cluster)?["rootFingerprint"] == after["rootFingerprint"], "what was satisfied began again");
    third.stop()?;
    second.stop()?;

    // A backup of before is not what agents believe.
    let restored = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": NAMESPACE, "name": "weft-ca"},
        "type": secret["type"], "data": secret["data"],
    });
    cluster.put(&restored)?;
    let mut refused = Controller::launch_flagged(cluster, "first", 15010, &LIVES)?;
    refused.await_log("but the status of MeshConfig default says that agents trust")
}

/// Two nodes with a pod each: names of nodes, and uids.
fn shop(cluster: &Cluster) -> Result<Vec<(&'static str, String)>> {
    super::shop(cluster)?;
    cluster.put(&objects::node("two", "10.1.0.0/16"))?;
    cluster.put(&objects::pod("shop", "db", "two", "web"))?;
    cluster.put_status("Pod", "shop", "db", &objects::running("10.1.0.11"))?;
    let uid = |pod: &str| -> Result<String> {
        let pod = cluster.get("Pod", "shop", pod)?;
        Ok(pod["metadata"]["uid"].as_str().context("it has no uid")?.to_owned())
    };
    Ok(vec![("one", uid("web")?), ("two", uid("db")?)])
}

fn status(cluster: &Cluster) -> Result<Value> {
    Ok(cluster.get("MeshConfig", "", "default")?["status"].clone())
}

/// Waits until the mesh is told that its root is the only one; the status by then.
fn await_current(cluster: &Cluster) -> Result<Value> {
    wait::until("the root to be current", PHASE_LIMIT, || {
        let status = status(cluster)?;
        ensure!(condition(&status) == json!("Current"), "{status:#}");
        Ok(status)
    })
}

/// Why the root is current, or is not.
fn condition(status: &Value) -> Value {
    let mut all = status["conditions"].as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == "RootCurrent")
        .map_or(Value::Null, |condition| condition["reason"].clone())
}

fn await_phase(cluster: &Cluster, peers: &Peers, wanted: &Value) -> Result<()> {
    wait::until(&format!("the phase {wanted}"), PHASE_LIMIT, || {
        let status = status(cluster)?;
        peers.expect_no_stranger()?;
        ensure!(status["rootRotation"]["phase"] == *wanted, "{status:#}");
        Ok(())
    })
}
