//! Each request by itself: sent again, balanced, judged.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_rig::wait;

use super::canary;
use crate::screen::Screen;
use crate::stage::{EFFECT_LIMIT, Stage};

/// Requests of one measurement.
const REQUESTS: u64 = 1000;
/// What curl says of an answer of 400 and above.
const ANSWERED_WITH_ERROR: i32 = 22;

pub fn failures_hidden(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let measure = |stage: &Stage| stage.statuses("shop/customer", "stock.shop:80", REQUESTS, &["--allow", "503"]);
    let before = measure(stage)?;
    let failed = before.get("503").copied().unwrap_or_default();
    screen.quote(&format!("{REQUESTS} requests to a stock that fails every twelfth time: {failed} answered 503"));
    ensure!(failed > 0, "nothing failed: {before:?}");
    stage.apply(
        screen,
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "stock", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "stock", "port": 80}],
                "rules": [{"retry": {"codes": [503], "attempts": 3, "backoff": "1ms"}, "backendRefs": [{"name": "stock", "port": 80}]}],
            },
        }),
    )?;
    wait::until("the retries to be in force", EFFECT_LIMIT, || {
        let statuses = measure(stage)?;
        ensure!(statuses.get("200") == Some(&REQUESTS), "{statuses:?}");
        Ok(())
    })?;
    let records = stage.records(1, "the retried requests", |record| {
        record["route"] == "HTTPRoute shop/stock[0]" && record["direction"] == "outbound"
    })?;
    let retries: u64 = records.iter().rev().take(1000).filter_map(|record| record["retries"].as_u64()).sum();
    ensure!(retries > 0, "nothing was sent again");
    screen.quote(&format!(
        "{REQUESTS} requests by the route: 0 answered 503; {retries} of them were sent again (budget: 20 %)"
    ));
    screen.proven("the backend fails as before, and no client sees it");
    Ok(())
}

pub fn calls_balanced(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let arguments = ["--grpc", "--path", "/stock.Stock/Get", "--connections", "8"];
    let answers = stage.requests("shop/customer", "rpc.shop:80", REQUESTS, &arguments)?;
    screen.quote(&format!("{REQUESTS} calls on one connection: {answers:?}"));
    ensure!(answers.len() == 2 && answers.values().all(|count| *count > REQUESTS / 5), "not balanced: {answers:?}");
    screen.proven("one gRPC connection, two pods: every call is balanced by itself");
    Ok(())
}

pub fn delete_denied(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let line = "curl -sS --fail-with-body --max-time 5 -X DELETE http://cart.shop/items/7";
    stage.run(screen, "shop/customer", line)?.expect_success()?;
    stage.apply(
        screen,
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "no-delete", "namespace": "shop"},
            "spec": {
                "targetRefs": [{"kind": "Pod", "selector": {"matchLabels": {"app": "cart"}}}], "action": "Deny",
                "rules": [{"to": [{"methods": ["DELETE"]}]}],
            },
        }),
    )?;
    let refused = wait::until("the rule to refuse DELETE", EFFECT_LIMIT, || {
        let outcome = stage.mesh.pod("shop/customer")?.shell(line)?;
        ensure!(outcome.status.code() == Some(ANSWERED_WITH_ERROR), "{outcome:?}");
        Ok(outcome)
    })?;
    screen.command("shop/customer", &refused);
    stage.run(screen, "shop/customer", "curl -sS --max-time 5 http://cart.shop/items/7")?.expect_success()?;
    let headers = "curl -sS --max-time 5 -o /dev/null -D - -X DELETE http://cart.shop/items/7 | grep -i ^weft-";
    let refused = stage.run(screen, "shop/customer", headers)?.expect_success()?;
    let id = refused.lines().find_map(|line| line.strip_prefix("weft-request-id: ")).context("no id in the answer")?;
    let why = stage.why(screen, &[id.trim()])?;
    ensure!(
        why.contains("denied_by_rule") && why.contains("shop/no-delete[0]"),
        "weft why does not name the rule: {why}"
    );
    screen.proven("one method is denied, the rule is named, and reading goes on");
    canary::end_conversation(stage, screen)
}
