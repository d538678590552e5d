//! own, plain_tcp: what happens when a socket is made.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_set_retval;
use weft_abi::connect::{CreateVerdict, decide_create};
use weft_abi::flight::{FACT_OWN, SocketFact};
use weft_abi::{Address, Port, Reason, Tuple};

use crate::fields::{field, netns_cookie, set_fact};
use crate::maps::PODS;
use crate::record;

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ENOMEM: i32 = 12;
const ENOPROTOOPT: i32 = 92;

/// Marks a socket as the agent's: the only way in which the other hooks recognise it.
pub fn mark_own(socket: *mut bpf_sock) -> i32 {
    if set_fact(socket, SocketFact::new(FACT_OWN, Address::NONE, Port::from_network(0))) {
        return ALLOW;
    }
    // SAFETY: the helper takes a number.
    unsafe { bpf_set_retval(-ENOMEM) };
    REFUSE
}

pub fn refuse_mptcp(socket: *mut bpf_sock) -> i32 {
    let cookie = netns_cookie(socket);
    match decide_create(field!(socket, protocol), PODS.get_ptr(cookie).is_some()) {
        CreateVerdict::Allow => ALLOW,
        CreateVerdict::RefuseProtocol => {
            let nowhere = (Address::NONE, Port::from_network(0));
            record::count(cookie, Reason::MPTCP_REFUSED, &Tuple::new(nowhere, nowhere));
            // SAFETY: the helper takes a number.
            unsafe { bpf_set_retval(-ENOPROTOOPT) };
            REFUSE
        }
    }
}
