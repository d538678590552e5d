//! A new version comes by editing a weight, and goes the same way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::screen::Screen;
use crate::stage::{EFFECT_LIMIT, Stage};

/// Requests of one measurement.
const REQUESTS: u64 = 2000;
/// How far a measured share may be from its weight: five standard deviations of the fairest of splits.
const TOLERANCE: u64 = 112;
/// Longer than the scenes that the conversation is held through.
const CONVERSATION: Duration = Duration::from_mins(10);

pub fn by_weight(stage: &mut Stage, screen: &Screen) -> Result<()> {
    begin_conversation(stage, screen)?;
    for weight in [5, 50, 100] {
        shift(stage, screen, weight)?;
    }
    screen.proven("each edit moved its share, request by request, on connections that stayed open");
    Ok(())
}

pub fn testers_and_back(stage: &mut Stage, screen: &Screen) -> Result<()> {
    shift(stage, screen, 0)?;
    screen.say("Rolled back by one edit. Testers go on with the new version:");
    let tester = json!({
        "matches": [{"headers": [{"name": "x-user", "value": "tester"}]}],
        "backendRefs": [{"name": "cart-v2", "port": 80}],
    });
    stage.apply(screen, route(&[tester, weighted(0)]))?;
    let line = "curl -sS --max-time 5 -H 'x-user: tester' http://cart.shop/";
    wait::until("testers to reach the new version", EFFECT_LIMIT, || {
        let outcome = stage.mesh.pod("shop/customer")?.shell(line)?.expect_success()?;
        ensure!(outcome.contains("cart-v2"), "{outcome}");
        Ok(())
    })?;
    stage.run(screen, "shop/customer", line)?.expect_success()?;
    let others = stage.run(screen, "shop/customer", "curl -sS --max-time 5 http://cart.shop/")?.expect_success()?;
    ensure!(others.contains("shop/cart-v1"), "{others}");
    screen.proven("a header decides for testers, everybody else is back on v1");
    Ok(())
}

/// Sets the weight of the second version and measures until it is in force.
fn shift(stage: &mut Stage, screen: &Screen, weight: u64) -> Result<()> {
    let file = stage.mesh.directory().apply(route(&[weighted(weight)]))?;
    let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    screen.typed("operator", &format!("edit {file}   # weights: v1 {}, v2 {weight}", 100 - weight));
    let share = wait::until("the weight to be in force", EFFECT_LIMIT, || {
        let answers = stage.requests("shop/customer", "cart.shop:80", REQUESTS, &["--connections", "4"])?;
        let second = answers.get("shop/cart-v2").copied().unwrap_or_default();
        ensure!(second.abs_diff(weight * REQUESTS / 100) <= TOLERANCE, "{answers:?}");
        Ok(second)
    })?;
    let tenths = share * 1000 / REQUESTS;
    screen.quote(&format!(
        "{REQUESTS} requests on 4 connections, none failed: v1 {}, v2 {share} ({}.{} %)",
        REQUESTS - share,
        tenths / 10,
        tenths % 10
    ));
    Ok(())
}

/// A WebSocket through the agents, which must not notice what happens to routes and policies.
fn begin_conversation(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let testapp = stage.binaries.testapp.clone();
    let customer = stage.mesh.pod("shop/customer")?;
    let seconds = CONVERSATION.as_secs().to_string();
    let arguments = ["websocket-talk", "--to", "ws://chat.shop/", "--seconds", &seconds, "--message", "weft-held-chat"];
    let mut held = customer.start("held-chat", customer.command(&testapp).args(arguments))?;
    held.await_output("\"echoes\":1", EFFECT_LIMIT)?;
    screen.say("A WebSocket conversation through the mesh is held through this and the next scenes.");
    stage.held_chat = Some(held);
    Ok(())
}

/// The conversation goes on; it ends here, as its client wants it.
pub fn end_conversation(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let mut held = stage.held_chat.take().context("the conversation was never begun")?;
    held.expect_running().context("the WebSocket conversation was cut")?;
    let so_far = held.output().lines().count();
    wait::until("the conversation to go on", EFFECT_LIMIT, || {
        ensure!(held.output().lines().count() > so_far, "it is silent");
        Ok(())
    })?;
    let echoes = held.output().lines().count();
    held.kill();
    stage.expect_secret(vec!["weft-held-chat".to_owned()])?;
    screen.proven(&format!("the WebSocket conversation was held through it all: {echoes} echoes"));
    Ok(())
}

fn weighted(weight: u64) -> Value {
    json!({"backendRefs": [
        {"name": "cart-v1", "port": 80, "weight": 100 - weight},
        {"name": "cart-v2", "port": 80, "weight": weight},
    ]})
}

fn route(rules: &[Value]) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "cart", "port": 80}], "rules": rules},
    })
}
