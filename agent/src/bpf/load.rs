//! Loads the programs, on maps that are where the pins are.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use weft_abi::ABI_HASH;
use weft_abi::layout::FLIGHT_FOLDER;

use super::error::BpfError;
use super::links::{CONNECT4, CONNECT6, PEER_NAME4, PEER_NAME6, SOCKET_CREATE, SOCKET_LOOKUP, SOCKET_OPERATIONS};
use super::object::{MapPlace, Prepared};
use super::pod::NetnsCookie;
use super::program::{self, Kind};

/// `f_type` of a BPF file system, from the kernel's `magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Bytes of one instruction.
const INSTRUCTION_BYTES: u32 = 8;

/// Maps whose layout is frozen.
const FLIGHT_MAPS: [&str; 5] = ["FLOWS", "PEERS", "PROBES", "IN_FLIGHT", "SOCKET_FACTS"];

/// Maps that are made anew when their layout changes.
const DERIVED_MAPS: [&str; 14] = [
    "PODS",
    "LISTENERS",
    "OBSERVED",
    "SEEN",
    "OPEN_PORTS",
    "PORT_RULES",
    "NETWORKS",
    "EXCLUDED_NETWORKS",
    "DESTINATIONS",
    "COUNTERS",
    "HEARTBEATS",
    "PROBER",
    "EVENTS",
    "EVENT_BUDGET",
];

// Program types of the kernel's `bpf.h`.
const CGROUP_SOCKET: u32 = 9;
const SOCKET_OPS: u32 = 13;
const CGROUP_ADDRESS: u32 = 18;
const LOOKUP: u32 = 30;

/// Every program that goes to a cgroup.
const CGROUP_PROGRAMS: [(&str, Kind); 7] = [
    ("connect4", Kind { program_type: CGROUP_ADDRESS, attach_type: CONNECT4 }),
    ("connect6", Kind { program_type: CGROUP_ADDRESS, attach_type: CONNECT6 }),
    ("getpeername4", Kind { program_type: CGROUP_ADDRESS, attach_type: PEER_NAME4 }),
    ("getpeername6", Kind { program_type: CGROUP_ADDRESS, attach_type: PEER_NAME6 }),
    ("flow_ops", Kind { program_type: SOCKET_OPS, attach_type: SOCKET_OPERATIONS }),
    ("own", Kind { program_type: CGROUP_SOCKET, attach_type: SOCKET_CREATE }),
    ("plain_tcp", Kind { program_type: CGROUP_SOCKET, attach_type: SOCKET_CREATE }),
];

/// What goes to kubelet's cgroup: the books, and where others share it the marks.
pub(super) const PROBE_OPS: &str = "probe_ops";
pub(super) const PROBE_MARKS: [(&str, u32); 2] = [("probe_connect4", CONNECT4), ("probe_connect6", CONNECT6)];

const STEER: (&str, Kind) = ("steer", Kind { program_type: LOOKUP, attach_type: SOCKET_LOOKUP });

/// Other sizes than the built-in ones for maps that a test wants to fill. They take effect only when
/// the map is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    pub flows: Option<u32>,
    pub peers: Option<u32>,
    pub open_ports: Option<u32>,
    pub probes: Option<u32>,
    pub seen: Option<u32>,
}

/// What the verifier made of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramSize {
    pub name: &'static str,
    /// Instructions that the verifier walked through, of its million.
    pub verified: u32,
    /// Instructions of the program itself, after the kernel's rewriting.
    pub translated: u32,
}

/// Where the pins are.
#[derive(Debug, Clone)]
pub(super) struct Folders {
    pub(super) root: PathBuf,
    pub(super) flight: PathBuf,
    pub(super) derived: PathBuf,
    pub(super) links: PathBuf,
}

