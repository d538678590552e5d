//! One sentence for a person: which rule decided, or why none did.

use crate::{Action, Decision, Ground, Mismatch, Peer, Policy, evaluate};

/// Allow policies that a sentence lists; the others are counted.
const LISTED: usize = 3;

/// Says why `policies` decide as they do for `peer`, in one sentence.
#[must_use]
pub fn explain<'a>(policies: impl Iterator<Item = &'a Policy> + Clone, peer: &Peer<'_>) -> String {
    let decision = evaluate(policies.clone(), peer);
    let mut sentence = match decision.ground {
        Ground::EnforcedDeny | Ground::Deny => denied(&decision),
        Ground::AllowMatched => {
            let rule = decision.rule_name().unwrap_or_default();
            format!("allowed by rule {rule}")
        }
        Ground::NoAllowMatched => no_allow_matched(policies, peer),
        Ground::NoPolicy => format!("allowed: no Allow policy speaks of port {} and no Deny rule matched", peer.port),
    };
    if !decision.noted.is_empty() {
        let noted: Vec<_> = decision.noted.iter().map(|(policy, rule)| note(policy, *rule)).collect();
        sentence.push_str("; without effect: ");
        sentence.push_str(&noted.join(", "));
    }
    sentence
}

fn denied(decision: &Decision<'_>) -> String {
    let Some((policy, rule)) = decision.rule else {
        return "denied".to_owned();
    };
    let whose = if policy.enforced { "enforced rule" } else { "rule" };
    match &policy.unread {
        None => format!("denied by {whose} {}[{rule}]", policy.name),
        Some(why) => format!(
            "denied: policy {} cannot be applied as written ({why}), so it denies its whole target",
            policy.name
        ),
    }
}

fn no_allow_matched<'a>(policies: impl Iterator<Item = &'a Policy>, peer: &Peer<'_>) -> String {
    let allows: Vec<_> = policies
        .filter(|policy| policy.action == Action::Allow && !policy.dry_run && policy.speaks_of(peer.port))
        .map(|policy| format!("{} ({})", policy.name, unmatched(policy, peer)))
        .collect();
    let listed = allows.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    let others = match allows.len().saturating_sub(LISTED) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("denied: Allow policies select port {} and none matched {}: {listed}{others}", peer.port, describe(peer))
}

fn describe(peer: &Peer<'_>) -> String {
    match peer.identity {
        Some(identity) => format!("{identity} from {}", peer.address),
        None => format!("{}, which spoke plaintext and so has no identity", peer.address),
    }
}

fn unmatched(policy: &Policy, peer: &Peer<'_>) -> String {
    if let Some(why) = &policy.unread {
        return format!("cannot be applied as written: {why}");
    }
    let reasons: Vec<_> = policy.rules.iter().filter_map(|rule| rule.mismatch(peer)).enumerate().take(LISTED).collect();
    match reasons.as_slice() {
        [] => "has no rule".to_owned(),
        [(_, only)] if policy.rules.len() == 1 => words(*only),
        several => {
            let listed: Vec<_> = several.iter().map(|(index, why)| format!("rule {index}: {}", words(*why))).collect();
            listed.join("; ")
        }
    }
}

fn words(mismatch: Mismatch) -> String {
    match mismatch {
        Mismatch::Port => "other ports".to_owned(),
        Mismatch::NoSource => "its list of sources is empty".to_owned(),
        Mismatch::Sources(count) => format!("none of its {count} sources"),
        Mismatch::Identity => "other identities".to_owned(),
        Mismatch::Namespace => "other namespaces".to_owned(),
        Mismatch::ServiceAccount => "other service accounts".to_owned(),
        Mismatch::Address => "other addresses".to_owned(),
    }
}

fn note(policy: &Policy, rule: usize) -> String {
    let kind = match (policy.action, policy.dry_run) {
        (Action::Audit, _) => "audit",
        (Action::Allow, _) => "dry run of an Allow",
        (Action::Deny, _) => "dry run of a Deny",
    };
    format!("{kind} {}[{rule}] matched", policy.name)
}
