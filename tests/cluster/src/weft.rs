//! Weft in the cluster, installed as its users install it; and what it says of itself.
//!
//! The first test that needs it installs it, and it stays for the next. Absent: what it is to do, which tests ask of it.

use std::env;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use weft_rig::binaries::folder_of_this_program;
use weft_rig::place::Launch;
use weft_rig::wait;

use crate::namespace::{Namespace, kubectl};
use crate::nodes::{NODES, said, xtask};

/// Where it lives.
pub const NAMESPACE: &str = "weft-system";

/// Its objects are waited for by `weft` itself, with limits of its own.
const INSTALL_LIMIT: Duration = Duration::from_mins(5);

/// What a change in the API takes at most to be seen on the nodes, on a busy machine.
pub const EFFECT_LIMIT: Duration = Duration::from_secs(30);

/// Lines of an access log that are looked at: what loads write between two looks, and some more.
const LOG_TAIL: u32 = 5000;
/// Warnings of an agent that a failure shows.
const COMPLAINTS: usize = 20;

/// Gateway API's definitions of what Weft reads.
const GATEWAY_KINDS: [&str; 5] = ["httproutes", "grpcroutes", "tlsroutes", "tcproutes", "referencegrants"];

/// The cluster's networks, and an access log for the tests to read.
const VALUES: [&str; 3] = [
    "--set=meshConfig.networks.pods={10.91.0.0/16}",
    "--set=meshConfig.networks.services={10.96.0.0/16}",
    "--set=agent.accessLog=true",
];

/// Whether this program has put the images into the nodes.
static LOADED: Mutex<bool> = Mutex::new(false);

/// Whether Weft is there.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Installs Weft, if it is not there.
pub fn need() -> Result<()> {
    let installed = *locked(&INSTALLED)?;
    if installed { Ok(()) } else { install().map(drop) }
}

/// Installs Weft, again if it is there. What that prints.
pub fn install() -> Result<String> {
    load_images()?;
    let folder = env::var("WEFT_GATEWAY_API").context("WEFT_GATEWAY_API is not set")?;
    for kind in GATEWAY_KINDS {
        let file = format!("--filename={folder}/gateway.networking.k8s.io_{kind}.yaml");
        kubectl(["apply", "--server-side", &file]).run()?.expect_success()?;
    }
    let printed = weft(&["install", "--apply"])?.args(VALUES).run()?.expect_success()?;
    *locked(&INSTALLED)? = true;
    Ok(printed)
}

/// Brings it to the version with this tag, or to this program's own.
pub fn upgrade(tag: Option<&str>) -> Result<()> {
    let tag = tag.map(|tag| format!("--set=image.tag={tag}"));
    weft(&["upgrade"])?.args(VALUES).args(tag).run()?.expect_success().map(drop)
}

/// Uninstalls Weft, also the kinds. What that prints.
pub fn uninstall() -> Result<String> {
    *locked(&INSTALLED)? = false;
    weft(&["uninstall", "--delete-policies"])?.args(VALUES).run()?.expect_success()
}

fn locked(state: &Mutex<bool>) -> Result<MutexGuard<'_, bool>> {
    state.lock().map_err(|_| anyhow!("another test panicked"))
}

/// The command that users have.
pub fn weft(words: &[&str]) -> Result<Launch> {
    let program = folder_of_this_program()?.join("weft");
    Ok(Launch::new(program).args(words).within(INSTALL_LIMIT).ends_with_caller())
}

fn load_images() -> Result<()> {
    let mut loaded = locked(&LOADED)?;
    if !*loaded {
        let images = env::var_os("WEFT_IMAGES").context("WEFT_IMAGES is not set")?;
        for image in env::split_paths(&images) {
            let load = xtask(&["load"])?.arg(&image).within(INSTALL_LIMIT);
            load.run()?.expect_success()?;
        }
        *loaded = true;
    }
    drop(loaded);
    Ok(())
}

