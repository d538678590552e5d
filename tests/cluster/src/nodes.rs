//! Both nodes from inside, and whether they are what the cluster's options say.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use weft_rig::place::Launch;
use weft_rig::wait;

use crate::Promise;
use crate::namespace::{Namespace, POD_LIMIT, kubectl};

/// The names of the cluster's nodes.
pub const NODES: [&str; 2] = ["node1", "node2"];

/// Where a node keeps a file for each address that a pod has, and `last_reserved_ip.0`, after which the next one comes.
pub const ADDRESSES: &str = "/var/lib/cni/networks/pods";

/// The API server is ready after ten seconds on a free machine.
const RESTART_LIMIT: Duration = Duration::from_mins(3);

/// What a container may have, and what it takes.
const ALLOWED: &str = "64Mi";
const TAKEN_MEBIBYTES: &str = "128";

pub fn promises() -> Vec<Promise> {
    vec![
        Promise { name: "nodes_are_as_the_options_say", run: nodes_are_as_the_options_say },
        Promise { name: "limits_are_as_the_nodes_can", run: limits_are_as_the_nodes_can },
        Promise { name: "a_new_api_server_is_believed", run: a_new_api_server_is_believed },
    ]
}

/// What the cluster was started with.
struct Options {
    hybrid: bool,
    bridge: bool,
    proxy: String,
}

impl Options {
    /// As `cargo xtask cluster up` would be told them.
    fn of_this_cluster() -> Result<Self> {
        let line = env::var("WEFT_CLUSTER_OPTIONS").context("WEFT_CLUSTER_OPTIONS is not set")?;
        let words: Vec<&str> = line.split(' ').collect();
        let ["--cgroups", cgroups, "--cni", cni, "--proxy", proxy] = words[..] else {
            bail!("WEFT_CLUSTER_OPTIONS is `{line}`");
        };
        let hybrid = match cgroups {
            "hybrid" => true,
            "v2" => false,
            other => bail!("there is no view {other}"),
        };
        let bridge = match cni {
            "bridge" => true,
            "ptp" => false,
            other => bail!("there is no way {other} to connect pods"),
        };
        Ok(Self { hybrid, bridge, proxy: proxy.to_owned() })
    }
}

fn nodes_are_as_the_options_say(namespace: &Namespace) -> Result<()> {
    let options = Options::of_this_cluster()?;
    for node in NODES {
        // The bridge comes with the first pod.
        let pod = format!("on-{node}");
        namespace.server(&pod, node)?;
        let view = said(node, &["stat", "--file-system", "--format=%T", "/sys/fs/cgroup"])?;
        let expected = if options.hybrid { "tmpfs" } else { "cgroup2fs" };
        ensure!(view == expected, "{node} has {view} at /sys/fs/cgroup, not {expected}");
        let bridges = said(node, &["ip", "-oneline", "link", "show", "type", "bridge"])?;
        ensure!(bridges.contains("cni0") == options.bridge, "{node} has the bridges {bridges:?}");
        let answer = said(node, &["bash", "-c", ASK_PROXY])?;
        let mode = answer.lines().last().unwrap_or_default();
        ensure!(mode == options.proxy, "the kube-proxy of {node} is {answer:?}, not {}", options.proxy);
    }
    Ok(())
}

/// kube-proxy tells its mode on this port of its node's loopback alone, and a node has no other client than a shell.
const ASK_PROXY: &str = r"
exec 3<> /dev/tcp/127.0.0.1/10249
printf 'GET /proxyMode HTTP/1.0\r\n\r\n' >&3
cat <&3";

/// Where the nodes have a controller for memory, who takes too much is ended; where they have none, it gets what it takes.
fn limits_are_as_the_nodes_can(namespace: &Namespace) -> Result<()> {
    let memory = "[ -d /sys/fs/cgroup/memory ] || grep -qw memory /sys/fs/cgroup/cgroup.controllers";
    let enforced = inside("node2", &["bash", "-c", memory])?.run()?.success();
    let options = Options::of_this_cluster()?;
    ensure!(enforced || !options.hybrid, "the hybrid view has no controller for memory");
    namespace.create_pod("glutton", "node2", &["grow", TAKEN_MEBIBYTES], |pod| {
        pod["spec"]["restartPolicy"] = json!("Never");
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": ALLOWED}});
    })?;
    let expected = if enforced { "OOMKilled" } else { "Completed" };
    namespace.await_field("glutton", "/status/containerStatuses/0/state/terminated/reason", expected)
}

/// Who watches an API server that goes watches the next one.
fn a_new_api_server_is_believed(namespace: &Namespace) -> Result<()> {
    namespace.server("before", "node1")?;
    restart_api_server()?;
    let address = namespace.service("after")?;
    namespace.server("after", "node2")?;
    let name = format!("after.{}.svc.cluster.local", namespace.name());
    wait::until(&format!("{name} to resolve"), POD_LIMIT, || {
        let answer = namespace.exec("before", &["resolve", &name])?.expect_success()?;
        ensure!(answer.trim() == address, "{name} is {answer}, not {address}");
        Ok(())
    })?;
    let answer = namespace.ask("before", &format!("http://{name}/"))?;
    ensure!(answer["pod"] == "after", "the Service answers {answer}");
    let pod = namespace.get("pod/before")?;
    let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
    ensure!(restarts == 0, "the pod was started again: {}", pod["status"]);
    Ok(())
}

/// Ends the API server, and waits until another answers.
pub fn restart_api_server() -> Result<()> {
    let first = start_of_api_server()?;
    xtask(&["restart", "kube-apiserver"])?.within(RESTART_LIMIT).run()?.expect_success()?;
    let second = start_of_api_server()?;
    ensure!(second > first, "the API server that started at {first} was to be ended, and one of {second} answers");
    Ok(())
}

/// When the API server that answers was started, in seconds of the clock, as it tells among its metrics.
fn start_of_api_server() -> Result<f64> {
    let metrics = kubectl(["get", "--raw", "/metrics"]).run()?.expect_success()?;
    let found = metrics.lines().find_map(|line| line.strip_prefix("process_start_time_seconds "));
    Ok(found.context("the API server does not tell when it was started")?.parse()?)
}

/// What a command inside a node prints.
pub fn said(node: &str, words: &[&str]) -> Result<String> {
    Ok(inside(node, words)?.run()?.expect_success()?.trim().to_owned())
}

pub fn inside(node: &str, words: &[&str]) -> Result<Launch> {
    Ok(xtask(&["node", node])?.args(words))
}

/// `cargo xtask cluster` for this cluster.
pub fn xtask(words: &[&str]) -> Result<Launch> {
    let program = env::var_os("XTASK").context("XTASK is not set")?;
    let cluster = env::var("WEFT_CLUSTER").context("WEFT_CLUSTER is not set")?;
    Ok(Launch::new(program).args(["cluster", "--name", &cluster]).args(words).ends_with_caller())
}
