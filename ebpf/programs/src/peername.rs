//! getpeername4, getpeername6, which accept() runs, too: the app sees the address that it asked for, or
//! the client that really connected.

use aya_ebpf::bindings::bpf_sock_addr;
use weft_abi::{Address, Port};

use crate::fields::{fact_of, set_field, socket_of};

/// The kernel accepts no other answer from these hooks.
const GO_ON: i32 = 1;

pub fn getpeername4(hook: *mut bpf_sock_addr) -> i32 {
    if let Some((address, port)) = shown(hook) {
        // An IPv6 client cannot be told to a socket that speaks only IPv4.
        if address.is_ip4() {
            set_field!(hook, address.0[3], user_ip4);
            set_field!(hook, port.network() as u32, user_port);
        }
    }
    GO_ON
}

pub fn getpeername6(hook: *mut bpf_sock_addr) -> i32 {
    if let Some((address, port)) = shown(hook) {
        set_field!(hook, address.0[0], user_ip6[0]);
        set_field!(hook, address.0[1], user_ip6[1]);
        set_field!(hook, address.0[2], user_ip6[2]);
        set_field!(hook, address.0[3], user_ip6[3]);
        set_field!(hook, port.network() as u32, user_port);
    }
    GO_ON
}

#[inline(always)]
fn shown(hook: *mut bpf_sock_addr) -> Option<(Address, Port)> {
    let fact = fact_of(socket_of(hook));
    if fact.is_null() {
        return None;
    }
    // SAFETY: not null, and socket storage lives as long as the socket.
    unsafe { (*fact).shown_peer() }
}
