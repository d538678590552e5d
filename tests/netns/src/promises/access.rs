//! Who may connect: strict and permissive, allow and deny, the operator's floor.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use weft_rig::{Mesh, wait};

use crate::cast::{self, ECHO, GREET, SINK, at, at_v6, authorization, server_mtls};
use crate::scene::{Promise, Scene};

const AT_ONCE: Duration = Duration::from_secs(1);

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("strict_refuses_plaintext_and_lets_the_mesh_in", strict),
        Promise::new("permissive_forwards_plaintext_without_identity", permissive),
        Promise::new("one_port_can_be_strict_alone", strict_port),
        Promise::new("an_exemption_lets_plaintext_in_where_it_says_so", exemption),
        Promise::new("a_deny_rule_refuses_an_account", deny_account),
        Promise::new("an_allow_policy_refuses_everybody_it_does_not_name", allow_account),
        Promise::new("dry_run_and_audit_refuse_nobody_and_are_noted", dry_run),
        Promise::new("the_operators_denial_comes_first", enforced_denial),
        Promise::new("the_operators_minimum_cannot_be_loosened", enforced_minimum),
        Promise::new("what_the_api_server_calls_takes_tls_and_no_plaintext", webhook),
    ]
}

fn strict(scene: &Scene) -> Result<()> {
    let mesh = &mut cast::start(cast::shop(scene)?.object(server_mtls("strict", &json!({"mtls": "Strict"}))), scene)?;
    for to in [at(mesh, "shop/server", ECHO)?, at_v6(mesh, "shop/server", ECHO)?, at(mesh, "shop/near", ECHO)?] {
        cast::expect_ok(mesh, "shop/client", &to)?;
        cast::expect_refused(mesh, "outside/stranger", &to, AT_ONCE)?;
    }
    let records = cast::records(mesh, 2, "the refusals", |record| record["reason"] == "plaintext_refused")?;
    ensure!(records[0]["verdict"] == "deny", "{}", records[0]);
    // A client that says nothing must not be let in by waiting.
    let (success, report) = cast::client(
        mesh,
        "outside/stranger",
        &["greetings", "--to", &at(mesh, "shop/server", GREET)?, "--count", "1"],
        Duration::from_secs(20),
    )?;
    ensure!(!success, "a silent stranger was greeted: {report}");
    Ok(())
}

fn permissive(scene: &Scene) -> Result<()> {
    let mesh = &mut cast::start(cast::shop(scene)?, scene)?;
    cast::expect_ok(mesh, "outside/stranger", &at(mesh, "shop/server", ECHO)?)?;
    let stranger = mesh.pod("outside/stranger")?.ipv4().to_string();
    let records = cast::records(mesh, 2, "the stranger's connection", |record| {
        record["source"]["address"].as_str().is_some_and(|address| address.starts_with(&stranger))
    })?;
    ensure!(records[0]["security"] == "plaintext" && records[0]["source"]["identity"].is_null(), "{}", records[0]);
    Ok(())
}

fn strict_port(scene: &Scene) -> Result<()> {
    let server = json!({"mtls": "Permissive", "ports": [{"port": ECHO, "mtls": "Strict"}]});
    let mesh = cast::start(cast::shop(scene)?.object(server_mtls("port", &server)), scene)?;
    cast::expect_refused(&mesh, "outside/stranger", &at(&mesh, "shop/server", ECHO)?, AT_ONCE)?;
    let greet = at(&mesh, "shop/server", GREET)?;
    let arguments = ["greetings", "--to", &greet, "--count", "3"];
    cast::expect_client(&mesh, "outside/stranger", &arguments, Duration::from_secs(20))?;
    cast::expect_ok(&mesh, "shop/client", &at(&mesh, "shop/server", ECHO)?).map(drop)
}

