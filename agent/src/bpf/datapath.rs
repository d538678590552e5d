//! The kernel side of one agent, as one value.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_abi::ABI_HASH;

use super::error::BpfError;
use super::events::Events;
use super::facts::SocketFacts;
use super::heartbeat::{Heartbeat, Memory};
use super::links::{self, CONNECT4, CONNECT6, Link, PEER_NAME4, PEER_NAME6, SOCKET_CREATE, SOCKET_OPERATIONS};
pub use super::load::Sizes;
use super::load::{self, Folders, LoadedProgram, ProcessMark, ProgramSize};
use super::maps::Maps;
use super::pod::NetnsCookie;
use super::removal;

/// Where the agent's pins and cgroups are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// A folder on a BPF file system, of this agent alone.
    pub pin_dir: PathBuf,
    /// The cgroup (v2) folder above all pods.
    pub pods_cgroup: PathBuf,
    /// The cgroup (v2) folder of the agent itself.
    pub agent_cgroup: PathBuf,
    /// Kubelet's cgroup (v2) folder, if somebody has named it.
    pub kubelet_cgroup: Option<PathBuf>,
}

/// Loaded programs and open maps. Dropping it leaves everything at work in the kernel.
#[derive(Debug)]
pub struct Datapath {
    pub(super) paths: Paths,
    pub(super) folders: Folders,
    pub(super) maps: Maps,
    programs: Vec<LoadedProgram>,
    heartbeats: Arc<Memory>,
}

/// Whose sockets a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Agent,
    Pods,
}

/// Program, attach type, place.
type Attachment = (&'static str, u32, Place);

/// Attachments that decide nothing; the agent is recognised first.
const BOOKS: [Attachment; 3] = [
    ("own", SOCKET_CREATE, Place::Agent),
    ("flow_ops", SOCKET_OPERATIONS, Place::Agent),
    ("flow_ops", SOCKET_OPERATIONS, Place::Pods),
];

/// Attachments that decide, in the order in which they are made: connections are captured last.
const DECISIONS: [Attachment; 5] = [
    ("plain_tcp", SOCKET_CREATE, Place::Pods),
    ("getpeername4", PEER_NAME4, Place::Pods),
    ("getpeername6", PEER_NAME6, Place::Pods),
    ("connect4", CONNECT4, Place::Pods),
    ("connect6", CONNECT6, Place::Pods),
];

/// How the pins of the pods' books begin; the layout's name follows.
const PODS_BOOKS: &str = "flow_ops-pods-";

impl Datapath {
    /// Loads the programs and makes the maps, or re-uses those that are pinned. Attaches what keeps the
    /// books: whatever the agent opens from now on is known as its own, and which ports the pods open is
    /// seen. Captures nothing yet.
    pub fn open(paths: &Paths) -> Result<Self, BpfError> {
        Self::open_with(paths, Sizes::default())
    }

    /// The same with other sizes of some maps.
    pub fn open_with(paths: &Paths, sizes: Sizes) -> Result<Self, BpfError> {
        let folders = Folders::below(&paths.pin_dir);
        folders.create()?;
        let programs = load::load_cgroup_programs(&folders, sizes)?;
        let maps = Maps::open(&folders)?;
        let heartbeats = Arc::new(Memory::map(&maps.heartbeats)?);
        heartbeats.forget_stale();
        let datapath = Self { paths: paths.clone(), folders, maps, programs, heartbeats };
        BOOKS.iter().try_for_each(|attachment| datapath.attach_one(attachment))?;
        Ok(datapath)
    }

    /// Attaches what decides about the pods' sockets, or gives the attachments that are there the new
    /// programs; connect comes last. Then removes what only earlier versions need. From here on enrolled
    /// pods are captured.
    pub fn attach(&self) -> Result<(), BpfError> {
        self.take_over()?;
        self.forget_others()
    }

    /// The first half of `attach`: what another version of the agent needs to go on stays, because its successor may
    /// still give up.
    pub fn take_over(&self) -> Result<(), BpfError> {
        BOOKS.iter().chain(&DECISIONS).try_for_each(|attachment| self.attach_one(attachment))
    }

    /// The second half of `attach`: removes what only other versions need.
    pub fn forget_others(&self) -> Result<(), BpfError> {
        self.remove_unused_links()?;
        removal::remove_other_versions(&self.folders)
    }

    /// Where this agent's pins and cgroups are.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The heartbeat of one worker.
    pub fn heartbeat(&self, worker: u32) -> Result<Heartbeat, BpfError> {
        Memory::worker(&self.heartbeats, worker)
    }

    /// Access to what is known about sockets.
    #[must_use]
    pub fn socket_facts(&self) -> SocketFacts {
        SocketFacts::new(Arc::clone(&self.maps.facts))
    }

    /// The reading end of the events.
    pub fn events(&self) -> Result<Events, BpfError> {
        Events::open(&self.folders.derived)
    }

    /// What the verifier made of each program; those that are not everybody's are loaded once more for this.
    pub fn program_sizes(&self) -> Result<Vec<ProgramSize>, BpfError> {
        let steer = load::load_steer(&self.folders, NetnsCookie(0))?;
        let prober = load::load_prober(&self.folders, Some(ProcessMark { number: 1, space: (0, 0) }))?;
        self.programs.iter().chain([&steer]).chain(&prober).map(LoadedProgram::size).collect()
    }

    fn attach_one(&self, (name, attach_type, place): &Attachment) -> Result<(), BpfError> {
        let program = self.programs.iter().find(|program| program.name == *name);
        let program = program.ok_or(BpfError::Missing { kind: "program", name })?;
        let folder = match place {
            Place::Agent => &self.paths.agent_cgroup,
            Place::Pods => &self.paths.pods_cgroup,
        };
        let (cgroup, inode) = open_folder(folder)?;
        let pin = match (place, *name) {
            // Two agents, each in a cgroup of its own, are at work while one takes over from the other.
            (Place::Agent, name) => format!("{name}-agent-{inode:x}"),
            // Both keep books of their own, in maps of their own layout.
            (Place::Pods, "flow_ops") => format!("{PODS_BOOKS}{ABI_HASH:016x}"),
            (Place::Pods, name) => format!("{name}-pods"),
        };
        let path = self.folders.links.join(pin);
        Link { path, attach_type: *attach_type, target_inode: inode }.point_to(program, &cgroup)
    }

    /// Those whose cgroup or namespace is gone, and the books of other layouts.
    fn remove_unused_links(&self) -> Result<(), BpfError> {
        let ours = format!("{PODS_BOOKS}{ABI_HASH:016x}");
        for path in removal::files_in(&self.folders.links)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(PODS_BOOKS) && name != ours {
                links::remove(&path)?;
            } else {
                links::remove_if_orphaned(&path)?;
            }
        }
        Ok(())
    }
}

pub(super) fn open_folder(path: &Path) -> Result<(File, u64), BpfError> {
    let folder = File::open(path).map_err(BpfError::file("open the cgroup", path))?;
    let inode = fs::metadata(path).map_err(BpfError::file("look at the cgroup", path))?.ino();
    Ok((folder, inode))
}
