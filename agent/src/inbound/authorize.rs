//! Whether a proven peer may connect: the one table, by `weft_policy`.

use weft_policy::{Decision, Peer, Policy, Verdict, evaluate};
use weft_proto::names::Identity;

use crate::error::{ConnectionError, Reason, Side};
use crate::telemetry::ConnectionRecord;

use super::accept::Arrival;

/// Decides and writes what was noted into the record.
pub fn authorize(
    arrival: &Arrival,
    identity: Option<&Identity>,
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    let decision = decide(arrival, identity);
    record.noted = decision.noted.iter().map(|(policy, rule)| rule_name(policy, *rule)).collect();
    record.rule = decision.rule.map(|(policy, rule)| rule_name(policy, rule));
    match decision.verdict {
        Verdict::Allow => Ok(()),
        Verdict::Deny => Err(match decision.rule {
            Some((policy, rule)) => {
                ConnectionError::new(Side::Local, Reason::DeniedByRule).with_rule(rule_name(policy, rule))
            }
            None => ConnectionError::new(Side::Local, Reason::NoAllowMatched),
        }),
    }
}

/// Whether plaintext from this client would be let in: then the application may be dialled before anybody has spoken.
pub fn admits_plaintext(arrival: &Arrival) -> bool {
    decide(arrival, None).verdict == Verdict::Allow
}

fn decide<'a>(arrival: &'a Arrival, identity: Option<&Identity>) -> Decision<'a> {
    let peer = Peer { identity, address: arrival.client.ip(), port: arrival.destination.port() };
    evaluate(arrival.enrolment.policies.iter().map(AsRef::as_ref), &peer)
}

fn rule_name(policy: &Policy, rule: usize) -> String {
    format!("{}[{rule}]", policy.name)
}
