//! Whether one rule matches what is asked, and if not, which field says so.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_proto::names::{Identity, Namespace, NamespacedName};

use crate::request::passes;
use crate::{Action, Asked, HeaderCondition, Operation, Peer, PortMatch, Request, Rule, Source};

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
    /// The rule speaks of requests, and nobody parses these bytes.
    Opaque,
    /// An empty list of operations matches no request.
    NoOperation,
    /// None of several operations matched.
    Operations(usize),
    Method,
    Host,
    Path,
    /// The condition of this index.
    Header(usize),
}

impl Rule {
    /// None when the rule, being one of a policy with this action, matches.
    #[must_use]
    pub fn mismatch(&self, action: Action, peer: &Peer<'_>) -> Option<Mismatch> {
        if !self.speaks_of(peer.port) {
            return Some(Mismatch::Port);
        }
        self.source_mismatch(peer).or_else(|| match peer.asked {
            Asked::Request(request) => self.request_mismatch(request),
            // What a Deny forbids may be in bytes that nobody parses; what an Allow asks for may not be.
            Asked::Opaque => (self.is_of_requests() && action != Action::Deny).then_some(Mismatch::Opaque),
        })
    }

    /// Whether only requests, and no connection as such, can be what the rule allows or notes.
    #[must_use]
    pub fn is_of_requests(&self) -> bool {
        self.operations.is_some() || !self.headers.is_empty()
    }

    pub(crate) fn speaks_of(&self, port: u16) -> bool {
        self.to.as_ref().is_none_or(|to| to.matches(port))
    }

    fn source_mismatch(&self, peer: &Peer<'_>) -> Option<Mismatch> {
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

    fn request_mismatch(&self, request: &Request<'_>) -> Option<Mismatch> {
        let operation = match self.operations.as_deref() {
            None => None,
            Some([]) => Some(Mismatch::NoOperation),
            Some([operation]) => operation.mismatch(request),
            Some(operations) => {
                let matched = operations.iter().any(|operation: &Operation| operation.mismatch(request).is_none());
                (!matched).then_some(Mismatch::Operations(operations.len()))
            }
        };
        let unmet = |condition: &HeaderCondition| !condition.matches(request.headers);
        operation.or_else(|| self.headers.iter().position(unmet).map(Mismatch::Header))
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

/// The trust domain plays no part: every domain that the peer's certificate may have is this mesh's, by name or by alias.
fn is_account(identity: &Identity, listed: &NamespacedName) -> bool {
    identity.namespace == listed.namespace && identity.service_account == listed.name
}

fn holds(network: &IpNet, address: IpAddr) -> bool {
    network.contains(&address)
}
