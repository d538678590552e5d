//! The destination's half: is it captured, does it accept what the source speaks, and may the source in?

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_policy::{Ground, Peer, Policy, Verdict};
use weft_proto::names::Identity;

use super::route::{Asked, Way};
use super::source::{certificate, enrolled};
use super::{Known, Told};
use crate::admin::finding::{Cause, End, Finding, Weight};
use crate::admin::question::Source;
use crate::error::Reason;
use crate::limits;
use crate::model::{Beginning, Endpoint, Enrolment, FailureMode, MtlsMode, Workload};
use crate::telemetry::Security;

/// Tells of each endpoint whose pod is on this node.
pub(super) fn tell(known: &Known<'_>, source: &Source, way: &Way<'_>, speaks: Security, told: &mut Told) {
    let mut said = BTreeSet::new();
    for endpoint in way.endpoints.iter().take(limits::WHY_ENDPOINTS) {
        let Some(row) = known.row(endpoint) else { continue };
        if !known.is_here(row) {
            peer(row, told, &mut said);
            continue;
        }
        let Some(enrolment) = enrolled(known, row, End::Destination, told) else { continue };
        let arrival =
            Arrival { known, source, row, enrolment: &enrolment, endpoint, speaks, request: way.request.as_ref() };
        if !arrival.meets_the_agent(told) {
            continue;
        }
        arrival.authentication(told);
        arrival.authorization(told);
        if speaks == Security::Mtls {
            certificate(known, Some(row), End::Destination, Weight::Blocks, told);
        }
    }
}

/// What the controller says of another node's pod.
fn peer(row: &Workload, told: &mut Told, said: &mut BTreeSet<String>) {
    if let Some(reason) = &row.not_capturable {
        told.finding(super::source::not_capturable(row, reason, End::Destination));
        return;
    }
    let node = row.node.as_ref().map_or_else(|| "its node".to_owned(), |node| format!("node {node}"));
    if row.plaintext_permitted {
        told.finding(
            Finding::new(
                Cause::AgentDown,
                Weight::Weakens,
                End::Destination,
                format!(
                    "The agent of {node} has been gone for a whole lease; {} may be reached in plaintext.",
                    row.name
                ),
            )
            .seen("The controller has marked its row: plaintext permitted."),
        );
    } else if !row.mesh_capable && said.insert(row.name.to_string()) {
        told.finding(
            Finding::new(
                Cause::NotCaptured,
                Weight::Weakens,
                End::Destination,
                format!(
                    "{} is not captured: the agent of {node} has not reported it as captured and serving.",
                    row.name
                ),
            )
            .seen("Its row in the snapshot is not mesh-capable."),
        );
    }
}

struct Arrival<'a> {
    known: &'a Known<'a>,
    source: &'a Source,
    row: &'a Workload,
    enrolment: &'a Enrolment,
    endpoint: &'a Endpoint,
    speaks: Security,
    request: Option<&'a Asked>,
}

