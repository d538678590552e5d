//! Observed pods: whose connections the kernel notes, and what it has noted.
//!
//! Invariant: nothing here touches a connection; a pod that is observed has no row in `PODS`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_abi::observe::{
    End, NoteVerdict, ObserveLookups, SEEN_INBOUND, SEEN_OUTBOUND, SEEN_PROBE, SeenKey, SeenRow, decide,
};
use weft_abi::probe::{PROBER_ADDRESSES, Prober};
use weft_abi::{Port, Tuple};

use super::datapath::Datapath;
use super::error::BpfError;
use super::heartbeat;
use super::listening::{self, Connection};
use super::pod::NetnsCookie;
use super::table::Table;

/// Who opened what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    /// Somebody else, towards the pod.
    Inbound,
    /// A socket that is on record as kubelet's, towards the pod.
    Probe,
    /// The pod.
    Outbound,
}

/// All connections of one observed pod with one peer at one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub netns: NetnsCookie,
    pub seen: Seen,
    pub peer: IpAddr,
    /// The port that was connected to: the pod's own, or the peer's of what the pod opened.
    pub port: u16,
    pub connections: u64,
    /// How long ago the first and the last of them began, as far as it was seen.
    pub first: Duration,
    pub last: Duration,
}

/// The reading end, for any thread.
#[derive(Debug, Clone)]
pub struct Sightings {
    observed: Arc<Table<u64, u64>>,
    seen: Arc<Table<SeenKey, SeenRow>>,
    prober: Arc<Table<u32, Prober>>,
}

impl Datapath {
    /// From now on the connections of this namespace are noted, and once those that stand. Repeating it changes nothing.
    /// The calling thread is inside the namespace.
    pub fn observe(&self, netns: NetnsCookie) -> Result<(), BpfError> {
        if self.maps.observed.get(&netns.0)?.is_some() {
            return Ok(());
        }
        let now = heartbeat::now();
        self.maps.observed.put(&netns.0, &now)?;
        let row = SeenRow { connections: 1, first_at: now, last_at: now };
        for (key, connections) in standing(netns)? {
            // What the hooks have counted meanwhile is this connection, or says as much.
            self.maps.seen.put_new(&key, &SeenRow { connections, ..row })?;
        }
        Ok(())
    }

    /// Forgets every other namespace, and what was seen of it.
    pub fn observe_only(&self, stay: &HashSet<NetnsCookie>) -> Result<(), BpfError> {
        let gone: HashSet<u64> =
            self.maps.observed.keys()?.into_iter().filter(|netns| !stay.contains(&NetnsCookie(*netns))).collect();
        if gone.is_empty() {
            return Ok(());
        }
        gone.iter().try_for_each(|netns| self.maps.observed.remove(netns))?;
        self.maps.seen.remove_where(|key| gone.contains(&key.netns_cookie))
    }

    /// The reading end.
    #[must_use]
    pub fn sightings(&self) -> Sightings {
        let maps = &self.maps;
        Sightings {
            observed: Arc::clone(&maps.observed),
            seen: Arc::clone(&maps.seen),
            prober: Arc::clone(&maps.prober),
        }
    }
}

impl Sightings {
    /// For how long this namespace has been observed; None if it is not.
    pub fn observed_for(&self, netns: NetnsCookie) -> Result<Option<Duration>, BpfError> {
        Ok(self.observed.get(&netns.0)?.map(|since| between(since, heartbeat::now())))
    }

    /// Everything that was seen, in no order.
    pub fn all(&self) -> Result<Vec<Sighting>, BpfError> {
        let (mut all, now) = (Vec::new(), heartbeat::now());
        for key in self.seen.keys()? {
            let seen = match key.direction {
                SEEN_INBOUND => Seen::Inbound,
                SEEN_PROBE => Seen::Probe,
                SEEN_OUTBOUND => Seen::Outbound,
                _ => continue,
            };
            // It may have made room for another one since.
            let Some(row) = self.seen.get(&key)? else { continue };
            all.push(Sighting {
                netns: NetnsCookie(key.netns_cookie),
                seen,
                peer: key.peer.to_ip(),
                port: key.port.host(),
                connections: row.connections,
                first: between(row.first_at, now),
                last: between(row.last_at, now),
            });
        }
        Ok(all)
    }

    /// Whether the node's address stands for kubelet, because nobody sees its sockets.
    pub fn probes_by_address(&self) -> Result<bool, BpfError> {
        Ok(self.prober.get(&0)?.is_some_and(|prober| prober.mode == PROBER_ADDRESSES))
    }
}

/// Two times of the monotonic clock, in nanoseconds.
fn between(then: u64, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(then))
}

/// The connections that stand in the namespace of the calling thread. One whose own port is listened on was opened by its
/// peer.
fn standing(netns: NetnsCookie) -> Result<HashMap<SeenKey, u64>, BpfError> {
    let listened: HashSet<Port> = listening::snapshot(netns, &[])?.into_keys().map(|key| key.port).collect();
    let mut found = HashMap::new();
    for Connection { local, remote } in listening::connections()? {
        let (end, tuple) = if listened.contains(&local.1) {
            (End::Accepted, Tuple::new(remote, local))
        } else {
            (End::Opened, Tuple::new(local, remote))
        };
        match decide(end, netns.0, &tuple, &Standing) {
            NoteVerdict::Ignore => {}
            NoteVerdict::Note(key) => *found.entry(key).or_default() += 1,
        }
    }
    Ok(found)
}

/// What is known of a connection that stood before anybody looked.
struct Standing;

impl ObserveLookups for Standing {
    fn is_observed(&self) -> bool {
        true
    }
    fn is_own(&self) -> bool {
        false
    }
    fn is_probe(&self) -> bool {
        false
    }
}
