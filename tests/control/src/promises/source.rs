//! What the API says is what agents get, whatever happens to the API.

use anyhow::{Result, ensure};
use serde_json::json;
use weft_rig::wait;

use super::promise;
use crate::Promise;
use crate::agent::{Agent, has, workload};
use crate::cluster::{Cluster, PATIENCE};
use crate::controller::Controller;
use crate::objects;

const PORT: u16 = 15010;

pub fn promises() -> Vec<Promise> {
    vec![
        promise("objects_of_the_api_reach_an_agent", objects_of_the_api_reach_an_agent),
        promise("routes_appear_and_vanish_with_their_definition", routes_appear_and_vanish_with_their_definition),
        promise("an_undecodable_object_blocks_nothing_else", an_undecodable_object_blocks_nothing_else),
        promise("an_api_server_that_restarts_is_followed", an_api_server_that_restarts_is_followed),
        promise("a_compacted_watch_begins_anew", a_compacted_watch_begins_anew),
        promise("a_renewed_credential_is_taken_up", a_renewed_credential_is_taken_up),
    ]
}

/// A namespace with a pod of each name, on node `one`.
fn furnish(cluster: &Cluster, pods: &[&str]) -> Result<()> {
    cluster.put(&objects::mesh(&["10.1.0.0/16"]))?;
    cluster.put(&objects::namespace("shop", "enabled"))?;
    cluster.put(&objects::node("one", "10.1.0.0/16"))?;
    for (index, pod) in pods.iter().enumerate() {
        add(cluster, pod, &format!("10.1.0.{}", index + 10))?;
    }
    Ok(())
}

fn add(cluster: &Cluster, pod: &str, address: &str) -> Result<()> {
    cluster.put(&objects::service_account("shop", pod))?;
    cluster.put(&objects::pod("shop", pod, "one", pod))?;
    cluster.put_status("Pod", "shop", pod, &objects::running(address))
}

fn objects_of_the_api_reach_an_agent(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster, &["web"])?;
    let mut controller = Controller::start(cluster, "controller", PORT)?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    let named = |held: &_| workload(held, "web").is_some_and(|web| web.addresses == [vec![10, 1, 0, 10]]);
    agent.until(cluster, "the pod web", named)?;
    agent.until(cluster, "its enrolment", |held| has(held, "enrolment/"))?;

    cluster.put(&objects::service("shop", "web"))?;
    cluster.put(&objects::denial("shop", "deny", &json!({"namespaces": ["guest"]})))?;
    agent.until(cluster, "the Service", |held| has(held, "service/shop/web"))?;
    agent.until(cluster, "the policy", |held| has(held, "authorization/shop/deny"))?;

    // Of another node's range: whoever wrote that into a status does not get the address.
    add(cluster, "thief", "10.2.0.1")?;
    agent.until(cluster, "the pod thief", |held| workload(held, "thief").is_some())?;
    let finding =
        |status: &serde_json::Value| status["findings"].to_string().contains("outside of the ranges of its node");
    controller.await_status("the stolen address to be found", finding)?;
    let thief = workload(agent.held(), "thief");
    ensure!(thief.is_some_and(|thief| thief.addresses.is_empty()), "it owns an address that its node does not give");

    cluster.delete("AuthorizationPolicy", "shop", "deny")?;
    agent.until(cluster, "the policy to go", |held| !has(held, "authorization/shop/deny"))?;
    cluster.put(&objects::namespace("shop", "disabled"))?;
    agent.until(cluster, "the enrolment to go", |held| !has(held, "enrolment/"))?;
    controller.await_no_error()?;
    controller.stop()
}

