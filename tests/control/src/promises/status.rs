//! What people read in the status of their objects.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use super::{meshes, our_conditions, promise, told};
use crate::Promise;
use crate::agent::Agent;
use crate::cluster::{Cluster, PATIENCE};
use crate::controller::Controller;
use crate::objects;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/weft-system/leases";

pub fn promises() -> Vec<Promise> {
    vec![
        promise("statuses_are_answers_of_ours_alone", statuses_are_answers_of_ours_alone),
        promise(
            "routes_of_connections_are_answered_by_their_kinds_strength",
            routes_of_connections_are_answered_by_their_kinds_strength,
        ),
        promise("backends_of_another_namespace_are_answered_by_its_grants", backends_are_answered_by_grants),
        promise("constraints_of_retries_are_answered", constraints_are_answered),
        promise("x_backends_are_answered_to_whom_they_serve", x_backends_are_answered),
        promise("a_mesh_at_rest_writes_nothing", a_mesh_at_rest_writes_nothing),
        promise("one_leads_and_another_takes_over", one_leads_and_another_takes_over),
    ]
}

fn furnish(cluster: &Cluster) -> Result<()> {
    super::shop(cluster)?;
    cluster.put(&objects::service("shop", "web"))?;
    cluster.define(&cluster.gateway_definition("httproutes")?)?;
    cluster.put(&objects::denial("shop", "deny", &json!({"namespaces": ["guest"]})))?;
    cluster.put(&objects::route("shop", "web", "web"))
}

/// Waits until our conditions of an object are these: `type=status/reason`, in order. The object.
fn await_conditions(cluster: &Cluster, kind: &str, name: &str, wanted: &[&str]) -> Result<Value> {
    wait::until(&format!("{kind} {name} to say {wanted:?}"), PATIENCE, || {
        let object = cluster.get(kind, "shop", name)?;
        let told = told(&our_conditions(&object));
        ensure!(told == wanted, "{told:?}");
        Ok(object)
    })
}

fn entry_of_another() -> Value {
    json!({
        "controllerName": "example.com/gateway", "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"},
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        }],
    })
}

fn statuses_are_answers_of_ours_alone(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster)?;
    cluster.put_status("HTTPRoute", "shop", "web", &json!({"parents": [entry_of_another()]}))?;
    // While the mesh itself cannot be read nothing is published, and it says why.
    cluster.put(&objects::mesh(&["10.1/16"]))?;
    let mut controller = Controller::launch(cluster, "controller", 15010)?;
    wait::until("the mesh to be answered", PATIENCE, || {
        let status = cluster.get("MeshConfig", "", "default")?["status"].clone();
        let condition = &status["ancestors"][0]["conditions"][0];
        ensure!(condition["reason"] == "Invalid" && condition["observedGeneration"] == 2, "{status}");
        Ok(())
    })?;
    controller.await_status("nothing to be published", |status| status["generation"] == 0)?;
    cluster.put(&objects::mesh(&["10.1.0.0/16"]))?;
    controller.await_generation()?;
    let good = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];
    let route = await_conditions(cluster, "HTTPRoute", "web", &good)?;
    ensure!(route["status"]["parents"][0] == entry_of_another(), "another's entry was touched: {}", route["status"]);
    let policy = await_conditions(cluster, "AuthorizationPolicy", "deny", &["Accepted=True/Accepted"])?;
    let ancestor = &policy["status"]["ancestors"][0];
    ensure!(ancestor["conditions"][0]["observedGeneration"] == policy["metadata"]["generation"], "{ancestor}");

    // A transition is written; what did not change keeps its time.
    let mut broken = objects::route("shop", "web", "web");
    broken["spec"]["rules"][0]["backendRefs"][0]["name"] = json!("nobody");
    cluster.put(&broken)?;
    let wanted = ["Accepted=True/Accepted", "ResolvedRefs=False/BackendNotFound"];
    let later = await_conditions(cluster, "HTTPRoute", "web", &wanted)?;
    let time =
        |route: &Value, index: usize| route["status"]["parents"][1]["conditions"][index]["lastTransitionTime"].clone();
    ensure!(time(&later, 0) == time(&route, 0), "a condition that did not change has another time");
    ensure!(later["status"]["parents"][0] == entry_of_another(), "another's entry was touched: {}", later["status"]);

    // Somebody who takes our entry away gets it back; who leaves us leaves none of ours behind.
    cluster.put_status("HTTPRoute", "shop", "web", &json!({"parents": [entry_of_another()]}))?;
    await_conditions(cluster, "HTTPRoute", "web", &wanted)?;
    let mut foreign = objects::route("shop", "web", "web");
    foreign["spec"]["parentRefs"] = json!([{"name": "public"}]);
    cluster.put(&foreign)?;
    let left = await_conditions(cluster, "HTTPRoute", "web", &[])?;
    ensure!(left["status"]["parents"] == json!([entry_of_another()]), "{}", left["status"]);

    // A route that cannot be read says so under its Service, and to no other controller's Gateway.
    let unread = put_route_of_the_future(cluster)?;
    let route = await_conditions(cluster, "HTTPRoute", "web", &["Accepted=False/Invalid"])?;
    let ours = &route["status"]["parents"][1];
    ensure!(ours["parentRef"] == unread["spec"]["parentRefs"][1], "{}", route["status"]);
    ensure!(ours["conditions"][0]["observedGeneration"] == route["metadata"]["generation"], "{ours}");
    ensure!(route["status"]["parents"][0] == entry_of_another(), "{}", route["status"]);

    // What cannot be read says so.
    cluster.put(&objects::denial("shop", "deny", &json!({"cidrs": ["nowhere"]})))?;
    await_conditions(cluster, "AuthorizationPolicy", "deny", &["Accepted=True/Accepted", "Accepted=False/Invalid"])?;
    controller.stop()
}

