//! connect4, connect6: lead a captured pod's connections to the agent.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_set_retval};
use weft_abi::address::mix;
use weft_abi::connect::{Attempt, ConnectLookups, ConnectVerdict, decide};
use weft_abi::flight::{FACT_ASKED, FACT_OWN, SocketFact};
use weft_abi::rows::{DIRECTION_OUTBOUND, DestinationKey, MODE_EXCLUDED, PodRow, PortRuleKey};
use weft_abi::worker::Workers;
use weft_abi::{Address, Port, Reason, Tuple};

use crate::fields::{fact_of, field, netns_cookie, set_fact, set_field, socket_of};
use crate::listeners::PodWorkers;
use crate::maps::{DESTINATIONS, EXCLUDED_NETWORKS, IN_FLIGHT, NETWORKS, PODS, PORT_RULES, PodNetwork};
use crate::record;

const GO_ON: i32 = 1;
const STOP: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// What a hook found out about the socket and its destination.
struct Ends {
    destination: Address,
    bound: Address,
}

pub fn connect4(hook: *mut bpf_sock_addr) -> i32 {
    let socket = socket_of(hook);
    let ends = Ends {
        destination: Address::from_ip4_word(field!(hook, user_ip4)),
        bound: Address::from_ip4_word(field!(socket, src_ip4)),
    };
    match lead(hook, &ends) {
        Outcome::GoOn => GO_ON,
        Outcome::Stop => STOP,
        Outcome::Rewrite(address, port) => {
            set_field!(hook, address.0[3], user_ip4);
            set_field!(hook, port.network() as u32, user_port);
            GO_ON
        }
    }
}

pub fn connect6(hook: *mut bpf_sock_addr) -> i32 {
    let socket = socket_of(hook);
    let ends = Ends {
        destination: Address([
            field!(hook, user_ip6[0]),
            field!(hook, user_ip6[1]),
            field!(hook, user_ip6[2]),
            field!(hook, user_ip6[3]),
        ]),
        bound: Address([
            field!(socket, src_ip6[0]),
            field!(socket, src_ip6[1]),
            field!(socket, src_ip6[2]),
            field!(socket, src_ip6[3]),
        ]),
    };
    match lead(hook, &ends) {
        Outcome::GoOn => GO_ON,
        Outcome::Stop => STOP,
        Outcome::Rewrite(address, port) => {
            set_field!(hook, address.0[0], user_ip6[0]);
            set_field!(hook, address.0[1], user_ip6[1]);
            set_field!(hook, address.0[2], user_ip6[2]);
            set_field!(hook, address.0[3], user_ip6[3]);
            set_field!(hook, port.network() as u32, user_port);
            GO_ON
        }
    }
}

/// What the entry has to do with the kernel's context.
enum Outcome {
    GoOn,
    Stop,
    Rewrite(Address, Port),
}

#[inline(always)]
fn lead(hook: *mut bpf_sock_addr, ends: &Ends) -> Outcome {
    let socket = socket_of(hook);
    let fact = fact_of(socket);
    let cookie = netns_cookie(hook);
    let (Some(pod), Some(workers)) = (PODS.get_ptr(cookie), PodWorkers::of(cookie)) else {
        forget(fact);
        return Outcome::GoOn;
    };
    // SAFETY: rows are replaced, never freed, while a program runs; a torn read is the map's own risk.
    let pod: &PodRow = unsafe { &*pod };
    let port = Port::from_network(field!(hook, user_port) as u16);
    let attempt = Attempt {
        protocol: field!(hook, protocol),
        own: is_own(fact),
        destination: ends.destination,
        port,
        bound: ends.bound,
        bound_port: Port::from_host(field!(socket, src_port) as u16),
        hash: socket_hash(hook),
    };
    let verdict = decide(&attempt, pod, &PodMaps { workers });
    let tuple = Tuple::new((attempt.bound, attempt.bound_port), (attempt.destination, port));
    match verdict {
        ConnectVerdict::Ignore => {
            forget(fact);
            Outcome::GoOn
        }
        ConnectVerdict::Pass(reason) => {
            forget(fact);
            record::count(cookie, reason, &tuple);
            Outcome::GoOn
        }
        ConnectVerdict::Refuse(reason) => {
            forget(fact);
            refuse(cookie, reason, &tuple)
        }
        ConnectVerdict::Capture(own_address, capture_port) => {
            if !set_fact(socket, SocketFact::new(FACT_ASKED, attempt.destination, port)) {
                return refuse(cookie, Reason::OUTBOUND_REFUSED_NO_MEMORY, &tuple);
            }
            record::count(cookie, Reason::OUTBOUND_CAPTURED, &tuple);
            Outcome::Rewrite(own_address, capture_port)
        }
    }
}

#[inline(always)]
fn refuse(cookie: u64, reason: Reason, tuple: &Tuple) -> Outcome {
    record::count(cookie, reason, tuple);
    // SAFETY: the helper takes a number.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    Outcome::Stop
}

/// A socket that is connected again must not show what it asked for the first time.
#[inline(always)]
fn forget(fact: *mut SocketFact) {
    if !fact.is_null() {
        // SAFETY: not null, and socket storage lives as long as the socket.
        unsafe { (*fact).kind &= !FACT_ASKED };
    }
}

#[inline(always)]
fn is_own(fact: *mut SocketFact) -> bool {
    // SAFETY: not null, and socket storage lives as long as the socket.
    !fact.is_null() && unsafe { (*fact).is(FACT_OWN) }
}

#[inline(always)]
fn socket_hash(hook: *mut bpf_sock_addr) -> u32 {
    // SAFETY: the helper takes the program's own context.
    let cookie = unsafe { bpf_get_socket_cookie(hook.cast()) };
    mix(cookie as u32, (cookie >> 32) as u32)
}

/// The maps, as the verdict reads them.
struct PodMaps {
    workers: PodWorkers,
}

impl Workers for PodMaps {
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

impl ConnectLookups for PodMaps {
    #[inline(always)]
    fn excludes_port(&self, port: Port) -> bool {
        let key = PortRuleKey::new(self.workers.netns_cookie, DIRECTION_OUTBOUND, port);
        // SAFETY: the value is one word.
        unsafe { PORT_RULES.get(key) }.is_some_and(|mode| *mode == MODE_EXCLUDED)
    }
    #[inline(always)]
    fn excludes_network(&self, destination: Address) -> bool {
        let cookie = self.workers.netns_cookie;
        let halves = [(cookie >> 32) as u32, cookie as u32];
        EXCLUDED_NETWORKS.get(&Key::new(192, PodNetwork { netns_cookie: halves, address: destination })).is_some()
    }
    #[inline(always)]
    fn network(&self, destination: Address) -> u32 {
        NETWORKS.get(&Key::new(128, destination)).copied().unwrap_or(0)
    }
    #[inline(always)]
    fn destination(&self, destination: Address, port: Port) -> u32 {
        // SAFETY: the value is one word.
        unsafe { DESTINATIONS.get(DestinationKey::new(destination, port)) }.copied().unwrap_or(0)
    }
    #[inline(always)]
    fn in_flight(&self) -> u64 {
        // SAFETY: the value is one word.
        let rows = unsafe { IN_FLIGHT.get(self.workers.netns_cookie) }.copied().unwrap_or(0);
        // Two agents that hand over may count a row down twice; below nothing is nothing.
        if (rows as i64) < 0 { 0 } else { rows }
    }
}
