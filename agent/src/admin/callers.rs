//! Who talks to this node's pods, and what strict mode would mean for each: from what the kernel has seen of observed pods,
//! and from the plaintext that captured ones were sent. Pure, but for the question itself.

mod standing;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use weft_proto::names::NodeName;

use super::AdminState;
use super::serve::{Asked, Parameters};
use super::status::ObservedStatus;
use crate::bpf::{NetnsCookie, Seen, Sighting, Sightings};
use crate::model::{Destination, Snapshot, Workload};
use crate::node::probing::source_towards;
use crate::telemetry::{Calls, PlaintextCall};
use standing::{Approach, Judged, Target, judge};

/// `GET /callers`.
#[derive(Debug, Serialize)]
struct Answer {
    node: NodeName,
    pods: Vec<PodCallers>,
    /// Pods of this node of which nothing is known, and why.
    unseen: Vec<Unseen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// The kernel has noted every connection.
    Observed,
    /// The agent has carried them, and tells of plaintext alone.
    Captured,
}

#[derive(Debug, Serialize)]
struct PodCallers {
    /// `namespace/name`.
    pod: String,
    source: Source,
    /// Of what was before nothing is known. None: nobody looks yet.
    since: Option<Timestamp>,
    callers: Vec<Caller>,
    /// What an observed pod opened.
    calls: Vec<Call>,
}

#[derive(Debug, Serialize)]
struct Caller {
    address: IpAddr,
    /// `namespace/name` of the pod whose address it is now.
    workload: Option<Arc<str>>,
    port: u16,
    #[serde(flatten)]
    judged: Judged,
    connections: u64,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug, Serialize)]
struct Call {
    address: IpAddr,
    port: u16,
    /// The Service or pod that this address is of now.
    name: Option<String>,
    connections: u64,
    last: Timestamp,
}

#[derive(Debug, Serialize)]
struct Unseen {
    pod: String,
    why: String,
}

/// Everything that an answer is made of.
struct Known<'a> {
    node: &'a NodeName,
    snapshot: &'a Snapshot,
    observed: &'a [ObservedStatus],
    /// For how long each has been observed.
    since: &'a HashMap<NetnsCookie, Timestamp>,
    sightings: &'a [Sighting],
    plaintext: &'a (Timestamp, Vec<(PlaintextCall, Calls)>),
    probes_by_address: bool,
    now: Timestamp,
}

/// Answers for the pods of one namespace, or of all.
pub(super) async fn callers(State(state): Asked, Query(parameters): Parameters) -> Response {
    Json(ask(&state, parameters.get("namespace").map(String::as_str))).into_response()
}

fn ask(state: &AdminState, namespace: Option<&str>) -> Answer {
    let snapshot = state.snapshots.current();
    let observed = state.status.borrow().observed.clone();
    let now = Timestamp::now();
    let kernel = state.sightings.get();
    let sightings = kernel.map(Sightings::all).transpose().unwrap_or_else(|error| {
        tracing::warn!(%error, "what was seen of observed pods cannot be read");
        None
    });
    let since = observed.iter().filter_map(|pod| {
        let netns = pod.netns?;
        Some((netns, before(now, kernel?.observed_for(netns).ok()??)))
    });
    let known = Known {
        node: &state.node,
        snapshot: &snapshot,
        observed: &observed,
        since: &since.collect(),
        sightings: &sightings.unwrap_or_default(),
        plaintext: &state.telemetry.plaintext_calls(),
        probes_by_address: kernel.is_some_and(|kernel| kernel.probes_by_address().unwrap_or(false)),
        now,
    };
    answer(&known, namespace, &source_towards)
}

