//! What the owners of the conformance tier's routes are told, on a real API server.

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use weft_conformance_tier::cast::{self, NAMESPACES};
use weft_conformance_tier::row::{Route, Row};
use weft_rig::wait;

use super::{our_conditions, promise, told};
use crate::Promise;
use crate::cluster::{Cluster, PATIENCE};
use crate::controller::Controller;
use crate::objects;

/// The kinds of the rows' routes, and what the API calls several of them.
const KINDS: [(&str, &str); 3] = [("HTTPRoute", "httproutes"), ("GRPCRoute", "grpcroutes"), ("TCPRoute", "tcproutes")];
/// Routes that are told something else are shown up to this many.
const SHOWN: usize = 10;

pub fn promises() -> Vec<Promise> {
    vec![promise("routes_are_answered_as_the_specification_says", routes_are_answered_as_the_specification_says)]
}

fn routes_are_answered_as_the_specification_says(cluster: &mut Cluster) -> Result<()> {
    let rows = weft_conformance_tier::rows()?;
    cluster.put(&objects::mesh(&["10.1.0.0/16"]))?;
    for namespace in NAMESPACES {
        cluster.put(&objects::namespace(namespace, "enabled"))?;
    }
    for (_, plural) in KINDS {
        cluster.define(&cluster.gateway_definition(plural)?)?;
    }
    let services = cast::services();
    let services = services.iter().chain(rows.iter().map(|row| &row.service));
    cluster.create_all(services.map(|service| without_nulls(service.object())).collect())?;
    let (refused, taken): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.refused_by_api);
    for row in refused {
        for route in &row.routes {
            ensure!(cluster.put(&route.object).is_err(), "{}: the API server takes it, so say what is told", row.title);
        }
    }
    let routes: Vec<&Route> = taken.iter().flat_map(|row| &row.routes).collect();
    cluster.create_all(routes.iter().map(|route| route.object.clone()).collect())?;
    let controller = Controller::launch(cluster, "controller", 15010)?;
    wait::until("every route to be answered as its row says", PATIENCE, || {
        let mut found = Vec::new();
        for (kind, _) in KINDS {
            found.extend(cluster.list(kind)?);
        }
        let wrong: Vec<String> =
            routes.iter().filter_map(|route| objection(route, &found).err()).map(|error| error.to_string()).collect();
        if !wrong.is_empty() {
            bail!("{} of {} routes:\n{}", wrong.len(), routes.len(), wrong[..wrong.len().min(SHOWN)].join("\n"));
        }
        Ok(())
    })?;
    controller.stop()
}

/// What the API shows of the route is not what has to be told.
fn objection(route: &Route, found: &[Value]) -> Result<()> {
    let names = objects::names(&route.object);
    let Some(object) = found.iter().find(|object| objects::names(object) == names) else { bail!("{names:?} is gone") };
    let (_, namespace, name) = names;
    let ours = our_conditions(object);
    let told = told(&ours);
    ensure!(told == route.told, "{namespace}/{name} is told {told:?}, and not {:?}", route.told);
    let current = |one: &&Value| one["observedGeneration"] == object["metadata"]["generation"];
    ensure!(ours.iter().all(|one| current(&one)), "{namespace}/{name} is told about another generation");
    ensure!(ours.iter().all(|one| one["message"] != ""), "{namespace}/{name} is not told why");
    Ok(())
}

/// A Service as it is created: what it lacks is not written.
fn without_nulls(mut object: Value) -> Value {
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|_, field| !field.is_null());
    }
    object
}
