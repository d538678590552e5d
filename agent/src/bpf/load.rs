//! Loads the object with its maps where the pins are, and single programs of it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::programs::{Program, ProgramFd};
use aya::{Ebpf, EbpfLoader};
use rustix::fs::statfs;
use weft_abi::ABI_HASH;
use weft_abi::layout::FLIGHT_FOLDER;

use super::error::BpfError;
use super::object;
use super::pod::NetnsCookie;

/// `f_type` of a BPF file system, from the kernel's `magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Maps whose layout is frozen.
const FLIGHT_MAPS: [&str; 4] = ["FLOWS", "PEERS", "IN_FLIGHT", "SOCKET_FACTS"];

/// Maps that are made anew when their layout changes.
const DERIVED_MAPS: [&str; 11] = [
    "PODS",
    "LISTENERS",
    "OPEN_PORTS",
    "PORT_RULES",
    "NETWORKS",
    "EXCLUDED_NETWORKS",
    "DESTINATIONS",
    "COUNTERS",
    "HEARTBEATS",
    "EVENTS",
    "EVENT_BUDGET",
];

/// The program of every link but steer's.
pub(super) const CGROUP_PROGRAMS: [&str; 7] =
    ["connect4", "connect6", "getpeername4", "getpeername6", "flow_ops", "own", "plain_tcp"];

/// Other sizes than the built-in ones for maps that a test wants to fill. They take effect only when
/// the map is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    pub flows: Option<u32>,
    pub peers: Option<u32>,
    pub open_ports: Option<u32>,
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
}

/// A program in the kernel.
#[derive(Debug)]
pub(super) struct LoadedProgram {
    pub(super) name: &'static str,
    descriptor: ProgramFd,
    pub(super) size: ProgramSize,
}

impl AsFd for LoadedProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Makes or re-uses the maps and loads every program that goes to a cgroup.
pub(super) fn load_cgroup_programs(folders: &Folders, sizes: Sizes) -> Result<Vec<LoadedProgram>, BpfError> {
    let mut ebpf = load_object(folders, sizes, NetnsCookie(0))?;
    CGROUP_PROGRAMS.into_iter().map(|name| load_program(&mut ebpf, name)).collect()
}

/// Loads the copy of `steer` for one namespace, on the shared maps.
pub(super) fn load_steer(folders: &Folders, netns: NetnsCookie) -> Result<LoadedProgram, BpfError> {
    let mut ebpf = load_object(folders, Sizes::default(), netns)?;
    load_program(&mut ebpf, "steer")
}

fn load_object(folders: &Folders, sizes: Sizes, netns: NetnsCookie) -> Result<Ebpf, BpfError> {
    let mut loader = EbpfLoader::new();
    for name in FLIGHT_MAPS {
        loader.map_pin_path(name, folders.flight.join(name));
    }
    for name in DERIVED_MAPS {
        loader.map_pin_path(name, folders.derived.join(name));
    }
    for (name, size) in [("FLOWS", sizes.flows), ("PEERS", sizes.peers), ("OPEN_PORTS", sizes.open_ports)] {
        if let Some(size) = size {
            loader.map_max_entries(name, size);
        }
    }
    loader.override_global("NETNS_COOKIE", &netns.0, true);
    loader.load(object::bytes()?).map_err(|error| BpfError::Object(Box::new(error)))
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<LoadedProgram, BpfError> {
    let missing = BpfError::Missing { kind: "program", name };
    let program = ebpf.program_mut(name).ok_or(missing)?;
    let loaded = if let Program::CgroupSockAddr(program) = program {
        program.load()
    } else if let Program::CgroupSock(program) = program {
        program.load()
    } else if let Program::SockOps(program) = program {
        program.load()
    } else if let Program::SkLookup(program) = program {
        program.load()
    } else {
        return Err(BpfError::Missing { kind: "program of a known type", name });
    };
    let refused = |source| BpfError::Program { name, source: Box::new(source) };
    loaded.map_err(refused)?;
    let info = program.info().map_err(refused)?;
    let size = ProgramSize {
        name,
        verified: info.verified_instruction_count().unwrap_or(0),
        translated: info.size_translated().unwrap_or(0) / 8,
    };
    let descriptor = program.fd().map_err(refused)?.try_clone().map_err(clone_failed)?;
    Ok(LoadedProgram { name, descriptor, size })
}

fn clone_failed(source: io::Error) -> BpfError {
    BpfError::System { action: "duplicate a program's descriptor", source }
}
