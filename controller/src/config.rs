//! Flags. Nothing else reads them or the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weft_proto::names::{Namespace, NodeName, TrustDomain};

use crate::limits;
use crate::translate::Agents;

/// Turns objects into the agents' configuration and signs identities.
///
/// From a directory one controller serves one mesh; in a cluster several may run, and one of them leads. While none
/// does, agents go on with the snapshot that they have; every controller signs certificates.
#[derive(Debug, Parser)]
#[command(name = "weft-controller", version)]
pub struct Config {
    #[command(subcommand)]
    pub command: Command,
    /// How much is logged: a level, or targets with levels such as `info,weft_controller=debug`.
    #[arg(long, global = true, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves agents from a directory of YAML files, or from the Kubernetes API.
    Serve(Serve),
    /// Join tokens: what a node's agent proves itself with, once.
    #[command(subcommand)]
    Token(Token),
}

#[derive(Debug, Clone, Args)]
pub struct Serve {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub cluster: Cluster,
    /// Where agents connect.
    #[arg(long)]
    pub listen: SocketAddr,
    /// For its owner alone. From a directory: the root of all identities and join tokens; the root's certificate, which
    /// agents need, is `ca.pem` in it. From both sources: what agents reported, the last good versions of objects that are
    /// broken now, and the socket for people, `admin.sock`.
    #[arg(long)]
    pub state_dir: PathBuf,
    /// The root of all names in certificates.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: TrustDomain,
    /// Seconds of silence after which a node's agent counts as gone.
    #[arg(long, value_parser = seconds(1, 3600), default_value_t = limits::LEASE.as_secs())]
    pub lease: u64,
    /// Seconds that a workload's certificate lives, unless `MeshConfig` says otherwise.
    #[arg(long, value_parser = certificate_life(), default_value_t = limits::WORKLOAD_CERTIFICATE_LIFE.as_secs())]
    pub certificate_life: u64,
    /// Seconds that a node's certificate lives; without it, a week where a join token proves the node once, a day where the
    /// token of the agent's pod does so again and again.
    #[arg(long, value_parser = certificate_life())]
    pub node_certificate_life: Option<u64>,
    /// Further names or addresses for the certificate that agents see. `weft-controller` is always in it.
    #[arg(long)]
    pub server_name: Vec<String>,
}

/// Where objects come from.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// YAML files with Pods, Services, `EndpointSlices`, Namespaces and Weft's own kinds; watched. The answers to them
    /// are written to `.status` below it.
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// The Kubernetes API; the answers to objects are written to their status. The root of all identities is a Secret.
    #[arg(long)]
    pub kubernetes: bool,
}

/// What matters with `--kubernetes` alone.
#[derive(Debug, Clone, Args)]
pub struct Cluster {
    /// How to reach the API server; without it, as the service account of the pod that this is.
    #[arg(long, conflicts_with = "directory")]
    pub kubeconfig: Option<PathBuf>,
    /// Where Weft itself lives: its Secret, its Lease and its agents.
    #[arg(long, conflicts_with = "directory", default_value = "weft-system")]
    pub namespace: Namespace,
    /// The service account of the agents; a token of any other joins no node.
    #[arg(long, conflicts_with = "directory", default_value = "weft-agent")]
    pub agent_service_account: String,
}

impl Cluster {
    #[must_use]
    pub fn agents(&self) -> Agents {
        Agents { namespace: self.namespace.to_string(), service_account: self.agent_service_account.clone() }
    }
}

impl Serve {
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease)
    }

    #[must_use]
    pub fn certificate_life(&self) -> Duration {
        Duration::from_secs(self.certificate_life)
    }

    #[must_use]
    pub fn node_certificate_life(&self) -> Option<Duration> {
        self.node_certificate_life.map(Duration::from_secs)
    }
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Prints a token for one node, in place of any that it had.
    Create(CreateToken),
}

#[derive(Debug, Args)]
pub struct CreateToken {
    /// As for `serve`.
    #[arg(long)]
    pub state_dir: PathBuf,
    #[arg(long)]
    pub node: NodeName,
    /// Seconds that the token is good.
    #[arg(long, value_parser = seconds(1, 365 * 24 * 3600), default_value_t = limits::TOKEN_LIFE.as_secs())]
    pub valid_for: u64,
}

fn certificate_life() -> clap::builder::RangedU64ValueParser {
    let lives = limits::WORKLOAD_CERTIFICATE_LIVES;
    seconds(lives.start().as_secs(), lives.end().as_secs())
}

fn seconds(minimum: u64, maximum: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(minimum..=maximum)
}