/// Definitions come one after the other, and each route that is read takes the port from those of weaker kinds.
fn routes_of_connections_are_answered_by_their_kinds_strength(cluster: &mut Cluster) -> Result<()> {
    super::shop(cluster)?;
    let mut service = objects::service("shop", "web");
    // What is declared as http would be no backend of a TLSRoute.
    service["spec"]["ports"][0]["name"] = json!("web");
    cluster.put(&service)?;
    let mut controller = Controller::launch(cluster, "controller", 15010)?;
    controller.await_generation()?;
    let good = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];
    let lost = ["Accepted=False/Conflicted", "ResolvedRefs=True/ResolvedRefs"];
    let kinds = [("tcproutes", "TCPRoute"), ("tlsroutes", "TLSRoute"), ("httproutes", "HTTPRoute")];
    for (index, (plural, kind)) in kinds.into_iter().enumerate() {
        cluster.define(&cluster.gateway_definition(plural)?)?;
        let mut route = objects::route("shop", "web", "web");
        (route["kind"], route["metadata"]["name"]) = (json!(kind), json!(kind.to_lowercase()));
        if kind == "TLSRoute" {
            route["spec"]["hostnames"] = json!(["cart.example", "*.example"]);
        }
        cluster.put(&route)?;
        for (_, weaker) in &kinds[..index] {
            await_conditions(cluster, weaker, &weaker.to_lowercase(), &lost)?;
            // The weakest has lost before, to another one.
            wait::until("the winner to be named", PATIENCE, || {
                let route = cluster.get(weaker, "shop", &weaker.to_lowercase())?;
                let told = route["status"]["parents"][0]["conditions"][0]["message"].to_string();
                ensure!(told.contains(&format!("{kind} shop/{}", kind.to_lowercase())), "{told}");
                Ok(())
            })?;
        }
        await_conditions(cluster, kind, &kind.to_lowercase(), &good)?;
    }
    cluster.delete("HTTPRoute", "shop", "httproute")?;
    await_conditions(cluster, "TLSRoute", "tlsroute", &good)?;
    await_conditions(cluster, "TCPRoute", "tcproute", &lost)?;
    controller.stop()
}

fn constraints_are_answered(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster)?;
    cluster.define(&cluster.gateway_experiment("xbackendtrafficpolicies")?)?;
    let kind = "XBackendTrafficPolicy";
    let mut older = objects::constraint("shop", "older", "web");
    older["spec"]["sessionPersistence"] = json!({"type": "Header", "header": {"name": "x-session"}});
    cluster.put(&older)?;
    let mut controller = Controller::launch(cluster, "controller", 15010)?;
    controller.await_generation()?;
    let found = await_conditions(
        cluster,
        kind,
        "older",
        &["Accepted=True/Accepted", "PartiallyInvalid=True/UnsupportedValue"],
    )?;
    let told = found["status"]["ancestors"][0]["conditions"][1]["message"].to_string();
    ensure!(told.contains("sessionPersistence") && told.contains("XBackend"), "{told}");
    // Times of the API are whole seconds: by name it would be the first.
    wait::until("a second that is younger", PATIENCE, || {
        cluster.delete(kind, "shop", "a-younger")?;
        cluster.put(&objects::constraint("shop", "a-younger", "web"))?;
        let created =
            |name: &str| anyhow::Ok(cluster.get(kind, "shop", name)?["metadata"]["creationTimestamp"].clone());
        ensure!(created("a-younger")? != created("older")?, "they are as old");
        Ok(())
    })?;
    await_conditions(cluster, kind, "a-younger", &["Accepted=False/Conflicted"])?;
    cluster.delete(kind, "shop", "older")?;
    await_conditions(cluster, kind, "a-younger", &["Accepted=True/Accepted"])?;
    controller.await_no_error()?;
    controller.stop()
}

