//! Kubelet's cgroup: the programs there, and how the other hooks know probes.
//!
//! Invariant: while the kernel is told that kubelet's sockets are recorded, a program is attached that records them.
//! Absent: which process is kubelet, and which cgroup its own (`node::kubelet`).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use weft_abi::probe::{PROBER_ADDRESSES, PROBER_NONE, PROBER_SOCKETS, Prober};

use super::datapath::{Datapath, open_folder};
use super::error::BpfError;
use super::links::{self, Link, SOCKET_OPERATIONS};
use super::load::{self, PROBE_MARKS, PROBE_OPS, ProcessMark};
use super::pod::NetnsCookie;

/// The namespace of processes that every kernel begins with (`PROC_PID_INIT_INO` in the kernel's `proc_ns.h`).
const FIRST_SPACE: u64 = 0xefff_fffc;
const SPACE: &str = "/proc/self/ns/pid";

/// Whose sockets below a cgroup are kubelet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeSockets {
    /// All: it has the cgroup to itself.
    All,
    /// Those of the process with this number, among others' there.
    OfProcess(u32),
}

impl Datapath {
    /// Recognises kubelet by its sockets, which are in this cgroup and network namespace. Repeating it replaces the
    /// programs without a gap.
    pub fn probe_by_sockets(&self, cgroup: &Path, whose: ProbeSockets, netns: NetnsCookie) -> Result<(), BpfError> {
        let mark = match whose {
            ProbeSockets::All => None,
            ProbeSockets::OfProcess(number) => Some(ProcessMark { number, space: own_space()? }),
        };
        let programs = load::load_prober(&self.folders, mark)?;
        let (folder, inode) = open_folder(cgroup)?;
        if !links::is_attached_to(&self.prober_link(PROBE_OPS), inode)? {
            // What is attached elsewhere sees nothing of this kubelet.
            self.put_prober(PROBER_ADDRESSES, NetnsCookie(0))?;
        }
        // The marks are there before the books ask for them, and go only after that.
        for program in programs.iter().rev() {
            let mark = PROBE_MARKS.iter().find(|(name, _)| *name == program.name);
            let attach_type = mark.map_or(SOCKET_OPERATIONS, |(_, attach_type)| *attach_type);
            let link = Link { path: self.prober_link(program.name), attach_type, target_inode: inode };
            link.point_to(program, &folder)?;
        }
        if mark.is_none() {
            self.remove_marks()?;
        }
        self.put_prober(PROBER_SOCKETS, netns)
    }

    /// Whether [`Self::probe_by_sockets`] is still in force: what somebody else detached or unpinned is to be attached anew.
    pub fn probes_by_sockets(&self, cgroup: &Path, whose: ProbeSockets, netns: NetnsCookie) -> Result<bool, BpfError> {
        let (_, inode) = open_folder(cgroup)?;
        let marks = PROBE_MARKS.iter().filter(|_| whose != ProbeSockets::All).map(|(name, _)| *name);
        for program in std::iter::once(PROBE_OPS).chain(marks) {
            if !links::is_attached_to(&self.prober_link(program), inode)? {
                return Ok(false);
            }
        }
        Ok(self.maps.prober.get(&0)? == Some(Prober::new(PROBER_SOCKETS, netns.0)))
    }

    /// Nobody sees kubelet's sockets: the node's own address stands for them.
    pub fn probe_by_address(&self) -> Result<(), BpfError> {
        self.put_prober(PROBER_ADDRESSES, NetnsCookie(0))?;
        self.detach_prober()
    }

    /// Nobody probes.
    pub fn probe_not_at_all(&self) -> Result<(), BpfError> {
        self.put_prober(PROBER_NONE, NetnsCookie(0))?;
        self.detach_prober()
    }

    /// Connections of kubelet that are on record.
    pub fn probes(&self) -> Result<usize, BpfError> {
        Ok(self.maps.probes.keys()?.len())
    }

    fn put_prober(&self, mode: u32, netns: NetnsCookie) -> Result<(), BpfError> {
        self.maps.prober.put(&0, &Prober::new(mode, netns.0))
    }

    fn detach_prober(&self) -> Result<(), BpfError> {
        links::remove(&self.prober_link(PROBE_OPS))?;
        self.remove_marks()
    }

    fn remove_marks(&self) -> Result<(), BpfError> {
        PROBE_MARKS.iter().try_for_each(|(name, _)| links::remove(&self.prober_link(name)))
    }

    fn prober_link(&self, program: &str) -> PathBuf {
        self.folders.links.join(format!("{program}-kubelet"))
    }
}

/// The namespace of processes of this one, which is kubelet's, too, as the kernel's helper wants it named.
fn own_space() -> Result<(u64, u64), BpfError> {
    let facts = fs::metadata(SPACE).map_err(BpfError::file("look at", SPACE))?;
    if facts.ino() == FIRST_SPACE {
        return Ok((0, 0));
    }
    // Within the kernel a device has its major number above 20 bits of the minor one.
    Ok((u64::from(major(facts.dev())) << 20 | u64::from(minor(facts.dev())), facts.ino()))
}
