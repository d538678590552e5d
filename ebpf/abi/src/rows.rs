//! Layouts of the derived maps, which every version makes anew and fills from its snapshot.

use crate::address::{Address, Port, Tuple};
use crate::layout::plain;
use crate::limits::MAX_WORKERS;
use crate::reason::REASONS;

/// Connections of this pod are captured.
pub const POD_OUTBOUND: u32 = 1;
/// Connections to this pod are captured.
pub const POD_INBOUND: u32 = 2;
/// The pod has port rules.
pub const POD_HAS_PORT_RULES: u32 = 4;
/// The pod excludes outbound networks.
pub const POD_HAS_EXCLUDED_NETWORKS: u32 = 8;

/// The pod declares ports for probes or lifecycle hooks.
pub const POD_HAS_PROBES: u32 = 16;

/// Without a live agent the pod's connections go direct and its permissive ports take plaintext.
pub const FAIL_OPEN: u32 = 1;
/// Without a live agent nothing of the pod goes out or in.
pub const FAIL_CLOSED: u32 = 2;

/// Port mode: only mesh TLS; the kernel never lets plaintext through.
pub const MODE_STRICT: u32 = 1;
/// Port mode: mesh TLS and plaintext.
pub const MODE_PERMISSIVE: u32 = 2;
/// Port mode: the mesh does not touch this port.
pub const MODE_EXCLUDED: u32 = 3;

/// Words of a pod's row that mean nothing yet.
pub const POD_SPARE: usize = if cfg!(feature = "alternate-layout") { 4 } else { 2 };

/// Everything about a captured pod in one value, so that a change is seen whole or not at all.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PodRow {
    /// The pod's addresses; [`Address::NONE`] where it has none of that family.
    pub address4: Address,
    pub address6: Address,
    /// The addresses from which this node itself connects to the pod; [`Address::NONE`] where it cannot.
    pub node4: Address,
    pub node6: Address,
    /// Bit n: port 61000 + n is bound by one of the agent's listeners.
    pub listener_ports: u64,
    /// Bit n: worker n has listeners in this namespace.
    pub workers: u32,
    /// Some of the `POD_` bits.
    pub flags: u32,
    /// `FAIL_OPEN` or `FAIL_CLOSED`; any other value counts as closed.
    pub failure: u32,
    /// Mode of inbound ports without a rule of their own; an unknown value counts as strict.
    pub inbound_mode: u32,
    /// Connections that may be between SYN and accept at once.
    pub flight_limit: u32,
    pub padding: u32,
    pub spare: [u64; POD_SPARE],
}

plain!(PodRow, 96 + 8 * POD_SPARE);

impl PodRow {
    /// Whether the address is one of the pod's own.
    #[inline(always)]
    #[must_use]
    pub fn has_address(&self, address: Address) -> bool {
        address == self.address4 || address == self.address6
    }

    /// Whether this is the address from which the node itself connects to the pod.
    #[inline(always)]
    #[must_use]
    pub fn is_reached_from(&self, source: Address) -> bool {
        source != Address::NONE && (source == self.node4 || source == self.node6)
    }

    /// The pod's own address of the other address' family, if it has one.
    #[inline(always)]
    #[must_use]
    pub fn address_like(&self, other: Address) -> Option<Address> {
        let own = if other.is_ip4() { self.address4 } else { self.address6 };
        if own == Address::NONE { None } else { Some(own) }
    }

    /// Whether one of the agent's listeners is bound to this port.
    #[inline(always)]
    #[must_use]
    pub const fn has_listener_port(&self, port: Port) -> bool {
        match port.capture_index() {
            Some(index) => self.listener_ports >> index & 1 == 1,
            None => false,
        }
    }

    /// Whether any of these `POD_` bits is set.
    #[inline(always)]
    #[must_use]
    pub const fn is(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }
}

/// The listener takes what the pod's apps open.
pub const ROLE_OUTBOUND: u32 = 0;
/// The listener takes what is opened towards the pod.
pub const ROLE_INBOUND: u32 = 1;

/// Key of `LISTENERS`, whose value is a listening socket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenerKey {
    pub netns_cookie: u64,
    pub role: u32,
    pub worker: u32,
}

plain!(ListenerKey, 16);

/// Key of `OPEN_PORTS`; the value is the number of sockets that listen there.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpenPortKey {
    pub netns_cookie: u64,
    /// [`Address::NONE`] for `::` (both families), [`Address::ANY4`] for 0.0.0.0.
    pub address: Address,
    pub port: Port,
    pub padding: u16,
    pub padding_word: u32,
}

