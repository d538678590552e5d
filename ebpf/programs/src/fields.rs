//! Reads and writes of context fields: single volatile accesses of one word, because the verifier
//! refuses the wider or merged ones that the compiler would make.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr, bpf_sock_ops};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get};
use weft_abi::flight::SocketFact;
use weft_abi::{Address, Port, Tuple};

use crate::maps::SOCKET_FACTS;

/// Linux' AF_INET.
pub const FAMILY_IP4: u32 = 2;
/// Create the storage if the socket has none.
const STORAGE_CREATE: u64 = 1;

/// Reads one field of a context with a load of its own.
macro_rules! field {
    ($hook:expr, $($path:tt)+) => {
        // SAFETY: the kernel passes a context that is valid for the whole run of the program.
        unsafe { core::ptr::read_volatile(&raw const (*$hook).$($path)+) }
    };
}
pub(crate) use field;

/// Writes one field of a context with a store of its own.
macro_rules! set_field {
    ($hook:expr, $value:expr, $($path:tt)+) => {
        // SAFETY: the kernel passes a context that is valid for the whole run of the program.
        unsafe { core::ptr::write_volatile(&raw mut (*$hook).$($path)+, $value) }
    };
}
pub(crate) use set_field;

/// Ends a branch that reads other fields than its sibling. Without it the compiler merges the two last
/// reads into one whose offset depends on the branch, which the verifier refuses; two different texts
/// cannot be merged.
macro_rules! keep_apart {
    ($word:expr, $branch:literal) => {{
        let mut word: u32 = $word;
        // SAFETY: moves a register to itself.
        unsafe { core::arch::asm!(concat!("{word} = {word} # ", $branch), word = inout(reg) word) };
        word
    }};
}
pub(crate) use keep_apart;

/// The cookie of the namespace of the context's socket.
#[inline(always)]
pub fn netns_cookie<T>(hook: *mut T) -> u64 {
    // SAFETY: the helper takes the program's own context.
    unsafe { bpf_get_netns_cookie(hook.cast()) }
}

/// The socket of a connect or getpeername hook.
#[inline(always)]
pub fn socket_of(hook: *mut bpf_sock_addr) -> *mut bpf_sock {
    field!(hook, __bindgen_anon_1.sk)
}

/// What is known about a socket; null if nothing is.
#[inline(always)]
pub fn fact_of(socket: *mut bpf_sock) -> *mut SocketFact {
    storage(socket, core::ptr::null_mut(), 0)
}

/// Writes what is known about a socket; false if there is no memory for it.
#[inline(always)]
#[must_use]
pub fn set_fact(socket: *mut bpf_sock, mut fact: SocketFact) -> bool {
    let stored = storage(socket, &raw mut fact, STORAGE_CREATE);
    if stored.is_null() {
        return false;
    }
    // SAFETY: not null, and socket storage lives as long as the socket that the hook holds.
    unsafe { *stored = fact };
    true
}

#[inline(always)]
fn storage(socket: *mut bpf_sock, initial: *mut SocketFact, flags: u64) -> *mut SocketFact {
    let map = (&raw const SOCKET_FACTS).cast_mut();
    // SAFETY: the map is a socket storage map and the pointers are what the verifier demands.
    unsafe { bpf_sk_storage_get(map.cast(), socket.cast(), initial.cast(), flags) }.cast()
}

/// The socket's local end in a sock_ops hook.
#[inline(always)]
pub fn local_end(hook: *mut bpf_sock_ops) -> (Address, Port) {
    let address = if field!(hook, family) == FAMILY_IP4 {
        Address::from_ip4_word(keep_apart!(field!(hook, local_ip4), "local 4"))
    } else {
        Address([
            field!(hook, local_ip6[0]),
            field!(hook, local_ip6[1]),
            field!(hook, local_ip6[2]),
            keep_apart!(field!(hook, local_ip6[3]), "local 6"),
        ])
    };
    // The local port comes in host order.
    (address, Port::from_host(field!(hook, local_port) as u16))
}

/// The socket's remote end in a sock_ops hook.
#[inline(always)]
pub fn remote_end(hook: *mut bpf_sock_ops) -> (Address, Port) {
    let address = if field!(hook, family) == FAMILY_IP4 {
        Address::from_ip4_word(keep_apart!(field!(hook, remote_ip4), "remote 4"))
    } else {
        Address([
            field!(hook, remote_ip6[0]),
            field!(hook, remote_ip6[1]),
            field!(hook, remote_ip6[2]),
            keep_apart!(field!(hook, remote_ip6[3]), "remote 6"),
        ])
    };
    // The remote port comes in network order, in the half that is high in memory order.
    (address, Port::from_host(u32::from_be(field!(hook, remote_port)) as u16))
}

/// The connection as its opener sees it, on the opener's socket.
#[inline(always)]
pub fn opened_tuple(hook: *mut bpf_sock_ops) -> Tuple {
    Tuple::new(local_end(hook), remote_end(hook))
}

/// The connection as its opener sees it, on the accepted socket.
#[inline(always)]
pub fn accepted_tuple(hook: *mut bpf_sock_ops) -> Tuple {
    Tuple::new(remote_end(hook), local_end(hook))
}
