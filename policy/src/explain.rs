//! One sentence for a person: which rule decided, or why none did.

use crate::{Action, Asked, Decision, Ground, Mismatch, Peer, Policy, Rule, evaluate};

/// Allow policies that a sentence lists; the others are counted.
const LISTED: usize = 3;
/// Letters of a path, a host or a method that a sentence shows: a client may send any length of them.
const SHOWN: usize = 128;

/// Says why `policies` decide as they do for `peer`, in one sentence.
#[must_use]
pub fn explain<'a>(policies: impl Iterator<Item = &'a Policy> + Clone, peer: &Peer<'_>) -> String {
    let decision = evaluate(policies.clone(), peer);
    let mut sentence = match decision.ground {
        Ground::EnforcedDeny | Ground::Deny => denied(&decision, peer),
        Ground::AllowMatched => {
            let rule = decision.rule_name().unwrap_or_default();
            format!("allowed by rule {rule}{}", matched(&decision, peer))
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

fn denied(decision: &Decision<'_>, peer: &Peer<'_>) -> String {
    let Some((policy, rule)) = decision.rule else {
        return "denied".to_owned();
    };
    let whose = if policy.enforced { "enforced rule" } else { "rule" };
    match &policy.unread {
        None => format!("denied by {whose} {}[{rule}]{}", policy.name, matched(decision, peer)),
        Some(why) => format!(
            "denied: policy {} cannot be applied as written ({why}), so it denies its whole target",
            policy.name
        ),
    }
}

/// What of the request the deciding rule spoke of; nothing for a rule of connections.
fn matched(decision: &Decision<'_>, peer: &Peer<'_>) -> String {
    let rule = decision.rule.and_then(|(policy, _)| policy.first_matching(peer));
    if !rule.is_some_and(|(_, rule)| rule.is_of_requests()) {
        return String::new();
    }
    match asked(peer) {
        Some(request) => format!(", which matches {request}"),
        None => ", which speaks of requests: nobody can say what these opaque bytes ask for".to_owned(),
    }
}

/// None for opaque bytes.
fn asked(peer: &Peer<'_>) -> Option<String> {
    match peer.asked {
        Asked::Request(request) if request.host.is_empty() => {
            Some(format!("{} {}", shown(request.method), shown(request.path)))
        }
        Asked::Request(request) => {
            Some(format!("{} {} of {}", shown(request.method), shown(request.path), shown(request.host)))
        }
        Asked::Opaque => None,
    }
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
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
    let who = match peer.identity {
        Some(identity) => format!("{identity} from {}", peer.address),
        None => format!("{}, which spoke plaintext and so has no identity", peer.address),
    };
    match asked(peer) {
        Some(request) => format!("{request} by {who}"),
        None => who,
    }
}

fn unmatched(policy: &Policy, peer: &Peer<'_>) -> String {
    if let Some(why) = &policy.unread {
        return format!("cannot be applied as written: {why}");
    }
    let rules = policy.rules.iter().enumerate();
    let reasons: Vec<_> = rules
        .filter_map(|(index, rule)| rule.mismatch(policy.action, peer).map(|why| (index, words(rule, why))))
        .take(LISTED)
        .collect();
    match reasons.as_slice() {
        [] => "has no rule".to_owned(),
        [(_, only)] if policy.rules.len() == 1 => only.clone(),
        several => {
            let number = |index: usize| policy.rules[index].written.unwrap_or(index);
            let listed: Vec<_> = several.iter().map(|(index, why)| format!("rule {}: {why}", number(*index))).collect();
            listed.join("; ")
        }
    }
}

fn words(rule: &Rule, mismatch: Mismatch) -> String {
    match mismatch {
        Mismatch::Port => "other ports".to_owned(),
        Mismatch::NoSource => "its list of sources is empty".to_owned(),
        Mismatch::Sources(count) => format!("none of its {count} sources"),
        Mismatch::Identity => "other identities".to_owned(),
        Mismatch::Namespace => "other namespaces".to_owned(),
        Mismatch::ServiceAccount => "other service accounts".to_owned(),
        Mismatch::Address => "other addresses".to_owned(),
        Mismatch::Opaque => "requests alone, and these bytes are opaque".to_owned(),
        Mismatch::NoOperation => "its list of operations is empty".to_owned(),
        Mismatch::Operations(count) => format!("none of its {count} operations"),
        Mismatch::Method => "other methods".to_owned(),
        Mismatch::Host => "other hosts".to_owned(),
        Mismatch::Path => "other paths".to_owned(),
        Mismatch::Header(index) => match rule.headers.get(index) {
            Some(condition) => format!("other values of the header {}", condition.name),
            None => "other headers".to_owned(),
        },
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