plain!(OpenPortKey, 32);

impl OpenPortKey {
    /// A key of one namespace.
    #[inline(always)]
    #[must_use]
    pub const fn new(netns_cookie: u64, address: Address, port: Port) -> Self {
        Self { netns_cookie, address, port, padding: 0, padding_word: 0 }
    }
}

/// The rule is for connections to the pod.
pub const DIRECTION_INBOUND: u16 = 1;
/// The rule is for connections of the pod; the only mode that means anything is [`MODE_EXCLUDED`].
pub const DIRECTION_OUTBOUND: u16 = 2;
/// The pod declares this port for a probe or a lifecycle hook; the mode means nothing.
pub const DIRECTION_PROBE: u16 = 3;

/// Key of `PORT_RULES`; the value is a mode.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PortRuleKey {
    pub netns_cookie: u64,
    pub port: Port,
    pub direction: u16,
    pub padding: u32,
}

plain!(PortRuleKey, 16);

impl PortRuleKey {
    /// A key of one pod.
    #[inline(always)]
    #[must_use]
    pub const fn new(netns_cookie: u64, direction: u16, port: Port) -> Self {
        Self { netns_cookie, port, direction, padding: 0 }
    }
}

/// Connections to this network are captured.
pub const NETWORK_CAPTURED: u32 = 1;
/// Connections to this network are never captured: the API server, Weft's own namespace.
pub const NETWORK_NEVER: u32 = 2;

/// Key of `NETWORKS`, a longest-prefix map; the value is one of the two above.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NetworkKey {
    /// Bits of the address that count; an IPv4 prefix is 96 longer than people write it.
    pub prefix_bits: u32,
    pub address: Address,
}

plain!(NetworkKey, 20);

/// Key of `EXCLUDED_NETWORKS`, a longest-prefix map over the pod and then the address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExcludedNetworkKey {
    /// 64 for the cookie, plus the bits of the address that count.
    pub prefix_bits: u32,
    /// The cookie's two halves; only their equality matters.
    pub netns_cookie: [u32; 2],
    pub address: Address,
}

plain!(ExcludedNetworkKey, 28);

impl ExcludedNetworkKey {
    /// A prefix of one pod; `address_bits` is at most 128.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves together are the whole")]
    pub const fn new(netns_cookie: u64, address: Address, address_bits: u32) -> Self {
        let halves = [(netns_cookie >> 32) as u32, netns_cookie as u32];
        Self { prefix_bits: 64 + address_bits, netns_cookie: halves, address }
    }
}

/// A service port, to which no route is attached, without a usable endpoint: refused at once.
pub const DESTINATION_EMPTY: u32 = 1;
/// Never captured, while other ports of the address may be: `default/kubernetes`, the API server.
pub const DESTINATION_NEVER: u32 = 2;
/// A service port at an address outside of the captured networks, whose other ports are a host's own.
pub const DESTINATION_CAPTURED: u32 = 3;

/// Key of `DESTINATIONS`; the value is one of the three above.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DestinationKey {
    pub address: Address,
    pub port: Port,
    pub padding: u16,
}

plain!(DestinationKey, 20);

impl DestinationKey {
    /// An address and a port.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Address, port: Port) -> Self {
        Self { address, port, padding: 0 }
    }
}

/// When a worker's loop last turned; alone on its cache line, written by its worker only.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Nanoseconds of the monotonic clock; 0 says never.
    pub beat_at: u64,
    pub spare: [u64; 7],
}

plain!(Heartbeat, 64);

/// The only value of `HEARTBEATS`: all workers, so that one lookup finds them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeats {
    pub workers: [Heartbeat; MAX_WORKERS as usize],
}

plain!(Heartbeats, 64 * MAX_WORKERS as usize);

/// Value of `COUNTERS`, one for each pod and CPU, indexed by [`Reason`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counters {
    pub by_reason: [u64; REASONS],
}

plain!(Counters, 8 * REASONS);

/// A rare happening, for a person.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub at: u64,
    pub netns_cookie: u64,
    pub tuple: Tuple,
    /// A [`Reason`].
    pub reason: u32,
    /// Events of this CPU that the rate limit swallowed before this one.
    pub suppressed: u32,
    pub spare: [u64; 2],
}

plain!(Event, 80);

/// The rate limit of one CPU's events.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventBudget {
    pub window_started_at: u64,
    pub used: u32,
    pub suppressed: u32,
}

plain!(EventBudget, 16);
