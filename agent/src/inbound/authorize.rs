//! Whether a proven peer may connect: the one table, by `weft_policy`.

use weft_policy::{Asked, Peer, Policy, Verdict, evaluate, explain};
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
    let peer = peer(arrival, identity);
    let decision = evaluate(policies(arrival), &peer);
    record.noted = decision.noted.iter().map(|(policy, rule)| format!("{}[{rule}]", policy.name)).collect();
    record.rule = decision.rule_name();
    match decision.verdict {
        Verdict::Allow => Ok(()),
        Verdict::Deny => {
            let reason = if decision.rule.is_some() { Reason::DeniedByRule } else { Reason::NoAllowMatched };
            let mut error = ConnectionError::new(Side::Local, reason).with_detail(explain(policies(arrival), &peer));
            error.rule.clone_from(&record.rule);
            Err(error)
        }
    }
}

/// Whether plaintext from this client would be let in: then the application may be dialled before anybody has spoken.
pub fn admits_plaintext(arrival: &Arrival) -> bool {
    evaluate(policies(arrival), &peer(arrival, None)).verdict == Verdict::Allow
}

fn policies(arrival: &Arrival) -> impl Iterator<Item = &Policy> + Clone {
    arrival.enrolment.policies.iter().map(AsRef::as_ref)
}

fn peer<'a>(arrival: &Arrival, identity: Option<&'a Identity>) -> Peer<'a> {
    Peer { identity, address: arrival.client.ip(), port: arrival.destination.port(), asked: Asked::Opaque }
}
