//! The source's half: is it captured, where would the connection go, and what would it speak?

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use weft_abi::Reason as Counted;

use super::route::Way;
use super::{Known, Told};
use crate::admin::finding::{Cause, End, Finding, Weight};
use crate::admin::question::{Source, Target};
use crate::admin::status::PodStatus;
use crate::error::Reason;
use crate::limits;
use crate::model::{Destination, Endpoint, Enrolment, FailureMode, MtlsMode, Workload};
use crate::telemetry::Security;

/// Tells whether the source is captured.
pub(super) fn capture(known: &Known<'_>, source: &Source, target: &Target, told: &mut Told) -> Capture {
    match source {
        Source::Stranger(address) => {
            told.fact(
                End::Source,
                format!("{address} belongs to no pod of the mesh: what it opens is plaintext without identity."),
            );
            Capture::Not
        }
        Source::Workload { row, .. } if known.is_here(row) => own_pod(known, row, target, told),
        Source::Workload { row, .. } => foreign_pod(row, told),
    }
}

/// What the source's side would speak to these endpoints.
pub(super) fn speaks(
    known: &Known<'_>,
    source: &Source,
    capture: Capture,
    (target, endpoints): (&Target, &[Endpoint]),
    told: &mut Told,
) -> Security {
    match capture {
        Capture::Not => Security::Plaintext,
        Capture::Unknown(security) => security,
        Capture::By(enrolment) => way(known, source, &enrolment, (target, endpoints), told),
    }
}

pub(super) enum Capture {
    Not,
    /// Another node's pod; as the controller has it.
    Unknown(Security),
    By(Arc<Enrolment>),
}

impl Capture {
    pub(super) const fn is_captured(&self) -> bool {
        match self {
            Self::Not | Self::Unknown(Security::Plaintext | Security::None) => false,
            Self::Unknown(Security::Mtls) | Self::By(_) => true,
        }
    }
}

/// A pod of another node, as far as this snapshot knows it.
fn foreign_pod(row: &Workload, told: &mut Told) -> Capture {
    let node = row.node.as_ref().map_or_else(|| "an unknown node".to_owned(), |node| format!("node {node}"));
    if let Some(reason) = &row.not_capturable {
        told.finding(not_capturable(row, reason, End::Source));
        return Capture::Not;
    }
    if row.mesh_capable {
        told.fact(End::Source, format!("{} is a pod of {node}, whose agent has reported it as captured.", row.name));
        return Capture::Unknown(Security::Mtls);
    }
    told.finding(
        Finding::new(
            Cause::NotCaptured,
            Weight::Weakens,
            End::Source,
            format!("{} is not captured: no agent has reported it as captured and serving.", row.name),
        )
        .seen(format!("Its row in the snapshot (it is a pod of {node}) is not mesh-capable.")),
    );
    Capture::Unknown(Security::Plaintext)
}

pub(super) fn not_capturable(row: &Workload, reason: &str, end: End) -> Finding {
    Finding::new(Cause::NotCaptured, Weight::Weakens, end, format!("{} cannot be captured: {reason}.", row.name))
        .seen("The controller says so in its row.")
        .fix("A pod of this kind stays outside of the mesh: let strict ports exempt it if it must reach them.")
}

/// A pod of this node.
fn own_pod(known: &Known<'_>, row: &Workload, target: &Target, told: &mut Told) -> Capture {
    let Some(enrolment) = enrolled(known, row, End::Source, told) else {
        return Capture::Not;
    };
    for refused in &enrolment.refused {
        told.fact(End::Source, format!("{}: {refused}", row.name));
    }
    agent_state(known, row, &enrolment, told);
    if let Some(why) = target.asked().and_then(|asked| passes(known, &enrolment, asked)) {
        told.finding(
            Finding::new(
                Cause::NotCaptured,
                Weight::Weakens,
                End::Path,
                format!("Connections of {} to {} are not captured: {why}.", row.name, target.name()),
            )
            .fix("Take the exclusion away, or let the mesh's captured networks contain the destination (weft config dump: captured_networks)."),
        );
        return Capture::Not;
    }
    told.fact(End::Source, format!("{} is a pod of this node ({}) and is captured.", row.name, known.node));
    Capture::By(enrolment)
}

