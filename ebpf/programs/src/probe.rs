//! probe_ops, probe_connect4, probe_connect6: tell which connections are kubelet's.
//!
//! Attached to kubelet's own cgroup, `probe_ops` takes every socket for kubelet's. Where others share the cgroup, as in
//! the root of hybrid ones, the connect hooks, which alone can see who connects, mark kubelet's sockets first.

use aya_ebpf::bindings::{bpf_pidns_info, bpf_sock_addr, bpf_sock_ops};
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_get_ns_current_pid_tgid};
use weft_abi::flight::{FACT_PROBER, FlightKey, FlightRow, SocketFact};
use weft_abi::probe::{RecordVerdict, decide_record};
use weft_abi::{Address, Port};

use crate::fields::{fact_of, field, netns_cookie, opened_tuple, set_fact, socket_of};
use crate::flow::{ANY, OP_CONNECT, OP_STATE, STATE_CLOSE, STATE_ESTABLISHED, ask_for_state_callbacks, fact};
use crate::maps::{PROBER_PROCESS, PROBER_SPACE_DEVICE, PROBER_SPACE_INODE, PROBES};
use crate::record;

/// The kernel's hooks want to hear that the connection may go on; this one never has another opinion.
pub const GO_ON: i32 = 1;

/// Marks the socket if it is kubelet's that connects.
pub fn mark(hook: *mut bpf_sock_addr) -> i32 {
    if connects() == Some(PROBER_PROCESS.load()) {
        let socket = socket_of(hook);
        let fact = fact_of(socket);
        if fact.is_null() {
            let nowhere = Port::from_network(0);
            // Without memory the probe counts as anybody's.
            let _ = set_fact(socket, SocketFact::new(FACT_PROBER, Address::NONE, nowhere));
        } else {
            // SAFETY: not null, and socket storage lives as long as the socket.
            unsafe { (*fact).kind |= FACT_PROBER };
        }
    }
    GO_ON
}

/// The number of the process that connects, in the namespace that `PROBER_PROCESS` is from.
#[inline(always)]
fn connects() -> Option<u64> {
    let inode = PROBER_SPACE_INODE.load();
    if inode == 0 {
        // SAFETY: the helper has no arguments.
        return Some(unsafe { bpf_get_current_pid_tgid() } >> 32);
    }
    let mut numbers = bpf_pidns_info { pid: 0, tgid: 0 };
    let length = size_of::<bpf_pidns_info>() as u32;
    // SAFETY: the pointer and the length are those of a live value on the stack.
    let failed = unsafe { bpf_get_ns_current_pid_tgid(PROBER_SPACE_DEVICE.load(), inode, &raw mut numbers, length) };
    if failed == 0 { Some(numbers.tgid as u64) } else { None }
}

pub fn keep_books(hook: *mut bpf_sock_ops) {
    match field!(hook, op) {
        OP_CONNECT => connecting(hook),
        OP_STATE => state_changed(hook),
        _ => {}
    }
}

#[inline(always)]
fn connecting(hook: *mut bpf_sock_ops) {
    let key = FlightKey { netns_cookie: netns_cookie(hook), tuple: opened_tuple(hook) };
    match decide_record(key.tuple.destination, PROBER_PROCESS.load() != 0, is_marked(hook)) {
        RecordVerdict::Ignore => {}
        RecordVerdict::Record => {
            let nowhere = Port::from_network(0);
            ask_for_state_callbacks(hook);
            // The oldest makes room. Without a row the probe counts as anybody's, and is counted where it arrives.
            let _ = PROBES.insert(key, FlightRow::new(Address::NONE, nowhere, record::now()), ANY);
        }
    }
}

/// The row goes when the connection ends, not when it is accepted: with SYN cookies it is looked up twice. Whoever
/// wrote it, for the socket may be older than the marks.
#[inline(always)]
fn state_changed(hook: *mut bpf_sock_ops) {
    let old = field!(hook, __bindgen_anon_1.args[0]);
    let new = field!(hook, __bindgen_anon_1.args[1]);
    if old != STATE_ESTABLISHED && new != STATE_CLOSE {
        return;
    }
    // An error says that it was not there.
    let _ = PROBES.remove(FlightKey { netns_cookie: netns_cookie(hook), tuple: opened_tuple(hook) });
}

#[inline(always)]
fn is_marked(hook: *mut bpf_sock_ops) -> bool {
    fact(hook).is_some_and(|fact| fact.is(FACT_PROBER))
}
