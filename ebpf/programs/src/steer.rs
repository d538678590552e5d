//! steer: hands a SYN for a captured pod to a listener of the agent.

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use weft_abi::flight::FlightKey;
use weft_abi::listening::OpenPorts;
use weft_abi::probe::{PROBER_NONE, ProbeLookups, is_unrecorded};
use weft_abi::rows::{
    DIRECTION_INBOUND, DIRECTION_PROBE, ListenerKey, OpenPortKey, PodRow, PortRuleKey, ROLE_INBOUND, ROLE_OUTBOUND,
};
use weft_abi::steer::{Arrival, SteerLookups, SteerVerdict, decide};
use weft_abi::worker::Workers;
use weft_abi::{Address, Port, Reason, Tuple};

use crate::fields::{FAMILY_IP4, field, keep_apart};
use crate::listeners::PodWorkers;
use crate::maps::{FLOWS, LISTENERS, NETNS_COOKIE, OPEN_PORTS, PEERS, PODS, PORT_RULES, PROBER, PROBES};
use crate::record;

const PASS: u32 = 1;
const DROP: u32 = 0;
/// The workload could join a group of our listeners; without this flag the kernel would choose from it.
const NO_REUSEPORT: u64 = 2;

#[inline(always)]
pub fn steer(hook: &SkLookupContext) -> u32 {
    let cookie = NETNS_COOKIE.load();
    let (Some(pod), Some(workers)) = (PODS.get_ptr(cookie), PodWorkers::of(cookie)) else {
        return PASS;
    };
    // SAFETY: rows are replaced, never freed, while a program runs; a torn read is the map's own risk.
    let pod: &PodRow = unsafe { &*pod };
    let key = FlightKey { netns_cookie: cookie, tuple: arriving_tuple(hook.lookup) };
    let arrival = Arrival { protocol: field!(hook.lookup, protocol), netns_cookie: cookie, tuple: key.tuple };
    let maps = PodMaps { workers, key: &key };
    let verdict = decide(&arrival, pod, &maps);
    if matches!(verdict, SteerVerdict::Drop(_) | SteerVerdict::Hand(ROLE_INBOUND, _))
        && is_unrecorded(&key.tuple, pod, &maps)
    {
        record::count(cookie, Reason::INBOUND_NODE_NOT_PROBE, &key.tuple);
    }
    match verdict {
        SteerVerdict::Ignore => PASS,
        SteerVerdict::Pass(reason) => {
            record::count(cookie, reason, &key.tuple);
            PASS
        }
        SteerVerdict::Drop(reason) => {
            record::count(cookie, reason, &key.tuple);
            DROP
        }
        SteerVerdict::Hand(role, worker) => hand(hook, &key, role, worker),
    }
}

/// The listener was there a moment ago; if it is gone the connection is reset, never passed.
#[inline(always)]
fn hand(hook: &SkLookupContext, key: &FlightKey, role: u32, worker: u32) -> u32 {
    let listener = ListenerKey { netns_cookie: key.netns_cookie, role, worker };
    let outbound = role == ROLE_OUTBOUND;
    let assigned = LISTENERS.redirect_sk_lookup(SkLookupContext::new(hook.lookup), listener, NO_REUSEPORT).is_ok();
    let reason = match (assigned, outbound) {
        (true, true) => Reason::OUTBOUND_HANDED,
        (true, false) => Reason::INBOUND_CAPTURED,
        (false, true) => Reason::OUTBOUND_LOST_AGENT,
        (false, false) => Reason::INBOUND_REFUSED_AGENT_GONE,
    };
    record::count(key.netns_cookie, reason, &key.tuple);
    if assigned { PASS } else { DROP }
}

#[inline(always)]
fn arriving_tuple(hook: *mut bpf_sk_lookup) -> Tuple {
    let (remote, local) = if field!(hook, family) == FAMILY_IP4 {
        let remote = Address::from_ip4_word(field!(hook, remote_ip4));
        (remote, Address::from_ip4_word(keep_apart!(field!(hook, local_ip4), "4")))
    } else {
        let remote = Address([
            field!(hook, remote_ip6[0]),
            field!(hook, remote_ip6[1]),
            field!(hook, remote_ip6[2]),
            field!(hook, remote_ip6[3]),
        ]);
        let local = Address([
            field!(hook, local_ip6[0]),
            field!(hook, local_ip6[1]),
            field!(hook, local_ip6[2]),
            keep_apart!(field!(hook, local_ip6[3]), "6"),
        ]);
        (remote, local)
    };
    // The remote port comes in network order, the local one in host order.
    let remote_port = Port::from_network(field!(hook, remote_port));
    Tuple::new((remote, remote_port), (local, Port::from_host(field!(hook, local_port) as u16)))
}

/// The maps, as the verdict reads them.
struct PodMaps<'a> {
    workers: PodWorkers,
    key: &'a FlightKey,
}

impl Workers for PodMaps<'_> {
    #[inline(always)]
    fn beat_at(&self, worker: u32) -> u64 {
        self.workers.beat_at(worker)
    }
    #[inline(always)]
    fn now(&self) -> u64 {
        self.workers.now()
    }
    #[inline(always)]
    fn listens(&self, role: u32, worker: u32) -> bool {
        self.workers.listens(role, worker)
    }
}

impl OpenPorts for PodMaps<'_> {
    #[inline(always)]
    fn is_open(&self, key: &OpenPortKey) -> bool {
        // SAFETY: the value is one word.
        unsafe { OPEN_PORTS.get(key) }.is_some_and(|sockets| *sockets > 0)
    }
}

impl ProbeLookups for PodMaps<'_> {
    #[inline(always)]
    fn declares_probe(&self, port: Port) -> bool {
        let key = PortRuleKey::new(self.workers.netns_cookie, DIRECTION_PROBE, port);
        PORT_RULES.get_ptr(key).is_some()
    }
    #[inline(always)]
    fn prober(&self) -> u32 {
        PROBER.get(0).map_or(PROBER_NONE, |prober| prober.mode)
    }
    #[inline(always)]
    fn probe_written_at(&self) -> Option<u64> {
        let netns_cookie = PROBER.get(0)?.netns_cookie;
        // SAFETY: the number is read at once; a row that is used again meanwhile is as old as its new connection.
        let row = unsafe { PROBES.get(FlightKey { netns_cookie, tuple: self.key.tuple }) };
        row.map(|row| row.written_at)
    }
}

impl SteerLookups for PodMaps<'_> {
    #[inline(always)]
    fn has_flow(&self) -> bool {
        FLOWS.get_ptr(self.key).is_some()
    }
    #[inline(always)]
    fn has_peer(&self) -> bool {
        PEERS.get_ptr(self.key).is_some()
    }
    #[inline(always)]
    fn port_mode(&self, port: Port) -> u32 {
        let key = PortRuleKey::new(self.workers.netns_cookie, DIRECTION_INBOUND, port);
        // SAFETY: the value is one word.
        unsafe { PORT_RULES.get(key) }.copied().unwrap_or(0)
    }
}