fn x_backends_are_answered(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster)?;
    let mut route = objects::route("shop", "web", "web");
    route["spec"]["rules"][0]["backendRefs"] = json!([objects::to_x_backend("cart")]);
    cluster.put(&route)?;
    let mut controller = Controller::launch(cluster, "controller", 15010)?;
    controller.await_generation()?;
    let answered = |reason: &str| {
        let status = if reason == "ResolvedRefs" { "True" } else { "False" };
        let wanted = ["Accepted=True/Accepted".to_owned(), format!("ResolvedRefs={status}/{reason}")];
        await_conditions(cluster, "HTTPRoute", "web", &wanted.each_ref().map(String::as_str))
    };
    answered("BackendNotFound")?;
    // The kind comes late, as definitions may.
    cluster.define(&cluster.gateway_experiment("xbackends")?)?;
    let cart = objects::x_backend("shop", "cart");
    cluster.put(&cart)?;
    let of_another = json!({
        "controllerName": "example.com/gateway", "ancestorRef": {"kind": "Gateway", "name": "public"}, "conditions": [],
    });
    cluster.put_status("XBackend", "shop", "cart", &json!({"ancestors": [of_another]}))?;
    answered("ResolvedRefs")?;
    let found = await_conditions(cluster, "XBackend", "cart", &["Accepted=True/Accepted"])?;
    let entries = found["status"]["ancestors"].as_array().context("no ancestors")?;
    let web = json!({"group": "", "kind": "Service", "namespace": "shop", "name": "web"});
    ensure!(entries.len() == 2 && entries[0]["controllerName"] == "example.com/gateway", "{entries:?}");
    ensure!(entries[1]["ancestorRef"] == web, "{}", entries[1]);
    ensure!(entries[1]["conditions"][0]["observedGeneration"] == found["metadata"]["generation"], "{}", entries[1]);

    // What Weft cannot do is told to both owners, and what the API server takes to nobody as in force.
    let mut outside = cart.clone();
    outside["spec"] = json!({
        "type": "ExternalHostname", "externalHostname": {"hostname": "api.example.com"}, "port": {"number": 443},
    });
    cluster.put(&outside)?;
    answered("InvalidKind")?;
    let found = await_conditions(cluster, "XBackend", "cart", &["Accepted=False/UnsupportedValue"])?;
    let message = our_conditions(&found)[0]["message"].to_string();
    ensure!(message.contains("spec.type: ") && message.contains("EndpointSelector"), "{message}");
    let mut opaque = cart.clone();
    opaque["spec"]["protocol"] = json!("TCP");
    cluster.put(&opaque)?;
    answered("UnsupportedProtocol")?;
    await_conditions(cluster, "XBackend", "cart", &["Accepted=False/UnsupportedProtocol"])?;
    cluster.put(&cart)?;
    answered("ResolvedRefs")?;

    // Nobody is served by it any more, and the other controller's word stays.
    cluster.delete("HTTPRoute", "shop", "web")?;
    let found = await_conditions(cluster, "XBackend", "cart", &[])?;
    let entries = found["status"]["ancestors"].as_array().context("no ancestors")?;
    ensure!(entries.len() == 1 && entries[0]["controllerName"] == "example.com/gateway", "{entries:?}");
    controller.await_no_error()?;
    controller.stop()
}

/// The kind of grants comes late, as definitions may.
fn backends_are_answered_by_grants(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster)?;
    cluster.put(&objects::namespace("far", "enabled"))?;
    cluster.put(&objects::service("far", "till"))?;
    let mut route = objects::route("shop", "web", "web");
    route["spec"]["rules"][0]["backendRefs"] = json!([{"name": "till", "namespace": "far", "port": 80}]);
    cluster.put(&route)?;
    let mut controller = Controller::launch(cluster, "controller", 15010)?;
    controller.await_generation()?;
    let good = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];
    let refused = ["Accepted=True/Accepted", "ResolvedRefs=False/RefNotPermitted"];
    await_conditions(cluster, "HTTPRoute", "web", &good)?;
    let mut mesh = objects::mesh(&["10.1.0.0/16"]);
    mesh["spec"]["enforced"] = json!({"crossNamespaceBackends": "GrantRequired"});
    cluster.put(&mesh)?;
    await_conditions(cluster, "HTTPRoute", "web", &refused)?;
    cluster.define(&cluster.gateway_definition("referencegrants")?)?;
    cluster.put(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
        "metadata": {"namespace": "far", "name": "shop"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop"}],
            "to": [{"group": "", "kind": "Service", "name": "till"}],
        },
    }))?;
    await_conditions(cluster, "HTTPRoute", "web", &good)?;
    cluster.delete("ReferenceGrant", "far", "shop")?;
    await_conditions(cluster, "HTTPRoute", "web", &refused)?;
    controller.stop()
}

