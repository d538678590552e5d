//! Clients that keep their endpoint: what a Service's `sessionAffinity: ClientIP` asks for.
//!
//! A client's first endpoint follows from its name and the endpoints alone, so that a new agent, or one that had no room to
//! remember, chooses as the one before did. What is remembered outlives other endpoints coming and going.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use weft_proto::names::{NamespacedName, WorkloadUid};

use crate::limits;
use crate::model::Endpoint;

/// Who asks for what, and how long a pause may be.
#[derive(Debug, Clone, Copy)]
pub struct Affinity<'a> {
    /// A pod: its addresses may be two, and be another's later.
    pub client: &'a WorkloadUid,
    pub service: &'a NamespacedName,
    pub port: u16,
    pub timeout: Duration,
}

/// Which endpoint each client has. All workers share it: a client's connections belong to any of them.
#[derive(Debug, Default)]
pub struct Affinities(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By client, so that none can fill the table for the others. None is empty.
    clients: HashMap<WorkloadUid, Own, RandomState>,
    /// How many endpoints all of them keep.
    count: usize,
    /// When room was last made.
    swept: Option<Instant>,
}

/// What one client keeps, by Service and port.
type Own = HashMap<(NamespacedName, u16), Kept, RandomState>;

#[derive(Debug, Clone, Copy)]
struct Kept {
    endpoint: SocketAddr,
    until: Instant,
}

impl Affinities {
    /// The endpoint that the client has, if it may have it (again); else another one, which it keeps from now on.
    pub fn choose(
        &self,
        now: Instant,
        affinity: Affinity<'_>,
        endpoints: &[Endpoint],
        is_eligible: impl Fn(&usize) -> bool,
    ) -> Option<usize> {
        let until = now.checked_add(affinity.timeout)?;
        // All workers wait for this lock: endpoints, which may be thousands, are looked through outside of it.
        let kept = self.table().kept(now, affinity);
        let has_kept = |place: &usize| kept.is_some_and(|kept| endpoints[*place].address == kept);
        let again = (0..endpoints.len()).find(has_kept).filter(&is_eligible);
        let first = || {
            let eligible = (0..endpoints.len()).filter(&is_eligible);
            eligible.max_by_key(|place| closeness(affinity, endpoints[*place].address))
        };
        let place = again.or_else(first)?;
        self.table().keep(now, affinity, Kept { endpoint: endpoints[place].address, until });
        Some(place)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn kept(&self, now: Instant, affinity: Affinity<'_>) -> Option<SocketAddr> {
        let own = self.clients.get(affinity.client)?;
        let kept = own.get(&(affinity.service.clone(), affinity.port))?;
        (now < kept.until).then_some(kept.endpoint)
    }

    fn keep(&mut self, now: Instant, affinity: Affinity<'_>, kept: Kept) {
        let place = (affinity.service.clone(), affinity.port);
        let known = self.clients.get_mut(affinity.client).and_then(|own| own.get_mut(&place));
        if let Some(known) = known {
            *known = kept;
        } else if self.has_room(affinity.client) || self.makes_room(now, affinity.client) {
            self.clients.entry(affinity.client.clone()).or_default().insert(place, kept);
            self.count += 1;
        }
    }

    fn has_room(&self, client: &WorkloadUid) -> bool {
        let own = self.clients.get(client).map_or(0, HashMap::len);
        self.count < limits::AFFINITIES && own < limits::AFFINITIES_PER_CLIENT
    }

    /// Forgets what is over, if it has not just done so.
    fn makes_room(&mut self, now: Instant, client: &WorkloadUid) -> bool {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < limits::AFFINITY_SWEEP) {
            return false;
        }
        self.swept = Some(now);
        self.clients.retain(|_, own| {
            own.retain(|_, kept| now < kept.until);
            !own.is_empty()
        });
        self.count = self.clients.values().map(HashMap::len).sum();
        self.has_room(client)
    }
}