fn exemption(scene: &Scene) -> Result<()> {
    let plan = cast::shop(scene)?;
    // The stranger is the first pod of the plan's last place on node 1: its address is known only when it runs.
    let mut mesh = cast::start(plan.object(server_mtls("strict", &json!({"mtls": "Strict"}))), scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_refused(&mesh, "outside/stranger", &to, AT_ONCE)?;
    let stranger = format!("{}/32", mesh.pod("outside/stranger")?.ipv4());
    let exemptions =
        json!([{"ports": [ECHO], "from": {"cidrs": [stranger]}, "reason": "a scraper from before the mesh"}]);
    mesh.directory().apply(server_mtls("strict", &json!({"mtls": "Strict", "exemptions": exemptions})))?;
    cast::await_outcome(&mesh, "outside/stranger", &to, "ok")
}

fn deny_account(scene: &Scene) -> Result<()> {
    let rules = json!([{"from": [{"serviceAccounts": ["shop/other"]}]}]);
    let mut mesh = cast::start(cast::shop(scene)?.object(authorization("no-other", "Deny", &rules)), scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    cast::expect_refused(&mesh, "shop/other", &to, AT_ONCE)?;
    // The other server is not selected.
    cast::expect_ok(&mesh, "shop/other", &at(&mesh, "shop/near", ECHO)?)?;
    let records = cast::records(&mut mesh, 2, "the denial", |record| record["reason"] == "denied_by_rule")?;
    let rule = records[0]["rule"].as_str().unwrap_or_default();
    ensure!(rule.contains("shop/no-other"), "the record names {rule:?}");
    mesh.directory().remove("AuthorizationPolicy", "shop", "no-other")?;
    cast::await_outcome(&mesh, "shop/other", &to, "ok")
}

fn allow_account(scene: &Scene) -> Result<()> {
    let rules =
        json!([{"from": [{"identities": ["spiffe://cluster.local/ns/shop/sa/client"]}], "to": [{"ports": [ECHO]}]}]);
    let mut mesh = cast::start(cast::shop(scene)?.object(authorization("only-client", "Allow", &rules)), scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    for pod in ["shop/other", "outside/stranger"] {
        cast::expect_refused(&mesh, pod, &to, AT_ONCE)?;
    }
    let (success, _) = cast::client(
        &mesh,
        "shop/client",
        &["greetings", "--to", &at(&mesh, "shop/server", GREET)?, "--count", "1"],
        Duration::from_secs(20),
    )?;
    ensure!(!success, "another port than the allowed one was let in");
    cast::records(&mut mesh, 2, "the refusals", |record| record["reason"] == "no_allow_matched").map(drop)
}

fn dry_run(scene: &Scene) -> Result<()> {
    let rules = json!([{"from": [{"namespaces": ["shop"]}]}]);
    let mut dry = authorization("dry", "Deny", &rules);
    dry["spec"]["dryRun"] = json!(true);
    let plan = cast::shop(scene)?.object(dry).object(authorization("audited", "Audit", &rules));
    let mut mesh = cast::start(plan, scene)?;
    cast::expect_ok(&mesh, "shop/client", &at(&mesh, "shop/server", ECHO)?)?;
    cast::records(&mut mesh, 2, "both policies noted", |record| {
        let noted = record["noted"].to_string();
        noted.contains("shop/dry") && noted.contains("shop/audited")
    })
    .map(drop)
}

fn enforced_denial(scene: &Scene) -> Result<()> {
    let rules = json!([{"from": [{"serviceAccounts": ["shop/client"]}]}]);
    let mut mesh = cast::start(cast::shop(scene)?.object(authorization("yes", "Allow", &rules)), scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    mesh.directory().edit("MeshConfig", "", "default", |config| {
        config["spec"]["enforced"] = json!({"authorization": [{"action": "Deny", "rules": rules}]});
    })?;
    cast::await_outcome(&mesh, "shop/client", &to, "refused")
}

fn enforced_minimum(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?.object(server_mtls("loose", &json!({"mtls": "Permissive"}))), scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "outside/stranger", &to)?;
    mesh.directory().edit("MeshConfig", "", "default", |config| {
        config["spec"]["enforced"] = json!({"minimumMtls": "Strict"});
    })?;
    cast::await_outcome(&mesh, "outside/stranger", &to, "refused")?;
    cast::expect_ok(&mesh, "shop/client", &to).map(drop)
}

fn webhook(scene: &Scene) -> Result<()> {
    let service = json!({"namespace": "shop", "name": "server", "port": ECHO});
    let caller = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "guard"},
        "webhooks": [{"name": "guard.example.com", "clientConfig": {"service": service}}],
    });
    let mut mesh = cast::start(cast::shop(scene)?.object(caller), scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    mesh.directory().edit("MeshConfig", "", "default", |config| {
        config["spec"]["enforced"] = json!({"minimumMtls": "Strict"});
    })?;
    cast::await_outcome(&mesh, "outside/stranger", &to, "refused")?;
    // A ClientHello with nothing in it: the application may make of it what it likes. This one sends it back.
    let hello = r"printf '\026\003\001\000\005\001\000\000\001\000'";
    let line = format!("{hello} | timeout 5 socat -t 5 - TCP:{to} | od -An -tx1");
    let heard = |mesh: &Mesh| mesh.pod("outside/stranger")?.command("sh").args(["-c", &line]).run()?.expect_success();
    let answer = heard(&mesh)?;
    ensure!(answer.contains("16 03 01 00 05 01 00 00 01 00"), "the webhook was not reached: {answer:?}");
    for plaintext in [&to, &at(&mesh, "shop/server", SINK)?] {
        cast::expect_refused(&mesh, "outside/stranger", plaintext, AT_ONCE)?;
    }
    // Pods of the mesh are spoken to as before.
    cast::expect_ok(&mesh, "shop/client", &to)?;
    let records = cast::records(&mut mesh, 1, "the mesh's own", |record| record["original_destination"] == *to)?;
    ensure!(records[0]["security"] == "mtls", "{}", records[0]);
    mesh.directory().remove("ValidatingWebhookConfiguration", "", "guard")?;
    wait::until("the exemption to end with its webhook", cast::EFFECT_LIMIT, || {
        let answer = heard(&mesh)?;
        ensure!(answer.is_empty(), "the webhook still answers {answer:?}");
        Ok(())
    })
}
