//! What becomes of an app's `connect()`: the outbound rules 1 to 3, in their order.

use crate::address::{Address, Port};
use crate::limits::{CAPTURE_PORT_FIRST, CAPTURE_PORTS};
use crate::reason::Reason;
use crate::rows::{
    DESTINATION_CAPTURED, DESTINATION_EMPTY, DESTINATION_NEVER, FAIL_OPEN, NETWORK_CAPTURED, NETWORK_NEVER,
    POD_HAS_EXCLUDED_NETWORKS, POD_HAS_PORT_RULES, POD_OUTBOUND, PodRow, ROLE_OUTBOUND,
};
use crate::worker::{Agent, Workers, choose};

/// `IPPROTO_TCP`.
pub const PROTOCOL_TCP: u32 = 6;
/// `IPPROTO_MPTCP`.
pub const PROTOCOL_MPTCP: u32 = 262;

/// What the verdict reads from maps, only when it needs it.
pub trait ConnectLookups: Workers {
    /// Whether the pod excludes connections to this port.
    fn excludes_port(&self, port: Port) -> bool;
    /// Whether the pod excludes connections to this network.
    fn excludes_network(&self, destination: Address) -> bool;
    /// The longest matching prefix of `NETWORKS`: one of the `NETWORK_` values, 0 for none.
    fn network(&self, destination: Address) -> u32;
    /// The row of `DESTINATIONS`: one of the `DESTINATION_` values, 0 for none.
    fn destination(&self, destination: Address, port: Port) -> u32;
    /// Connections of the pod between SYN and accept.
    fn in_flight(&self) -> u64;
}

/// A `connect()` of a socket whose namespace is a captured pod's.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub protocol: u32,
    /// The socket is the agent's.
    pub own: bool,
    pub destination: Address,
    pub port: Port,
    /// What the socket is bound to; unspecified and port 0 if it is not.
    pub bound: Address,
    pub bound_port: Port,
    /// Any number that spreads sockets, the same for one socket.
    pub hash: u32,
}

/// What the hook does.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectVerdict {
    /// Not the mesh's business; not even counted.
    Ignore,
    /// Goes where the app wanted.
    Pass(Reason),
    /// ECONNREFUSED.
    Refuse(Reason),
    /// Goes to the agent, through this address and port of the pod.
    Capture(Address, Port),
}

/// Decides. The default is to pass; whatever concerns a mesh network without an agent follows the
/// pod's failure mode.
#[inline(always)]
pub fn decide(attempt: &Attempt, pod: &PodRow, lookups: &impl ConnectLookups) -> ConnectVerdict {
    use ConnectVerdict::{Capture, Ignore, Pass, Refuse};
    if attempt.own || attempt.protocol != PROTOCOL_TCP || !pod.is(POD_OUTBOUND) {
        return Ignore;
    }
    let destination = attempt.destination;
    if stays_local(destination) || pod.has_address(destination) {
        return Pass(Reason::OUTBOUND_LOCAL);
    }
    if !attempt.bound.is_unspecified() && !pod.has_address(attempt.bound) {
        return Pass(Reason::OUTBOUND_FOREIGN_SOURCE);
    }
    if is_excluded(attempt, pod, lookups) {
        return Pass(Reason::OUTBOUND_EXCLUDED);
    }
    let kind = lookups.destination(destination, attempt.port);
    match (lookups.network(destination), kind) {
        (NETWORK_NEVER, _) => return Pass(Reason::OUTBOUND_NEVER_CAPTURED),
        (NETWORK_CAPTURED, _) | (_, DESTINATION_CAPTURED | DESTINATION_EMPTY) => {}
        _ => return Pass(Reason::OUTBOUND_OUTSIDE),
    }
    if kind == DESTINATION_NEVER {
        return Pass(Reason::OUTBOUND_NEVER_CAPTURED);
    }
    let open = pod.failure == FAIL_OPEN;
    let Some(address) = pod.address_like(destination) else {
        return fail(open, Reason::OUTBOUND_DIRECT_NO_ADDRESS, Reason::OUTBOUND_REFUSED_NO_ADDRESS);
    };
    match choose(pod.workers, ROLE_OUTBOUND, attempt.hash, lookups) {
        Agent::Ready(_) => {}
        Agent::Hung => {
            return fail(open, Reason::OUTBOUND_DIRECT_AGENT_HUNG, Reason::OUTBOUND_REFUSED_AGENT_HUNG);
        }
        Agent::Gone => {
            return fail(open, Reason::OUTBOUND_DIRECT_AGENT_GONE, Reason::OUTBOUND_REFUSED_AGENT_GONE);
        }
    }
    if kind == DESTINATION_EMPTY {
        return Refuse(Reason::OUTBOUND_REFUSED_NO_ENDPOINT);
    }
    if lookups.in_flight() >= u64::from(pod.flight_limit) {
        return Refuse(Reason::OUTBOUND_REFUSED_FLIGHT_LIMIT);
    }
    Capture(address, capture_port(attempt))
}

#[inline(always)]
const fn fail(open: bool, direct: Reason, refused: Reason) -> ConnectVerdict {
    if open { ConnectVerdict::Pass(direct) } else { ConnectVerdict::Refuse(refused) }
}

/// Destinations that never leave the pod or its link.
#[inline(always)]
#[must_use]
pub const fn stays_local(destination: Address) -> bool {
    destination.is_unspecified()
        || destination.is_loopback()
        || destination.is_link_local()
        || destination.is_multicast_or_broadcast()
}

#[inline(always)]
fn is_excluded(attempt: &Attempt, pod: &PodRow, lookups: &impl ConnectLookups) -> bool {
    pod.is(POD_HAS_PORT_RULES) && lookups.excludes_port(attempt.port)
        || pod.is(POD_HAS_EXCLUDED_NETWORKS) && lookups.excludes_network(attempt.destination)
}

/// Any port of the range, so that a pod may have 64 times as many connections as one port allows; but
/// never the port that the socket itself is bound to, or it would be connected to itself.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "any sixteen bits of a hash are as good as the others")]
const fn capture_port(attempt: &Attempt) -> Port {
    let offset = attempt.hash as u16 % CAPTURE_PORTS;
    let chosen = Port::from_host(CAPTURE_PORT_FIRST + offset);
    if chosen.network() != attempt.bound_port.network() {
        return chosen;
    }
    Port::from_host(CAPTURE_PORT_FIRST + (offset + 1) % CAPTURE_PORTS)
}

/// What `plain_tcp` does with a new socket.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateVerdict {
    Allow,
    /// ENOPROTOOPT, on which runtimes use plain TCP.
    RefuseProtocol,
}

/// MPTCP connections would go around the connect hook; only captured pods lose them.
#[inline(always)]
pub const fn decide_create(protocol: u32, in_captured_pod: bool) -> CreateVerdict {
    if protocol == PROTOCOL_MPTCP && in_captured_pod { CreateVerdict::RefuseProtocol } else { CreateVerdict::Allow }
}
