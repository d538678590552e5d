//! A node: a host namespace with routed pods, cgroup folders, and the agent that serves it.
//!
//! Pods are joined the way a point-to-point CNI does it: a veth each, a host route each, no bridge.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

use crate::admin;
use crate::fabric::{Fabric, Family, pod_addresses, pod_range};
use crate::netns::Namespace;
use crate::object::{self, PodPlan};
use crate::place::{Launch, Place};
use crate::pod::Pod;
use crate::process::Process;
use crate::wait;

/// Pod numbers start above the gateway's.
const FIRST_POD: u8 = 2;
/// A process that was killed has vanished by then.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct AgentPlan {
    /// The program.
    pub binary: PathBuf,
    /// Host and port of the controller.
    pub controller: String,
    /// The controller's certificate.
    pub certificate: PathBuf,
    /// The token that lets the node join.
    pub token: PathBuf,
    /// Worker threads.
    pub workers: usize,
    /// Further flags.
    pub flags: Vec<String>,
}

/// A node of the mesh.
#[derive(Debug)]
pub struct Node {
    number: usize,
    namespace: Namespace,
    cgroup: PathBuf,
    scratch: PathBuf,
    pins: PathBuf,
    next_pod: u8,
    agent: Option<Process>,
}

impl Node {
    /// A node joined to the fabric, without pods and without an agent.
    pub(crate) fn create(fabric: &Fabric, number: usize, nodes: usize, folders: &Folders<'_>) -> Result<Self> {
        let name = object::node_name(number);
        let node = Self {
            number,
            namespace: Namespace::create(None)?,
            cgroup: folders.cgroup.join(&name),
            scratch: folders.scratch.join(&name),
            pins: folders.pins.join(&name),
            next_pod: FIRST_POD,
            agent: None,
        };
        for folder in [
            node.pods_cgroup(),
            node.agent_cgroup(),
            node.scratch.clone(),
            node.state_dir(),
            node.run_dir(),
            node.pins.clone(),
        ] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fabric.join(number, &node.namespace)?;
        node.namespace.sysctl("net/ipv4/ip_forward", "1")?;
        node.namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let others = (1..=nodes).filter(|other| *other != number);
        let routes = others.flat_map(|other| {
            [
                format!("route add {} via {}", pod_range(other, Family::V4), Fabric::node_ipv4(other)),
                format!("route add {} via {}", pod_range(other, Family::V6), Fabric::node_ipv6(other)),
            ]
        });
        node.place().ip(&routes.collect::<Vec<_>>())?;
        Ok(node)
    }

    /// Its name in the objects.
    #[must_use]
    pub fn name(&self) -> String {
        object::node_name(self.number)
    }