/// The name of the agent's pod on a node.
pub fn agent(node: &str) -> Result<String> {
    let field = format!("--field-selector=spec.nodeName={node},status.phase=Running");
    let list = ["--namespace", NAMESPACE, "get", "pods", "--selector=app.kubernetes.io/name=weft-agent", &field];
    let names = kubectl(list).arg("--output=name").run()?.expect_success()?;
    let mut names = names.lines();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        (first, second) => bail!("{node} has the agents {first:?} and {second:?}"),
    }
}

/// What the agent of a node says of itself, as `weft status` shows it there.
pub fn status(node: &str) -> Result<Value> {
    let exec = ["--namespace", NAMESPACE, "exec", &agent(node)?, "--", "/weft", "status", "--output=json"];
    // It fails where something is wrong, and says what.
    let outcome = kubectl(exec).run()?;
    let told: Value =
        serde_json::from_str(&outcome.stdout).with_context(|| format!("{}{}", outcome.stdout, outcome.stderr))?;
    Ok(told["agents"][0]["status"].clone())
}

/// What the agent of a node says of itself and what it has complained about, for failures.
pub fn last_words(node: &str) -> String {
    let told = agent(node).and_then(|agent| {
        let status = kubectl(["--namespace", NAMESPACE, "exec", &agent, "--", "/weft", "status"]).run()?;
        let log = kubectl(["--namespace", NAMESPACE, "logs", &agent, &format!("--tail={LOG_TAIL}")]).run()?;
        let complaint = |line: &&str| line.contains("WARN") || line.contains("ERROR");
        let complaints: Vec<&str> = log.stdout.lines().filter(complaint).collect();
        let last = &complaints[complaints.len().saturating_sub(COMPLAINTS)..];
        Ok(format!("{}{}\n{}", status.stdout, status.stderr, last.join("\n")))
    });
    format!("the agent of {node}:\n{}", told.unwrap_or_else(|error| format!("{error:#}")))
}

/// Waits until the agents have captured these pods, and no others of the namespace.
pub fn await_captured(namespace: &Namespace, pods: &[&str]) -> Result<()> {
    let mut wanted: Vec<String> = pods.iter().map(|pod| format!("{}/{pod}", namespace.name())).collect();
    wanted.sort();
    wait::until(&format!("{wanted:?} to be captured"), EFFECT_LIMIT, || {
        let mut captured = Vec::new();
        for node in NODES {
            let status = status(node)?;
            for pod in status["pods"].as_array().context("no list of pods")? {
                let name = pod["name"].as_str().unwrap_or_default();
                if name.starts_with(&format!("{}/", namespace.name())) {
                    ensure!(pod["enrolled"] == true && pod["reason"].is_null(), "{pod}");
                    captured.push(name.to_owned());
                }
            }
        }
        captured.sort();
        ensure!(captured == wanted, "captured are {captured:?}");
        Ok(())
    })
}

/// The last line of the access log of a node's agent that `wanted` picks; waits until there is one.
pub fn record(node: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    wait::until(&format!("{what} in the access log of {node}"), EFFECT_LIMIT, || {
        records(node)?.into_iter().rev().find(&wanted).context("none of the last lines")
    })
}

/// The end of the access log of a node's agent, from where the node keeps it. A kubelet begins another file after 10 MiB, and
/// `kubectl logs` knows the newest one alone: what was written just before is not in it. Older ones than two are compressed.
pub fn records(node: &str) -> Result<Vec<Value>> {
    let agent = agent(node)?;
    let name = agent.strip_prefix("pod/").unwrap_or(&agent);
    let files = format!("/var/log/pods/{NAMESPACE}_{name}_*/agent/*.log*");
    let newest = format!("ls -tr {files} | grep --invert-match -e '[.]gz$' -e '[.]tmp$' | tail --lines=2");
    let log = said(node, &["bash", "-c", &format!("{newest} | xargs cat | tail --lines={LOG_TAIL}")])?;
    // As the container runtime has it: the time, the stream, whether the line is whole, and the line.
    let line = |written: &str| written.splitn(4, ' ').nth(3).and_then(|line| serde_json::from_str(line).ok());
    Ok(log.lines().filter_map(line).collect())
}
