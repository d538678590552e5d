//! One root takes another's place, and nobody who uses the mesh sees anything of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use weft_rig::process::Process;
use weft_rig::{Mesh, admin, wait};

use crate::cast::{self, ECHO, EFFECT_LIMIT, at};
use crate::scene::{Promise, Scene};

use super::hostile::{Forge, preamble, shake_hands};

/// Seconds that certificates live, so that a rotation takes half a minute.
const LIFE: &str = "10";
/// Of each phase: twice such a life, a lease and some slack.
const PHASE_LIMIT: Duration = Duration::from_secs(50);
const HTTP: u16 = 8000;

pub fn promises() -> Vec<Promise> {
    // A life or two of certificates is waited for in two phases, and another for the old root's end.
    let limit = Duration::from_mins(3);
    vec![Promise { limit, ..Promise::new("the_root_is_replaced_under_load_and_nothing_fails", rotation) }]
}

fn rotation(scene: &Scene) -> Result<()> {
    let lives = ["--certificate-life", LIFE, "--node-certificate-life", LIFE];
    let plan = lives.into_iter().fold(cast::shop(scene)?, weft_rig::MeshPlan::controller_flag);
    let strict = cast::server_mtls("strict", &json!({"mtls": "Strict"}));
    let mut mesh = cast::start(plan.object(strict), scene)?;
    let server = mesh.pod_mut("shop/server")?;
    let serve = server.command(cast::testapp()?).args(["http", "--port", &HTTP.to_string(), "--name", "server"]);
    server.serve("http", serve)?;
    server.await_listener(HTTP, EFFECT_LIMIT)?;

    let client = "URI:spiffe://cluster.local/ns/shop/sa/client";
    let before = Forge::with_stolen_key(&mut mesh)?.certificate("before", client, "1")?;
    let greeting = preamble(1, &[]);
    let outcome = shake_hands(&mesh, Some(&before), &greeting)?;
    ensure!(outcome.stdout.contains("ping"), "the root in force is not believed: {outcome:?}");
    let known = fs::read_to_string(mesh.controller()?.certificate())?;

    let end = mesh.pod("shop/client")?.scratch().join("end");
    let mut clients = load(&mesh, &end.display().to_string())?;
    let wanted = (Timestamp::now() + Duration::from_secs(1)).to_string();
    mesh.directory().apply(json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"},
        "spec": {
            "rootMadeAfter": wanted,
            "networks": {"pods": ["10.71.0.0/16", "fd71::/16"], "services": ["10.96.0.0/16", "fd96::/112"]},
        },
    }))?;
    await_phase(&mut mesh, &json!("Reissue"))?;
    mesh.controller()?.kill();
    mesh.controller()?.resume()?;
    await_phase(&mut mesh, &Value::Null)?;
    for client in &mut clients {
        client.expect_running()?;
    }
    fs::write(&end, "")?;
    for client in clients {
        let (status, output) = client.finish(Duration::from_mins(1))?;
        ensure!(status.success(), "{output}");
        scene.note(output.lines().last().unwrap_or_default());
    }

    let roots = fs::read_to_string(mesh.controller()?.certificate())?;
    ensure!(roots.matches("BEGIN CERTIFICATE").count() == 1 && roots != known, "agents are told of {roots}");
    let refused = |mesh: &mut Mesh| -> Result<()> {
        let outcome = shake_hands(mesh, Some(&before), &greeting)?;
        ensure!(!outcome.stdout.contains("ping"), "the root that was replaced is still believed: {outcome:?}");
        Ok(())
    };
    // An agent forgets it for good with the certificates that it renews now.
    wait::until("the old root to be refused", Duration::from_secs(30), || refused(&mut mesh))?;
    cast::records(&mut mesh, 2, "the refusal", |record| record["reason"] == "certificate_untrusted")?;
    cast::expect_ok(&mesh, "shop/client", &at(&mesh, "shop/server", ECHO)?).map(drop)
}

/// New connections, one that is kept, and requests. None is ever tried again.
fn load(mesh: &Mesh, end: &str) -> Result<Vec<Process>> {
    let (echo, http) = (at(mesh, "shop/server", ECHO)?, at(mesh, "shop/server", HTTP)?);
    let start = |name: &str, arguments: &[&str]| cast::start_client(mesh, "shop/client", name, arguments);
    Ok(vec![
        start("connect", &["connect", "--to", &echo, "--rate", "50", "--seconds", "60"])?,
        start("hold", &["hold", "--to", &echo, "--count", "4", "--beat", "100", "--seconds", "60"])?,
        start("requests", &["requests", "--to", &http, "--connections", "4", "--until", end])?,
    ])
}

fn await_phase(mesh: &mut Mesh, wanted: &Value) -> Result<()> {
    let socket = mesh.controller()?.state_dir().join("admin.sock");
    wait::until(&format!("the phase {wanted}"), PHASE_LIMIT, || {
        let status = admin::ask(&socket, "/status")?;
        let identity = status.get("identity").context("no word about roots")?;
        ensure!(identity["roots"][0].is_object() && identity["rotation"]["phase"] == *wanted, "{identity}");
        Ok(())
    })
}
