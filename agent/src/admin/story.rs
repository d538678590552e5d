//! One request, told from its record: what was decided, tried and answered, and what stood in its way.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use weft_proto::names::{NamespacedName, NodeName};

use super::describe;
use super::explain::explain;
use super::finding::{Cause, End, Finding, Weight, ranked};
use super::tell::party;
use super::why::{end_of, no_endpoint, span};
use crate::error::{Reason, Side};
use crate::http::retry::Outcome;
use crate::http::session::Stay;
use crate::model::{RetryBudget, Routes, Snapshot, Traffic};
use crate::telemetry::{Direction, Ejected, FailedAttempt, RequestRecord, Security, Verdict};

/// What a record is told with.
#[derive(Debug, Clone, Copy)]
pub struct Story<'a> {
    pub node: &'a NodeName,
    /// As it is now: what it says of routes may have changed since.
    pub snapshot: &'a Snapshot,
    pub now: Timestamp,
    pub ejected: &'a [Ejected],
}

/// A record with what it means.
#[derive(Debug, Clone, Serialize)]
pub struct TaleOfRequest {
    pub record: Arc<RequestRecord>,
    pub sentences: Vec<String>,
    /// The likeliest cause first; empty where everything went well.
    pub findings: Vec<Finding>,
}

impl Story<'_> {
    #[must_use]
    pub fn tell(&self, record: &Arc<RequestRecord>) -> TaleOfRequest {
        let findings = ranked(self.findings(record));
        TaleOfRequest { record: Arc::clone(record), sentences: self.sentences(record), findings }
    }

    /// What stood in its way.
    #[must_use]
    pub fn findings(&self, record: &RequestRecord) -> Vec<Finding> {
        let mut findings: Vec<_> = self.cause(record).into_iter().collect();
        for finding in &mut findings {
            finding.at = Some(record.started);
            let side = record.direction.word();
            finding.evidence.insert(0, format!("Record of node {} ({side} side), {:.3}.", self.node, record.started));
            let attempts: Vec<_> = record.failed_attempts.iter().map(attempt).collect();
            finding.evidence.extend(Some(attempts.join(" ")).filter(|attempts| !attempts.is_empty()));
        }
        findings.extend(self.ejections(record));
        findings
    }

    fn cause(&self, record: &RequestRecord) -> Option<Finding> {
        let finding = |cause, end, summary: String| Finding::new(cause, Weight::Happened, end, summary);
        if record.verdict() != Verdict::Allow {
            return Some(self.failure(record));
        }
        if let Some(told) = record.told {
            let summary = format!(
                "{} was not asked, or did not answer: the agent of its node answered {} in its place. {}",
                party(&record.destination),
                status(record),
                explain(told).cause
            );
            return Some(finding(Cause::Reason(told), End::Destination, summary));
        }
        let answered = record.status.is_some_and(|status| status >= 400) || record.is_failure();
        let summary = format!("The application of {} answered {} itself.", party(&record.destination), status(record));
        answered.then(|| finding(Cause::AnsweredByApplication, End::Destination, summary))
    }

    fn failure(&self, record: &RequestRecord) -> Finding {
        let reason = record.reason;
        let detail = record.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let by_this_side = record.side == Some(Side::Local);
        let end = if by_this_side { End::Path } else { end_of(record.direction, record.side) };
        let summary = format!("{}{detail}.", explain(reason).cause.trim_end_matches('.'));
        let finding = Finding::new(Cause::Reason(reason), Weight::Happened, end, summary);
        let asked = format!("{} {}", record.method, record.path);
        if reason == Reason::NoRoute {
            self.no_route(record, &asked)
        } else if reason == Reason::NoEndpoint {
            no_endpoint_for(record, &asked).unwrap_or(finding)
        } else if reason == Reason::RequestTimeout {
            let place = record.route.as_deref().map(|route| format!(" in {route} (timeouts)")).unwrap_or_default();
            let destination = party(&record.destination);
            let fix = format!("Look why {destination} is slow, or allow more time{place}.");
            Finding { evidence: self.patience(record).into_iter().collect(), fix, ..finding }
        } else if reason == Reason::RetryBudgetSpent {
            let budget = self.retry_budget(record).map(describe::terms);
            let budget = budget.map(|terms| format!("The budget is {terms}."));
            Finding { evidence: budget.into_iter().chain(self.patience(record)).collect(), ..finding }
        } else if matches!(reason, Reason::DeniedByRule | Reason::NoAllowMatched) {
            let policies = || "The policies of the destination".to_owned();
            let rule = record.rule.as_deref().map_or_else(policies, |rule| format!("Rule {rule}"));
            let (source, destination) = (party(&record.source), party(&record.destination));
            Finding {
                summary: format!("{rule} denied {source} the request {asked} to {destination}{detail}."),
                ..finding
            }
        } else {
            finding
        }
    }

    fn no_route(&self, record: &RequestRecord, asked: &str) -> Finding {
        let routes = self.routes(record);
        let of = record.service.as_ref().map(|service| format!(" of Service {service}")).unwrap_or_default();
        let summary = format!("No rule of the routes{of} fits {asked} (host {}), so it was answered 404.", record.host);
        let mut finding = Finding::new(Cause::Reason(Reason::NoRoute), Weight::Happened, End::Path, summary)
            .fix(format!("Add a rule that fits {asked}, or a last one without matches that fits everything."));
        finding.evidence = routes.map(describe::rules).unwrap_or_default();
        finding
    }

    fn routes(&self, record: &RequestRecord) -> Option<&Routes> {
        let (service, port) = asked_port(record)?;
        let client = record.source.workload.as_deref()?.namespace()?;
        self.snapshot.request_routes(&service, port, &client)
    }

    fn traffic(&self, record: &RequestRecord) -> Option<&Arc<Traffic>> {
        let (service, port) = asked_port(record)?;
        let client = record.source.workload.as_deref()?.namespace()?;
        Some(self.snapshot.traffic(&service, port, &client))
    }

    fn retry_budget(&self, record: &RequestRecord) -> Option<RetryBudget> {
        let client = record.source.workload.as_deref()?.namespace()?;
        let backend = record.backend.as_ref().map(|(service, port)| (service, *port));
        Some(self.snapshot.retry_budget(self.traffic(record)?, backend, &client))
    }

    /// What the rule and the policy allow, as they are now.
    fn patience(&self, record: &RequestRecord) -> Option<String> {
        let traffic = self.traffic(record)?;
        let routes = self.routes(record);
        let named =
            |name: &str| routes?.matches.all().iter().map(|one| &one.rule).find(|rule| rule.to_string() == name);
        let rule = record.route.as_deref().and_then(named);
        let request = rule.and_then(|rule| rule.request_timeout).or(traffic.request_timeout);
        let retry = rule.and_then(|rule| rule.retry.as_ref()).or(traffic.retry.as_ref());
        let attempt = rule.and_then(|rule| rule.backend_timeout);
        Some(describe::patience(request, attempt, retry, self.retry_budget(record)?))
    }

    /// Endpoints that this request made be passed over, or that were passed over for it.
    fn ejections(&self, record: &RequestRecord) -> Option<Finding> {
        let made = record.failed_attempts.iter().filter(|attempt| attempt.ejected.is_some());
        let made: Vec<_> = made.map(|attempt| attempt.endpoint).collect();
        let passed: Vec<_> = record.ejected.iter().filter(|endpoint| !made.contains(endpoint)).copied().collect();
        let named = |endpoints: &[SocketAddr]| {
            let names: Vec<_> = endpoints.iter().map(|endpoint| self.ejected(*endpoint)).collect();
            names.join(", ")
        };
        let summary = match (passed.as_slice(), made.as_slice()) {
            ([], []) => return None,
            ([], made) => format!("Ejected by a failure of this request, one too many in a row: {}.", named(made)),
            (passed, _) => format!(
                "Passed over for this request, because of too many failures in a row before it: {}.",
                named(passed)
            ),
        };
        let policy = self.traffic(record).and_then(|traffic| traffic.policy.as_deref());
        let finding = Finding::new(Cause::EndpointEjected, Weight::Weakens, End::Path, summary);
        Some(match policy {
            Some(policy) => finding.seen(format!("{policy} asks for that (outlierDetection).")),
            None => finding,
        })
    }

    fn ejected(&self, endpoint: SocketAddr) -> String {
        let known = self.ejected.iter().find(|one| one.endpoint == endpoint);
        let name = known.and_then(|one| one.workload.as_deref());
        let name = name.map_or_else(|| endpoint.to_string(), |name| format!("{name} ({endpoint})"));
        known.map_or_else(
            || format!("{name}, which may be tried again by now"),
            |known| format!("{name}, for another {}", span(self.now, known.until)),
        )
    }

    fn sentences(&self, record: &RequestRecord) -> Vec<String> {
        let mut told = vec![self.beginning(record)];
        told.extend(route(record));
        told.extend(record.failed_attempts.iter().map(attempt));
        told.extend(choice(record));
        told.extend(record.session.map(|stay| session(stay).to_owned()));
        told.extend(decision(record));
        told.extend(
            record.noted.iter().map(|rule| format!("Rule {rule} matched too, without effect (audit or dry run).")),
        );
        told.push(end(record));
        told
    }

    fn beginning(&self, record: &RequestRecord) -> String {
        let (RequestRecord { method, path, version, .. }, source) = (record, party(&record.source));
        let asked = record.original_destination.map_or_else(|| "somebody".to_owned(), |asked| asked.to_string());
        let service = record.service.as_ref().map(|service| format!(" (Service {service})")).unwrap_or_default();
        let host = if record.host.is_empty() { "nobody by name" } else { &record.host };
        let verb = match record.direction {
            Direction::Outbound => "sent",
            Direction::Inbound => "reached this side with",
        };
        format!(
            "At {:.3}, {source} {verb} {method} {path} for {host} in {version} to {asked}{service}; node {}, connection {}.",
            record.started, self.node, record.connection
        )
    }
}

