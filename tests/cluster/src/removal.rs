//! What is left when Weft is uninstalled: nothing of Weft, and everything of others.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use serde_json::{Value, json};
use weft_rig::wait;

use crate::Promise;
use crate::namespace::{Namespace, PORT, kubectl};
use crate::nodes::{NODES, inside, said};
use crate::weft::{self, EFFECT_LIMIT};

/// Where a node's agent pins its links.
const LINKS: &str = "/sys/fs/bpf/weft/links";

/// Makes this program print the links that are pinned where it runs, instead of testing.
pub const LIST_LINKS: &str = "--list-pinned-links";

pub fn promises() -> Vec<Promise> {
    vec![Promise { name: "an_uninstalled_weft_leaves_nothing", run: an_uninstalled_weft_leaves_nothing }]
}

/// A link and its program, by the numbers that the kernel gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    link: u32,
    program: u32,
}

fn an_uninstalled_weft_leaves_nothing(namespace: &Namespace) -> Result<()> {
    weft::need()?;
    namespace.server("server", "node2")?;
    namespace.server("client", "node1")?;
    namespace.service("server")?;
    let before = settings(namespace)?;
    let route = namespace.create_object(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "of-a-user"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "server", "port": 80}]},
    }))?;
    introduce()?;
    namespace.capture()?;
    weft::await_captured(namespace, &["client", "server"])?;
    ensure!(settings(namespace)? != before, "capture has changed no setting of its pods");
    let mut pinned = Vec::new();
    for node in NODES {
        let found = pinned_on(node)?;
        ensure!(found.len() > 1, "{node} has the links {found:?}");
        pinned.extend(found);
    }

    let printed = weft::uninstall()?;
    ensure!(!printed.contains("going on"), "a step came to nothing:\n{printed}");

    expect_clean_kernel(&pinned)?;
    for node in NODES {
        // The kernel has two files of its own where programs are pinned.
        let find = "find /sys/fs/bpf /run/weft /var/lib/weft -mindepth 1 ! -name *.debug";
        let left = said(node, &find.split(' ').collect::<Vec<_>>())?;
        ensure!(left.is_empty(), "{node} still has {left}");
    }
    ensure!(settings(namespace)? == before, "the pods' settings are not what they were");
    expect_no_object()?;
    let after = namespace.get("httproute/of-a-user")?;
    for part in ["/spec", "/metadata/uid", "/metadata/generation", "/metadata/labels", "/metadata/annotations"] {
        ensure!(after.pointer(part) == route.pointer(part), "the route of a user is {after}");
    }
    let answer = namespace.ask("client", &format!("http://{}:{PORT}/", namespace.address("server")?))?;
    ensure!(answer["request"].is_null(), "Weft carried {answer}");
    Ok(())
}

/// With the kind there, the controller says that Weft is.
fn introduce() -> Result<()> {
    let folder = env::var("WEFT_GATEWAY_API_EXPERIMENTS").context("WEFT_GATEWAY_API_EXPERIMENTS is not set")?;
    let file = format!("--filename={folder}/gateway.networking.x-k8s.io_xmeshes.yaml");
    kubectl(["apply", "--server-side", &file]).run()?.expect_success()?;
    wait::until("Weft to say on its XMesh that it is there", EFFECT_LIMIT, || {
        let accepted = "--output=jsonpath={.status.conditions[?(@.type=='Accepted')].status}";
        let told = kubectl(["get", "xmesh", "weft", accepted]).run()?.expect_success()?;
        ensure!(told == "True", "it says {told:?}");
        Ok(())
    })
}