    /// Its host namespace.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::of(&self.namespace)
    }

    /// The folder below which every pod has its own.
    #[must_use]
    pub fn pods_cgroup(&self) -> PathBuf {
        self.cgroup.join("kubepods")
    }

    /// The folder of the agent's processes.
    #[must_use]
    pub fn agent_cgroup(&self) -> PathBuf {
        self.cgroup.join("agent")
    }

    /// What survives a restart of the agent.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.scratch.join("state")
    }

    /// Sockets of the agent.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.scratch.join("run")
    }

    /// Where the agent pins its programs and maps.
    #[must_use]
    pub fn pin_dir(&self) -> &Path {
        &self.pins
    }

    /// The agent's admin socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.run_dir().join("admin.sock")
    }

    /// The agent's access log.
    #[must_use]
    pub fn access_log(&self) -> PathBuf {
        self.scratch.join("access.log")
    }

    /// Where the agent answers to Prometheus.
    #[must_use]
    pub fn metrics_address(&self) -> String {
        format!("{}:15020", Fabric::node_ipv4(self.number))
    }

    /// The agent's metrics as text.
    pub fn metrics(&self) -> Result<String> {
        let address = format!("http://{}/metrics", self.metrics_address());
        self.place().command("curl").args(["-sS", "--max-time", "5", &address]).run()?.expect_success()
    }

    /// Starts a pod: namespace, address, cgroup folder.
    pub(crate) fn add_pod(&mut self, plan: &PodPlan, uid: &str, scratch: &Path) -> Result<Pod> {
        let cgroup = self.pods_cgroup().join(format!("pod{uid}"));
        fs::create_dir(&cgroup).with_context(|| format!("cannot create {}", cgroup.display()))?;
        let namespace = Namespace::create(Some(&cgroup))?;
        let number = plan.number.unwrap_or(self.next_pod);
        // The device of the address's last owner goes with its namespace, but only some time after it.
        self.place().command("ip").args(["link", "del", &device_of(number)]).run()?;
        self.next_pod = self.next_pod.max(number + 1);
        self.join_pod(&namespace, number)?;
        Pod::create(plan, uid, number, namespace, cgroup, scratch)
    }

    fn join_pod(&self, namespace: &Namespace, number: u8) -> Result<()> {
        let device = device_of(number);
        let [v4, v6] = pod_addresses(self.number, number);
        let [gateway4, gateway6] = pod_addresses(self.number, 1);
        self.place().ip(&[
            format!("link add {device} type veth peer name eth0 netns {}", namespace.pid()),
            format!("addr add {gateway4}/32 dev {device}"),
            format!("addr add {gateway6}/128 dev {device} nodad"),
            format!("link set {device} up"),
            format!("route add {v4}/32 dev {device}"),
            format!("route add {v6}/128 dev {device}"),
        ])?;
        Place::of(namespace).ip(&[
            format!("addr add {v4}/32 dev eth0"),
            format!("addr add {v6}/128 dev eth0 nodad"),
            "link set eth0 up".to_owned(),
            format!("route add {gateway4} dev eth0 scope link"),
            format!("route add {gateway6} dev eth0"),
            format!("route add default via {gateway4}"),
            format!("route add default via {gateway6} dev eth0"),
        ])
    }

    /// Loads a ruleset of nftables into the node's own namespace, through which its pods' packets pass.
    pub fn load_rules(&self, ruleset: &str) -> Result<()> {
        self.place().load_rules(ruleset)
    }

    /// Loses every packet between this node and the controller, until [`Node::reconnect`].
    pub fn cut_off(&self) -> Result<()> {
        let controller = Fabric::ipv4();
        let chain = |hook: &str, end: &str| {
            format!(
                "chain {hook} {{ type filter hook {hook} priority 0; policy accept; ip {end} {controller} drop; }}\n"
            )
        };
        let ruleset = format!("table inet weft-cut {{\n{}{}}}\n", chain("output", "daddr"), chain("input", "saddr"));
        self.load_rules(&ruleset)
    }

    /// Ends [`Node::cut_off`].
    pub fn reconnect(&self) -> Result<()> {
        self.load_rules("delete table inet weft-cut\n")
    }

    // ---- the agent --------------------------------------------------------------------------

    /// Starts the agent. The one before is forgotten if it is still there: that is an upgrade.
    ///
    /// Returns the process of the one before, which still runs.
    pub fn start_agent(&mut self, plan: &AgentPlan) -> Result<Option<Process>> {
        let process = self.agent_command(plan).start(&self.scratch.join("agent.log"))?;
        Ok(self.agent.replace(process))
    }

    /// Takes everything of the agent off this node's kernel.
    pub fn remove_agent(&mut self, plan: &AgentPlan) -> Result<()> {
        self.kill_agent();
        let command = self.place().in_cgroup(&self.agent_cgroup()).command(&plan.binary).arg("remove");
        let command = command.arg("--run-dir").arg(self.run_dir());
        self.with_kernel_paths(command).run()?.expect_success().map(drop)
    }

    fn agent_command(&self, plan: &AgentPlan) -> Launch {
        let place = self.place().in_cgroup(&self.agent_cgroup());
        let mut command =
            place.command(&plan.binary).args(["run", "--node", &self.name(), "--controller", &plan.controller]);
        for (flag, path) in [
            ("--ca-file", &plan.certificate),
            ("--join-token-file", &plan.token),
            ("--state-dir", &self.state_dir()),
            ("--run-dir", &self.run_dir()),
            ("--access-log", &self.access_log()),
        ] {
            command = command.arg(flag).arg(path);
        }
        self.with_kernel_paths(command)
            .args([
                "--workers",
                &plan.workers.to_string(),
                "--metrics-address",
                &self.metrics_address(),
                "--log-format",
                "text",
            ])
            .args(&plan.flags)
    }

    fn with_kernel_paths(&self, command: Launch) -> Launch {
        let command = command.arg("--pin-dir").arg(&self.pins);
        let command = command.arg("--pods-cgroup").arg(self.pods_cgroup());
        command.arg("--agent-cgroup").arg(self.agent_cgroup())
    }

    /// The agent's parent process.
    pub fn agent(&mut self) -> Result<&mut Process> {
        let name = self.name();
        self.agent.as_mut().with_context(|| format!("{name} has no agent"))
    }

    /// What the agent says about itself.
    pub fn status(&self) -> Result<admin::Status> {
        admin::status(&self.admin_socket())
    }

    /// Kills the agent and its parent process at once. What it left in the kernel stays.
    pub fn kill_agent(&mut self) {
        self.signal_agent_group(Signal::KILL);
        drop(self.agent.take());
        // A process that is dying still holds its listeners: what they have accepted is reset with them.
        wait::until_true("the agent's processes to be gone", GONE_LIMIT, || self.serving_pids().is_empty()).ok();
    }

    /// The processes of the agent without their parent: those that carry traffic.
    #[must_use]
    pub fn serving_pids(&self) -> Vec<i32> {
        let parent = self.agent.as_ref().map(|process| process.pid().to_string());
        let members = fs::read_to_string(self.agent_cgroup().join("cgroup.procs")).unwrap_or_default();
        members.lines().filter(|pid| Some(*pid) != parent.as_deref()).filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Signals the processes that carry traffic and leaves their parent alone.
    pub fn signal_serving(&self, signal: Signal) {
        for pid in self.serving_pids().into_iter().filter_map(Pid::from_raw) {
            rustix::process::kill_process(pid, signal).ok();
        }
    }

    fn signal_agent_group(&self, signal: Signal) {
        let members = fs::read_to_string(self.agent_cgroup().join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            rustix::process::kill_process(pid, signal).ok();
        }
    }

    /// The memory of the processes that carry traffic, in bytes.
    pub fn agent_resident_bytes(&self) -> Result<u64> {
        self.agent_memory("VmRSS:")
    }

    fn agent_memory(&self, field: &str) -> Result<u64> {
        let mut total = 0;
        for pid in self.serving_pids() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line =
                status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
            total += line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024;
        }
        Ok(total)
    }

    /// The most memory that they have had, in bytes.
    pub fn agent_peak_bytes(&self) -> Result<u64> {
        self.agent_memory("VmHWM:")
    }

    /// Waits until the agent serves and every pod of `names` is enrolled, or, with `enrolled` false, is not.
    pub fn await_pods(&mut self, names: &[String], enrolled: bool, limit: Duration) -> Result<()> {
        let what = format!("{} to have {} {names:?}", self.name(), if enrolled { "enrolled" } else { "released" });
        let outcome = wait::until(&what, limit, || {
            let status = self.status()?;
            anyhow::ensure!(status.ready, "it is not ready: {status:?}");
            for name in names {
                let pod = status.pods.iter().find(|pod| pod.name == *name);
                let now = pod.is_some_and(|pod| pod.enrolled);
                anyhow::ensure!(now == enrolled, "{name} is not there yet: {pod:?}");
            }
            Ok(())
        });
        outcome.with_context(|| self.agent_tail())
    }

    /// The last lines of the agent's log, for failures.
    #[must_use]
    pub fn agent_tail(&self) -> String {
        let log = fs::read(self.scratch.join("agent.log")).unwrap_or_default();
        let tail = crate::process::tail_of(&String::from_utf8_lossy(&log), 30);
        format!("the agent of {} last said:\n{tail}", self.name())
    }
}

/// The host's end of a pod's device.
fn device_of(number: u8) -> String {
    format!("pod{number}")
}

/// Where a node makes its folders.
pub(crate) struct Folders<'a> {
    pub(crate) cgroup: &'a Path,
    pub(crate) scratch: &'a Path,
    pub(crate) pins: &'a Path,
}