/// The enrolment of a pod of this node that is really captured; else it is told why not.
pub(super) fn enrolled(known: &Known<'_>, row: &Workload, end: End, told: &mut Told) -> Option<Arc<Enrolment>> {
    let finding = |summary: String| Finding::new(Cause::NotCaptured, Weight::Weakens, end, summary);
    if let Some(reason) = &row.not_capturable {
        told.finding(not_capturable(row, reason, end));
        return None;
    }
    let Some(enrolment) = known.snapshot.enrolments.get(&row.uid) else {
        told.finding(
            finding(format!("{} is not captured: nothing asks for it.", row.name))
                .seen("The snapshot has no enrolment for it: neither its namespace nor the pod carries weft.dev/capture=enabled, or the pod opts out."),
        );
        return None;
    };
    match known.pod(&row.uid) {
        Some(pod) if pod.enrolled => Some(Arc::clone(enrolment)),
        pod => {
            let reason = pod.and_then(|pod| pod.reason.as_deref()).unwrap_or("the agent has not enrolled it yet");
            told.finding(
                finding(format!("{} is meant to be captured and is not: {reason}.", row.name))
                    .seen(format!("The agent of {} says so in its status.", known.node))
                    .fix("Remove what the reason names; the agent tries again by itself. Its log says more."),
            );
            None
        }
    }
}

/// What the agent's own health and the kernel's counters say of this pod.
fn agent_state(known: &Known<'_>, row: &Workload, enrolment: &Enrolment, told: &mut Told) {
    let workers = known.view.status.workers.len();
    let alive = known.workers_alive();
    if workers > 0 && alive == 0 {
        let (weight, what) = match enrolment.on_agent_failure {
            FailureMode::Open => (Weight::Weakens, "fails open: its connections go direct, in plaintext"),
            FailureMode::Closed => (Weight::Blocks, "fails closed: its connections are refused"),
        };
        told.finding(
            Finding::new(
                Cause::AgentDown,
                weight,
                End::Source,
                format!("No worker of the agent of {} lives; {} {what}.", known.node, row.name),
            )
            .seen(format!("{workers} workers, none with a fresh heartbeat.")),
        );
    } else if alive < workers {
        told.fact(
            End::Source,
            format!(
                "{} of the {workers} workers of the agent of {} are stuck; the others serve.",
                workers - alive,
                known.node
            ),
        );
    }
    if !known.view.status.ready {
        told.finding(Finding::new(
            Cause::AgentNotReady,
            Weight::Happened,
            End::Source,
            format!("The agent of {} runs, but is not ready.", known.node),
        ));
    }
    if let Some(pod) = known.pod(&row.uid) {
        counted(known, pod, told);
    }
}

/// Refusals that never reached the agent have no record; the kernel's counters are all that is left of them.
fn counted(known: &Known<'_>, pod: &PodStatus, told: &mut Told) {
    let count = |reasons: &[Counted]| reasons.iter().map(|reason| pod.counters.of(*reason)).sum::<u64>();
    let mut say = |reasons: &[Counted], cause: Cause, what: &str| {
        let number = count(reasons);
        if number > 0 {
            told.finding(
                Finding::new(
                    cause,
                    Weight::Counted,
                    End::Source,
                    format!("Since {} was enrolled, the kernel has {what} {number} of its connections.", pod.name),
                )
                .seen(words(pod, reasons)),
            );
        }
    };
    say(
        &[Counted::OUTBOUND_REFUSED_NO_ENDPOINT],
        Cause::Reason(Reason::NoEndpoint),
        "refused, for want of an endpoint,",
    );
    say(
        &[Counted::OUTBOUND_REFUSED_AGENT_GONE, Counted::OUTBOUND_REFUSED_AGENT_HUNG, Counted::OUTBOUND_LOST_AGENT],
        Cause::AgentDown,
        "refused, while no worker of the agent lived,",
    );
    say(
        &[Counted::OUTBOUND_DIRECT_AGENT_GONE, Counted::OUTBOUND_DIRECT_AGENT_HUNG],
        Cause::AgentDown,
        "let go direct, while no worker of the agent lived,",
    );
    say(
        &[Counted::OUTBOUND_REFUSED_FLIGHT_LIMIT, Counted::OUTBOUND_REFUSED_NO_MEMORY, Counted::FLOWS_FULL],
        Cause::Reason(Reason::ResourceExhausted),
        "refused, for want of room in its tables,",
    );
    let _ = known;
}

fn words(pod: &PodStatus, reasons: &[Counted]) -> String {
    let each = reasons.iter().filter(|reason| pod.counters.of(**reason) > 0);
    let texts: Vec<_> =
        each.map(|reason| format!("{} = {}", reason.name().unwrap_or("?"), pod.counters.of(*reason))).collect();
    format!("Kernel counters: {}.", texts.join(", "))
}

