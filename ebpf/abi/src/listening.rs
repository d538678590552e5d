//! Whether anybody outside the pod can reach a listening socket: what makes a closed port look closed.
//!
//! The hooks cannot see whether a socket at `::` takes IPv6 only, so such a port is open for IPv4, too:
//! there the agent's own connection to the app is refused, and the client's is reset.

use crate::address::{Address, Port};
use crate::rows::OpenPortKey;

/// What the answer reads.
pub trait OpenPorts {
    /// Whether a socket listens at exactly this address (or wildcard) and port.
    fn is_open(&self, key: &OpenPortKey) -> bool;
}

/// Whether a listener at this address belongs into `OPEN_PORTS`: one on loopback is not open to others.
#[inline(always)]
#[must_use]
pub const fn is_recorded(listening_at: Address) -> bool {
    !listening_at.is_loopback()
}

/// Whether a connection from elsewhere to this address and port would find a listener.
#[inline(always)]
#[must_use]
pub fn is_reachable(netns_cookie: u64, local: Address, port: Port, lookups: &impl OpenPorts) -> bool {
    let mut key = OpenPortKey::new(netns_cookie, Address::NONE, port);
    if lookups.is_open(&key) {
        return true;
    }
    if local.is_ip4() {
        key.address = Address::ANY4;
        if lookups.is_open(&key) {
            return true;
        }
    }
    key.address = local;
    lookups.is_open(&key)
}