fn routes_appear_and_vanish_with_their_definition(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster, &["web"])?;
    cluster.put(&objects::service("shop", "web"))?;
    let mut controller = Controller::start(cluster, "controller", PORT)?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    agent.until(cluster, "the Service", |held| has(held, "service/shop/web"))?;

    let definition = cluster.gateway_definition("httproutes")?;
    cluster.define(&definition)?;
    cluster.put(&objects::route("shop", "web", "web"))?;
    agent.until(cluster, "the route", |held| has(held, "routes/shop/web"))?;

    // All of its routes are deleted with it, each as if by a person.
    cluster.delete("CustomResourceDefinition", "", "httproutes.gateway.networking.k8s.io")?;
    cluster.await_gone("CustomResourceDefinition", "", "httproutes.gateway.networking.k8s.io")?;
    controller.await_error(&["HTTPRoute any more", "the last 1 stay in force"])?;
    add(cluster, "later", "10.1.0.99")?;
    agent.until(cluster, "a change after the loss", |held| workload(held, "later").is_some())?;
    ensure!(has(agent.held(), "routes/shop/web"), "the last good routes were dropped");

    // An empty list under a new definition is no wish of anybody.
    cluster.define(&definition)?;
    controller.await_error(&["1 HTTPRoute of an earlier definition stay in force", "HTTPRoute shop/web"])?;
    add(cluster, "latest", "10.1.0.98")?;
    agent.until(cluster, "a change after the return", |held| workload(held, "latest").is_some())?;
    ensure!(has(agent.held(), "routes/shop/web"), "the last good routes were dropped");
    // Over a restart too.
    controller.stop()?;
    let mut controller = Controller::start(cluster, "controller", PORT)?;
    controller.await_error(&["1 HTTPRoute of an earlier definition stay in force", "HTTPRoute shop/web"])?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    agent.until(cluster, "the route after a restart", |held| has(held, "routes/shop/web"))?;
    cluster.put(&objects::route("shop", "web", "web"))?;
    controller.await_no_error()?;
    cluster.delete("HTTPRoute", "shop", "web")?;
    agent.until(cluster, "a deleted route to go", |held| !has(held, "routes/shop/web"))?;
    controller.stop()
}

fn an_undecodable_object_blocks_nothing_else(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster, &["web"])?;
    cluster.put(&objects::denial("shop", "good", &json!({"cidrs": ["10.9.0.0/16"]})))?;
    let mut controller = Controller::start(cluster, "controller", PORT)?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    agent.until(cluster, "the policy", |held| has(held, "authorization/shop/good"))?;
    let policy = |agent: &Agent| agent.held().get("authorization/shop/good").map(|found| found.version.clone());
    let good = policy(&agent);

    // The schema cannot know what a range is, and takes both.
    cluster.put(&objects::denial("shop", "good", &json!({"cidrs": ["10.9.0/16"]})))?;
    cluster.put(&objects::denial("shop", "bad", &json!({"cidrs": ["nowhere"]})))?;
    controller.await_error(&["AuthorizationPolicy shop/good", "spec.rules[0].from[0].cidrs[0]", "10.9.0/16"])?;
    controller.await_error(&["AuthorizationPolicy shop/bad", "nowhere"])?;
    add(cluster, "later", "10.1.0.99")?;
    agent.until(cluster, "what comes after it", |held| workload(held, "later").is_some())?;
    ensure!(policy(&agent) == good, "its last good version is no longer in force");
    ensure!(!has(agent.held(), "authorization/shop/bad"), "a policy that never was good is in force");

    // Over a restart too.
    controller.stop()?;
    let mut controller = Controller::start(cluster, "controller", PORT)?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    agent.until(cluster, "the policy after a restart", |held| has(held, "authorization/shop/good"))?;
    ensure!(policy(&agent) == good, "a restart lost the last good version");
    cluster.put(&objects::denial("shop", "good", &json!({"cidrs": ["10.8.0.0/16"]})))?;
    cluster.delete("AuthorizationPolicy", "shop", "bad")?;
    controller.await_no_error()?;
    controller.stop()
}

