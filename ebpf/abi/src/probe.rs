//! Which connections are kubelet's probes and lifecycle hooks: what is recorded when kubelet connects, and what a record,
//! or an address, is worth to the pod that is connected to.
//!
//! Neither is worth anything at a port that the pod itself does not declare for a probe: whoever may write a pod can send
//! kubelet anywhere.

use crate::address::{Address, Port, Tuple};
use crate::layout::plain;
use crate::limits::PROBE_LIMIT_NANOSECONDS;
use crate::rows::{POD_HAS_PROBES, PodRow};
use crate::worker::Workers;

/// Nobody probes: no connection is taken for a probe.
pub const PROBER_NONE: u32 = 0;
/// Kubelet's own sockets are in `PROBES`.
pub const PROBER_SOCKETS: u32 = 1;
/// Nobody sees kubelet's sockets: the address from which this node reaches the pod stands for them.
pub const PROBER_ADDRESSES: u32 = 2;

/// The only value of `PROBER`: how probes are known on this node.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prober {
    /// The namespace that kubelet's sockets are in, the node's own.
    pub netns_cookie: u64,
    /// One of the `PROBER_` values; any other counts as none.
    pub mode: u32,
    pub padding: u32,
}

plain!(Prober, 16);

impl Prober {
    /// How probes are known, and from which namespace they come.
    #[inline(always)]
    #[must_use]
    pub const fn new(mode: u32, netns_cookie: u64) -> Self {
        Self { netns_cookie, mode, padding: 0 }
    }
}

/// What `probe_ops` does with a socket that is about to connect.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordVerdict {
    /// Not kubelet's, or nothing that a pod's namespace could see.
    Ignore,
    /// Its tuple goes into `PROBES`.
    Record,
}

/// Records what kubelet opens. Where others share its cgroup, only sockets with the mark are kubelet's.
#[inline(always)]
pub const fn decide_record(destination: Address, needs_mark: bool, has_mark: bool) -> RecordVerdict {
    if destination.is_loopback() || needs_mark && !has_mark { RecordVerdict::Ignore } else { RecordVerdict::Record }
}

/// What an arriving connection is, as far as probes go.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// A plaintext client like any other.
    No,
    /// From one of kubelet's sockets.
    Known,
    /// From the node's address, while nobody sees kubelet's sockets.
    Assumed,
}

/// What the verdict reads from maps, only when it needs it.
pub trait ProbeLookups: Workers {
    /// Whether the pod declares a probe or a lifecycle hook at this port.
    fn declares_probe(&self, port: Port) -> bool;
    /// One of the `PROBER_` values.
    fn prober(&self) -> u32;
    /// When `PROBES` got this connection, in nanoseconds of the monotonic clock; none if it has not.
    fn probe_written_at(&self) -> Option<u64>;
}

/// Decides. Default: no probe.
#[inline(always)]
pub fn recognise(tuple: &Tuple, pod: &PodRow, lookups: &impl ProbeLookups) -> Probe {
    if !pod.is(POD_HAS_PROBES) || !lookups.declares_probe(tuple.destination_port) {
        return Probe::No;
    }
    match lookups.prober() {
        PROBER_SOCKETS if is_recorded(lookups) => Probe::Known,
        PROBER_ADDRESSES if pod.is_reached_from(tuple.source) => Probe::Assumed,
        _ => Probe::No,
    }
}

/// Whether this would be a probe by the node's address, and is none because kubelet's sockets are recorded: another
/// process of the node, or a kubelet whose sockets nobody sees. Only counted.
#[inline(always)]
#[must_use]
pub fn is_unrecorded(tuple: &Tuple, pod: &PodRow, lookups: &impl ProbeLookups) -> bool {
    pod.is(POD_HAS_PROBES)
        && pod.is_reached_from(tuple.source)
        && lookups.prober() == PROBER_SOCKETS
        && lookups.declares_probe(tuple.destination_port)
        && !is_recorded(lookups)
}

/// A row that has outlived its connection, because nobody saw the end, soon says nothing any more.
#[inline(always)]
fn is_recorded(lookups: &impl ProbeLookups) -> bool {
    let Some(written_at) = lookups.probe_written_at() else { return false };
    lookups.now().saturating_sub(written_at) <= PROBE_LIMIT_NANOSECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_sockets_are_recorded_and_nobody_elses() {
        use RecordVerdict::{Ignore, Record};
        for (destination, needs_mark, has_mark, expected) in [
            ("10.88.0.2", false, false, Record),
            ("fd88::2", true, true, Record),
            ("10.88.0.2", true, false, Ignore),
            ("127.0.0.1", false, false, Ignore),
            ("::1", true, true, Ignore),
        ] {
            assert_eq!(
                decide_record(Address::from_ip(destination.parse().unwrap()), needs_mark, has_mark),
                expected,
                "{destination}"
            );
        }
    }
}