impl Arrival<'_> {
    fn port(&self) -> u16 {
        self.endpoint.address.port()
    }

    /// False when the connection would reach the application, or be refused, without the agent.
    fn meets_the_agent(&self, told: &mut Told) -> bool {
        if self.enrolment.excluded_inbound_ports.contains(&self.port()) {
            told.fact(
                End::Destination,
                format!(
                    "{} excludes port {} from capture: the application is reached directly.",
                    self.row.name,
                    self.port()
                ),
            );
            return false;
        }
        let workers = self.known.view.status.workers.len();
        if workers == 0 || self.known.workers_alive() > 0 {
            return true;
        }
        let strict = self.enrolment.authentication.mode(self.port()) == MtlsMode::Strict;
        let closed = strict || self.enrolment.on_agent_failure == FailureMode::Closed;
        let (weight, what) = if closed {
            (Weight::Blocks, "refused")
        } else {
            (Weight::Weakens, "passed to the application, in plaintext")
        };
        told.finding(
            Finding::new(
                Cause::AgentDown,
                weight,
                End::Destination,
                format!(
                    "No worker of the agent of {} lives; connections to {} are {what}.",
                    self.known.node, self.row.name
                ),
            )
            .seen(format!("{workers} workers, none with a fresh heartbeat.")),
        );
        false
    }

    fn authentication(&self, told: &mut Told) {
        let authentication = &self.enrolment.authentication;
        let (port, by) = (self.port(), &authentication.decided_by);
        let mode = authentication.mode(port);
        let word = match mode {
            MtlsMode::Strict => "strict",
            MtlsMode::Permissive => "permissive",
        };
        told.fact(End::Destination, format!("Port {port} of {} is {word} (decided by {by}).", self.row.name));
        if self.speaks != Security::Plaintext || mode == MtlsMode::Permissive {
            return;
        }
        let exempts = |beginning| authentication.exempts(port, self.source.address()?, beginning);
        if let Some(exemption) = exempts(Beginning::Anything) {
            told.fact(
                End::Destination,
                format!("Plaintext from {} is exempt: {}.", self.source.name(), exemption.reason),
            );
            return;
        }
        if let Some(exemption) = exempts(Beginning::OwnTls) {
            told.fact(
                End::Destination,
                format!("The application's own TLS from {} is exempt: {}.", self.source.name(), exemption.reason),
            );
        }
        told.finding(
            Finding::new(
                Cause::Reason(Reason::PlaintextRefused),
                Weight::Blocks,
                End::Destination,
                format!(
                    "Port {port} of {} accepts mTLS alone, and {} speaks plaintext.",
                    self.row.name,
                    self.source.name()
                ),
            )
            .seen(format!("{by} makes the port strict, and no exemption names {}.", self.source.name())),
        );
    }

    fn authorization(&self, told: &mut Told) {
        let row = self.source.row();
        let identity = match self.speaks {
            Security::Mtls => row.and_then(|row| row.identity.as_ref()),
            Security::Plaintext | Security::None => None,
        };
        let Some(address) = self.source.address() else { return };
        self.decide(identity, address, told);
    }

    fn decide(&self, identity: Option<&Identity>, address: IpAddr, told: &mut Told) {
        let policies = || self.enrolment.policies.iter().map(AsRef::<Policy>::as_ref);
        let peer = Peer { identity, address, port: self.port(), asked: weft_policy::Asked::Opaque };
        let judged = weft_policy::needs_requests(policies(), self.port());
        if let Some(asked) = self.request.filter(|_| judged) {
            return self.decide_request(policies(), &peer, asked, told);
        }
        if !judged {
            return self.tell_decision(policies(), &peer, "may not connect to", told);
        }
        // Policies of connections alone judge requests too, whatever these ask for.
        let alone = || policies().filter(|policy| !policy.judges_requests(self.port()));
        if weft_policy::evaluate(alone(), &peer).verdict == Verdict::Deny {
            return self.tell_decision(alone(), &peer, "may not connect to", told);
        }
        told.fact(
            End::Destination,
            format!(
                "Each request to port {} of {} is judged by itself, by {}; {} (say --method, --path, --host or --header to have one judged).",
                self.port(),
                self.row.name,
                names(policies().filter(|policy| policy.judges_requests(self.port()))),
                if weft_policy::refuses_opaque(policies(), self.port()) {
                    "bytes that are no HTTP are refused"
                } else {
                    "other bytes pass"
                }
            ),
        );
    }

    fn decide_request<'p>(
        &self,
        policies: impl Iterator<Item = &'p Policy> + Clone,
        peer: &Peer<'_>,
        asked: &Asked,
        told: &mut Told,
    ) {
        if weft_policy::refuses_opaque(policies.clone(), self.port())
            && let Err(refused) = asked.canonical.check_for_rules()
        {
            let summary =
                format!("Rules judge the requests to {}, and this one has two readings: {refused}.", self.row.name);
            let cause = Cause::Reason(Reason::BadRequest);
            return told.finding(Finding::new(cause, Weight::Blocks, End::Destination, summary));
        }
        let request = weft_policy::Request {
            method: asked.canonical.method().as_str(),
            host: asked.canonical.host(),
            path: asked.canonical.path(),
            headers: &asked.headers,
        };
        let what = format!("may not ask for {} at", asked.words());
        let peer = Peer { asked: weft_policy::Asked::Request(&request), ..*peer };
        self.tell_decision(policies, &peer, &what, told);
    }

    fn tell_decision<'p>(
        &self,
        policies: impl Iterator<Item = &'p Policy> + Clone,
        peer: &Peer<'_>,
        what: &str,
        told: &mut Told,
    ) {
        let decision = weft_policy::evaluate(policies.clone(), peer);
        let sentence = weft_policy::explain(policies, peer);
        told.fact(
            End::Destination,
            format!("Authorization at {} for {}: {sentence}.", self.row.name, self.source.name()),
        );
        if decision.verdict == Verdict::Allow {
            return;
        }
        let ground = sentence.strip_prefix("denied: ").unwrap_or(&sentence);
        let reason = match decision.ground {
            Ground::NoAllowMatched => Reason::NoAllowMatched,
            Ground::EnforcedDeny | Ground::Deny | Ground::AllowMatched | Ground::NoPolicy => Reason::DeniedByRule,
        };
        told.finding(
            Finding::new(
                Cause::Reason(reason),
                Weight::Blocks,
                End::Destination,
                format!("{} {what} port {} of {}: {ground}.", self.source.name(), self.port(), self.row.name),
            )
            .seen(format!("The policies in snapshot {}, evaluated now.", self.known.snapshot.version.0)),
        );
    }
}

fn names<'p>(policies: impl Iterator<Item = &'p Policy>) -> String {
    policies.map(|policy| policy.name.to_string()).collect::<Vec<_>>().join(", ")
}