impl Folders {
    /// Below a pin folder. Makes nothing.
    pub(super) fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            flight: root.join(FLIGHT_FOLDER),
            derived: root.join(format!("{ABI_HASH:016x}")),
            links: root.join("links"),
        }
    }

    /// Makes the folders, after a look at the file system.
    pub(super) fn create(&self) -> Result<(), BpfError> {
        let existing = self.root.ancestors().find(|folder| folder.exists()).unwrap_or(&self.root);
        let found = statfs(existing).map_err(|error| BpfError::file("look at", existing)(error.into()))?;
        if found.f_type != BPF_FS_MAGIC {
            return Err(BpfError::NotBpffs(self.root.clone()));
        }
        [&self.flight, &self.derived, &self.links]
            .into_iter()
            .try_for_each(|folder| fs::create_dir_all(folder).map_err(BpfError::file("create", folder)))
    }

    fn place(&self, map: &str, sizes: Sizes) -> Option<MapPlace> {
        let folder = if FLIGHT_MAPS.contains(&map) {
            &self.flight
        } else if DERIVED_MAPS.contains(&map) {
            &self.derived
        } else {
            return None;
        };
        let max_entries = match map {
            "FLOWS" => sizes.flows,
            "PEERS" => sizes.peers,
            "OPEN_PORTS" => sizes.open_ports,
            "PROBES" => sizes.probes,
            "SEEN" => sizes.seen,
            _ => None,
        };
        Some(MapPlace { path: folder.join(map), max_entries })
    }
}

/// A program in the kernel.
#[derive(Debug)]
pub(super) struct LoadedProgram {
    pub(super) name: &'static str,
    descriptor: OwnedFd,
}

impl LoadedProgram {
    /// What the verifier made of it.
    pub(super) fn size(&self) -> Result<ProgramSize, BpfError> {
        let facts = program::facts(&self.descriptor)?;
        let translated = facts.translated_bytes / INSTRUCTION_BYTES;
        Ok(ProgramSize { name: self.name, verified: facts.verified_instructions, translated })
    }
}

impl AsFd for LoadedProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Makes or re-uses the maps and loads every program that goes to a cgroup.
pub(super) fn load_cgroup_programs(folders: &Folders, sizes: Sizes) -> Result<Vec<LoadedProgram>, BpfError> {
    let object = prepare(folders, sizes, &[])?;
    CGROUP_PROGRAMS.into_iter().map(|program| load(&object, program)).collect()
}

/// Loads the copy of `steer` for one namespace, on the shared maps.
pub(super) fn load_steer(folders: &Folders, netns: NetnsCookie) -> Result<LoadedProgram, BpfError> {
    load(&prepare(folders, Sizes::default(), &[("NETNS_COOKIE", netns.0)])?, STEER)
}

/// A process, as the programs at kubelet's cgroup recognise it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessMark {
    pub(super) number: u32,
    /// Device and inode of the namespace of processes in which that is its number; zeroes for the kernel's first one.
    pub(super) space: (u64, u64),
}

/// Loads what goes to kubelet's cgroup: the books first, then, for one process among others there, the marks.
pub(super) fn load_prober(folders: &Folders, mark: Option<ProcessMark>) -> Result<Vec<LoadedProgram>, BpfError> {
    let (device, inode) = mark.map_or((0, 0), |mark| mark.space);
    let constants = [
        ("PROBER_PROCESS", mark.map_or(0, |mark| u64::from(mark.number))),
        ("PROBER_SPACE_DEVICE", device),
        ("PROBER_SPACE_INODE", inode),
    ];
    let object = prepare(folders, Sizes::default(), &constants)?;
    let books = (PROBE_OPS, Kind { program_type: SOCKET_OPS, attach_type: SOCKET_OPERATIONS });
    let marks = PROBE_MARKS.map(|(name, attach_type)| (name, Kind { program_type: CGROUP_ADDRESS, attach_type }));
    let wanted = std::iter::once(books).chain(marks.into_iter().filter(|_| mark.is_some()));
    wanted.map(|program| load(&object, program)).collect()
}

fn prepare(folders: &Folders, sizes: Sizes, constants: &[(&'static str, u64)]) -> Result<Prepared, BpfError> {
    Prepared::new(constants, |map| folders.place(map, sizes))
}

fn load(object: &Prepared, (name, kind): (&'static str, Kind)) -> Result<LoadedProgram, BpfError> {
    let descriptor = program::load(name, kind, &object.code(name)?)?;
    Ok(LoadedProgram { name, descriptor })
}
