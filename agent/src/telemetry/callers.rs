//! Who has spoken plaintext to captured pods and was let in: what strict mode would refuse, unless it is exempt.
//!
//! Told when such a connection begins, because one that never ends never has a record. The bound makes room by halves: a
//! flood of strangers costs little and leaves those that came last.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;
use weft_proto::names::WorkloadUid;

use crate::limits;

/// Names all plaintext of one client to one port of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlaintextCall {
    pub workload: WorkloadUid,
    pub port: u16,
    pub client: IpAddr,
}

/// How often, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    pub connections: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

#[derive(Debug)]
pub(super) struct Callers {
    /// Nothing is known of what was before.
    since: Timestamp,
    seen: HashMap<PlaintextCall, Calls>,
}

impl Callers {
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, seen: HashMap::new() }
    }

    pub(super) fn add(&mut self, call: PlaintextCall, at: Timestamp) {
        if let Some(calls) = self.seen.get_mut(&call) {
            calls.connections += 1;
            calls.last = at;
            return;
        }
        if self.seen.len() >= limits::CALLERS_KEPT {
            self.make_room();
        }
        self.seen.insert(call, Calls { connections: 1, first: at, last: at });
    }

    pub(super) fn known(&self) -> (Timestamp, Vec<(PlaintextCall, Calls)>) {
        (self.since, self.seen.iter().map(|(call, calls)| (call.clone(), *calls)).collect())
    }

    fn make_room(&mut self) {
        let mut times: Vec<Timestamp> = self.seen.values().map(|calls| calls.last).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.seen.retain(|_, calls| calls.last > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(client: u32) -> PlaintextCall {
        PlaintextCall { workload: "web".parse().unwrap(), port: 80, client: IpAddr::from(client.to_be_bytes()) }
    }

    #[test]
    fn calls_add_up_and_those_seen_last_stay_when_there_is_no_room() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut callers = Callers::new(at(0));
        let many = u32::try_from(limits::CALLERS_KEPT).unwrap();
        (0..many).for_each(|client| callers.add(call(client), at(i64::from(client))));
        callers.add(call(0), at(i64::from(many)));
        callers.add(call(many), at(i64::from(many) + 1));
        let (since, known) = callers.known();
        let find = |client| known.iter().find(|(known, _)| *known == call(client)).map(|(_, calls)| *calls);
        assert_eq!((since, find(0).unwrap().connections, find(0).unwrap().first), (at(0), 2, at(0)));
        assert!(find(1).is_none() && find(many - 1).is_some() && find(many).is_some());
        assert!(known.len() <= limits::CALLERS_KEPT);
    }
}
