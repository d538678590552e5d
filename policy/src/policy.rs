//! A policy in validated types. Structure says the logic: `None` is anything, an empty list is nothing.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use weft_proto::names::{Identity, NamespacedName};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Allow,
    Deny,
    Audit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub name: NamespacedName,
    pub action: Action,
    pub dry_run: bool,
    /// From MeshConfig: an enforced Deny comes before everything else.
    pub enforced: bool,
    /// Ports of the target that the policy speaks of; empty: every port.
    pub target_ports: Vec<u16>,
    pub rules: Vec<Rule>,
}

/// Matches when both present fields match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    pub from: Option<Vec<Source>>,
    pub to: Option<PortMatch>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortMatch {
    pub ports: Vec<u16>,
    pub negated: bool,
}

/// Matches when every present field matches. A peer without identity matches no positive identity field and every negative one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Source {
    pub identities: Option<Vec<Identity>>,
    pub namespaces: Option<Vec<String>>,
    pub service_accounts: Option<Vec<NamespacedName>>,
    pub networks: Option<Vec<IpNet>>,
    pub not_identities: Option<Vec<Identity>>,
    pub not_namespaces: Option<Vec<String>>,
    pub not_service_accounts: Option<Vec<NamespacedName>>,
    pub not_networks: Option<Vec<IpNet>>,
}

impl Source {
    #[must_use]
    pub(crate) fn names_network(&self, address: IpAddr) -> bool {
        let inside = |networks: &Vec<IpNet>| networks.iter().any(|network| network.contains(&address));
        self.networks.as_ref().is_none_or(inside) && !self.not_networks.as_ref().is_some_and(inside)
    }
}
