//! The only reader of flags and the environment.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::limits;

/// The agent of one node: captures its pods' connections, carries them under mTLS, and decides who may connect.
#[derive(Debug, Parser)]
#[command(name = "weft-agent", version, after_help = EXAMPLES)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  weft-agent run --node node-a --controller 10.0.0.1:15010 --ca-file ca.pem --join-token-file token
  weft-agent remove --pin-dir /sys/fs/bpf/weft --pods-cgroup /sys/fs/cgroup/kubepods --agent-cgroup /sys/fs/cgroup/weft";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts the agent, watches its heartbeats, and starts it anew when it dies or hangs.
    Run(Box<Settings>),
    /// The agent itself; `run` starts it.
    Serve(Box<Settings>),
    /// Takes every program, link and map off the kernel. The agent must not be running.
    Remove(RemoveSettings),
    /// Tells whether the agent that was given this file serves; for the readiness probe of its pod.
    Ready(ReadySettings),
    /// Connects once from inside a pod, to prove that its hook captures; the agent starts it.
    #[command(hide = true)]
    Probe(ProbeSettings),
}

#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// This node's name, as the controller has it.
    #[arg(long, env = "WEFT_NODE")]
    pub node: String,
    /// The controller's address.
    #[arg(long, value_name = "HOST:PORT")]
    pub controller: String,
    /// The root certificates (PEM) that the controller's certificate must come from.
    #[arg(long, value_name = "FILE")]
    pub ca_file: PathBuf,
    /// The token that makes this node a member; good for its life, for this node alone.
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Where the last good snapshot is kept: on a disk.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/weft")]
    pub state_dir: PathBuf,
    /// Keys, admin and hand-over sockets: on a tmpfs.
    #[arg(long, value_name = "DIR", default_value = "/run/weft")]
    pub run_dir: PathBuf,
    /// Where the kubelet keeps pods' logs (its `podLogsDir`), by which new pods are known while no controller tells of them.
    #[arg(long, value_name = "DIR", default_value = "/var/log/pods")]
    pub pod_logs: PathBuf,
    #[command(flatten)]
    pub kernel: KernelPaths,
    /// Worker threads; without it one for each core.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::WORKERS_MAXIMUM)))]
    pub workers: Option<u32>,
    /// Where metrics and readiness are served, read-only.
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_address: Option<SocketAddr>,
    /// A file that is there while this agent serves; not while it waits for a predecessor or drains.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// A file for one JSON line per connection, or `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Which events are logged (tracing's filter syntax).
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
    /// The root of the kernel's settings; in a container the host's, mounted somewhere else.
    #[arg(long, value_name = "DIR", default_value = "/proc/sys")]
    pub sysctl_root: PathBuf,
    /// After a hand-over wait for SIGTERM: in a pod, which would be started again if it ended before its successor is ready.
    #[arg(long)]
    pub stay: bool,
    /// Every TLS handshake in full. Costs three to four times the CPU of a resumed one.
    #[arg(long)]
    pub no_resumption: bool,
}

#[derive(Debug, Clone, Args)]
pub struct KernelPaths {
    /// A folder of a BPF file system, for this agent alone.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/weft")]
    pub pin_dir: PathBuf,
    /// The cgroup (v2) below which all pods are; without it the kubelet's, wherever it is.
    #[arg(long, value_name = "DIR")]
    pub pods_cgroup: Option<PathBuf>,
    /// A cgroup of the agent's own, by which the hooks recognise its sockets: the agent moves there. Without it the one
    /// that its container is in.
    #[arg(long, value_name = "DIR")]
    pub agent_cgroup: Option<PathBuf>,
    /// The cgroup (v2) that kubelet is in, by which its probes are recognised; without it that of the process named
    /// kubelet.
    #[arg(long, value_name = "DIR")]
    pub kubelet_cgroup: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RemoveSettings {
    #[command(flatten)]
    pub kernel: KernelPaths,
    /// The agent's run directory, which knows what the pods' settings were.
    #[arg(long, value_name = "DIR", default_value = "/run/weft")]
    pub run_dir: PathBuf,
    /// The agent's state directory: with it keys, sockets and the last snapshot go too.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// As for `run`.
    #[arg(long, value_name = "DIR", default_value = "/proc/sys")]
    pub sysctl_root: PathBuf,
    /// Wait for SIGTERM afterwards: in a pod of a `DaemonSet`, which would be started again if it ended.
    #[arg(long)]
    pub stay: bool,
}

#[derive(Debug, Args)]
pub struct ReadySettings {
    /// As `--ready-file` of `run`.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct ProbeSettings {
    #[arg(long)]
    pub netns: PathBuf,
    /// The pod's cgroup: the probe moves itself there.
    #[arg(long)]
    pub cgroup: PathBuf,
    #[arg(long)]
    pub destination: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// The number of workers: what was asked for, else a worker for each core.
    #[must_use]
    pub fn worker_count(&self) -> u32 {
        self.workers.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            u32::try_from(cores).unwrap_or(1).clamp(1, limits::WORKERS_MAXIMUM)
        })
    }
}

/// This process' own arguments, with `serve` for the command: what the parent starts the agent with.
#[must_use]
pub fn serve_arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if let Some(command) = arguments.get_mut(1) {
        *command = "serve".into();
    }
    arguments
}
