//! The cgroup folders of a cluster: one of its own in every hierarchy, with one below it for each node.
//!
//! Every process of a cluster is below its folder of the second version, and by that folder all of them are ended at
//! once, whoever started them and whatever they are called. Nodes see their folder as the root of everything.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::options::View;
use super::place::Place;
use super::wait;

/// How long killed processes may take to leave their folders.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);

/// The cgroup hierarchies of this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchies {
    /// Where the second version is mounted.
    unified: PathBuf,
    /// The first version's.
    divided: Vec<Divided>,
}

/// A hierarchy of the first version.
#[derive(Debug, PartialEq, Eq)]
struct Divided {
    mount: PathBuf,
    /// What mounts it again: its controllers, or its name.
    options: String,
}

impl Hierarchies {
    /// As this process sees them.
    pub fn of_this_machine() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
        Self::of(&mounts).context("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
    }

    fn of(mounts: &str) -> Option<Self> {
        let mut unified = None;
        let mut divided = Vec::new();
        for line in mounts.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let mount = place.split(' ').nth(4).map(PathBuf::from)?;
            let mut kind = kind.split(' ');
            match kind.next() {
                Some("cgroup2") => unified = unified.or(Some(mount)),
                Some("cgroup") => divided.push(Divided { mount, options: remount_options(kind.nth(1)?) }),
                _ => {}
            }
        }
        Some(Self { unified: unified?, divided })
    }

    /// The view that nodes have when this one, or none, is asked for.
    pub fn view(&self, asked: Option<View>) -> Result<View> {
        let hybrid = self.divided.iter().any(|divided| divided.options.split(',').any(|option| option == "memory"));
        match asked {
            None => Ok(if hybrid { View::Hybrid } else { View::V2 }),
            Some(View::Hybrid) => {
                ensure!(hybrid, "this machine has no cgroup v1 hierarchies to make a hybrid view of: use --cgroups v2");
                Ok(View::Hybrid)
            }
            Some(View::V2) => Ok(View::V2),
        }
    }

    /// The mounts that a node makes below /sys/fs/cgroup, one in a line: place, type, options.
    pub fn mounts(&self, view: View) -> Result<String> {
        if view == View::V2 {
            return Ok(". cgroup2 rw\n".to_owned());
        }
        let mut lines = vec![". tmpfs mode=755".to_owned(), "unified cgroup2 rw".to_owned()];
        for Divided { mount, options } in &self.divided {
            let name = mount.file_name().context("a hierarchy is mounted at the root")?.to_string_lossy();
            lines.push(format!("{name} cgroup {options}"));
        }
        Ok(lines.join("\n") + "\n")
    }

    /// Whether groups of the second version can limit memory and processor time here.
    pub fn unified_limits(&self) -> Result<bool> {
        let controllers = fs::read_to_string(self.unified.join("cgroup.subtree_control"))?;
        Ok(["cpu", "memory"].iter().all(|wanted| controllers.split_whitespace().any(|found| found == *wanted)))
    }

    /// Makes the folders of a part of the cluster in every hierarchy.
    pub fn make(&self, cluster: &Place, part: &str) -> Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        for hierarchy in self.roots() {
            let whole = hierarchy.join(cluster.group());
            let part = whole.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
            inherit_processors(hierarchy, &whole)?;
            inherit_processors(&whole, &part)?;
            made.push(part);
        }
        Ok(made)
    }

    /// Lets a node's folder of the second version have the controllers that the machine gives its groups; none is given
    /// to others than the cluster. The processes outside of the node that hold its namespaces leave it: a group that
    /// gives controllers on may hold none.
    pub fn share_controllers(&self, cluster: &Place, node: &str) -> Result<()> {
        let whole = self.unified.join(cluster.group());
        let node = whole.join(node);
        let outside = whole.join("outside");
        fs::create_dir_all(&outside)?;
        for process in fs::read_to_string(node.join("cgroup.procs"))?.lines() {
            fs::write(outside.join("cgroup.procs"), process)
                .context("cannot move the holder of a node's namespaces")?;
        }
        for folder in [&whole, &node] {
            for controller in fs::read_to_string(folder.join("cgroup.controllers"))?.split_whitespace() {
                // Some are taken, by the first version or by real-time processes; the node does without.
                fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).ok();
            }
        }
        Ok(())
    }

    /// The processes of a part of a cluster, or of the whole if the part has no name, by their numbers on this machine.
    pub fn processes(&self, cluster: &Place, part: &str) -> Vec<u32> {
        let mut found = Vec::new();
        collect_processes(&self.unified.join(cluster.group()).join(part), &mut found);
        found
    }

    /// Whether the cluster has folders here.
    pub fn exist(&self, cluster: &Place) -> bool {
        self.roots().any(|hierarchy| hierarchy.join(cluster.group()).exists())
    }

    /// Ends every process of a part of the cluster, or of the whole if the part has no name, and removes its folders.
    pub fn remove(&self, cluster: &Place, part: &str) -> Result<()> {
        let folder = |hierarchy: &Path| hierarchy.join(cluster.group()).join(part);
        let kill = folder(&self.unified).join("cgroup.kill");
        let folders: Vec<PathBuf> = self.roots().map(folder).collect();
        wait::until_whatever_happens("the cluster's processes to end", REMOVAL_LIMIT, || {
            // At every look: a process may have come in after the one before.
            let killed = fs::write(&kill, "1");
            // All are tried, whatever becomes of the first.
            let left = folders.iter().filter(|folder| !removed(folder)).count();
            if left > 0 && kill.exists() {
                killed.with_context(|| format!("cannot write {}", kill.display()))?;
            }
            Ok((left == 0).then_some(()))
        })
    }

    fn roots(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.unified.as_path()).chain(self.divided.iter().map(|divided| divided.mount.as_path()))
    }
}

