//! The hooks of Weft. Each entry asks one pure verdict function of `weft-abi` and does what it says.
//!
//! Invariants: every hook states its default verdict; context fields are read as single volatile
//! loads; nothing is logged, rare happenings go to a ring buffer. Absent: policy, and any loop over
//! configuration.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod connect;
mod create;
mod fields;
mod flow;
mod listeners;
mod maps;
mod observe;
mod peername;
mod probe;
mod record;
mod steer;

use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, sk_lookup, sock_ops};
use aya_ebpf::programs::{SkLookupContext, SockAddrContext, SockContext, SockOpsContext};

/// Default: the connection goes where the app wanted.
#[cgroup_sock_addr(connect4)]
pub fn connect4(hook: SockAddrContext) -> i32 {
    connect::connect4(hook.sock_addr)
}

/// Default: the connection goes where the app wanted.
#[cgroup_sock_addr(connect6)]
pub fn connect6(hook: SockAddrContext) -> i32 {
    connect::connect6(hook.sock_addr)
}

/// Default: the app sees what the kernel has.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(hook: SockAddrContext) -> i32 {
    peername::getpeername4(hook.sock_addr)
}

/// Default: the app sees what the kernel has.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(hook: SockAddrContext) -> i32 {
    peername::getpeername6(hook.sock_addr)
}

/// Has no verdict: it only keeps books.
#[sock_ops]
pub fn flow_ops(hook: SockOpsContext) -> u32 {
    flow::keep_books(hook.ops);
    1
}

/// Default: the socket is made; a socket without the mark would be captured, so its loss is refused.
#[cgroup_sock(sock_create)]
pub fn own(hook: SockContext) -> i32 {
    create::mark_own(hook.sock)
}

/// Default: the socket is made.
#[cgroup_sock(sock_create)]
pub fn plain_tcp(hook: SockContext) -> i32 {
    create::refuse_mptcp(hook.sock)
}

/// Has no verdict: it only keeps books.
#[sock_ops]
pub fn probe_ops(hook: SockOpsContext) -> u32 {
    probe::keep_books(hook.ops);
    1
}

/// Default, and only verdict: the connection goes where its owner wanted.
#[cgroup_sock_addr(connect4)]
pub fn probe_connect4(hook: SockAddrContext) -> i32 {
    probe::mark(hook.sock_addr)
}

/// Default, and only verdict: the connection goes where its owner wanted.
#[cgroup_sock_addr(connect6)]
pub fn probe_connect6(hook: SockAddrContext) -> i32 {
    probe::mark(hook.sock_addr)
}

/// Default: the kernel looks for a socket as without the mesh.
#[sk_lookup]
pub fn steer(hook: SkLookupContext) -> u32 {
    steer::steer(&hook)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Only programs with a licence that the kernel counts as GPL-compatible may call most of its helpers;
/// this says that the object is offered under the GPL as well.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