/// One with a field that Weft does not know, of a Gateway and of a Service.
fn put_route_of_the_future(cluster: &Cluster) -> Result<Value> {
    let mut definition = cluster.gateway_definition("httproutes")?;
    for version in definition["spec"]["versions"].as_array_mut().context("it has no versions")? {
        let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["x-kubernetes-preserve-unknown-fields"] = json!(true);
    }
    cluster.define(&definition)?;
    let mut route = objects::route("shop", "web", "web");
    let service = route["spec"]["parentRefs"][0].clone();
    route["spec"]["parentRefs"] = json!([{"name": "public"}, service]);
    route["spec"]["fromTheFuture"] = json!(true);
    wait::until("the API server to take the field", PATIENCE, || {
        cluster.put(&route)?;
        ensure!(cluster.get("HTTPRoute", "shop", "web")?["spec"]["fromTheFuture"] == true, "it dropped it");
        Ok(())
    })?;
    Ok(route)
}

/// Between two renewals of the Lease nothing else is written, over a restart and by heartbeats of pods and nodes neither.
fn a_mesh_at_rest_writes_nothing(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster)?;
    cluster.define(&cluster.gateway_experiment("xmeshes")?)?;
    let controller = Controller::start(cluster, "controller", 15010)?;
    meshes::await_accepted(cluster, "weft")?;
    let route =
        await_conditions(cluster, "HTTPRoute", "web", &["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"])?;
    let policy = await_conditions(cluster, "AuthorizationPolicy", "deny", &["Accepted=True/Accepted"])?;
    controller.stop()?;
    let mut controller = Controller::start(cluster, "controller", 15011)?;
    controller.await_log("this controller writes statuses")?;
    let before = cluster.writes_of("weft-controller")?.len();
    let renewals = |writes: &[String]| writes.iter().filter(|write| write.contains(LEASES)).count();
    let mut beats = 0;
    wait::until("two renewals of the Lease", PATIENCE, || {
        beats += 1;
        let noise = json!({"startTime": format!("2026-01-01T00:00:{:02}Z", beats % 60)});
        cluster.put_status("Pod", "shop", "web", &noise)?;
        let writes = cluster.writes_of("weft-controller")?.split_off(before);
        ensure!(renewals(&writes) >= 2, "{writes:?}");
        Ok(())
    })?;
    let writes = cluster.writes_of("weft-controller")?.split_off(before);
    ensure!(renewals(&writes) == writes.len(), "a mesh at rest wrote {writes:?}");
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    for (kind, name, known) in [("HTTPRoute", "web", &route), ("AuthorizationPolicy", "deny", &policy)] {
        ensure!(version(&cluster.get(kind, "shop", name)?) == version(known), "{kind} {name} was written again");
    }
    controller.stop()
}

fn one_leads_and_another_takes_over(cluster: &mut Cluster) -> Result<()> {
    furnish(cluster)?;
    let mut first = Controller::start(cluster, "first", 15010)?;
    first.await_log("this controller writes statuses")?;
    // Agents are led to the one that leads: the other would know the half of them.
    let mut second = Controller::launch(cluster, "second", 15011)?;
    let Err(refused) = Agent::start(cluster, &second, "one") else { anyhow::bail!("two controllers tell agents") };
    ensure!(format!("{refused:#}").contains("another controller leads"), "{refused:#}");
    Agent::start(cluster, &first, "one").context("the one that leads serves nobody")?;
    let holder = |cluster: &Cluster| -> Result<String> {
        let lease = cluster.get("Lease", "weft-system", "weft-controller")?;
        Ok(lease["spec"]["holderIdentity"].as_str().context("nobody leads")?.to_owned())
    };
    let leader = holder(cluster)?;
    // Who does not say any more that it leads does not lead, and has to see that.
    first.freeze()?;
    second.await_log("this controller writes statuses")?;
    ensure!(holder(cluster)? != leader, "the dead one leads");
    Agent::start(cluster, &second, "one").context("nobody serves")?;
    first.thaw()?;
    first.await_log("another controller leads now, and this one has to begin anew")?;
    wait::until("the first to end", PATIENCE, || {
        ensure!(first.process.expect_running().is_err(), "two controllers tell agents");
        Ok(())
    })?;
    let mut broken = objects::route("shop", "web", "web");
    broken["spec"]["rules"][0]["backendRefs"][0]["name"] = json!("nobody");
    cluster.put(&broken)?;
    await_conditions(cluster, "HTTPRoute", "web", &["Accepted=True/Accepted", "ResolvedRefs=False/BackendNotFound"])?;
    second.stop()
}
