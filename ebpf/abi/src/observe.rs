//! What is noted of pods that are observed: who connects to them, and whom they connect to. Nothing here changes what
//! becomes of a connection.

use crate::address::{Address, Port, Tuple};
use crate::connect::stays_local;
use crate::layout::plain;

/// The pod accepted it.
pub const SEEN_INBOUND: u16 = 1;
/// The pod accepted it, from a socket that is on record as kubelet's.
pub const SEEN_PROBE: u16 = 2;
/// The pod opened it.
pub const SEEN_OUTBOUND: u16 = 3;

/// Key of `SEEN`: all connections of one pod with one peer at one port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SeenKey {
    /// The observed pod's namespace.
    pub netns_cookie: u64,
    pub peer: Address,
    /// The port that was connected to: the pod's own, or the peer's of what the pod opened.
    pub port: Port,
    /// One of the `SEEN_` values.
    pub direction: u16,
    pub padding: u32,
}

plain!(SeenKey, 32);

impl SeenKey {
    /// A key of one pod.
    #[inline(always)]
    #[must_use]
    pub const fn new(netns_cookie: u64, direction: u16, peer: Address, port: Port) -> Self {
        Self { netns_cookie, peer, port, direction, padding: 0 }
    }
}

/// Value of `SEEN`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeenRow {
    pub connections: u64,
    /// Nanoseconds of the monotonic clock.
    pub first_at: u64,
    pub last_at: u64,
}

plain!(SeenRow, 24);

/// Which end of a connection a socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Opened,
    Accepted,
}

/// What the verdict reads from maps, only when it needs it.
pub trait ObserveLookups {
    /// Whether the socket's namespace is an observed pod's.
    fn is_observed(&self) -> bool;
    /// Whether the socket is the agent's.
    fn is_own(&self) -> bool;
    /// Whether `PROBES` has this connection.
    fn is_probe(&self) -> bool;
}

/// What the hook does with a connection that has just been established.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteVerdict {
    /// Not an observed pod's, or nobody else's business.
    Ignore,
    /// One more of these.
    Note(SeenKey),
}

/// Decides. What stays within the pod is nobody's traffic; kubelet is told apart while its connection lives.
#[inline(always)]
pub fn decide(end: End, netns_cookie: u64, tuple: &Tuple, lookups: &impl ObserveLookups) -> NoteVerdict {
    if !lookups.is_observed() {
        return NoteVerdict::Ignore;
    }
    let (peer, own) = match end {
        End::Opened => (tuple.destination, tuple.source),
        End::Accepted => (tuple.source, tuple.destination),
    };
    if stays_local(peer) || peer == own || lookups.is_own() {
        return NoteVerdict::Ignore;
    }
    let direction = match end {
        End::Opened => SEEN_OUTBOUND,
        End::Accepted if lookups.is_probe() => SEEN_PROBE,
        End::Accepted => SEEN_INBOUND,
    };
    NoteVerdict::Note(SeenKey::new(netns_cookie, direction, peer, tuple.destination_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct World {
        observed: bool,
        own: bool,
        probe: bool,
    }

    impl ObserveLookups for World {
        fn is_observed(&self) -> bool {
            self.observed
        }
        fn is_own(&self) -> bool {
            self.own
        }
        fn is_probe(&self) -> bool {
            self.probe
        }
    }

    fn noted(end: End, source: &str, destination: &str, world: World) -> Option<(u16, String, u16)> {
        let tuple = Tuple::from_sockets(source.parse().unwrap(), destination.parse().unwrap());
        match decide(end, 7, &tuple, &world) {
            NoteVerdict::Ignore => None,
            NoteVerdict::Note(key) => {
                assert_eq!((key.netns_cookie, key.padding), (7, 0));
                Some((key.direction, key.peer.to_ip().to_string(), key.port.host()))
            }
        }
    }

    #[test]
    fn both_ends_are_noted_under_the_peer_and_the_port_that_was_connected_to() {
        let world = World { observed: true, own: false, probe: false };
        let noted = |end, source, destination| noted(end, source, destination, world);
        let row = |direction, peer: &str, port| Some((direction, peer.to_owned(), port));
        assert_eq!(noted(End::Accepted, "10.0.0.9:4000", "10.0.0.2:80"), row(SEEN_INBOUND, "10.0.0.9", 80));
        assert_eq!(noted(End::Opened, "10.0.0.2:4000", "10.96.0.1:443"), row(SEEN_OUTBOUND, "10.96.0.1", 443));
        assert_eq!(noted(End::Accepted, "[fd00::9]:4000", "[fd00::2]:80"), row(SEEN_INBOUND, "fd00::9", 80));
        assert_eq!(noted(End::Accepted, "127.0.0.1:4000", "127.0.0.1:80"), None);
        assert_eq!(noted(End::Opened, "10.0.0.2:4000", "10.0.0.2:80"), None, "the pod to itself");
        assert_eq!(noted(End::Opened, "10.0.0.2:4000", "169.254.169.254:80"), None);
    }

    #[test]
    fn kubelet_is_told_apart_and_neither_the_agent_nor_other_pods_are_noted() {
        let world = World { observed: true, own: false, probe: true };
        let accepted = |world| noted(End::Accepted, "10.0.0.1:4000", "10.0.0.2:80", world).map(|row| row.0);
        assert_eq!(accepted(world), Some(SEEN_PROBE));
        assert_eq!(accepted(World { own: true, ..world }), None);
        assert_eq!(accepted(World { observed: false, ..world }), None);
    }
}
