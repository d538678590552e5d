//! Counting, and telling a person about rare happenings: never more than the rate limit.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use weft_abi::limits::EVENTS_PER_SECOND;
use weft_abi::reason::REASONS;
use weft_abi::rows::Event;
use weft_abi::{Reason, Tuple};

use crate::maps::{COUNTERS, EVENT_BUDGET, EVENTS};

const SECOND: u64 = 1_000_000_000;

/// The monotonic clock in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no arguments and may be called everywhere.
    unsafe { bpf_ktime_get_ns() }
}

/// Adds to a number in a map that other CPUs change, too; returns what it was before.
///
/// The target has no compare-and-swap, so the standard library offers it no atomic addition.
#[inline(always)]
pub fn add(number: *mut u64, delta: u64) -> u64 {
    let mut before = delta;
    // SAFETY: map values are aligned to eight bytes and outlive the program's run.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({number} + 0), {value})",
            value = inout(reg) before,
            number = in(reg) number,
        );
    }
    before
}

/// Counts for the pod; a rare reason becomes an event as well.
#[inline(always)]
pub fn count(netns_cookie: u64, reason: Reason, tuple: &Tuple) {
    if let Some(counters) = COUNTERS.get_ptr_mut(netns_cookie) {
        let at = reason.0 as usize;
        if at < REASONS {
            // SAFETY: the pointer comes from the map and the index is inside.
            add(unsafe { (&raw mut (*counters).by_reason).cast::<u64>().add(at) }, 1);
        }
    }
    if reason.is_rare() {
        tell(netns_cookie, reason, tuple);
    }
}

#[inline(never)]
fn tell(netns_cookie: u64, reason: Reason, tuple: &Tuple) {
    let Some(budget) = EVENT_BUDGET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the value belongs to this CPU; an interruption costs at most a wrong count of events.
    let budget = unsafe { &mut *budget };
    let at = now();
    if at.wrapping_sub(budget.window_started_at) >= SECOND {
        budget.window_started_at = at;
        budget.used = 0;
    }
    if budget.used >= EVENTS_PER_SECOND {
        budget.suppressed = budget.suppressed.wrapping_add(1);
        return;
    }
    let Some(mut entry) = EVENTS.reserve(0) else {
        budget.suppressed = budget.suppressed.wrapping_add(1);
        return;
    };
    budget.used += 1;
    entry.write(Event {
        at,
        netns_cookie,
        tuple: *tuple,
        reason: reason.0,
        suppressed: budget.suppressed,
        spare: [0; 2],
    });
    budget.suppressed = 0;
    entry.submit(0);
}
