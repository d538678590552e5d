//! What a Service means to the captured clients of real pods: which of them answers.
//!
//! The Services here are written by hand, beside those that the stand-in for kube-proxy knows: without Weft nobody would
//! answer at their addresses.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, PodPlan, ServicePlan, wait};

use crate::cast::{self, EFFECT_LIMIT, IDENTIFY};
use crate::scene::{Promise, Scene};

/// curl's exit status for a connection that could not be made.
const REFUSED: i32 = 7;
/// The address of every Service that is written here.
const ADDRESS: &str = "10.96.7.1";
/// Outside of all of the rig's networks.
const EXTERNAL: &str = "203.0.113.7";
const BALANCER: &str = "203.0.113.8";
/// Connections that show where a Service leads: by chance alone, one of two would get all of them once in half a million.
const MANY: usize = 20;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("external_addresses_lead_to_the_service_under_mtls", external),
        Promise::new("a_headless_services_pods_are_dialled_by_their_own_addresses", headless),
        Promise::new("a_client_keeps_its_endpoint_where_the_service_says_so", affinity),
        Promise::new("a_local_service_never_leaves_the_node", local),
        Promise::new("hints_keep_clients_in_their_zone", hints),
        Promise::new("the_last_endpoint_serves_while_it_is_terminating", terminating),
        Promise::new("one_port_may_have_another_number_on_each_pod", named_ports),
        Promise::new("a_finished_pod_lends_its_address_to_nobody", finished),
    ]
}

/// The Service `shop/own` with one port 80 named `http`.
fn service(spec: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "own", "namespace": "shop"},
        "spec": {"clusterIP": ADDRESS, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    });
    for (name, value) in spec.as_object().into_iter().flatten() {
        service["spec"][name] = value.clone();
    }
    service
}

/// Endpoints of `shop/own` whose pods are called at `port`.
fn slice(name: &str, port: u16, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "own"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": port, "protocol": "TCP"}], "endpoints": endpoints,
    })
}

/// A pod as an endpoint, with further fields.
fn endpoint(mesh: &Mesh, pod: &str, more: &Value) -> Result<Value> {
    let found = mesh.pod(pod)?;
    let (namespace, name) = pod.split_once('/').context("no namespace")?;
    let mut endpoint = json!({
        "addresses": [found.ipv4()], "nodeName": weft_rig::object::node_name(found.node()),
        "targetRef": {"kind": "Pod", "namespace": namespace, "name": name, "uid": found.uid()},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        endpoint[name] = value.clone();
    }
    Ok(endpoint)
}

/// The name that the pod behind an address says; None where nobody answers.
fn answered(mesh: &Mesh, client: &str, address: &str) -> Result<Option<String>> {
    let asked = mesh.pod(client)?.command("curl").args(["-sS", "--max-time", "2", &format!("http://{address}/")]);
    let outcome = asked.run()?;
    let known = mesh.pods().map(|pod| pod.name().to_string()).find(|name| outcome.stdout.contains(name.as_str()));
    ensure!(known.is_some() || outcome.status.code() == Some(REFUSED), "{client} → {address}: {outcome:?}");
    Ok(known)
}

/// All that answer to many connections.
fn answerers(mesh: &Mesh, client: &str, address: &str) -> Result<BTreeSet<String>> {
    let answers = (0..MANY).map(|_| answered(mesh, client, address)?.context("refused"));
    answers.collect()
}

/// Waits until these and no others answer.
fn await_answerers(mesh: &Mesh, client: &str, address: &str, expected: &[&str]) -> Result<()> {
    wait::until(&format!("{expected:?} to answer {client} at {address}"), EFFECT_LIMIT, || {
        let found = answerers(mesh, client, address)?;
        ensure!(found.iter().eq(expected), "{found:?}");
        Ok(())
    })
}

fn await_refused(mesh: &Mesh, client: &str, address: &str) -> Result<()> {
    wait::until(&format!("{address} to refuse {client}"), EFFECT_LIMIT, || {
        let found = answered(mesh, client, address)?;
        ensure!(found.is_none(), "{found:?} answered");
        Ok(())
    })
}

fn external(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let mut own = service(&json!({"externalIPs": [EXTERNAL]}));
    own["status"] = json!({"loadBalancer": {"ingress": [{"ip": BALANCER}]}});
    let behind = [endpoint(&mesh, "shop/server", &json!({}))?];
    mesh.directory().apply(own)?;
    mesh.directory().apply(slice("own-1", IDENTIFY, &behind))?;
    for address in [ADDRESS, EXTERNAL, BALANCER] {
        await_answerers(&mesh, "shop/client", address, &["shop/server"])?;
        let asked = format!("{address}:80");
        cast::records(&mut mesh, 1, "the connection under mTLS", |record| {
            record["original_destination"] == *asked && record["service"] == "shop/own" && record["security"] == "mtls"
        })?;
    }
    mesh.directory().remove("EndpointSlice", "shop", "own-1")?;
    [ADDRESS, EXTERNAL].iter().try_for_each(|address| await_refused(&mesh, "shop/client", address))
}

fn headless(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    mesh.directory().apply(service(&json!({"clusterIP": "None", "selector": {"kind": "server"}})))?;
    let behind = [endpoint(&mesh, "shop/server", &json!({}))?, endpoint(&mesh, "shop/near", &json!({}))?];
    mesh.directory().apply(slice("own-1", IDENTIFY, &behind))?;
    // What DNS says are the pods' addresses.
    for pod in ["shop/server", "shop/near"] {
        let address = cast::at(&mesh, pod, IDENTIFY)?;
        ensure!(answered(&mesh, "shop/client", &address)?.as_deref() == Some(pod), "another answers for {pod}");
        let records =
            cast::records(&mut mesh, 1, "the connection", |record| record["original_destination"] == *address)?;
        ensure!(records[0]["security"] == "mtls" && records[0]["destination"]["workload"] == *pod, "{}", records[0]);
    }
    // A route leads to its endpoints as to any other's.
    mesh.directory().apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "to-own", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "near", "port": 80}],
            "rules": [{"backendRefs": [{"name": "own", "port": 80}]}],
        },
    }))?;
    await_answerers(&mesh, "shop/client", "near.shop", &["shop/near", "shop/server"])?;
    // Without a selector its endpoints may be nobody's pods.
    let stranger = json!({"addresses": [mesh.pod("outside/stranger")?.ipv4()]});
    cast::start_servers(&mut mesh, "outside/stranger")?;
    mesh.directory().apply(service(&json!({"clusterIP": "None"})))?;
    mesh.directory().apply(slice("own-1", IDENTIFY, &[stranger]))?;
    await_answerers(&mesh, "shop/client", "near.shop", &["outside/stranger"])
}

