//! flow_ops: carries what one end of a local connection knows to the other end, and keeps the books of
//! listening ports.
//!
//! Everything here may run twice for one event, when the agent's cgroup is below the pods' one: each
//! step leaves the same state the second time. Rows go when the connection is accepted, when the opener
//! gives up and when it leaves ESTABLISHED; never in `steer`.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_ops};
use aya_ebpf::helpers::generated::bpf_sock_ops_cb_flags_set;
use weft_abi::flight::{
    FACT_ASKED, FACT_CARRIED, FACT_CLIENT, FACT_OWN, FACT_UNPUBLISHED, FlightKey, FlightRow, SocketFact,
};
use weft_abi::listening::is_recorded;
use weft_abi::observe::End;
use weft_abi::rows::OpenPortKey;
use weft_abi::{Reason, Tuple};

use crate::fields::{accepted_tuple, fact_of, field, local_end, netns_cookie, opened_tuple, set_fact};
use crate::maps::{FLOWS, IN_FLIGHT, OPEN_PORTS, PEERS};
use crate::{observe, record};

// From the kernel's `bpf.h`.
pub const OP_CONNECT: u32 = 3;
const OP_OPENED: u32 = 4;
const OP_ACCEPTED: u32 = 5;
pub const OP_STATE: u32 = 10;
const OP_LISTEN: u32 = 11;
const STATE_CALLBACKS: u32 = 4;
pub const STATE_ESTABLISHED: u32 = 1;
pub const STATE_CLOSE: u32 = 7;
const STATE_LISTEN: u32 = 10;
pub const ONLY_NEW: u64 = 1;
pub const ANY: u64 = 0;
const EEXIST: i32 = 17;
const MINUS_ONE: u64 = u64::MAX;

pub fn keep_books(hook: *mut bpf_sock_ops) {
    match field!(hook, op) {
        OP_CONNECT => connecting(hook),
        OP_OPENED => opened(hook),
        OP_ACCEPTED => accepted(hook),
        OP_STATE => state_changed(hook),
        OP_LISTEN => listening(hook),
        _ => {}
    }
}

/// The SYN is about to leave and the source port is known.
#[inline(always)]
fn connecting(hook: *mut bpf_sock_ops) {
    let Some(fact) = fact(hook) else {
        return;
    };
    let kind = fact.kind;
    if kind & FACT_ASKED == 0 && kind & (FACT_OWN | FACT_CLIENT) != FACT_OWN | FACT_CLIENT {
        return;
    }
    let key = FlightKey { netns_cookie: netns_cookie(hook), tuple: opened_tuple(hook) };
    let row = FlightRow::new(fact.address, fact.port, record::now());
    ask_for_state_callbacks(hook);
    if kind & FACT_OWN == 0 {
        publish_flow(&key, &row);
    } else if PEERS.insert(key, row, ANY).is_err() {
        fact.kind |= FACT_UNPUBLISHED;
        record::count(key.netns_cookie, Reason::PEERS_FULL, &key.tuple);
    }
}

#[inline(always)]
fn publish_flow(key: &FlightKey, row: &FlightRow) {
    match FLOWS.insert(key, row, ONLY_NEW) {
        Ok(()) => count_in_flight(key.netns_cookie, 1),
        Err(error) => {
            if error != -EEXIST || FLOWS.insert(key, row, ANY).is_err() {
                record::count(key.netns_cookie, Reason::FLOWS_FULL, &key.tuple);
            }
        }
    }
}

/// The handshake is done on the opener's side.
#[inline(always)]
fn opened(hook: *mut bpf_sock_ops) {
    let key = FlightKey { netns_cookie: netns_cookie(hook), tuple: opened_tuple(hook) };
    observe::note(hook, End::Opened, &key);
}

/// The handshake is done; accept() cannot have returned this socket yet.
#[inline(always)]
fn accepted(hook: *mut bpf_sock_ops) {
    let key = FlightKey { netns_cookie: netns_cookie(hook), tuple: accepted_tuple(hook) };
    // SAFETY: the row is copied before anything is removed.
    if let Some(row) = unsafe { FLOWS.get(key) } {
        let fact = SocketFact::new(FACT_CARRIED, row.address, row.port);
        remember(hook, fact, &key);
        remove_flow(&key);
        return;
    }
    // SAFETY: the row is copied before anything is removed.
    if let Some(row) = unsafe { PEERS.get(key) } {
        let fact = SocketFact::new(FACT_CLIENT, row.address, row.port);
        remember(hook, fact, &key);
        // An error says that somebody else removed it.
        let _ = PEERS.remove(key);
        return;
    }
    observe::note(hook, End::Accepted, &key);
}

