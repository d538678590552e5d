//! What clusters differ in. A choice that this machine does not allow is refused before anything is started.

use anyhow::Result;
use clap::{Args, Command, FromArgMatches, ValueEnum};

use super::cgroups::Hierarchies;

/// As one types it.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What nodes see of control groups; by default hybrid, if this machine has the first version.
    #[arg(long, value_enum)]
    cgroups: Option<View>,
    /// How pods are connected to their node.
    #[arg(long, value_enum, default_value_t = Cni::Bridge)]
    cni: Cni,
    /// How kube-proxy turns Services into pods.
    #[arg(long, value_enum, default_value_t = Proxy::Nftables)]
    proxy: Proxy,
}

/// As a cluster on this machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub cgroups: View,
    pub cni: Cni,
    pub proxy: Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// The first version with its controllers, and the second beside it: limits are enforced.
    Hybrid,
    /// The second version alone, as on today's nodes. Without controllers in it limits are not enforced.
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cni {
    /// All pods of a node on one bridge.
    Bridge,
    /// A link of its own to every pod.
    Ptp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Proxy {
    Nftables,
    Iptables,
}

impl Proxy {
    /// What kube-proxy calls it, and the plugin for ports of nodes.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

impl Choice {
    /// That of `up` without any.
    pub const USUAL: Self = Self { cgroups: None, cni: Cni::Bridge, proxy: Proxy::Nftables };

    /// Every other choice.
    pub const OTHER: Self = Self { cgroups: Some(View::V2), cni: Cni::Ptp, proxy: Proxy::Iptables };

    /// What it means on a machine with these hierarchies.
    pub fn on(self, hierarchies: &Hierarchies) -> Result<Options> {
        Ok(Options { cgroups: hierarchies.view(self.cgroups)?, cni: self.cni, proxy: self.proxy })
    }
}

impl Options {
    /// Those that [`Self::line`] has written.
    pub fn of_line(line: &str, hierarchies: &Hierarchies) -> Result<Self> {
        let command = Choice::augment_args(Command::new("up").no_binary_name(true));
        let words = command.try_get_matches_from(line.split(' '))?;
        Choice::from_arg_matches(&words)?.on(hierarchies)
    }

    /// As one would type them.
    pub fn line(self) -> String {
        let word = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        let (cgroups, cni) = (word(self.cgroups.to_possible_value()), word(self.cni.to_possible_value()));
        format!("--cgroups {cgroups} --cni {cni} --proxy {}", self.proxy.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_finds_its_options_again() {
        let hierarchies = Hierarchies::of_this_machine().unwrap();
        for cni in [Cni::Bridge, Cni::Ptp] {
            for proxy in [Proxy::Nftables, Proxy::Iptables] {
                let options = Options { cgroups: View::V2, cni, proxy };
                assert_eq!(Options::of_line(&options.line(), &hierarchies).unwrap(), options);
            }
        }
        assert!(Options::of_line("--cni bridge --proxy none", &hierarchies).is_err());
    }
}
