//! Taking a cluster away, whatever is there of it: also what a killed `up` left.
//!
//! Nothing is needed from the cluster itself. Its processes are found by the cgroup folder, and with them end their
//! namespaces and all mounts in those; what is left is the cluster's folder and the namespaces that are mounted in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;

use super::cgroups::Hierarchies;
use super::place::Place;

/// Whether there is anything of the cluster.
pub fn is_needed(place: &Place) -> Result<bool> {
    Ok(place.folder().exists() || Hierarchies::of_this_machine()?.exist(place))
}

/// Removes everything. The caller holds the cluster's lock, and asks nobody whether to stop.
pub fn remove(place: &Place) -> Result<()> {
    remove_contents(place)?;
    // Not the folder above it: somebody else may be about to make a cluster there.
    fs::remove_dir(place.folder()).with_context(|| format!("cannot remove {}", place.folder().display()))
}

/// Removes everything but the folder, which is the lock.
pub fn remove_contents(place: &Place) -> Result<()> {
    Hierarchies::of_this_machine()?.remove(place, "")?;
    mounts_below(place)?.iter().rev().try_for_each(|mount| unmount(mount))?;
    for entry in fs::read_dir(place.folder())? {
        let path = entry?.path();
        let folder = path.symlink_metadata()?.is_dir();
        let removed = if folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Takes away what is mounted there, at once or when nobody uses it any more.
pub fn unmount(mount: &Path) -> Result<()> {
    rustix::mount::unmount(mount, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {}", mount.display()))
}

/// In the order in which they were mounted.
fn mounts_below(place: &Place) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(places.filter(|mount| mount.starts_with(place.folder())).collect())
}
