//! Why a hook decided what it decided: one stable number for each reason, counted for each pod.
//!
//! The number is the index in [`crate::rows::Counters`]; the name is the metric label, the log code and
//! what `weft why` prints. Numbers are never used again for something else.

use crate::layout::plain;

/// Room for reasons in the counters; new ones take a free number.
pub const REASONS: usize = 64;

/// A reason. At the kernel border it is a plain number.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reason(pub u32);

plain!(Reason, 4);

macro_rules! reasons {
    ($($number:literal $constant:ident $name:literal $rare:literal $meaning:literal)*) => {
        impl Reason {
            $(#[doc = $meaning] pub const $constant: Self = Self($number);)*

            /// Every reason with its stable name.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$constant, $name)),*];

            /// One bit for each reason that is also written to the event ring.
            const RARE: u64 = $(($rare as u64) << $number |)* 0;
        }
    };
}

reasons! {
    0 OUTBOUND_CAPTURED "outbound_captured" false "The connection was led to the agent."
    1 OUTBOUND_LOCAL "outbound_local" false "Loopback, own address, link-local, multicast: passed."
    2 OUTBOUND_EXCLUDED "outbound_excluded" false "The pod excludes this port or network: passed."
    3 OUTBOUND_NEVER_CAPTURED "outbound_never_captured" false "The API server or Weft itself: passed."
    4 OUTBOUND_OUTSIDE "outbound_outside" false "Not a network of the mesh: passed."
    5 OUTBOUND_FOREIGN_SOURCE "outbound_foreign_source" false "Bound to an address that is not the pod's: passed."
    6 OUTBOUND_DIRECT_AGENT_GONE "outbound_direct_agent_gone" true "No listener, fails open: passed."
    7 OUTBOUND_DIRECT_AGENT_HUNG "outbound_direct_agent_hung" true "No heartbeat, fails open: passed."
    8 OUTBOUND_REFUSED_AGENT_GONE "outbound_refused_agent_gone" true "No listener, fails closed: refused."
    9 OUTBOUND_REFUSED_AGENT_HUNG "outbound_refused_agent_hung" true "No heartbeat, fails closed: refused."
    10 OUTBOUND_REFUSED_NO_ENDPOINT "outbound_refused_no_endpoint" true "The service port has no usable endpoint: refused."
    11 OUTBOUND_REFUSED_FLIGHT_LIMIT "outbound_refused_flight_limit" true "Too many connections of the pod are being opened: refused."
    12 OUTBOUND_DIRECT_NO_ADDRESS "outbound_direct_no_address" true "The pod has no address of this family, fails open: passed."
    13 OUTBOUND_REFUSED_NO_ADDRESS "outbound_refused_no_address" true "The pod has no address of this family, fails closed: refused."
    14 OUTBOUND_REFUSED_NO_MEMORY "outbound_refused_no_memory" true "The socket's storage could not be written: refused."
    15 FLOWS_FULL "flows_full" true "No room in `FLOWS`: the connection is reset by steer."
    16 OUTBOUND_HANDED "outbound_handed" false "The connection reached the agent's outbound listener."
    17 OUTBOUND_DROPPED_NO_RECORD "outbound_dropped_no_record" true "A capture port without a record of the destination: reset."
    18 INBOUND_CAPTURED "inbound_captured" false "The connection reached the agent's inbound listener."
    19 INBOUND_EXCLUDED "inbound_excluded" false "The mesh does not touch this port: passed."
    20 INBOUND_CLOSED_PORT "inbound_closed_port" false "Nobody listens there: refused as without the mesh."
    21 INBOUND_DIRECT_AGENT_GONE "inbound_direct_agent_gone" true "No listener, permissive and fails open: passed."
    22 INBOUND_DIRECT_AGENT_HUNG "inbound_direct_agent_hung" true "No heartbeat, permissive and fails open: passed."
    23 INBOUND_REFUSED_AGENT_GONE "inbound_refused_agent_gone" true "No listener, strict or fails closed: reset."
    24 INBOUND_REFUSED_AGENT_HUNG "inbound_refused_agent_hung" true "No heartbeat, strict or fails closed: reset."
    25 INBOUND_DROPPED_UNKNOWN_CLIENT "inbound_dropped_unknown_client" true "From the agent's loopback slice without the client's address: reset."
    26 PEERS_FULL "peers_full" true "No room in `PEERS`: the agent is told through the socket."
    27 OPEN_PORTS_FULL "open_ports_full" true "No room in `OPEN_PORTS`: the port looks closed."
    28 MPTCP_REFUSED "mptcp_refused" false "An MPTCP socket was refused; runtimes fall back to TCP."
    29 OUTBOUND_LOST_AGENT "outbound_lost_agent" true "The agent went between connect and its SYN: reset."
    30 FACT_LOST "fact_lost" true "The accepted socket's storage could not be written: reset, or the app sees its own address."
    31 INBOUND_PROBE "inbound_probe" false "Kubelet's probe of a port that the pod declares for it: passed."
    32 INBOUND_PROBE_BY_ADDRESS "inbound_probe_by_address" true "Taken for kubelet's probe by the node's address alone: passed."
    33 INBOUND_NODE_NOT_PROBE "inbound_node_not_probe" false "From the node's address at a declared port, and not on record as kubelet's: decided as anybody's, and counted there, too."
}

const _: () = assert!(Reason::ALL.len() <= REASONS);

impl Reason {
    /// The stable name; an unknown number, from a newer kernel side, has none.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map(|(_, name)| *name)
    }

    /// Whether the happening is also written to the event ring.
    #[inline(always)]
    #[must_use]
    pub const fn is_rare(self) -> bool {
        Self::RARE >> (self.0 & 63) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_names_unique() {
        for (at, (reason, name)) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.0 as usize, at);
            assert_eq!(Reason::ALL.iter().filter(|(_, other)| other == name).count(), 1);
        }
        assert!(Reason::MPTCP_REFUSED.name() == Some("mptcp_refused") && !Reason::MPTCP_REFUSED.is_rare());
        assert!(Reason::FLOWS_FULL.is_rare() && !Reason::INBOUND_PROBE.is_rare());
    }
}