/// Of a mount's options those that say which hierarchy it is.
fn remount_options(options: &str) -> String {
    let of_the_mount = |option: &&str| {
        !["rw", "ro", "xattr", "noprefix", "clone_children"].contains(option) && !option.starts_with("release_agent=")
    };
    let own: Vec<&str> = options.split(',').filter(of_the_mount).collect();
    let joined = own.join(",");
    if joined.starts_with("name=") { format!("none,{joined}") } else { joined }
}

/// A new folder of the first version's cpuset has no processors, and takes no process before it has some.
fn inherit_processors(parent: &Path, folder: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (above, here) = (parent.join(file), folder.join(file));
        // The second version inherits by itself, and its root has no such file.
        if folder.join("cgroup.controllers").exists() || !here.exists() {
            continue;
        }
        fs::write(&here, fs::read_to_string(above)?).with_context(|| format!("cannot write {}", here.display()))?;
    }
    Ok(())
}

fn collect_processes(folder: &Path, found: &mut Vec<u32>) {
    let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), found);
        }
    }
}

/// Removes a folder and those below it, as far as they are empty; true when none is left.
fn removed(folder: &Path) -> bool {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            removed(&entry.path());
        }
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
24 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 25 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";

    const PURE: &str = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";

    const PURE_WITH_NAMES: &str = "\
30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";

    #[test]
    fn a_node_mounts_what_the_machine_has() {
        let hierarchies = Hierarchies::of(HYBRID).unwrap();
        let expected = ". tmpfs mode=755\nunified cgroup2 rw\nsystemd cgroup none,name=systemd\ncpu,cpuacct cgroup cpu,cpuacct\nmemory cgroup memory\n";
        assert_eq!(hierarchies.mounts(View::Hybrid).unwrap(), expected);
        assert_eq!(hierarchies.mounts(View::V2).unwrap(), ". cgroup2 rw\n");
    }

    #[test]
    fn the_machine_decides_what_nodes_can_see() {
        let view = |mounts, asked| Hierarchies::of(mounts).unwrap().view(asked).map_err(|error| error.to_string());
        assert_eq!(view(HYBRID, None), Ok(View::Hybrid));
        assert_eq!(view(HYBRID, Some(View::V2)), Ok(View::V2));
        for machine in [PURE, PURE_WITH_NAMES] {
            assert_eq!(view(machine, None), Ok(View::V2));
            assert!(view(machine, Some(View::Hybrid)).unwrap_err().contains("--cgroups v2"));
        }
        assert_eq!(Hierarchies::of("24 1 254:0 / / rw - ext4 /dev/vda rw"), None);
    }
}
