//! Which socket takes a SYN: outbound rule 5 and the inbound rules 1 and 2, in their order.
//!
//! The verdict depends only on the tuple, on rows and on who is alive, and deletes nothing: with SYN
//! cookies the same connection is looked up again for its ACK.

use crate::address::{Address, Port, Tuple};
use crate::connect::PROTOCOL_TCP;
use crate::listening::{OpenPorts, is_reachable};
use crate::probe::{Probe, ProbeLookups, recognise};
use crate::reason::Reason;
use crate::rows::{
    FAIL_OPEN, MODE_EXCLUDED, MODE_PERMISSIVE, POD_HAS_PORT_RULES, POD_INBOUND, PodRow, ROLE_INBOUND, ROLE_OUTBOUND,
};
use crate::worker::{Agent, Workers, choose};

/// What the verdict reads from maps, only when it needs it.
pub trait SteerLookups: Workers + OpenPorts + ProbeLookups {
    /// Whether `FLOWS` has this connection.
    fn has_flow(&self) -> bool;
    /// Whether `PEERS` has this connection.
    fn has_peer(&self) -> bool;
    /// The mode of an inbound port from `PORT_RULES`; 0 without a rule.
    fn port_mode(&self, port: Port) -> u32;
}

/// A packet that looks for a listening socket in a captured namespace.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub protocol: u32,
    pub netns_cookie: u64,
    /// Source is the remote end, destination the local one.
    pub tuple: Tuple,
}

/// What the hook does.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SteerVerdict {
    /// The kernel looks on as without the mesh; not even counted.
    Ignore,
    /// The kernel looks on as without the mesh.
    Pass(Reason),
    /// No socket: the kernel answers with a reset.
    Drop(Reason),
    /// The listener of this role and worker.
    Hand(u32, u32),
}

/// Decides. The default for any address of the namespace that is not loopback is the pod's inbound rule.
#[inline(always)]
pub fn decide(arrival: &Arrival, pod: &PodRow, lookups: &impl SteerLookups) -> SteerVerdict {
    if arrival.protocol != PROTOCOL_TCP {
        return SteerVerdict::Ignore;
    }
    let tuple = &arrival.tuple;
    if tuple.destination.is_loopback() {
        // The listeners themselves are bound here; an app has no business with them.
        if pod.has_listener_port(tuple.destination_port) {
            return SteerVerdict::Drop(Reason::OUTBOUND_DROPPED_NO_RECORD);
        }
        return SteerVerdict::Ignore;
    }
    if comes_from_the_pod(tuple.source, tuple.destination, pod) {
        return decide_same_pod(tuple, pod, lookups);
    }
    decide_inbound(arrival, pod, lookups)
}

/// Compares addresses, never interfaces: for a connection to an own address the kernel reports the
/// device that owns it, not `lo`. 127/8 and `::1` are the pod itself, too.
#[inline(always)]
#[must_use]
pub fn comes_from_the_pod(remote: Address, local: Address, pod: &PodRow) -> bool {
    remote == local || remote.is_loopback() || pod.has_address(remote)
}

#[inline(always)]
fn decide_same_pod(tuple: &Tuple, pod: &PodRow, lookups: &impl SteerLookups) -> SteerVerdict {
    if tuple.destination_port.capture_index().is_some() {
        if lookups.has_flow() {
            return match choose(pod.workers, ROLE_OUTBOUND, tuple.hash(), lookups) {
                Agent::Ready(worker) => SteerVerdict::Hand(ROLE_OUTBOUND, worker),
                Agent::Hung | Agent::Gone => SteerVerdict::Drop(Reason::OUTBOUND_LOST_AGENT),
            };
        }
        if lookups.has_peer() {
            return SteerVerdict::Ignore;
        }
        return SteerVerdict::Drop(Reason::OUTBOUND_DROPPED_NO_RECORD);
    }
    // Such a source is the agent's, and an app that trusts localhost must never see it bare.
    if tuple.source.is_agent_loopback() && !lookups.has_peer() {
        return SteerVerdict::Drop(Reason::INBOUND_DROPPED_UNKNOWN_CLIENT);
    }
    SteerVerdict::Ignore
}

#[inline(always)]
fn decide_inbound(arrival: &Arrival, pod: &PodRow, lookups: &impl SteerLookups) -> SteerVerdict {
    if !pod.is(POD_INBOUND) {
        return SteerVerdict::Ignore;
    }
    let tuple = &arrival.tuple;
    let port = tuple.destination_port;
    let mut mode = if pod.is(POD_HAS_PORT_RULES) { lookups.port_mode(port) } else { 0 };
    if mode == 0 {
        mode = pod.inbound_mode;
    }
    if mode == MODE_EXCLUDED {
        return SteerVerdict::Pass(Reason::INBOUND_EXCLUDED);
    }
    let permissive = mode == MODE_PERMISSIVE;
    if !is_reachable(arrival.netns_cookie, tuple.destination, port, lookups) {
        // The kernel answers as it would by itself. A listener enters `OPEN_PORTS` a moment after the kernel
        // can find it, or not at all when the map is full, and neither may go around policy; and nobody
        // from outside is to find the agent's own listeners by their ports.
        return SteerVerdict::Drop(Reason::INBOUND_CLOSED_PORT);
    }
    // Kubelet has no identity to show, and nobody else is let in by this.
    match recognise(tuple, pod, lookups) {
        Probe::Known => return SteerVerdict::Pass(Reason::INBOUND_PROBE),
        Probe::Assumed => return SteerVerdict::Pass(Reason::INBOUND_PROBE_BY_ADDRESS),
        Probe::No => {}
    }
    let open = permissive && pod.failure == FAIL_OPEN;
    match choose(pod.workers, ROLE_INBOUND, tuple.hash(), lookups) {
        Agent::Ready(worker) => SteerVerdict::Hand(ROLE_INBOUND, worker),
        Agent::Hung if open => SteerVerdict::Pass(Reason::INBOUND_DIRECT_AGENT_HUNG),
        Agent::Hung => SteerVerdict::Drop(Reason::INBOUND_REFUSED_AGENT_HUNG),
        Agent::Gone if open => SteerVerdict::Pass(Reason::INBOUND_DIRECT_AGENT_GONE),
        Agent::Gone => SteerVerdict::Drop(Reason::INBOUND_REFUSED_AGENT_GONE),
    }
}