/// What an agent changes in the namespace of a captured pod: two settings, and who listens there.
fn settings(namespace: &Namespace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for pod in ["client", "server"] {
        for setting in ["ip_local_reserved_ports", "tcp_tw_reuse"] {
            let read = namespace.exec(pod, &["read", &format!("/proc/sys/net/ipv4/{setting}")])?;
            found.push(read.expect_success()?.trim().to_owned());
        }
        for table in ["tcp", "tcp6"] {
            let sockets = namespace.exec(pod, &["read", &format!("/proc/net/{table}")])?.expect_success()?;
            let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            // The fourth field is the state, and ten that of a listener; the second is the address.
            let listeners = fields.filter(|fields| fields.get(3) == Some(&"0A"));
            found.extend(listeners.map(|fields| format!("{pod} listens at {}", fields[1])));
        }
    }
    Ok(found)
}

/// The links that the agent of a node has pinned.
pub fn pinned_on(node: &str) -> Result<Vec<Pinned>> {
    let program = env::current_exe()?.display().to_string();
    let listed = inside(node, &[&program, LIST_LINKS])?.run()?.expect_success()?;
    let pinned = listed.lines().map(|line| {
        let (link, program) = line.split_once(' ').context("a link has a program")?;
        Ok(Pinned { link: link.parse()?, program: program.parse()? })
    });
    pinned.collect()
}

/// What [`LIST_LINKS`] prints: a line for each link, with its number and its program's.
pub fn list_links() -> Result<String> {
    let pins = fs::read_dir(LINKS).with_context(|| format!("cannot read {LINKS}"))?;
    let lines = pins.map(|pin| {
        let Pinned { link, program } = look_at(&pin?.path())?;
        Ok(format!("{link} {program}\n"))
    });
    lines.collect()
}

/// The kernel tells the program of a link among the facts of the descriptor that holds it.
fn look_at(pin: &Path) -> Result<Pinned> {
    let held = PinnedLink::from_pin(pin).with_context(|| format!("cannot open {}", pin.display()))?;
    let link = FdLink::from(held);
    let wanted = format!("link_id:\t{}", link.info()?.id());
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let told = fs::read_to_string(entry?.path()).unwrap_or_default();
        if told.lines().any(|line| line == wanted) {
            let program = told.lines().find_map(|line| line.strip_prefix("prog_id:"));
            let program = program.with_context(|| format!("{} has no program: {told}", pin.display()))?;
            return Ok(Pinned { link: link.info()?.id(), program: program.trim().parse()? });
        }
    }
    bail!("no descriptor holds {}", pin.display())
}

/// Waits until these are gone: the kernel removes what nobody holds a little later.
pub fn expect_clean_kernel(pinned: &[Pinned]) -> Result<()> {
    wait::until("the kernel to be clean", EFFECT_LIMIT, || {
        for link in aya::programs::loaded_links() {
            let id = link?.id();
            ensure!(pinned.iter().all(|pinned| pinned.link != id), "the link {id} is still there");
        }
        for program in aya::programs::loaded_programs() {
            let program = program?;
            let ours = pinned.iter().any(|pinned| pinned.program == program.id());
            ensure!(!ours, "the program {:?} is still there", program.name_as_str());
        }
        Ok(())
    })
}

/// Of all kinds that there are, in all namespaces.
fn expect_no_object() -> Result<()> {
    let kinds = kubectl(["api-resources", "--verbs=list", "--output=name"]).run()?.expect_success()?;
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    ensure!(kinds.iter().all(|kind| !kind.ends_with(".weft.dev")), "the kinds are {kinds:?}");
    let label = "--selector=app.kubernetes.io/part-of=weft";
    let labelled = kubectl(["get", &kinds.join(","), "--all-namespaces", label, "--output=name"]);
    let labelled = labelled.run()?.expect_success()?;
    ensure!(labelled.trim().is_empty(), "there are still {labelled}");
    wait::until("the namespace of Weft to be gone", EFFECT_LIMIT, || {
        let found = kubectl(["get", "namespace", weft::NAMESPACE, "--ignore-not-found", "--output=json"]);
        let found = found.run()?.expect_success()?;
        ensure!(found.trim().is_empty(), "it is {}", serde_json::from_str::<Value>(&found)?["status"]);
        Ok(())
    })
}
