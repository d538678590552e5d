//! Where the pods of this node are in the tree of cgroups (v2), and which of them this agent is in.
//!
//! Found by walking the mounted tree for the folders that kubelets make, never from this process' own path: a
//! cgroup namespace hides that. Absent: what is done with a pod once it is found (`sandbox`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weft_proto::names::WorkloadUid;

use crate::bpf::Paths;
use crate::config::KernelPaths;
use crate::limits;

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("{} cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("no cgroup (v2) file system is mounted here; mount the host's /sys/fs/cgroup, or give --pods-cgroup")]
    NotMounted,
    #[error("below {} there is no kubepods folder, so no kubelet runs here; give --pods-cgroup", list(.0))]
    NoPods(Vec<PathBuf>),
    #[error("{} all look like the pods' folder; give the right one as --pods-cgroup", list(.0))]
    SeveralPods(Vec<PathBuf>),
    #[error(
        "process {process} is in no folder below {}; the agent needs the host's process ids (hostPID), or --agent-cgroup",
        list(roots)
    )]
    NoAgent { process: u32, roots: Vec<PathBuf> },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The folder above all pods and the agent's own; what the settings name is not looked for.
pub fn find(settings: &KernelPaths) -> Result<Paths, CgroupError> {
    let paths = |pods_cgroup, agent_cgroup| Paths {
        pin_dir: settings.pin_dir.clone(),
        pods_cgroup,
        agent_cgroup,
        kubelet_cgroup: settings.kubelet_cgroup.clone(),
    };
    if let (Some(pods), Some(agent)) = (&settings.pods_cgroup, &settings.agent_cgroup) {
        return Ok(paths(pods.clone(), agent.clone()));
    }
    let roots = mounted()?;
    let process = std::process::id();
    let own = roots.iter().find_map(|root| folder_of(root, process, limits::CGROUP_DEPTH));
    let pods = settings.pods_cgroup.clone().map_or_else(|| choose(&roots, own.as_deref()), Ok)?;
    let agent = settings.agent_cgroup.clone().or(own).ok_or(CgroupError::NoAgent { process, roots })?;
    Ok(paths(pods, agent))
}

/// The folder above all pods alone.
pub fn find_pods(settings: &KernelPaths) -> Result<PathBuf, CgroupError> {
    settings.pods_cgroup.clone().map_or_else(|| choose(&mounted()?, None), Ok)
}

/// The one folder of pods that there is. Of several, that of the kubelet which runs this agent.
fn choose(roots: &[PathBuf], own: Option<&Path>) -> Result<PathBuf, CgroupError> {
    let mut found = Vec::new();
    for root in roots {
        pods_below(root, limits::PODS_CGROUP_DEPTH, &mut found)?;
    }
    if found.len() > 1
        && let Some(own) = own
    {
        found.retain(|folder| own.starts_with(folder));
    }
    match found.len() {
        0 => Err(CgroupError::NoPods(roots.to_vec())),
        1 => Ok(found.swap_remove(0)),
        _ => Err(CgroupError::SeveralPods(found)),
    }
}

/// Folders of the two drivers: `kubepods` (cgroupfs) and `kubepods.slice` (systemd), which kind and others put below a
/// folder of the kubelet and name after it (`kubelet-kubepods.slice`).
fn pods_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
    for child in folders_in(folder)? {
        let name = child.file_name().unwrap_or_default().to_string_lossy();
        if name == "kubepods" || name == "kubepods.slice" || name.ends_with("-kubepods.slice") {
            found.push(child);
        } else {
            pods_below(&child, depth, found)?;
        }
    }
    Ok(())
}

/// The folder of one pod below that of all; None if its kubelet has made none (yet).
#[must_use]
pub fn pod_folder(pods: &Path, uid: &WorkloadUid) -> Option<PathBuf> {
    let name = pods.file_name().unwrap_or_default().to_string_lossy();
    let candidates = if let Some(slice) = name.strip_suffix(".slice") {
        // systemd takes `-` for a step down, so uids have none there.
        let uid = uid.as_str().replace('-', "_");
        let pod = |class: &str| format!("{slice}{class}-pod{uid}.slice");
        let classed = |class: &str| pods.join(format!("{slice}{class}.slice")).join(pod(class));
        [pods.join(pod("")), classed("-burstable"), classed("-besteffort")]
    } else {
        let pod = format!("pod{uid}");
        [pods.join(&pod), pods.join("burstable").join(&pod), pods.join("besteffort").join(&pod)]
    };
    candidates.into_iter().find(|folder| folder.is_dir())
}

/// The processes of a cgroup and of all below it. A folder that goes meanwhile had none.
#[must_use]
pub fn processes(folder: &Path, depth: usize) -> Vec<u32> {
    let mut all = members(folder);
    if let Some(depth) = depth.checked_sub(1) {
        for child in folders_in(folder).unwrap_or_default() {
            all.extend(processes(&child, depth));
            all.truncate(limits::POD_PROCESSES);
        }
    }
    all
}

/// The folder that a process is in, below `root`.
#[must_use]
pub fn folder_of(root: &Path, process: u32, depth: usize) -> Option<PathBuf> {
    if members(root).contains(&process) {
        return Some(root.to_owned());
    }
    let depth = depth.checked_sub(1)?;
    folders_in(root).ok()?.iter().find_map(|child| folder_of(child, process, depth))
}

fn members(folder: &Path) -> Vec<u32> {
    // A threaded cgroup has none to show; its threads are listed elsewhere.
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let failed = |error| CgroupError::Read { path: folder.to_owned(), error };
    let entries = fs::read_dir(folder).map_err(failed)?;
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut folders: Vec<PathBuf> = entries.flatten().filter(is_folder).map(|entry| entry.path()).collect();
    folders.sort_unstable();
    Ok(folders)
}

/// Where cgroup (v2) file systems are mounted: `/sys/fs/cgroup`, `/sys/fs/cgroup/unified` on hybrid machines, and in a
/// container wherever the host's is.
pub fn mounted() -> Result<Vec<PathBuf>, CgroupError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(|error| CgroupError::Read { path: path.to_owned(), error })?;
    let roots = mounts_in(&text);
    if roots.is_empty() { Err(CgroupError::NotMounted) } else { Ok(roots) }
}

/// Mount points of cgroup2 in `proc_pid_mountinfo(5)`: the fifth field, and the type after the dash.
fn mounts_in(text: &str) -> Vec<PathBuf> {
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        back.starts_with("cgroup2 ").then(|| front.split(' ').nth(4))?.map(PathBuf::from)
    };
    text.lines().filter_map(mount).collect()
}

#[cfg(test)]
mod tests;
