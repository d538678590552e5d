//! The one table.

use std::net::IpAddr;
use weft_proto::names::Identity;

use crate::{Action, Policy};

/// What is known of a connection when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Proven by a certificate; None for plaintext.
    pub identity: Option<&'a Identity>,
    pub address: IpAddr,
    /// The port of the pod.
    pub port: u16,
}

#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
}

/// A verdict with its ground.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    pub verdict: Verdict,
    /// The policy and the index of its rule that decided; None when no policy spoke, or no Allow matched.
    pub rule: Option<(&'a Policy, usize)>,
    /// Audit and dry-run policies that matched: for the log alone.
    pub noted: Vec<(&'a Policy, usize)>,
}

/// Decides by the one table.
pub fn evaluate<'a>(policies: impl Iterator<Item = &'a Policy> + Clone, peer: &Peer<'_>) -> Decision<'a> {
    let _ = (policies, peer, Action::Allow);
    Decision { verdict: Verdict::Deny, rule: None, noted: Vec::new() }
}
