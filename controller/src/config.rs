//! Flags. Nothing else reads them or the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weft_proto::names::{NodeName, TrustDomain};

use crate::limits;

/// Turns objects into the agents' configuration and signs identities.
///
/// One controller serves one mesh from one directory: there is no second replica and no leader. While it is away,
/// agents go on with the snapshot and the certificates that they have.
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
    /// Serves agents from a directory of YAML files.
    Serve(Serve),
    /// Join tokens: what a node's agent proves itself with, once.
    #[command(subcommand)]
    Token(Token),
}

#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// YAML files with Pods, Services, `EndpointSlices`, Namespaces and Weft's own kinds; watched. The answers to them
    /// are written to `.status` below it.
    #[arg(long)]
    pub directory: PathBuf,
    /// Where agents connect.
    #[arg(long)]
    pub listen: SocketAddr,
    /// The root of all identities, join tokens, and what agents reported; for its owner alone. The root's certificate,
    /// which agents need, is `ca.pem` in it; the socket for people is `admin.sock`.
    #[arg(long)]
    pub state_dir: PathBuf,
    /// The root of all names in certificates.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: TrustDomain,
    /// Seconds of silence after which a node's agent counts as gone.
    #[arg(long, value_parser = seconds(1, 3600), default_value_t = limits::LEASE.as_secs())]
    pub lease: u64,
    /// Seconds that a workload's certificate lives.
    #[arg(long, value_parser = seconds(10, 30 * 24 * 3600), default_value_t = limits::WORKLOAD_CERTIFICATE_LIFE.as_secs())]
    pub certificate_life: u64,
    /// Further names or addresses for the certificate that agents see. `weft-controller` is always in it.
    #[arg(long)]
    pub server_name: Vec<String>,
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

fn seconds(minimum: u64, maximum: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(minimum..=maximum)
}
