//! Whether one rule matches one connection, and if not, which field says so.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_proto::names::{Identity, Namespace, NamespacedName};

use crate::{Peer, PortMatch, Rule, Source};

/// The first field of a rule that does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The rule speaks of other ports.
    Port,
    /// An empty list of sources matches nobody.
    NoSource,
    /// None of several sources matched.
    Sources(usize),
    Identity,
    Namespace,
    ServiceAccount,
    Address,
}

impl Rule {
    /// None when the rule matches.
    #[must_use]
    pub fn mismatch(&self, peer: &Peer<'_>) -> Option<Mismatch> {
        if self.to.as_ref().is_some_and(|to| !to.matches(peer.port)) {
            return Some(Mismatch::Port);
        }
        match self.from.as_deref() {
            None => None,
            Some([]) => Some(Mismatch::NoSource),
            Some([source]) => source.mismatch(peer),
            Some(sources) => {
                let matched = sources.iter().any(|source| source.mismatch(peer).is_none());
                (!matched).then_some(Mismatch::Sources(sources.len()))
            }
        }
    }
}

impl PortMatch {
    fn matches(&self, port: u16) -> bool {
        self.ports.contains(&port) != self.negated
    }
}

impl Source {
    fn mismatch(&self, peer: &Peer<'_>) -> Option<Mismatch> {
        let address = peer.address.to_canonical();
        let identity = |listed: &Identity| peer.identity == Some(listed);
        let namespace = |listed: &Namespace| peer.identity.is_some_and(|own| own.namespace == *listed);
        let account = |listed: &NamespacedName| peer.identity.is_some_and(|own| is_account(own, listed));
        let network = |listed: &IpNet| holds(listed, address);
        if !passes(self.identities.as_deref(), self.not_identities.as_deref(), identity) {
            Some(Mismatch::Identity)
        } else if !passes(self.namespaces.as_deref(), self.not_namespaces.as_deref(), namespace) {
            Some(Mismatch::Namespace)
        } else if !passes(self.service_accounts.as_deref(), self.not_service_accounts.as_deref(), account) {
            Some(Mismatch::ServiceAccount)
        } else if !passes(self.networks.as_deref(), self.not_networks.as_deref(), network) {
            Some(Mismatch::Address)
        } else {
            None
        }
    }

    pub(crate) fn names_identity(&self) -> bool {
        self.identities.is_some() || self.namespaces.is_some() || self.service_accounts.is_some()
    }

    pub(crate) fn excludes_identity(&self) -> bool {
        self.not_identities.is_some() || self.not_namespaces.is_some() || self.not_service_accounts.is_some()
    }
}

/// Absent matches anything, a list one of its values; `not` is its negation, so that an empty one excludes nothing.
fn passes<T>(listed: Option<&[T]>, excluded: Option<&[T]>, is: impl Fn(&T) -> bool) -> bool {
    listed.is_none_or(|values| values.iter().any(&is)) && !excluded.is_some_and(|values| values.iter().any(&is))
}

/// The trust domain plays no part: every domain that the peer's certificate may have is this mesh's, by name or by alias.
fn is_account(identity: &Identity, listed: &NamespacedName) -> bool {
    identity.namespace == listed.namespace && identity.service_account == listed.name
}

fn holds(network: &IpNet, address: IpAddr) -> bool {
    network.contains(&address)
}