/// `reached_from`: from which address this node itself connects to another.
fn answer(known: &Known<'_>, namespace: Option<&str>, reached_from: &dyn Fn(IpAddr) -> Option<IpAddr>) -> Answer {
    let snapshot = known.snapshot;
    let own = snapshot.workloads.values().filter(|row| row.node.as_ref() == Some(known.node));
    let mut own: Vec<_> = own.filter(|row| namespace.is_none_or(|wanted| is_of(row, wanted))).collect();
    own.sort_unstable_by_key(|row| &row.name);
    let (mut pods, mut unseen) = (Vec::new(), Vec::new());
    for row in own {
        let from_here: Vec<IpAddr> = row.addresses.iter().filter_map(|address| reached_from(*address)).collect();
        let target = |enrolment| Target {
            snapshot,
            row,
            enrolment,
            from_here: &from_here,
            probes_by_address: known.probes_by_address,
        };
        if let Some(enrolment) = snapshot.enrolments.get(&row.uid) {
            pods.push(captured(known, &target(enrolment)));
        } else if let Some(enrolment) = snapshot.observations.get(&row.uid) {
            pods.push(observed(known, &target(enrolment)));
        } else {
            let why = row.not_capturable.as_deref().unwrap_or("it is neither captured nor observed");
            unseen.push(Unseen { pod: row.name.to_string(), why: why.to_owned() });
        }
    }
    Answer { node: known.node.clone(), pods, unseen }
}

fn is_of(row: &Workload, namespace: &str) -> bool {
    row.name.split_once('/').is_some_and(|(own, _)| own == namespace)
}

fn captured(known: &Known<'_>, target: &Target<'_>) -> PodCallers {
    let (since, plaintext) = known.plaintext;
    let own = plaintext.iter().filter(|(call, _)| call.workload == target.row.uid);
    let mut callers: Vec<Caller> = own
        .map(|(call, calls)| Caller {
            address: call.client,
            workload: name_of(known.snapshot, call.client),
            port: call.port,
            judged: judge(target, call.client, call.port, Approach::Plaintext),
            connections: calls.connections,
            first: calls.first,
            last: calls.last,
        })
        .collect();
    callers.sort_unstable_by_key(|caller| (caller.port, caller.address));
    let pod = target.row.name.to_string();
    PodCallers { pod, source: Source::Captured, since: Some(*since), callers, calls: Vec::new() }
}

fn observed(known: &Known<'_>, target: &Target<'_>) -> PodCallers {
    let status = known.observed.iter().find(|pod| pod.uid == target.row.uid);
    let netns = status.and_then(|pod| pod.netns);
    let own = known.sightings.iter().filter(|sighting| Some(sighting.netns) == netns);
    let (mut callers, mut calls) = (Vec::new(), Vec::new());
    for sighting in own {
        let (address, port) = (sighting.peer, sighting.port);
        let approach = match sighting.seen {
            Seen::Outbound => {
                calls.push(Call {
                    address,
                    port,
                    name: called(known.snapshot, address, port),
                    connections: sighting.connections,
                    last: before(known.now, sighting.last),
                });
                continue;
            }
            Seen::Probe => Approach::Kubelet,
            Seen::Inbound => Approach::Unknown,
        };
        callers.push(Caller {
            address,
            workload: name_of(known.snapshot, address),
            port,
            judged: judge(target, address, port, approach),
            connections: sighting.connections,
            first: before(known.now, sighting.first),
            last: before(known.now, sighting.last),
        });
    }
    callers.sort_unstable_by_key(|caller| (caller.port, caller.address));
    calls.sort_unstable_by_key(|call| (call.address, call.port));
    let since = netns.and_then(|netns| known.since.get(&netns).copied());
    PodCallers { pod: target.row.name.to_string(), source: Source::Observed, since, callers, calls }
}

fn name_of(snapshot: &Snapshot, address: IpAddr) -> Option<Arc<str>> {
    snapshot.workload_at(address).map(|row| Arc::clone(&row.name))
}

fn called(snapshot: &Snapshot, address: IpAddr, port: u16) -> Option<String> {
    match snapshot.destination((address, port).into()) {
        Destination::Service { service, .. } | Destination::UnknownPort { service } => Some(service.name.to_string()),
        Destination::Workload(row) => Some(row.name.to_string()),
        Destination::Foreign => None,
    }
}

fn before(now: Timestamp, age: std::time::Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(now)
}
