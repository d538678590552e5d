//! Who may connect: strict mode against plaintext, a rule against an account.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_rig::wait;

use crate::screen::Screen;
use crate::stage::{EFFECT_LIMIT, Stage};

/// What curl says of a connection that was refused (7) or reset (56, 52); 28 would be one that hung.
const REFUSED: [i32; 3] = [7, 52, 56];
/// What curl says of an answer of 400 and above.
const ANSWERED_WITH_ERROR: i32 = 22;

pub fn intruder(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let web = stage.mesh.pod("shop/web-2")?.ipv4();
    let line = format!("curl -sS --max-time 12 http://{web}:8080/weft-intruder");
    stage.run(screen, "outside/intruder", &line)?.expect_success()?;
    screen.say("Permissive so far: plaintext from outside the mesh is let in. Now strict:");
    stage.apply(
        screen,
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "AuthenticationPolicy",
            "metadata": {"name": "strict", "namespace": "shop"},
            "spec": {"targetRefs": [{"kind": "Pod"}], "server": {"mtls": "Strict"}},
        }),
    )?;
    let refused = wait::until("strict mode to refuse the intruder", EFFECT_LIMIT, || {
        let outcome = stage.mesh.pod("outside/intruder")?.shell(&line)?;
        ensure!(outcome.status.code().is_some_and(|code| REFUSED.contains(&code)), "{outcome:?}");
        Ok(outcome)
    })?;
    screen.command("outside/intruder", &refused);
    stage.records(2, "the refusal", |record| record["reason"] == "plaintext_refused")?;
    let why = stage.why(screen, &["outside/intruder", "shop/web-2:8080"])?;
    ensure!(why.contains("plaintext_refused"), "weft why does not name the cause: {why}");
    let markers = stage.converse(screen, "shop/customer", "strict")?;
    stage.expect_secret(markers)?;
    screen.proven("the intruder is refused and told apart; the customer does not notice");
    Ok(())
}

pub fn forbid_account(stage: &mut Stage, screen: &Screen) -> Result<()> {
    let line = "curl -sS --fail-with-body --max-time 5 http://web.shop/weft-auditor";
    stage.run(screen, "shop/auditor", line)?.expect_success()?;
    stage.apply(
        screen,
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "no-auditors", "namespace": "shop"},
            "spec": {
                "targetRefs": [{"kind": "Service", "name": "web"}], "action": "Deny",
                "rules": [{"from": [{"serviceAccounts": ["shop/auditor"]}]}],
            },
        }),
    )?;
    let refused = wait::until("the policy to refuse the auditor", EFFECT_LIMIT, || {
        let outcome = stage.mesh.pod("shop/auditor")?.shell(line)?;
        ensure!(outcome.status.code() == Some(ANSWERED_WITH_ERROR), "{outcome:?}");
        Ok(outcome)
    })?;
    screen.command("shop/auditor", &refused);
    stage
        .run(screen, "shop/customer", "curl -sS --max-time 5 http://web.shop/")?
        .expect_success()
        .context("the customer is refused too")?;
    stage.expect_secret(vec!["weft-auditor".to_owned()])?;
    let why = stage.why(screen, &["shop/auditor", "shop/web:80"])?;
    ensure!(why.contains("denied_by_rule") && why.contains("no-auditors"), "weft why does not name the rule: {why}");
    screen.proven("the auditor is refused by name of its account, the customer is not");
    Ok(())
}
