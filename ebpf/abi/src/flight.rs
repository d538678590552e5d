//! The frozen layouts: rows and socket storage that outlive an agent and an upgrade.
//!
//! They are written by one version and read by the next. Nothing here changes without a release that
//! drains every connection first; the spare bytes are zero and are for additions that a reader may
//! ignore.

use crate::address::{Address, Port, Tuple};
use crate::layout::plain;

/// The version byte of every value.
pub const FLIGHT_VERSION: u8 = 1;

/// Names a connection of one network namespace: in `FLOWS` and `PEERS` both ends are there, in `PROBES` the opening one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlightKey {
    /// The namespace's cookie: addresses are used again, cookies are not.
    pub netns_cookie: u64,
    pub tuple: Tuple,
}

plain!(FlightKey, 48);

/// What the opening end tells the accepting end: the original destination in `FLOWS`, the real client
/// in `PEERS`. In `PROBES` that the row is there says everything.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlightRow {
    pub address: Address,
    pub port: Port,
    pub version: u8,
    pub spare_byte: u8,
    pub spare_word: u32,
    /// Nanoseconds of the kernel's monotonic clock.
    pub written_at: u64,
    pub spare: [u64; 2],
}

plain!(FlightRow, 48);

impl FlightRow {
    /// A row written now.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Address, port: Port, written_at: u64) -> Self {
        Self { address, port, version: FLIGHT_VERSION, spare_byte: 0, spare_word: 0, written_at, spare: [0; 2] }
    }
}

/// What is known about one socket, in its socket storage.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketFact {
    pub address: Address,
    pub port: Port,
    pub version: u8,
    /// Some of the `FACT_` bits.
    pub kind: u8,
    pub spare_word: u32,
    pub spare: [u64; 2],
}

plain!(SocketFact, 40);

/// The agent created this socket.
pub const FACT_OWN: u8 = 1;
/// The address is what the app asked to connect to; its socket now leads to the agent.
pub const FACT_ASKED: u8 = 2;
/// The address is the real client: on the app's accepted socket, or on the agent's socket towards the app.
pub const FACT_CLIENT: u8 = 4;
/// The address is what the app asked for, carried to the agent's accepted socket.
pub const FACT_CARRIED: u8 = 8;
/// No room was left in `PEERS` for this socket of the agent: the app would see the wrong client.
pub const FACT_UNPUBLISHED: u8 = 16;
/// Kubelet connects this socket.
pub const FACT_PROBER: u8 = 32;

impl SocketFact {
    /// A fact of the given kind.
    #[inline(always)]
    #[must_use]
    pub const fn new(kind: u8, address: Address, port: Port) -> Self {
        Self { address, port, version: FLIGHT_VERSION, kind, spare_word: 0, spare: [0; 2] }
    }

    /// Whether any of these bits is set.
    #[inline(always)]
    #[must_use]
    pub const fn is(&self, kind: u8) -> bool {
        self.kind & kind != 0
    }

    /// What the owner of this socket is to see as its peer, if that is not the kernel's own answer.
    #[inline(always)]
    #[must_use]
    pub const fn shown_peer(&self) -> Option<(Address, Port)> {
        if self.is(FACT_OWN) || !self.is(FACT_ASKED | FACT_CLIENT) {
            return None;
        }
        Some((self.address, self.port))
    }
}
