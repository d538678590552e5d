//! Who of the agent's workers is alive and listening, read from the maps.
//!
//! The listener is looked up in the map itself: the kernel's own socket lookup would run `steer`.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_map_lookup_elem, bpf_sk_release};
use weft_abi::MAX_WORKERS;
use weft_abi::rows::{Heartbeats, ListenerKey};
use weft_abi::worker::Workers;

use crate::fields::field;
use crate::maps::{HEARTBEATS, LISTENERS};
use crate::record;

/// TCP_LISTEN.
const STATE_LISTEN: u32 = 10;

/// The workers of one pod.
#[derive(Clone, Copy)]
pub struct PodWorkers {
    pub netns_cookie: u64,
    heartbeats: *const Heartbeats,
}

impl PodWorkers {
    /// None cannot happen, but the verifier does not know it.
    #[inline(always)]
    pub fn of(netns_cookie: u64) -> Option<Self> {
        Some(Self { netns_cookie, heartbeats: HEARTBEATS.get_ptr(0)? })
    }
}

impl Workers for PodWorkers {
    #[inline(always)]
    fn beat_at(&self, worker: u32) -> u64 {
        field!(self.heartbeats, workers[worker as usize % MAX_WORKERS as usize].beat_at)
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        record::now()
    }

    #[inline(always)]
    fn listens(&self, role: u32, worker: u32) -> bool {
        listens(&ListenerKey { netns_cookie: self.netns_cookie, role, worker })
    }
}

#[inline(always)]
fn listens(key: &ListenerKey) -> bool {
    let map = (&raw const LISTENERS).cast_mut();
    // SAFETY: the map is a sockhash with this key; the verifier sees that the socket is released.
    let socket = unsafe { bpf_map_lookup_elem(map.cast(), core::ptr::from_ref(key).cast()) }.cast::<bpf_sock>();
    if socket.is_null() {
        return false;
    }
    let state = field!(socket, state);
    // SAFETY: the socket came from the lookup above and is not used again.
    unsafe { bpf_sk_release(socket.cast()) };
    state == STATE_LISTEN
}
