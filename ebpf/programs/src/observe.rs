//! Notes the connections of observed pods, in one table whose oldest rows make room.

use aya_ebpf::bindings::bpf_sock_ops;
use weft_abi::flight::{FACT_OWN, FlightKey};
use weft_abi::observe::{End, NoteVerdict, ObserveLookups, SeenKey, SeenRow, decide};

use crate::flow::{ONLY_NEW, fact};
use crate::maps::{OBSERVED, PROBER, PROBES, SEEN};
use crate::record;

/// A connection has just been established; `key` names it as its opener sees it.
#[inline(always)]
pub fn note(hook: *mut bpf_sock_ops, end: End, key: &FlightKey) {
    match decide(end, key.netns_cookie, &key.tuple, &Socket { hook, key }) {
        NoteVerdict::Ignore => {}
        NoteVerdict::Note(seen) => count(&seen),
    }
}

#[inline(always)]
fn count(key: &SeenKey) {
    let now = record::now();
    if add(key, now) {
        return;
    }
    let row = SeenRow { connections: 1, first_at: now, last_at: now };
    if SEEN.insert(key, row, ONLY_NEW).is_err() {
        // Another CPU was faster; or there was no room, and then this one is not noted.
        add(key, now);
    }
}

/// False if there is no row.
#[inline(always)]
fn add(key: &SeenKey, now: u64) -> bool {
    let Some(row) = SEEN.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the row is from the map, and its fields are whole words; of two times either is as good.
    unsafe {
        record::add(&raw mut (*row).connections, 1);
        (&raw mut (*row).last_at).write_volatile(now);
    }
    true
}

/// The socket and the maps, as the verdict reads them.
struct Socket<'a> {
    hook: *mut bpf_sock_ops,
    key: &'a FlightKey,
}

impl ObserveLookups for Socket<'_> {
    #[inline(always)]
    fn is_observed(&self) -> bool {
        OBSERVED.get_ptr(self.key.netns_cookie).is_some()
    }
    #[inline(always)]
    fn is_own(&self) -> bool {
        fact(self.hook).is_some_and(|fact| fact.is(FACT_OWN))
    }
    #[inline(always)]
    fn is_probe(&self) -> bool {
        let Some(prober) = PROBER.get(0) else {
            return false;
        };
        PROBES.get_ptr(FlightKey { netns_cookie: prober.netns_cookie, tuple: self.key.tuple }).is_some()
    }
}