/// The Service port that was asked for.
fn asked_port(record: &RequestRecord) -> Option<(NamespacedName, u16)> {
    Some((record.service.clone()?, record.original_destination?.port()))
}

fn no_endpoint_for(record: &RequestRecord, asked: &str) -> Option<Finding> {
    let (service, port) = record.backend.clone().or_else(|| asked_port(record))?;
    let by = record.route.as_deref().map(|route| format!("{route} leads {asked} there: ")).unwrap_or_default();
    Some(no_endpoint(&service, port, &format!("{by}it was answered 503"), Weight::Happened))
}

fn route(record: &RequestRecord) -> Option<String> {
    let route = record.route.as_deref()?;
    Some(match &record.backend {
        Some((service, port)) => format!("{route} took it and led to {service}:{port}."),
        None => format!("{route} took it."),
    })
}

fn attempt(attempt: &FailedAttempt) -> String {
    let name = attempt.workload.as_deref().map_or_else(|| "An endpoint".to_owned(), |row| row.name.to_string());
    let took = attempt.took;
    let what = match attempt.outcome {
        Outcome::Answered(status, None) => format!("answered {} after {took:.1?}", status.as_u16()),
        Outcome::Answered(_, Some(grpc)) => format!("answered with gRPC status {grpc} after {took:.1?}"),
        Outcome::Failed(reason) => format!("did not answer: {} after {took:.1?}", reason.code()),
        Outcome::Unsent(reason) => format!("took nothing of it: {} after {took:.1?}", reason.code()),
    };
    let ejected = attempt.ejected.map(|away| format!("; that ejected it for {away:.0?}")).unwrap_or_default();
    format!("{name} ({}) {what}{ejected}.", attempt.endpoint)
}