#[inline(always)]
fn remember(hook: *mut bpf_sock_ops, fact: SocketFact, key: &FlightKey) {
    let socket = socket(hook);
    if socket.is_null() || !set_fact(socket, fact) {
        record::count(key.netns_cookie, Reason::FACT_LOST, &key.tuple);
    }
}

#[inline(always)]
fn state_changed(hook: *mut bpf_sock_ops) {
    let old = field!(hook, __bindgen_anon_1.args[0]);
    let new = field!(hook, __bindgen_anon_1.args[1]);
    if old == STATE_LISTEN {
        stopped_listening(hook);
        return;
    }
    if old != STATE_ESTABLISHED && new != STATE_CLOSE {
        return;
    }
    let Some(fact) = fact(hook) else {
        return;
    };
    let kind = fact.kind;
    let key = FlightKey { netns_cookie: netns_cookie(hook), tuple: opened_tuple(hook) };
    if kind & FACT_ASKED != 0 {
        remove_flow(&key);
    } else if kind & FACT_OWN != 0 && kind & FACT_CLIENT != 0 {
        // An error says that the app has accepted.
        let _ = PEERS.remove(key);
    }
}

#[inline(always)]
fn remove_flow(key: &FlightKey) {
    if FLOWS.remove(key).is_ok() {
        count_in_flight(key.netns_cookie, MINUS_ONE);
    }
}

#[inline(always)]
fn count_in_flight(netns_cookie: u64, delta: u64) {
    if let Some(rows) = IN_FLIGHT.get_ptr_mut(netns_cookie) {
        record::add(rows, delta);
    }
}

#[inline(always)]
fn listening(hook: *mut bpf_sock_ops) {
    let (address, port) = local_end(hook);
    if !is_recorded(address) || fact(hook).is_some_and(|fact| fact.is(FACT_OWN)) {
        return;
    }
    // Asked for in every pod, so that the ports of a pod that is captured later are seen to close.
    ask_for_state_callbacks(hook);
    let cookie = netns_cookie(hook);
    if IN_FLIGHT.get_ptr(cookie).is_none() {
        return;
    }
    let key = OpenPortKey::new(cookie, address, port);
    if let Some(sockets) = OPEN_PORTS.get_ptr_mut(key) {
        record::add(sockets, 1);
        return;
    }
    match OPEN_PORTS.insert(key, 1, ONLY_NEW) {
        Ok(()) => {}
        Err(error) => {
            if error == -EEXIST {
                if let Some(sockets) = OPEN_PORTS.get_ptr_mut(key) {
                    record::add(sockets, 1);
                }
            } else {
                let end = (address, port);
                record::count(cookie, Reason::OPEN_PORTS_FULL, &Tuple::new(end, end));
            }
        }
    }
}

#[inline(always)]
fn stopped_listening(hook: *mut bpf_sock_ops) {
    let (address, port) = local_end(hook);
    let key = OpenPortKey::new(netns_cookie(hook), address, port);
    let Some(sockets) = OPEN_PORTS.get_ptr_mut(key) else {
        return;
    };
    if record::add(sockets, MINUS_ONE) <= 1 {
        // An error says that somebody else removed it.
        let _ = OPEN_PORTS.remove(key);
    }
}

/// Adds to the flags that other programs have asked for.
#[inline(always)]
pub fn ask_for_state_callbacks(hook: *mut bpf_sock_ops) {
    let flags = field!(hook, bpf_sock_ops_cb_flags) | STATE_CALLBACKS;
    // SAFETY: the helper takes the program's own context. It fails only for request sockets, which
    // these hooks never see.
    unsafe { bpf_sock_ops_cb_flags_set(hook, flags as i32) };
}

#[inline(always)]
fn socket(hook: *mut bpf_sock_ops) -> *mut bpf_sock {
    field!(hook, __bindgen_anon_2.sk)
}

#[inline(always)]
pub fn fact<'a>(hook: *mut bpf_sock_ops) -> Option<&'a mut SocketFact> {
    let socket = socket(hook);
    if socket.is_null() {
        return None;
    }
    // SAFETY: socket storage lives as long as the socket, which the kernel holds while the hook runs.
    unsafe { fact_of(socket).as_mut() }
}
