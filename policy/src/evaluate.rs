//! The one table.

use std::net::IpAddr;

use weft_proto::names::Identity;

use crate::{Action, Asked, Policy, Rule};

/// What is known of a connection, and what is asked through it, when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Proven by a certificate; None for plaintext.
    pub identity: Option<&'a Identity>,
    /// An IPv4 address that is written as IPv6 (`::ffff:a.b.c.d`) is the IPv4 address.
    pub address: IpAddr,
    /// The port of the pod.
    pub port: u16,
    pub asked: Asked<'a>,
}

#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
}

/// The row of the table that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    EnforcedDeny,
    Deny,
    /// Allow policies speak of this port, and none of their rules matched.
    NoAllowMatched,
    AllowMatched,
    /// No Allow policy speaks of this port, and no Deny matched.
    NoPolicy,
}

/// A verdict with its ground.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    pub verdict: Verdict,
    pub ground: Ground,
    /// The policy and the number of its rule that decided, as its object has it; None when no policy spoke, or no Allow matched.
    pub rule: Option<(&'a Policy, usize)>,
    /// Audit and dry-run policies that matched: for the log alone.
    pub noted: Vec<(&'a Policy, usize)>,
}

impl Decision<'_> {
    /// The deciding rule as `namespace/name[index]`.
    #[must_use]
    pub fn rule_name(&self) -> Option<String> {
        self.rule.map(|(policy, index)| format!("{}[{index}]", policy.name))
    }
}

/// Decides by the one table. `policies` are those that select the pod, in any order; the order chooses only which of
/// several matching rules of the same row is named.
pub fn evaluate<'a>(policies: impl Iterator<Item = &'a Policy>, peer: &Peer<'_>) -> Decision<'a> {
    let mut enforced_deny = None;
    let mut deny = None;
    let mut allow = None;
    let mut allow_present = false;
    let mut noted = Vec::new();
    for policy in policies.filter(|policy| policy.speaks_of(peer.port)) {
        let matched = policy.matching_rule(peer).map(|rule| (policy, rule));
        match policy.action {
            Action::Audit => noted.extend(matched),
            Action::Allow | Action::Deny if policy.dry_run => noted.extend(matched),
            Action::Deny if policy.enforced => enforced_deny = enforced_deny.or(matched),
            Action::Deny => deny = deny.or(matched),
            Action::Allow => {
                allow_present = true;
                allow = allow.or(matched);
            }
        }
    }
    let (verdict, ground, rule) = if enforced_deny.is_some() {
        (Verdict::Deny, Ground::EnforcedDeny, enforced_deny)
    } else if deny.is_some() {
        (Verdict::Deny, Ground::Deny, deny)
    } else if allow.is_some() {
        (Verdict::Allow, Ground::AllowMatched, allow)
    } else if allow_present {
        (Verdict::Deny, Ground::NoAllowMatched, None)
    } else {
        (Verdict::Allow, Ground::NoPolicy, None)
    };
    Decision { verdict, ground, rule, noted }
}

/// Whether a policy judges the requests of this port, so that the agent must parse what arrives there. Audits and dry
/// runs count: they note requests. `policies` are those that select the pod.
pub fn needs_requests<'a>(mut policies: impl Iterator<Item = &'a Policy>, port: u16) -> bool {
    policies.any(|policy| policy.judges_requests(port))
}

/// Whether bytes that are no requests are refused at this port whoever sends them: a policy with an effect judges its
/// requests. Narrower than [`needs_requests`], because an audit or a dry run never changes what passes.
pub fn refuses_opaque<'a>(mut policies: impl Iterator<Item = &'a Policy>, port: u16) -> bool {
    policies.any(|policy| policy.action != Action::Audit && !policy.dry_run && policy.judges_requests(port))
}

impl Policy {
    /// The first rule that matches, by its number in the object.
    pub(crate) fn matching_rule(&self, peer: &Peer<'_>) -> Option<usize> {
        self.first_matching(peer).map(|(index, rule)| rule.written.unwrap_or(index))
    }

    pub(crate) fn first_matching(&self, peer: &Peer<'_>) -> Option<(usize, &Rule)> {
        self.rules.iter().enumerate().find(|(_, rule)| rule.mismatch(self.action, peer).is_none())
    }
}
