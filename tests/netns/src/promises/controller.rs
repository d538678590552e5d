//! The controller: away, back, and fed with nonsense.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_rig::wait;

use crate::cast::{self, ECHO, EFFECT_LIMIT, at, authorization};
use crate::scene::{Promise, Scene};

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("the_mesh_goes_on_without_its_controller", away_and_back),
        Promise::new("an_agent_restarts_from_its_snapshot_without_a_controller", restart_from_snapshot),
        Promise::new("an_agent_with_nothing_follows_the_failure_mode", nothing_at_all),
        Promise::new("a_broken_file_is_named_and_disturbs_nothing_else", broken_file),
        Promise::new("a_node_with_a_false_token_gets_nothing", false_token),
    ]
}

fn away_and_back(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    mesh.controller()?.kill();
    for _ in 0..20 {
        cast::expect_ok(&mesh, "shop/client", &to)?;
    }
    let rules = json!([{"from": [{"serviceAccounts": ["shop/client"]}]}]);
    mesh.directory().apply(authorization("late", "Deny", &rules))?;
    mesh.controller()?.resume()?;
    cast::await_outcome(&mesh, "shop/client", &to, "refused")
}

fn restart_from_snapshot(scene: &Scene) -> Result<()> {
    let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", "closed")];
    let mut mesh = cast::start(cast::shop_labelled(scene, &labels)?, scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    cast::expect_ok(&mesh, "shop/client", &to)?;
    // What is on disk may be a second old; the last thing that changed is that everybody is enrolled.
    wait::until("a snapshot on disk", EFFECT_LIMIT, || {
        let files: Vec<_> = std::fs::read_dir(mesh.node(1)?.state_dir())?.collect();
        ensure!(!files.is_empty(), "the state folder is empty");
        Ok(())
    })?;
    mesh.controller()?.kill();
    mesh.node(1)?.kill_agent();
    mesh.restart_agent(1)?;
    mesh.await_enrolled(EFFECT_LIMIT)?;
    cast::await_outcome(&mesh, "shop/client", &to, "ok")?;
    mesh.controller()?.resume()?;
    cast::expect_ok(&mesh, "shop/client", &to).map(drop)
}

fn nothing_at_all(scene: &Scene) -> Result<()> {
    for (mode, outcome) in [("open", "ok"), ("closed", "refused")] {
        let labels = [("weft.dev/capture", "enabled"), ("weft.dev/on-agent-failure", mode)];
        let mut mesh = cast::start(cast::shop_labelled(scene, &labels)?, scene)?;
        let to = at(&mesh, "shop/server", ECHO)?;
        let tap = mesh.fabric().listen(1)?;
        mesh.controller()?.kill();
        mesh.node(1)?.kill_agent();
        for folder in [mesh.node(1)?.state_dir(), mesh.node(1)?.run_dir()] {
            std::fs::remove_dir_all(&folder)?;
            std::fs::create_dir(&folder)?;
        }
        mesh.restart_agent(1)?;
        cast::await_outcome(&mesh, "shop/client", &to, outcome).with_context(|| format!("namespace {mode}"))?;
        let direct = !tap.plaintext_towards(ECHO).is_empty();
        ensure!(direct == (mode == "open"), "namespace {mode}: plaintext on the wire: {direct}");
        mesh.node(1)?.agent()?.expect_running()?;
        mesh.controller()?.resume()?;
        mesh.await_enrolled(EFFECT_LIMIT).with_context(|| format!("namespace {mode}, controller back"))?;
        cast::await_outcome(&mesh, "shop/client", &to, "ok")?;
    }
    Ok(())
}

fn broken_file(scene: &Scene) -> Result<()> {
    let mut mesh = cast::start(cast::shop(scene)?, scene)?;
    let to = at(&mesh, "shop/server", ECHO)?;
    let broken = [
        ("broken.yaml", "apiVersion: v1\nkind: Service\n  metadata: [\n", "broken.yaml"),
        (
            "unknown-field.yaml",
            "apiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata:\n  name: typo\n  namespace: shop\nspec:\n  targetRefs:\n  - kind: Pod\n  action: Deny\n  rulez: []\n",
            "rulez",
        ),
    ];
    for (file, text, named) in broken {
        mesh.directory().write_raw(file, text)?;
        let status = mesh.directory().path().join(".status/errors.yaml");
        wait::until(&format!("the controller to name {named}"), EFFECT_LIMIT, || {
            let errors = std::fs::read_to_string(&status).unwrap_or_default();
            let log = mesh.controller()?.log()?;
            let all = errors.contains(file) && errors.contains(named);
            ensure!(all, "not in its status: {errors}; its log ends: {}", tail(&log));
            Ok(())
        })?;
    }
    cast::expect_ok(&mesh, "shop/client", &to)?;
    // Changes beside the broken files go on taking effect.
    let rules = json!([{"from": [{"serviceAccounts": ["shop/client"]}]}]);
    mesh.directory().apply(authorization("beside", "Deny", &rules))?;
    cast::await_outcome(&mesh, "shop/client", &to, "refused")
}

fn tail(log: &str) -> String {
    weft_rig::process::tail_of(log, 10)
}

fn false_token(scene: &Scene) -> Result<()> {
    let mut mesh = cast::shop_labelled(scene, &[("weft.dev/capture", "enabled")])?.start(&scene.sandbox)?;
    mesh.node(1)?.kill_agent();
    for folder in [mesh.node(1)?.state_dir(), mesh.node(1)?.run_dir()] {
        std::fs::remove_dir_all(&folder)?;
        std::fs::create_dir(&folder)?;
    }
    let mut plan = mesh.agent_plan(1)?;
    plan.token = mesh.scratch().join("false.token");
    std::fs::write(&plan.token, "not-a-token")?;
    mesh.node(1)?.start_agent(&plan)?;
    wait::until("the agent to say that it was turned away", EFFECT_LIMIT, || {
        let tail = mesh.node(1)?.agent_tail();
        ensure!(tail.contains("token"), "{tail}");
        Ok(())
    })?;
    let status = mesh.node(1)?.status();
    ensure!(!status.is_ok_and(|status| status.ready), "an agent without credentials says that it is ready");
    Ok(())
}