fn affinity(scene: &Scene) -> Result<()> {
    let mut plan = cast::shop(scene)?;
    let web = |number: u8| PodPlan::named(&format!("shop/web-{number}")).on(2).account("web").label("app", "web");
    for number in 1..=4 {
        plan = plan.pod(web(number));
    }
    let sticky = ServicePlan::named("shop/sticky").port("http", 80, IDENTIFY).selects("app", "web");
    let mut mesh = plan.service(sticky.field("sessionAffinity", json!("ClientIP"))).start(&scene.sandbox)?;
    for number in 1..=4 {
        cast::start_servers(&mut mesh, &format!("shop/web-{number}"))?;
    }
    // Each client by itself; which one it gets is chance.
    let first = answered(&mesh, "shop/client", "sticky.shop")?.context("refused")?;
    let keeps = |mesh: &Mesh, whom: &str| await_answerers(mesh, "shop/client", "sticky.shop", &[whom]);
    keeps(&mesh, &first)?;
    for number in 5..=8 {
        mesh.add_pod(&web(number))?;
        cast::start_servers(&mut mesh, &format!("shop/web-{number}"))?;
    }
    await_endpoints(&mut mesh, 8)?;
    let found = answerers(&mesh, "shop/client", "sticky.shop")?;
    ensure!(found.iter().eq([&first]), "it had {first}, and after others came it got {found:?}");
    mesh.set_ready(&first, false)?;
    let second = wait::until("another endpoint", EFFECT_LIMIT, || {
        let found = answered(&mesh, "shop/client", "sticky.shop")?.context("refused")?;
        ensure!(found != first, "it is not ready");
        Ok(found)
    })?;
    keeps(&mesh, &second)?;
    mesh.set_ready(&first, true)?;
    await_endpoints(&mut mesh, 8)?;
    let found = answerers(&mesh, "shop/client", "sticky.shop")?;
    ensure!(found.iter().eq([&second]), "it had {second}, and after {first} came back it got {found:?}");
    Ok(())
}

/// Waits until the client's agent knows so many endpoints of `shop/sticky`.
fn await_endpoints(mesh: &mut Mesh, count: usize) -> Result<()> {
    let socket = mesh.node(1)?.admin_socket();
    wait::until(&format!("{count} endpoints"), EFFECT_LIMIT, || {
        let known = weft_rig::admin::ask(&socket, "/config")?;
        let services = known["services"].as_array().context("no services")?;
        let sticky = services.iter().find(|service| service["name"] == "shop/sticky").context("no shop/sticky")?;
        let endpoints = sticky["ports"][0]["endpoints"].as_array().map_or(0, Vec::len);
        // Of both families.
        ensure!(endpoints == 2 * count, "{endpoints} are known");
        Ok(())
    })
}

fn local(scene: &Scene) -> Result<()> {
    let plan = ServicePlan::named("shop/logs").port("http", 80, IDENTIFY).selects("kind", "server");
    let plan = cast::shop(scene)?.service(plan.field("internalTrafficPolicy", json!("Local")));
    let mut mesh = cast::start(plan, scene)?;
    await_answerers(&mesh, "shop/client", "logs.shop", &["shop/near"])?;
    await_answerers(&mesh, "shop/client", "both.shop", &["shop/near", "shop/server"])?;
    mesh.set_ready("shop/near", false)?;
    await_refused(&mesh, "shop/client", "logs.shop")?;
    await_answerers(&mesh, "shop/client", "both.shop", &["shop/server"])
}