/// Highest random weight (Thaler and Ravishankar, 1998): an endpoint more or less moves only its own clients. The hash is
/// the same in every process of one build.
fn closeness(affinity: Affinity<'_>, endpoint: SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (affinity.client, affinity.service, affinity.port, endpoint).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    struct Clients {
        service: NamespacedName,
        start: Instant,
    }

    fn clients() -> Clients {
        Clients { service: "shop/web".parse().expect("a name"), start: Instant::now() }
    }

    fn endpoints(numbers: impl IntoIterator<Item = u8>) -> Vec<Endpoint> {
        let endpoint = |number| Endpoint { address: ([10, 1, 0, number], 8080).into(), workload: None };
        numbers.into_iter().map(endpoint).collect()
    }

    impl Clients {
        /// The endpoint of a client that asks after so many seconds.
        fn ask(&self, table: &Affinities, client: u32, seconds: u64, endpoints: &[Endpoint]) -> Option<SocketAddr> {
            let client: WorkloadUid = format!("pod-{client}").parse().expect("a uid");
            let affinity = Affinity { client: &client, service: &self.service, port: 80, timeout: TIMEOUT };
            let now = self.start + Duration::from_secs(seconds);
            let place = table.choose(now, affinity, endpoints, |_| true)?;
            Some(endpoints[place].address)
        }
    }

    #[test]
    fn a_client_keeps_its_endpoint_while_others_come_and_go() {
        let (clients, table) = (clients(), Affinities::default());
        let few = endpoints([1, 2, 3]);
        let own: Vec<_> = (0..40).map(|client| clients.ask(&table, client, 0, &few)).collect();
        assert_eq!(own.iter().collect::<BTreeSet<_>>().len(), 3, "one got nobody of 40");
        let more = endpoints(1..=9);
        for (client, own) in (0..40).zip(&own) {
            assert_eq!(clients.ask(&table, client, 5, &more), *own, "of client {client}");
        }
    }

    #[test]
    fn each_use_renews_and_a_pause_as_long_as_the_timeout_ends_it() {
        let (clients, table) = (clients(), Affinities::default());
        let (few, more) = (endpoints([1]), endpoints(1..=9));
        let only = Some(few[0].address);
        // One that another endpoint would get, once it is there.
        let moves = |client: &u32| clients.ask(&Affinities::default(), *client, 0, &more) != only;
        let client = (0..40).find(moves).expect("one of 40 moves");
        assert_eq!(clients.ask(&table, client, 0, &few), only);
        assert_eq!(clients.ask(&table, client, 9, &more), only);
        assert_eq!(clients.ask(&table, client, 18, &more), only, "its use has not renewed it");
        assert_ne!(clients.ask(&table, client, 28, &more), only, "it is kept beyond its timeout");
    }

    #[test]
    fn a_client_whose_endpoint_fails_gets_another_and_keeps_that() {
        let (clients, table) = (clients(), Affinities::default());
        let all = endpoints(1..=4);
        let client: WorkloadUid = "pod-1".parse().expect("a uid");
        let affinity = Affinity { client: &client, service: &clients.service, port: 80, timeout: TIMEOUT };
        let first = table.choose(clients.start, affinity, &all, |_| true).expect("an endpoint");
        let second = table.choose(clients.start, affinity, &all, |place| *place != first).expect("another");
        assert_ne!(first, second);
        assert_eq!(table.choose(clients.start, affinity, &all, |_| true), Some(second));
        assert_eq!(table.choose(clients.start, affinity, &all, |_| false), None);
    }

    #[test]
    fn a_full_table_forgets_what_is_over_and_chooses_all_the_same() {
        let (clients, table) = (clients(), Affinities::default());
        let all = endpoints(1..=4);
        let limit = u32::try_from(limits::AFFINITIES).expect("a small number");
        for client in 0..limit + 50 {
            clients.ask(&table, client, 0, &all).expect("an endpoint");
        }
        assert_eq!(table.table().count, limits::AFFINITIES);
        clients.ask(&table, limit + 100, 11, &all).expect("an endpoint");
        let kept = table.table();
        assert_eq!((kept.count, kept.clients.len()), (1, 1));
    }

    #[test]
    fn one_client_leaves_room_for_the_others() {
        let (clients, table) = (clients(), Affinities::default());
        let all = endpoints(1..=4);
        let greedy: WorkloadUid = "greedy".parse().expect("a uid");
        for port in 1..=u16::MAX {
            let affinity = Affinity { client: &greedy, service: &clients.service, port, timeout: TIMEOUT };
            table.choose(clients.start, affinity, &all, |_| true).expect("an endpoint");
        }
        assert_eq!(table.table().count, limits::AFFINITIES_PER_CLIENT);
        clients.ask(&table, 1, 0, &all).expect("an endpoint");
        assert_eq!(table.table().count, limits::AFFINITIES_PER_CLIENT + 1);
    }

    proptest! {
        /// Whoever remembers nothing (a new agent) chooses as the one before, and only the clients of what went move.
        #[test]
        fn the_first_choice_depends_on_names_alone(numbers in prop::collection::btree_set(any::<u8>(), 2..20), client in any::<u32>()) {
            let clients = clients();
            let all = endpoints(numbers.iter().copied());
            let first = clients.ask(&Affinities::default(), client, 0, &all);
            let mut reversed = all.clone();
            reversed.reverse();
            prop_assert_eq!(clients.ask(&Affinities::default(), client, 0, &reversed), first);
            let gone = all[0].address;
            let rest = clients.ask(&Affinities::default(), client, 0, &all[1..]);
            prop_assert!(first == Some(gone) || rest == first);
        }
    }
}
