//! Backends of another namespace: anybody's (GEP-1294), until the operator demands that namespace's word.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, PodPlan, wait};

use super::connections::connections;
use super::http::{self, WEB, answers};
use crate::cast::{self, EFFECT_LIMIT};
use crate::scene::{Promise, Scene};

const CLIENT: &str = "blog/client";
const REQUESTS: u64 = 200;

pub fn promises() -> Vec<Promise> {
    vec![Promise::new("backends_of_another_namespace_need_its_grant_where_the_operator_says_so", granted)]
}

/// The blog's own route to the two versions of the shop's web, half and half.
fn route(kind: &str) -> Value {
    let backend = |name: &str| json!({"name": name, "namespace": "shop", "port": WEB});
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": "web", "namespace": "blog"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web", "namespace": "shop", "port": WEB}],
            "rules": [{"backendRefs": [backend("web-v1"), backend("web-v2")]}],
        },
    })
}

/// Of the shop, for routes of the blog to those of its Services.
fn grant(kind: &str, to: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
        "metadata": {"name": "blog", "namespace": "shop"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "blog"}], "to": to,
        },
    })
}

/// What of two hundred requests each of the versions answers, and what nobody.
fn await_shares(mesh: &Mesh, what: &str, fits: impl Fn(u64, u64, u64) -> bool) -> Result<()> {
    wait::until(what, EFFECT_LIMIT, || {
        let (_, report) = connections(mesh, CLIENT, REQUESTS)?;
        let [first, second] = ["web-v1", "web-v2"].map(|name| answers(&report, name));
        ensure!(fits(first, second, REQUESTS - first - second), "{report}");
        Ok(())
    })
}

fn granted(scene: &Scene) -> Result<()> {
    let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "open")];
    let plan = http::web(scene)?.namespace("blog", &labels).pod(PodPlan::named(CLIENT).on(1).account("client"));
    let mut mesh = http::start(plan.object(route("HTTPRoute")), scene)?;
    let all = |_: u64, _: u64, refused: u64| refused == 0;
    let none = |_: u64, _: u64, refused: u64| refused == REQUESTS;
    // Five standard deviations of the fairest of splits; a sibling never gets what is not permitted.
    let half = |first: u64, second: u64, refused: u64| second == 0 && first.abs_diff(refused) <= 5 * REQUESTS.isqrt();
    let [any, one] =
        [json!([{"group": "", "kind": "Service"}]), json!([{"group": "", "kind": "Service", "name": "web-v1"}])];

    await_shares(&mesh, "any namespace's backend to answer", all)?;
    mesh.directory().edit("MeshConfig", "", "default", |config| {
        config["spec"]["enforced"] = json!({"crossNamespaceBackends": "GrantRequired"});
    })?;
    await_shares(&mesh, "nobody to answer without a grant", none)?;
    http::expect_from(&mesh, CLIENT, &[], "500", "broken_route")?;
    http::expect_from(&mesh, CLIENT, &["--grpc", "--path", "/a.B/Call"], "grpc 14", "broken_route")?;
    mesh.directory().apply(grant("HTTPRoute", &one))?;
    await_shares(&mesh, "the share of the one that is granted to be answered", half)?;
    mesh.directory().apply(grant("HTTPRoute", &any))?;
    await_shares(&mesh, "both to answer", all)?;
    mesh.directory().remove("ReferenceGrant", "shop", "blog")?;
    await_shares(&mesh, "nobody to answer after the revocation", none)?;
    http::expect_from(&mesh, CLIENT, &[], "500", "broken_route")?;
    // The shop's own clients need nobody's word, nor does the shop's own Service.
    let (good, report) = http::ask(&mesh, &["--count", "20"])?;
    ensure!(good, "{report}");

    // Connections, too: and the grant is for another kind of route.
    mesh.directory().remove("HTTPRoute", "blog", "web")?;
    mesh.directory().apply(route("TCPRoute"))?;
    mesh.directory().apply(grant("HTTPRoute", &any))?;
    cast::await_outcome(&mesh, CLIENT, &format!("web.shop:{WEB}"), "refused")?;
    let why = "no ReferenceGrant of shop lets a TCPRoute of blog";
    let told = |record: &Value| record["detail"].as_str().is_some_and(|detail| detail.contains(why));
    cast::records(&mut mesh, 1, why, |record| record["reason"] == "broken_route" && told(record))?;
    mesh.directory().apply(grant("TCPRoute", &any))?;
    await_shares(&mesh, "connections to be carried to both", all)
}