/// Why the kernel lets a connection to `asked` pass beside the agent, if it does.
fn passes(known: &Known<'_>, enrolment: &Enrolment, asked: SocketAddr) -> Option<String> {
    let snapshot = known.snapshot;
    let address = asked.ip();
    let never = |(network, port): &(std::net::IpAddr, Option<u16>)| {
        *network == address && port.is_none_or(|port| port == asked.port())
    };
    if address.is_loopback() {
        return Some("loopback is never captured".to_owned());
    }
    if snapshot.never_captured.iter().any(never) {
        return Some("the API server and Weft itself are never captured".to_owned());
    }
    if enrolment.excluded_outbound_ports.contains(&asked.port()) {
        return Some(format!("the pod excludes port {} (weft.dev/exclude-outbound-ports)", asked.port()));
    }
    if let Some(network) = enrolment.excluded_outbound_networks.iter().find(|network| network.contains(&address)) {
        return Some(format!("the pod excludes {network} (weft.dev/exclude-outbound-cidrs)"));
    }
    let of_service = matches!(snapshot.destination(asked), Destination::Service { .. });
    let meant = of_service || snapshot.captured_networks.iter().any(|network| network.contains(&address));
    (!meant).then(|| format!("{address} is in none of the mesh's networks"))
}

/// What the destination is, and where it has endpoints.
pub(super) fn tell_target(known: &Known<'_>, source: &Source, target: &Target, way: &Way<'_>, told: &mut Told) {
    let blocked = |summary: String| Finding::new(Cause::Reason(Reason::NoEndpoint), Weight::Blocks, End::Path, summary);
    match target {
        // Routes lead elsewhere; what is said of them says where.
        Target::Service { .. } if way.routes.is_some() || way.connections.is_some() => {}
        Target::Service { service, port, endpoints, .. } if endpoints.is_empty() => {
            let selected = known.snapshot.services.iter().find(|other| other.name == service.name);
            let others = selected.is_some_and(|service| service.ports.iter().any(|port| !port.endpoints.is_empty()));
            let more = if others { " Other ports of it have endpoints: look at this one's targetPort." } else { "" };
            let elsewhere = service.ports.iter().find(|row| row.port == *port).filter(|row| row.local.is_some());
            let why = match elsewhere.map(|row| row.endpoints.len()).filter(|count| *count > 0) {
                Some(count) => format!(
                    "its internalTrafficPolicy is Local, and none of its {} is on this node",
                    plural(count, "endpoint")
                ),
                None => "its selector matches no pod, or none of them is ready".to_owned(),
            };
            let mut finding =
                blocked(format!("Service {} has no endpoint for port {port}: {why}.{more}", service.name))
                    .seen(format!("Snapshot {} has no endpoint in this service port.", known.snapshot.version.0));
            if let Some(pod) = source.row().and_then(|row| known.pod(&row.uid)) {
                let number = pod.counters.of(Counted::OUTBOUND_REFUSED_NO_ENDPOINT);
                if number > 0 {
                    finding = finding.seen(format!(
                        "The kernel has refused {number} connections of {} for that reason (outbound_refused_no_endpoint).",
                        pod.name
                    ));
                }
            }
            told.finding(finding);
        }
        Target::Service { endpoints, .. } => {
            let listed: Vec<_> =
                endpoints.iter().take(limits::WHY_ENDPOINTS).map(|endpoint| describe(known, endpoint)).collect();
            let more = match endpoints.len().saturating_sub(limits::WHY_ENDPOINTS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            told.fact(
                End::Path,
                format!(
                    "Service {} has {}: {}{more}.",
                    target.name(),
                    plural(endpoints.len(), "endpoint"),
                    listed.join("; ")
                ),
            );
        }
        Target::UnknownPort { service, port } => {
            let ports: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
            told.finding(
                blocked(format!("Service {} has no port {port}; it has {}.", service.name, ports.join(", ")))
                    .fix("Dial one of the Service's ports, or add this one to the Service."),
            );
        }
        Target::Workload { row, .. } => {
            told.fact(End::Path, format!("{} is a pod's own address ({}): no balancing.", target.name(), located(row)));
        }
        Target::Foreign(asked) => {
            told.fact(End::Path, format!("{asked} belongs to no pod and no service that the mesh knows."));
        }
    }
}

pub(super) fn plural(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

fn located(row: &Workload) -> String {
    row.node.as_ref().map_or_else(|| "node unknown".to_owned(), |node| format!("on node {node}"))
}

fn describe(known: &Known<'_>, endpoint: &Endpoint) -> String {
    let Some(row) = known.row(endpoint) else {
        return format!("{} (no pod of the mesh)", endpoint.address);
    };
    let speaks = match (row.mesh_capable, row.plaintext_permitted) {
        (true, false) => "speaks mesh TLS",
        (true, true) => "its agent is gone, plaintext is permitted",
        (false, _) => "not captured",
    };
    format!("{} ({}, {}, {speaks})", endpoint.address, row.name, located(row))
}

/// A captured source: which endpoints it may use, and how.
fn way(
    known: &Known<'_>,
    source: &Source,
    enrolment: &Enrolment,
    (target, endpoints): (&Target, &[Endpoint]),
    told: &mut Told,
) -> Security {
    let mesh = endpoints.iter().filter(|endpoint| speaks_mesh(known, endpoint)).count();
    if let Some(gone) = endpoints
        .iter()
        .filter_map(|endpoint| known.row(endpoint))
        .find(|row| !row.mesh_capable && row.mtls == MtlsMode::Strict)
    {
        told.finding(
            Finding::new(
                Cause::Reason(Reason::PeerAgentDown),
                Weight::Happened,
                End::Path,
                format!(
                    "{} accepts mTLS alone, and its own agent has not reported it as captured and serving.",
                    gone.name
                ),
            )
            .seen(format!("Its row is strict and not mesh-capable ({}).", located(gone))),
        );
    }
    if mesh > 0 {
        let row = source.row().map(|row| &**row);
        let takes = |endpoint: &Endpoint| known.row(endpoint).is_some_and(|row| row.takes_plaintext);
        let goes_on = enrolment.outlives_its_certificate() && endpoints.iter().all(takes);
        let weight = if goes_on { Weight::Weakens } else { Weight::Blocks };
        certificate(known, row, End::Source, weight, told);
        let lapsed = row.is_some_and(|row| !known.has_certificate(&row.uid));
        return if goes_on && lapsed { Security::Plaintext } else { Security::Mtls };
    }
    if !endpoints.is_empty() {
        if enrolment.require_mesh_tls {
            told.finding(Finding::new(
                Cause::Reason(Reason::MeshTlsRequired),
                Weight::Blocks,
                End::Path,
                format!("{} may not use plaintext, and {} speaks nothing else.", source.name(), target.name()),
            ));
        } else {
            told.fact(
                End::Path,
                format!("{} would be reached in plaintext: it does not speak mesh TLS.", target.name()),
            );
        }
    }
    Security::Plaintext
}

fn speaks_mesh(known: &Known<'_>, endpoint: &Endpoint) -> bool {
    known.row(endpoint).is_some_and(|row| {
        (row.mesh_capable || row.mtls == MtlsMode::Strict)
            && row.identity.is_some()
            && !row.excluded_inbound_ports.contains(&endpoint.address.port())
    })
}

/// Whether a pod of this node can prove who it is; of what weight it is if it once could and no longer can.
pub(super) fn certificate(known: &Known<'_>, row: Option<&Workload>, end: End, weight: Weight, told: &mut Told) {
    let Some(row) = row else { return };
    if row.identity.is_none() {
        told.finding(
            Finding::new(
                Cause::Reason(Reason::NoCertificate),
                Weight::Blocks,
                end,
                format!("{} has no service account, so nobody signs a certificate for it.", row.name),
            )
            .fix("Give the pod a service account."),
        );
        return;
    }
    let held = known.certificate(&row.uid);
    let error = held.and_then(|held| held.last_error.as_deref());
    match held.and_then(|held| held.not_after) {
        None => {
            let mut finding = Finding::new(
                Cause::Reason(Reason::NoCertificate),
                weight,
                end,
                format!("The agent of {} holds no certificate for {}.", known.node, row.name),
            );
            finding.evidence.extend(error.map(|error| format!("The last attempt to get one failed: {error}.")));
            told.finding(finding);
        }
        Some(end_of_life) if end_of_life <= known.now => {
            let mut finding = Finding::new(
                Cause::Reason(Reason::CertificateExpired),
                weight,
                end,
                format!(
                    "The certificate of {} expired {} ago and was not renewed.",
                    row.name,
                    span(end_of_life, known.now)
                ),
            )
            .seen(format!("Valid until {end_of_life:.0}; this node's clock says {:.0}.", known.now));
            if weight == Weight::Weakens {
                finding = finding.seen("Its namespace fails open, so it goes on in plaintext, to whoever takes that.");
            }
            finding.evidence.extend(error.map(|error| format!("The last attempt to renew it failed: {error}.")));
            if !known.view.status.controller.connected {
                finding = finding.seen(format!("The agent of {} has no connection to the controller.", known.node));
            }
            told.finding(finding);
        }
        Some(end_of_life) => {
            let failing = error.map(|error| format!("; renewing it fails: {error}")).unwrap_or_default();
            told.fact(
                end,
                format!(
                    "The certificate of {} is valid for another {}{failing}.",
                    row.name,
                    span(known.now, end_of_life)
                ),
            );
        }
    }
}

/// The time from one moment to another, as a person says it.
pub(in crate::admin) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
