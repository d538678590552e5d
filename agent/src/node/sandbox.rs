//! What belongs to one pod on this node: its network namespace, and a cgroup that its processes are in.
//!
//! Invariants: nothing is ever taken for a pod's namespace that is the node's own; a process counts for a pod only while
//! it is in the pod's cgroup, because its number may be another one's a moment later.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weft_proto::names::WorkloadUid;

use super::cgroups;
use super::netns::Netns;
use super::process::Process;
use crate::bpf::NetnsCookie;
use crate::limits;

/// Where the pods of this node are found.
#[derive(Debug)]
pub struct Sandboxes {
    pods_cgroup: PathBuf,
    /// The node's own namespace.
    home: NetnsCookie,
    /// The sandbox's process of pods that were found before: the tree of cgroups is walked once for each.
    known: RefCell<HashMap<WorkloadUid, Process>>,
}

impl Sandboxes {
    pub fn new(pods_cgroup: PathBuf) -> io::Result<Self> {
        let home = Netns::open(Path::new("/proc/self/ns/net"))?.cookie();
        Ok(Self { pods_cgroup, home, known: RefCell::default() })
    }

    /// The namespace that somebody who may say so has named, or that of the pod's processes.
    ///
    /// # Errors
    /// `NotFound`: the pod is not there (any more).
    pub fn netns(&self, uid: &WorkloadUid, named: Option<&Path>) -> io::Result<Netns> {
        let Some(path) = named else { return self.of_processes(uid) };
        let netns = Netns::open(path)?;
        if netns.cookie() == self.home {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is the node's own"));
        }
        Ok(netns)
    }

    /// Whether the kubelet still has a cgroup for the pod.
    #[must_use]
    pub fn is_there(&self, uid: &WorkloadUid) -> bool {
        cgroups::pod_folder(&self.pods_cgroup, uid).is_some()
    }

    fn of_processes(&self, uid: &WorkloadUid) -> io::Result<Netns> {
        let known = self.known.borrow().get(uid).copied();
        if let Some(netns) = known.and_then(Process::netns) {
            return Ok(netns);
        }
        let found = self.look_for(uid);
        let mut known = self.known.borrow_mut();
        known.remove(uid);
        let (process, netns) = found?;
        if known.len() >= limits::SANDBOXES_KNOWN {
            known.clear();
        }
        known.insert(uid.clone(), process);
        Ok(netns)
    }

    /// The oldest process of a pod is its sandbox's; a container may make namespaces of its own. Runtimes keep processes
    /// of the node's namespace there too.
    fn look_for(&self, uid: &WorkloadUid) -> io::Result<(Process, Netns)> {
        let gone = |why| io::Error::new(io::ErrorKind::NotFound, why);
        let folder = cgroups::pod_folder(&self.pods_cgroup, uid).ok_or_else(|| gone("it has no cgroup yet"))?;
        let mut processes: Vec<Process> =
            cgroups::processes(&folder, limits::CGROUP_DEPTH).into_iter().filter_map(Process::look_at).collect();
        processes.sort_unstable();
        for process in processes {
            let Some(netns) = process.netns() else { continue };
            let stays = cgroups::processes(&folder, limits::CGROUP_DEPTH).contains(&process.number());
            if stays && netns.cookie() != self.home {
                return Ok((process, netns));
            }
        }
        Err(gone("it has no process yet"))
    }

    /// A cgroup of the pod that has a process, for a short-lived one more.
    pub fn cgroup(&self, uid: &WorkloadUid, netns: &Netns) -> io::Result<PathBuf> {
        if let Some(folder) = cgroups::pod_folder(&self.pods_cgroup, uid)
            && let Some(process) = cgroups::processes(&folder, limits::CGROUP_DEPTH).first()
            && let Some(leaf) = cgroups::folder_of(&folder, *process, limits::CGROUP_DEPTH)
        {
            return Ok(leaf);
        }
        self.cgroup_of_a_process_in(netns)
    }

    /// For pods that no kubelet has made.
    fn cgroup_of_a_process_in(&self, netns: &Netns) -> io::Result<PathBuf> {
        let wanted = inode(&netns.path())?;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if inode(&entry.path().join("ns/net")).is_ok_and(|found| found == wanted)
                && let Some(folder) = cgroups::folder_of(&self.pods_cgroup, process, limits::CGROUP_DEPTH)
            {
                return Ok(folder);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "no process below the pods' cgroup lives in its network namespace"))
    }
}

fn inode(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(path)?.ino())
}
