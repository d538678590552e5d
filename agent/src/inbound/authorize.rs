//! Whether a peer, proven or not, may connect, or ask for this: the one table, by `weft_policy`.

use std::net::IpAddr;

use weft_policy::{Asked, Peer, Policy, Verdict, evaluate, explain};
use weft_proto::names::Identity;

use crate::error::{ConnectionError, Reason, Side};
use crate::model::Enrolment;
use crate::telemetry::ConnectionRecord;

use super::accept::Arrival;

/// What the one table says.
#[derive(Debug)]
pub struct Judgement {
    /// The rule that allowed it, if a policy spoke; or the refusal.
    pub granted: Result<Option<String>, ConnectionError>,
    /// Audit and dry-run rules that matched.
    pub noted: Vec<String>,
}

/// Decides about a connection and writes what was noted into the record. Where requests are judged they are judged one by
/// one, and the connection that carries them is let in for that.
pub fn authorize(
    arrival: &Arrival,
    identity: Option<&Identity>,
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    if judges_requests(arrival) { Ok(()) } else { authorize_opaque(arrival, identity, record) }
}

/// Decides about a connection whose bytes are no requests, or are not looked at.
pub fn authorize_opaque(
    arrival: &Arrival,
    identity: Option<&Identity>,
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    let port = arrival.destination.port();
    if refuses_opaque(&arrival.enrolment, port) {
        return Err(ConnectionError::new(Side::Downstream, Reason::ProtocolRefused)
            .with_detail(format!("rules about requests judge port {port}, and what came is no HTTP")));
    }
    let who = Asker { identity, address: arrival.client.ip(), port };
    let judgement = decide(&arrival.enrolment, who, Asked::Opaque);
    record.noted = judgement.noted;
    let rule = judgement.granted.inspect_err(|error| record.rule.clone_from(&error.rule))?;
    record.rule = rule;
    Ok(())
}

/// Whether plaintext from this client would be let in: then the application may be dialled before anybody has spoken.
pub fn admits_plaintext(arrival: &Arrival) -> bool {
    let peer =
        Peer { identity: None, address: arrival.client.ip(), port: arrival.destination.port(), asked: Asked::Opaque };
    !refuses_opaque(&arrival.enrolment, peer.port)
        && evaluate(policies(&arrival.enrolment), &peer).verdict == Verdict::Allow
}

/// Rules about requests speak of this port: what it carries is parsed.
pub fn judges_requests(arrival: &Arrival) -> bool {
    notes_requests(&arrival.enrolment, arrival.destination.port())
}

/// Rules about requests speak of this port, with an effect or without.
pub fn notes_requests(enrolment: &Enrolment, port: u16) -> bool {
    weft_policy::needs_requests(policies(enrolment), port)
}

/// Nothing but requests is let in at this port: rules with an effect judge them.
pub fn refuses_opaque(enrolment: &Enrolment, port: u16) -> bool {
    weft_policy::refuses_opaque(policies(enrolment), port)
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub identity: Option<&'a Identity>,
    pub address: IpAddr,
    pub port: u16,
}

/// The one table.
pub fn decide(enrolment: &Enrolment, who: Asker<'_>, asked: Asked<'_>) -> Judgement {
    let peer = Peer { identity: who.identity, address: who.address, port: who.port, asked };
    let decision = evaluate(policies(enrolment), &peer);
    let rule = decision.rule_name();
    let granted = match decision.verdict {
        Verdict::Allow => Ok(rule),
        Verdict::Deny => {
            let reason = if rule.is_some() { Reason::DeniedByRule } else { Reason::NoAllowMatched };
            let mut error = ConnectionError::new(Side::Local, reason).with_detail(explain(policies(enrolment), &peer));
            error.rule = rule;
            Err(error)
        }
    };
    let noted = decision.noted.iter().map(|(policy, rule)| format!("{}[{rule}]", policy.name)).collect();
    Judgement { granted, noted }
}

fn policies(enrolment: &Enrolment) -> impl Iterator<Item = &Policy> + Clone {
    enrolment.policies.iter().map(AsRef::as_ref)
}