fn an_api_server_that_restarts_is_followed(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster, &["web"])?;
    let mut controller = Controller::start(cluster, "controller", PORT)?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    agent.until(cluster, "the pod", |held| workload(held, "web").is_some())?;
    let late = cluster.token("weft-controller", &[], None)?;
    cluster.kill_api();
    controller.await_error(&["the API server cannot be reached"])?;
    ensure!(workload(agent.held(), "web").is_some(), "what was read was dropped");
    // One that begins meanwhile waits, and does not end.
    let mut late = Controller::launch_by(cluster, "late", PORT + 1, &late)?;
    late.await_error(&["the API server cannot be reached"])?;
    cluster.start_api(&[])?;
    late.await_log("serving agents")?;
    add(cluster, "later", "10.1.0.99")?;
    agent.until(cluster, "a change after the restart", |held| workload(held, "later").is_some())?;
    controller.await_no_error()?;
    controller.stop()
}

fn a_compacted_watch_begins_anew(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster, &["web", "gone"])?;
    let mut controller = Controller::start(cluster, "controller", PORT)?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    agent.until(cluster, "both pods", |held| workload(held, "web").is_some() && workload(held, "gone").is_some())?;
    let before = cluster.get("Pod", "shop", "web")?["metadata"]["resourceVersion"].to_string().replace('"', "");
    controller.freeze()?;
    cluster.delete("Pod", "shop", "gone")?;
    cluster.kill_api();
    cluster.start_api(&["--etcd-compaction-interval=1s"])?;
    let pods = cluster.api("Pod", "shop")?;
    add(cluster, "later", "10.1.0.99")?;
    wait::until("the history to be forgotten", PATIENCE, || {
        let params = kube::api::ListParams::default().at(&before).matching(kube::api::VersionMatch::Exact);
        let answer = cluster.wait_for(pods.list(&params));
        let forgotten = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 410);
        ensure!(forgotten, "revision {before} is still known");
        Ok(())
    })?;
    controller.thaw()?;
    // The other stream may have been given up while nobody answered.
    let mut agent = Agent::start(cluster, &controller, "one")?;
    agent.until(cluster, "what came meanwhile", |held| workload(held, "later").is_some())?;
    agent.until(cluster, "what went meanwhile", |held| workload(held, "gone").is_none())?;
    controller.await_log("listing again")?;
    controller.await_no_error()?;
    controller.stop()
}

/// The first credential dies with the Secret that it is bound to; the file holds another by then.
fn a_renewed_credential_is_taken_up(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster, &["web"])?;
    let bound = |cluster: &Cluster, name: &str| -> Result<String> {
        cluster.put(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "weft-system", "name": name}}),
        )?;
        let uid = cluster.get("Secret", "weft-system", name)?["metadata"]["uid"].clone();
        let reference = json!({"apiVersion": "v1", "kind": "Secret", "name": name, "uid": uid});
        cluster.token("weft-controller", &[], Some(&reference))
    };
    let first = bound(cluster, "first")?;
    let mut controller = Controller::launch_by(cluster, "controller", PORT, &first)?;
    controller.await_generation()?;
    let mut agent = Agent::start(cluster, &controller, "one")?;
    cluster.delete("Secret", "weft-system", "first")?;
    // Watches that are open live on; a new API server asks for the credential again.
    cluster.kill_api();
    cluster.start_api(&[])?;
    controller.await_error(&["does not accept the controller's credential"])?;
    std::fs::write(controller.token_file(), bound(cluster, "second")?)?;
    add(cluster, "later", "10.1.0.99")?;
    // A credential is read again within a minute.
    for _ in 0..3 {
        if agent.until(cluster, "a change under the new credential", |held| workload(held, "later").is_some()).is_ok() {
            break;
        }
    }
    ensure!(workload(agent.held(), "later").is_some(), "the new credential was never taken up");
    controller.await_no_error()?;
    controller.stop()
}
