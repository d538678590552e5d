//! A node: namespaces of its own, and in them containerd, the kubelet and kube-proxy, as cluster/node-init.sh starts them.
//!
//! What differs between nodes and between options is in files that are written here; the script only mounts and starts.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cgroups::Hierarchies;
use super::launch::{self, Started};
use super::network::{DNS, Node, PODS};
use super::options::{Cni, Options, View};
use super::place::Place;

/// The first process of a node.
const INIT: &str = include_str!("../../../cluster/node-init.sh");

/// Files in a node's folder, as its first process knows them: the name of its start; that containerd has the images; that
/// there is an API server.
const BOOT: &str = "boot";
const PREPARED: &str = "prepared";
const START: &str = "start";

/// What holds a pod's namespaces.
pub const PAUSE: &str = "registry.weft.local/pause:1";

/// Starts a node as far as it gets without an API server: containerd, and the images in it.
pub fn prepare(place: &Place, node: Node, options: Options, started: &mut Started) -> Result<()> {
    let hierarchies = Hierarchies::of_this_machine()?;
    let folder = place.path(node.name());
    fs::create_dir_all(&folder)?;
    let write = |name: &str, content: &str| {
        fs::write(folder.join(name), content).with_context(|| format!("cannot write {name} of {}", node.name()))
    };
    write("init", INIT)?;
    write("cgroups", &hierarchies.mounts(options.cgroups)?)?;
    write("10-pods.conflist", &network_plugins(node, options).to_string())?;
    write("containerd.toml", &containerd(options.cgroups == View::Hybrid || hierarchies.unified_limits()?))?;
    write("kubelet.yaml", &kubelet(place, node, options).to_string())?;
    write("proxy.yaml", &proxy(place, node, options).to_string())?;
    fs::copy(place.path(format!("certificates/{}.kubeconfig", node.name())), folder.join("kubeconfig"))?;
    write(BOOT, &fs::read_to_string("/proc/sys/kernel/random/uuid")?)?;
    // What an earlier start of the node left.
    for mark in [PREPARED, START] {
        let file = folder.join(mark);
        if file.exists() {
            fs::remove_file(file)?;
        }
    }
    launch::make_room(place, &node.name())?;
    let words = [
        "unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --mount-proc bash".to_owned(),
        folder.join("init").display().to_string(),
        node.name(),
        node.address().to_string(),
        folder.display().to_string(),
        place.programs().display().to_string(),
    ];
    let unshare: Vec<&str> = words[0].split(' ').chain(words[1..].iter().map(String::as_str)).collect();
    started.add(place, &node.name(), &node.name(), &unshare)
}

/// Whether containerd runs there and has its images.
pub fn is_prepared(place: &Place, node: Node) -> bool {
    place.path(node.name()).join(PREPARED).exists()
}

/// What the node calls its present start, as machines do.
pub fn boot(place: &Place, node: Node) -> Result<String> {
    Ok(fs::read_to_string(place.path(node.name()).join(BOOT))?.trim().to_owned())
}

/// Lets the kubelet and kube-proxy start, now that there is an API server.
pub fn start(place: &Place, node: Node, options: Options) -> Result<()> {
    if options.cgroups == View::V2 {
        Hierarchies::of_this_machine()?.share_controllers(place, &node.name())?;
    }
    fs::write(place.path(node.name()).join(START), "").context("cannot let a node start")
}

/// The object of the node, which its kubelet finds and completes: nothing here hands out the pods' addresses.
pub fn object(node: Node) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name()},
        "spec": {"podCIDR": node.pods(), "podCIDRs": [node.pods()]},
    })
}

/// A command inside a node, with the node's programs on its path.
pub fn command(place: &Place, node: Node, words: &[String]) -> Result<Command> {
    let init = first_process(place, node).with_context(|| format!("{} does not run", node.name()))?;
    let mut command = launch::program("nsenter");
    command.arg(format!("--target={init}")).args(["--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup"]);
    command.args(words).current_dir("/");
    command.env("PATH", place.search_path()).env("CONTAINERD_NAMESPACE", "k8s.io");
    Ok(command)
}

/// The number of a node's first process on this machine: it is number one in the namespace just below.
fn first_process(place: &Place, node: Node) -> Option<u32> {
    let processes = Hierarchies::of_this_machine().ok()?.processes(place, &node.name());
    processes.into_iter().find(|process| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        numbers.len() == 2 && numbers[1] == "1"
    })
}

fn network_plugins(node: Node, options: Options) -> Value {
    let addresses = json!({
        "type": "host-local",
        "ranges": [[{"subnet": node.pods()}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    // Pods are known by their own addresses everywhere, so nothing is masqueraded.
    let first = match options.cni {
        Cni::Bridge => json!({
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "ipam": addresses,
        }),
        Cni::Ptp => json!({"type": "ptp", "ipMasq": false, "ipam": addresses}),
    };
    let backend = options.proxy.word();
    let ports = json!({"type": "portmap", "backend": backend, "capabilities": {"portMappings": true}});
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [first, ports]})
}

fn containerd(limits: bool) -> String {
    let runtime = if limits { "runc" } else { "runc-without-limits" };
    // A machine without CAP_SYS_RESOURCE refuses to protect a process from the end of memory more than others.
    format!(
        r#"version = 3
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runtime}"
SystemdCgroup = false
"#
    )
}

fn kubelet(place: &Place, node: Node, options: Options) -> Value {
    let file = |name: String| -> PathBuf { place.path("certificates").join(name) };
    let mut configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": file("ca.crt".to_owned())},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": file(format!("{}.crt", node.name())),
        "tlsPrivateKeyFile": file(format!("{}.key", node.name())),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "resolvConf": "/run/weft-node/resolv.conf",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        // A node has 254 addresses for pods; those of ended pods come back a little later.
        "maxPods": 200,
        "serializeImagePulls": false,
        "nodeStatusUpdateFrequency": "5s",
        // The disk is the machine's: nothing is removed from the node because others fill it.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
    });
    if options.cgroups == View::V2 {
        configuration["enforceNodeAllocatable"] = json!([]);
    }
    configuration
}

fn proxy(place: &Place, node: Node, options: Options) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": options.proxy.word(),
        "hostnameOverride": node.name(),
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": place.path("certificates/proxy.kubeconfig")},
        // The limits of connection tracking are the machine's, not a network namespace's.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    })
}
