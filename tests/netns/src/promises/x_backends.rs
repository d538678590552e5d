//! Backends without a Service (XBackend): the pods that one selects, beside Services, with sessions of its own.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::{Mesh, wait};

use super::http::{WEB, backend, expect_from, route};
use super::sessions::{COOKIE, MANY, ask, ask_often, begin, names, path, start, stays};
use crate::cast::{self, EFFECT_LIMIT};
use crate::scene::{Promise, Scene};

const CLIENT: &str = "shop/client";

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("x_backends_lead_to_exactly_the_ready_pods_that_they_select", selected),
        Promise::new("x_backends_keep_sessions_of_their_own_beside_services", kept),
    ]
}

/// `shop/cart`: the pods of the first version.
fn cart(more: &Value) -> Value {
    let mut cart = json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackend",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {
            "type": "EndpointSelector", "port": {"number": WEB},
            "endpointSelector": {"matchLabels": {"app": "web", "version": "v1"}},
        },
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        cart["spec"][field] = value.clone();
    }
    cart
}

fn to_cart() -> Value {
    json!({"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "cart"})
}

/// Waits until many requests are answered by these pods, all of them and no other.
fn await_answers(mesh: &Mesh, wanted: &[&str]) -> Result<()> {
    wait::until(&format!("{wanted:?} to answer"), EFFECT_LIMIT, || {
        let answers = ask_often(mesh, CLIENT, &[], MANY)?;
        ensure!(names(&answers) == wanted.iter().copied().collect(), "{:?}", names(&answers));
        Ok(())
    })
}

fn selected(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, &[cart(&json!({})), route(&json!([{"backendRefs": [to_cart()]}]))])?;
    let tap = mesh.fabric().listen(1)?;
    await_answers(&mesh, &["web-1", "web-3"])?;
    ensure!(tap.find("Server-Name")?.is_none() && tap.find("server-name")?.is_none(), "readable on the wire");
    let named = format!("shop/xbackend.cart:{WEB}");
    cast::records(&mut mesh, 1, "requests to the XBackend", |record| {
        record["backend"] == *named && record["security"] == "mtls" && record["service"] == "shop/web"
    })?;

    // A pod that is not selected any more, one that is, and one that is not ready.
    mesh.directory().label("Pod", "shop", "web-1", "version", None)?;
    await_answers(&mesh, &["web-3"])?;
    mesh.directory().label("Pod", "shop", "web-2", "version", Some("v1"))?;
    await_answers(&mesh, &["web-2", "web-3"])?;
    mesh.set_ready("shop/web-3", false)?;
    await_answers(&mesh, &["web-2"])?;
    mesh.directory().label("Pod", "shop", "web-2", "version", None)?;
    expect_from(&mesh, CLIENT, &[], "503", "no_endpoint")?;
    expect_from(&mesh, CLIENT, &["--grpc", "--path", "/a.B/Call"], "grpc 14", "no_endpoint")?;
    let asked = ["why", CLIENT, &format!("web.shop:{WEB}"), "--path", "/"];
    let told = mesh.weft(&scene.binaries()?.cli)?.args(asked).run()?.stdout;
    ensure!(told.contains("XBackend shop/cart has no ready endpoint"), "{told}");
    mesh.set_ready("shop/web-3", true)?;
    await_answers(&mesh, &["web-3"])?;

    // Its pods speak HTTP/2 by its word, and what Weft cannot do is refused.
    mesh.directory().apply(cart(&json!({"protocol": "H2C"})))?;
    wait::until("the pods to be asked in HTTP/2", EFFECT_LIMIT, || {
        let body = ask(&mesh, CLIENT, &[])?.body;
        ensure!(body.contains("HTTP/2"), "{body}");
        Ok(())
    })?;
    mesh.directory().apply(cart(&json!({"protocol": "TCP"})))?;
    expect_from(&mesh, CLIENT, &[], "500", "broken_route")?;
    expect_from(&mesh, CLIENT, &["--grpc", "--path", "/a.B/Call"], "grpc 14", "broken_route")?;
    mesh.directory().apply(cart(&json!({})))?;
    await_answers(&mesh, &["web-3"])
}

fn kept(scene: &Scene) -> Result<()> {
    let split = |first: u32, second: u32| {
        let mut own = to_cart();
        own["weight"] = json!(first);
        let session = json!({"cookie": {"name": "of-rule"}});
        route(&json!([{"sessionPersistence": session, "backendRefs": [own, backend("web-v2", second)]}]))
    };
    let cart = cart(&json!({"sessionPersistence": {"cookie": {"name": COOKIE}}}));
    let mut mesh = start(scene, &[cart, split(1, 0)])?;
    let jar = mesh.scratch().join("jar");
    let jar = ["-c", path(&jar)?, "-b", path(&jar)?];
    // Its own word comes before the rule's.
    let (first, pair) = begin(&mesh, CLIENT, &jar)?;
    ensure!(pair.starts_with(&format!("{COOKIE}=")) && first.set.len() == 1, "{first:?}");
    for pod in [CLIENT, "shop/far"] {
        stays(&mesh, pod, &jar, &first.name)?;
    }
    let others = ask_often(&mesh, CLIENT, &[], MANY)?;
    ensure!(names(&others).len() == 2, "whoever shows no session is balanced: {others:?}");

    // The weights choose the backend; the Service beside keeps the rule's session, and this one its own.
    mesh.directory().apply(split(1, 1))?;
    let count = 200;
    wait::until("both backends to answer", EFFECT_LIMIT, || {
        let answers = ask_often(&mesh, CLIENT, &jar, count)?;
        let own = answers.iter().filter(|(name, _)| *name == first.name).count();
        // Five standard deviations of the fairest of splits.
        ensure!(own.abs_diff(count / 2) <= 5 * count.isqrt() / 2, "{own} of {count}");
        let beside: BTreeSet<&str> = names(&answers).into_iter().filter(|name| *name != first.name).collect();
        ensure!(beside.len() == 1 && (beside.contains("web-2") || beside.contains("web-4")), "{beside:?}");
        Ok(())
    })?;
    let asked = ["why", CLIENT, &format!("web.shop:{WEB}"), "--path", "/"];
    let told = mesh.weft(&scene.binaries()?.cli)?.args(asked).run()?.stdout;
    let own = format!("At XBackend shop/cart a session has one endpoint, by the cookie {COOKIE}");
    ensure!(told.contains(&own) && told.contains("by the cookie of-rule"), "{told}");
    mesh.set_ready(&format!("shop/{}", first.name), false)?;
    let (moved, _) = wait::until("the session to move", EFFECT_LIMIT, || {
        let answers = ask_often(&mesh, CLIENT, &jar, 10)?;
        let moved =
            answers.into_iter().find(|(name, set)| ["web-1", "web-3"].contains(&name.as_str()) && !set.is_empty());
        moved.context("none")
    })?;
    ensure!(moved != first.name, "{moved}");
    Ok(())
}
