//! Processes of the node, told apart from later ones of the same number.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::netns::Netns;

/// A process, by its number and when it was started (in ticks since boot). The older one is the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    started: u64,
    number: u32,
}

impl Process {
    /// The process that has this number now.
    #[must_use]
    pub fn look_at(number: u32) -> Option<Self> {
        // The 22nd field of `proc_pid_stat(5)`.
        let started = stat(number, 22)?;
        Some(Self { started, number })
    }

    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::look_at(self.number) == Some(self)
    }

    /// The process that started it, or took it over.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        Self::look_at(u32::try_from(stat(self.number, 4)?).ok()?)
    }

    /// What it is called (`comm` in `proc(5)`, at most 15 bytes).
    #[must_use]
    pub fn command(number: u32) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{number}/comm")).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// The network namespace that it is in, as long as it runs.
    #[must_use]
    pub fn netns(self) -> Option<Netns> {
        let netns = Netns::open(Path::new(&format!("/proc/{}/ns/net", self.number))).ok()?;
        self.is_alive().then_some(netns)
    }

    /// Whether it has the network and the user of this process. A setuid program has its caller's user, too, and is none.
    #[must_use]
    pub fn is_of_this_node(self) -> bool {
        let netns = |path: &str| fs::metadata(path).ok().map(|facts| facts.ino());
        let users = |path: &str| users(&fs::read_to_string(path).ok()?).map(str::to_owned);
        let (of_other, of_own) = (format!("/proc/{}", self.number), "/proc/self");
        same(&of_other, of_own, |process| netns(&format!("{process}/ns/net")))
            && same(&of_other, of_own, |process| users(&format!("{process}/status")))
    }

    /// A descriptor that can be read once the process has ended.
    pub fn end(self) -> io::Result<OwnedFd> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let number = i32::try_from(self.number).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let end = pidfd_open(number, PidfdFlags::empty())?;
        if self.is_alive() { Ok(end) } else { Err(gone()) }
    }
}

fn same<T: PartialEq>(other: &str, own: &str, of: impl Fn(&str) -> Option<T>) -> bool {
    of(other).is_some_and(|fact| Some(fact) == of(own))
}

/// The real, effective, saved and file system's user (`proc_pid_status(5)`); no line above has text of the process' own but
/// for its name, which the kernel escapes.
fn users(status: &str) -> Option<&str> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))
}

/// A numeric field of `proc_pid_stat(5)` after the second, the process' name, which may hold anything.
fn stat(number: u32, field: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(field - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setuid_program_is_not_its_owners() {
        let status = |users: &str| format!("Name:\tUid:\\n\nUmask:\t0022\nUid:\t{users}\nGid:\t0\t0\t0\t0\n");
        let (root, setuid) = (status("0\t0\t0\t0"), status("65534\t0\t0\t0"));
        assert_eq!(users(&root), Some("\t0\t0\t0\t0"));
        assert_ne!(users(&root), users(&setuid));
        assert_eq!(users("Name:\tkubelet\n"), None);
        assert!(!same("a", "b", |_| None::<u32>), "what cannot be read is nobody's");
    }

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let own = Process::look_at(std::process::id()).unwrap();
        assert!(own.is_alive() && own.is_of_this_node());
        assert!(!Process { started: own.started + 1, ..own }.is_alive());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = Process::look_at(child.id()).unwrap();
        assert_eq!(other.parent(), Some(own));
        assert!(own <= other);
        let end = other.end().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!other.is_alive() && other.end().is_err());
        drop(end);
    }
}
