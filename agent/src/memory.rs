//! Gives memory back to the system that the start of the agent or its connections have left behind.
//!
//! The allocator keeps what was freed for the next allocation, in arenas of each thread, and an agent that once carried
//! thousands of connections would look like one that still does. Invariant: what is given back was of no use for a whole
//! interval, so a steady load is not slowed down. Absent: allocators other than glibc's, which are left alone.

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::limits;

/// Looks now and then, until `stop`. For the control side: giving back takes milliseconds.
pub async fn give_back(stop: CancellationToken) {
    let mut tick = interval(limits::MEMORY_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut free_before = 0;
    let mut started = false;
    // The first one is at once, when the agent has only begun to start.
    tick.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let free = allocator::free();
        if free.min(free_before) <= limits::MEMORY_SPARE && started {
            free_before = free;
            continue;
        }
        started = true;
        allocator::trim();
        code::release();
        free_before = allocator::free();
        tracing::debug!(before = free, after = free_before, "memory was given back");
    }
}

/// The program's own code: most of what is resident in an idle agent, and most of that was needed to start alone. What is
/// still needed comes back from the page cache, page by page.
mod code {
    use std::ops::Range;

    pub(super) fn release() {
        let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        for range in maps.lines().filter_map(|line| executable(line, &program.to_string_lossy())) {
            // SAFETY: it is a private mapping of a file that is executed and cannot be written, neither the mapping nor,
            // while it runs, the file; so every page that is dropped here is read again as it was.
            let _ = unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
        }
    }

    /// The addresses of a line of /proc/self/maps, if these are the code of `program`: read-only pages too may have been
    /// changed before they became so, by the dynamic linker, but never code.
    pub(super) fn executable(line: &str, program: &str) -> Option<Range<usize>> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let path = fields.nth(3)?.trim_start();
        let address = |text| usize::from_str_radix(text, 16).ok();
        (permissions == "r-xp" && path == program).then_some(address(start)?..address(end)?)
    }
}

#[cfg(target_env = "gnu")]
mod allocator {
    /// Bytes that are neither in use nor given back.
    pub(super) fn free() -> usize {
        // SAFETY: mallinfo2 has no preconditions; it takes each arena's lock in turn.
        unsafe { libc::mallinfo2() }.fordblks
    }

    pub(super) fn trim() {
        // SAFETY: malloc_trim has no preconditions; it takes each arena's lock in turn and touches free chunks alone.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(target_env = "gnu"))]
mod allocator {
    pub(super) fn free() -> usize {
        0
    }

    pub(super) fn trim() {}
}

#[cfg(test)]
mod tests {
    use super::code::executable;

    #[test]
    fn only_the_programs_own_code_is_dropped() {
        let code = "55d0c8a00000-55d0c9100000 r-xp 00260000 fe:00 1234                       /opt/weft/weft-agent";
        assert_eq!(executable(code, "/opt/weft/weft-agent"), Some(0x55d0_c8a0_0000..0x55d0_c910_0000));
        assert_eq!(executable(code, "/opt/weft/weft"), None);
        for other in [
            "55d0c9100000-55d0c9140000 r--p 00960000 fe:00 1234 /opt/weft/weft-agent",
            "55d0c9140000-55d0c9150000 rw-p 009a0000 fe:00 1234 /opt/weft/weft-agent",
            "7ffd1b5f2000-7ffd1b5f4000 r-xp 00000000 00:00 0 [vdso]",
            "7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ",
            "",
        ] {
            assert_eq!(executable(other, "/opt/weft/weft-agent"), None, "{other}");
        }
    }

    #[test]
    fn a_program_goes_on_without_its_resident_code() {
        super::code::release();
        super::allocator::trim();
        assert_eq!(std::hint::black_box([1, 2, 3]).iter().sum::<i32>(), 6);
    }
}