fn hints(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let node = |number: usize, zone: &str| {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": weft_rig::object::node_name(number), "labels": labels}})
    };
    let zone = |zone: &str| json!({"hints": {"forZones": [{"name": zone}]}});
    let behind = [endpoint(&mesh, "shop/near", &zone("west"))?, endpoint(&mesh, "shop/server", &zone("east"))?];
    for object in [node(1, "west"), node(2, "east"), service(&json!({})), slice("own-1", IDENTIFY, &behind)] {
        mesh.directory().apply(object)?;
    }
    await_answerers(&mesh, "shop/client", ADDRESS, &["shop/near"])?;
    mesh.directory().apply(node(1, "east"))?;
    await_answerers(&mesh, "shop/client", ADDRESS, &["shop/server"])?;
    // Where nothing is for the zone, everything is.
    mesh.directory().apply(node(1, "north"))?;
    await_answerers(&mesh, "shop/client", ADDRESS, &["shop/near", "shop/server"])
}

fn terminating(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let state = |ready: bool, serving: bool, terminating: bool| json!({"conditions": {"ready": ready, "serving": serving, "terminating": terminating}});
    let leaving = endpoint(&mesh, "shop/server", &state(false, true, true))?;
    mesh.directory().apply(service(&json!({})))?;
    mesh.directory().apply(slice("own-1", IDENTIFY, std::slice::from_ref(&leaving)))?;
    await_answerers(&mesh, "shop/client", ADDRESS, &["shop/server"])?;
    let ready = endpoint(&mesh, "shop/near", &state(true, true, false))?;
    mesh.directory().apply(slice("own-1", IDENTIFY, &[leaving, ready]))?;
    await_answerers(&mesh, "shop/client", ADDRESS, &["shop/near"])?;
    let gone = endpoint(&mesh, "shop/server", &state(false, false, true))?;
    mesh.directory().apply(slice("own-1", IDENTIFY, &[gone]))?;
    await_refused(&mesh, "shop/client", ADDRESS)
}

fn named_ports(scene: &Scene) -> Result<()> {
    const OTHER: u16 = 8181;
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let pod = mesh.pod_mut("shop/client")?;
    let launch =
        pod.command(cast::testapp()?).args(["identify", "--port", &OTHER.to_string(), "--name", "shop/client"]);
    pod.serve("identify", launch)?;
    pod.await_listener(OTHER, EFFECT_LIMIT)?;
    let (one, other) = (endpoint(&mesh, "shop/server", &json!({}))?, endpoint(&mesh, "shop/client", &json!({}))?);
    mesh.directory().apply(service(&json!({})))?;
    mesh.directory().apply(slice("own-1", IDENTIFY, &[one]))?;
    mesh.directory().apply(slice("own-2", OTHER, &[other]))?;
    await_answerers(&mesh, "shop/other", ADDRESS, &["shop/client", "shop/server"])
}

fn finished(scene: &Scene) -> Result<()> {
    let job = PodPlan::named("shop/job").on(2).account("job");
    let mut mesh = cast::start(cast::shop(scene)?.pod(job), scene)?;
    cast::start_servers(&mut mesh, "shop/job")?;
    let stale = slice("own-1", IDENTIFY, &[endpoint(&mesh, "shop/job", &json!({}))?]);
    mesh.directory().apply(service(&json!({})))?;
    mesh.directory().apply(stale)?;
    await_answerers(&mesh, "shop/client", ADDRESS, &["shop/job"])?;
    let (number, address) = (mesh.pod("shop/job")?.number(), mesh.pod("shop/job")?.ipv4());
    mesh.vanish_pod("shop/job")?;
    mesh.directory().edit("Pod", "shop", "job", |pod| pod["status"]["phase"] = json!("Succeeded"))?;
    mesh.add_pod(&PodPlan::named("shop/heir").on(2).account("heir").number(number))?;
    cast::start_servers(&mut mesh, "shop/heir")?;
    ensure!(mesh.pod("shop/heir")?.ipv4() == address, "the address was not used again");
    // The address is the heir's, with the heir's identity, ...
    mesh.await_enrolled(EFFECT_LIMIT)?;
    let own = cast::at(&mesh, "shop/heir", IDENTIFY)?;
    await_answerers(&mesh, "shop/client", &own, &["shop/heir"])?;
    cast::records(&mut mesh, 1, "the heir's identity", |record| {
        let identity = record["destination"]["identity"].as_str();
        record["original_destination"] == *own && identity.is_some_and(|identity| identity.ends_with("/sa/heir"))
    })?;
    // ... and nothing that is still said of the finished pod leads to it.
    await_refused(&mesh, "shop/client", ADDRESS)
}