fn choice(record: &RequestRecord) -> Option<String> {
    if record.direction == Direction::Inbound || record.attempts == 0 {
        return None;
    }
    let how = match record.security {
        Security::Mtls => "in mTLS",
        Security::Plaintext => "in plaintext",
        Security::None => "without a connection that stood",
    };
    let paid = match record.retries {
        0 => String::new(),
        1 => ", one of them a retry that the budget paid for".to_owned(),
        retries => format!(", {retries} of them retries that the budget paid for"),
    };
    let attempts =
        if record.attempts == 1 { "attempt".to_owned() } else { format!("last of {} attempts", record.attempts) };
    Some(format!("The {attempts}{paid} went to {} {how}.", party(&record.destination)))
}

fn session(stay: Stay) -> &'static str {
    match stay {
        Stay::Begun => "It began a session there, for it showed none that holds.",
        Stay::Kept => "Its session decided: the endpoint that it has was asked first.",
        Stay::Moved => "Its session has moved there: the endpoint that it had is gone, was ejected or failed.",
    }
}

/// Nobody has judged it on the source's side.
fn decision(record: &RequestRecord) -> Option<String> {
    if record.direction == Direction::Outbound {
        return None;
    }
    let snapshot = &record.snapshot.0;
    Some(match (record.verdict(), record.rule.as_deref()) {
        (Verdict::Deny, Some(rule)) => format!("It was refused by {rule}, decided on snapshot {snapshot}."),
        (Verdict::Deny, None) => format!("It was refused, decided on snapshot {snapshot}."),
        (Verdict::Allow | Verdict::Fail, Some(rule)) => {
            format!("It was allowed by {rule}, decided on snapshot {snapshot}.")
        }
        (Verdict::Allow | Verdict::Fail, None) => format!("Nothing forbade it, decided on snapshot {snapshot}."),
    })
}

fn end(record: &RequestRecord) -> String {
    let moved = format!("{} bytes sent, {} received", record.bytes_sent, record.bytes_received);
    let whose = match (record.reason, record.told) {
        (Reason::Completed, None) => String::new(),
        (Reason::Completed, Some(told)) => format!(" by the other side's agent ({})", told.code()),
        (reason, _) => format!(" ({})", reason.code()),
    };
    let duration = record.duration;
    match (record.status, record.first_byte) {
        (None, _) => format!("Nobody answered it{whose}; it ended after {duration:.1?}: {moved}."),
        (Some(_), Some(first)) => {
            format!(
                "It was answered {}{whose} after {first:.1?} and ended after {duration:.1?}: {moved}.",
                status(record)
            )
        }
        (Some(_), None) => {
            format!("It was answered {}{whose} and ended after {duration:.1?}: {moved}.", status(record))
        }
    }
}

fn status(record: &RequestRecord) -> String {
    let status = record.status.map_or_else(|| "nothing".to_owned(), |status| status.to_string());
    record.grpc_status.map_or_else(|| status.clone(), |grpc| format!("{status} with gRPC status {grpc}"))
}
