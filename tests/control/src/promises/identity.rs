//! Who is believed, and by which root.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tonic::Code;

use super::promise;
use crate::Promise;
use crate::agent::{AUDIENCE, join, pod_token, renew};
use crate::cluster::{Cluster, NAMESPACE};
use crate::controller::Controller;
use crate::objects;

pub fn promises() -> Vec<Promise> {
    vec![
        promise("the_token_of_an_agents_pod_joins_its_node_alone", the_token_of_an_agents_pod_joins_its_node_alone),
        promise("the_root_is_made_once", the_root_is_made_once),
    ]
}

fn the_token_of_an_agents_pod_joins_its_node_alone(cluster: &mut Cluster) -> Result<()> {
    cluster.put(&objects::mesh(&["10.1.0.0/16"]))?;
    let controller = Controller::start(cluster, "controller", 15010)?;
    let good = pod_token(cluster, "agent", "one", "weft-agent", AUDIENCE)?;
    let other_audience = pod_token(cluster, "agent", "one", "weft-agent", "example.com")?;
    let other_account = pod_token(cluster, "thief", "one", "other", AUDIENCE)?;
    let unbound = cluster.token("weft-agent", &[AUDIENCE], None)?;
    let (head, signature) = good.rsplit_once('.').context("it has no signature")?;
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for (node, token, part) in [
        ("one", other_audience.as_str(), "not for the audience"),
        ("one", &other_account, "agents are system:serviceaccount:weft-system:weft-agent"),
        ("one", &unbound, "bound to no node"),
        ("one", &forged, "signed by none of this cluster's keys"),
        ("two", &good, "is of a pod on node one"),
        ("one", "0123456789abcdef", "not a service account's token"),
    ] {
        let Err(refused) = join(cluster, &controller, node, token)? else { anyhow::bail!("{part}: it joined") };
        ensure!(refused.code() == Code::Unauthenticated && refused.message().contains(part), "{part}: {refused}");
    }
    let node = join(cluster, &controller, "one", &good)?.context("a good token is refused")?;
    let Err(refused) = renew(cluster, &controller, "one", node)? else {
        anyhow::bail!("a stolen certificate lives on")
    };
    ensure!(refused.message().contains("show the token of the agent's pod"), "{refused}");

    // What can be seen in a token is never asked of the API server.
    let asked = |cluster: &Cluster| -> Result<usize> {
        let writes = cluster.writes_of("weft-controller")?;
        Ok(writes.iter().filter(|write| write.contains("tokenreviews")).count())
    };
    let before = asked(cluster)?;
    ensure!(before == 2, "{before} questions: one of each unbound and good token were needed");
    join(cluster, &controller, "one", &good)?.context("a known token is refused")?;
    ensure!(asked(cluster)? == before, "a token that is known was asked about again");
    controller.stop()
}

fn the_root_is_made_once(cluster: &mut Cluster) -> Result<()> {
    cluster.put(&objects::mesh(&["10.1.0.0/16"]))?;
    // Two that begin together make one root.
    let mut first = Controller::launch(cluster, "first", 15010)?;
    let mut second = Controller::launch(cluster, "second", 15011)?;
    for controller in [&mut first, &mut second] {
        controller.await_log("serving agents")?;
    }
    let token = pod_token(cluster, "agent", "one", "weft-agent", AUDIENCE)?;
    for controller in [&first, &second] {
        join(cluster, controller, "one", &token)?.context("it is not of the root in the ConfigMap")?;
    }
    first.stop()?;
    second.stop()?;

    let secret = cluster.get("Secret", NAMESPACE, "weft-ca")?;
    cluster.delete("Secret", NAMESPACE, "weft-ca")?;
    let mut refused = Controller::launch(cluster, "first", 15010)?;
    refused.await_log(
        "the Secret weft-system/weft-ca is missing, but the ConfigMap weft-trust says that a root existed",
    )?;
    drop(refused);
    // Nor where somebody has removed that trace too.
    let map = cluster.get("ConfigMap", NAMESPACE, "weft-trust")?;
    cluster.delete("ConfigMap", NAMESPACE, "weft-trust")?;
    let mut refused = Controller::launch(cluster, "first", 15010)?;
    refused.await_log(
        "the Secret weft-system/weft-ca is missing, but the status of MeshConfig default says that a root existed",
    )?;
    drop(refused);
    let made = cluster.get("Secret", NAMESPACE, "weft-ca");
    ensure!(made.is_err(), "another root was made");

    let restored = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": NAMESPACE, "name": "weft-ca"},
        "type": secret["type"], "data": secret["data"],
    });
    cluster.put(&restored)?;
    Controller::start(cluster, "first", 15010)?.stop()?;
    let again = cluster.get("ConfigMap", NAMESPACE, "weft-trust")?;
    ensure!(again["data"] == map["data"], "agents are told of another root");
    Ok(())
}
