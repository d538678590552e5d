//! Gives back the memory of code that a quiet agent does not need.
//!
//! What its connections have left behind is given back by the allocator by itself, within some seconds: its settings are in
//! .cargo/config.toml. Invariant: an agent whose connections come and go keeps its code, so a steady load is not slowed down.

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::telemetry::Telemetry;

/// Looks now and then whether connections came or went, until `stop`: code that was needed to start, or by a crowd that came
/// or left, is not needed by those who stay.
pub async fn give_back(telemetry: Telemetry, stop: CancellationToken) {
    let mut tick = interval(limits::QUIET_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is at once, when the agent has only begun to start.
    tick.tick().await;
    let mut before = telemetry.connections();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = telemetry.connections();
        // Again and again, because an agent's upkeep brings some of it back: a few dozen page faults each time.
        if now == before {
            code::release();
        }
        before = now;
    }
}

/// Once, for a process whose start is over and that does the same few things from then on.
pub fn give_back_start() {
    code::release();
}

/// The code and constants of the program and its libraries: most of what is resident in an idle agent, and most of that was
/// needed to start alone. What is still needed comes back from the page cache, page by page.
mod code {
    use std::ops::Range;

    pub(super) fn release() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        for range in maps.lines().filter_map(unchanged) {
            // SAFETY: it is a private mapping of a file that is executed and cannot be written, neither the mapping nor,
            // while it runs, the file (a library is replaced by another file); so every page that is dropped here is read
            // again as it was.
            let _ = unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
        }
    }

    /// The addresses of a line of /proc/self/maps, if they are as in their file: code, and the segment that the file of a
    /// program or a library begins with. The dynamic linker has changed other read-only pages before they became so.
    pub(super) fn unchanged(line: &str) -> Option<Range<usize>> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let (permissions, offset) = (fields.next()?, fields.next()?);
        let path = fields.nth(2)?.trim_start();
        let address = |text| usize::from_str_radix(text, 16).ok();
        let whole = permissions == "r-xp" || (permissions == "r--p" && address(offset)? == 0);
        (whole && path.starts_with('/')).then_some(address(start)?..address(end)?)
    }
}

#[cfg(test)]
mod tests {
    use super::code::unchanged;

    #[test]
    fn only_what_is_as_in_its_file_is_dropped() {
        let code = "55d0c8a00000-55d0c9100000 r-xp 00260000 fe:00 1234                       /opt/weft/weft-agent";
        assert_eq!(unchanged(code), Some(0x55d0_c8a0_0000..0x55d0_c910_0000));
        let constants = "55d0c87a0000-55d0c8a00000 r--p 00000000 fe:00 1234                       /opt/weft/weft-agent";
        assert_eq!(unchanged(constants), Some(0x55d0_c87a_0000..0x55d0_c8a0_0000));
        let library = "7f20fe828000-7f20fe98d000 r-xp 00028000 fe:00 1234                       /usr/lib/libc.so.6";
        assert_eq!(unchanged(library), Some(0x7f20_fe82_8000..0x7f20_fe98_d000));
        for other in [
            "55d0c9100000-55d0c9140000 r--p 00960000 fe:00 1234 /opt/weft/weft-agent",
            "55d0c9140000-55d0c9150000 rw-p 009a0000 fe:00 1234 /opt/weft/weft-agent",
            "7ffd1b5f2000-7ffd1b5f4000 r-xp 00000000 00:00 0 [vdso]",
            "7ffd1b5ee000-7ffd1b5f2000 r--p 00000000 00:00 0 [vvar]",
            "7f0000000000-7f0000001000 r--s 00000000 00:0e 15 anon_inode:bpf-map",
            "7f0000000000-7f0000001000 r--p 00000000 00:00 0 ",
            "7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ",
            "",
        ] {
            assert_eq!(unchanged(other), None, "{other}");
        }
    }

    #[test]
    fn a_program_goes_on_without_its_resident_code() {
        super::code::release();
        assert_eq!(std::hint::black_box([1, 2, 3]).iter().sum::<i32>(), 6);
    }
}
