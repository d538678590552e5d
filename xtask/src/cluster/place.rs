//! A cluster's name, its folder, and the lock that lets one command at a time work on it.
//!
//! Everything that a cluster leaves on the disk is in its folder, and what it leaves in the kernel is found by that folder's
//! path. The folders are in the developer's cache: another cache is another set of clusters, whatever they are called.

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::launch::{self, CONTROL_PLANE};
use super::lock;
use crate::workspace;

/// Names become parts of paths; this leaves room below the kernel's limit for the paths of sockets.
const LONGEST_NAME: usize = 32;

/// A turn is lost to a command that took the cluster away; so many in a row are no accident.
const TURNS: usize = 100;

/// What a cluster is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        ensure!(
            !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(plain),
            "the name of a cluster has 1 to {LONGEST_NAME} lower-case letters, digits and hyphens"
        );
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The paths of a cluster, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: Name,
    folder: PathBuf,
    group: String,
}

/// As long as this lives, no other command works on the cluster.
pub struct Lock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl Place {
    /// Where a cluster of this name is, or would be.
    pub fn of(name: Name) -> Result<Self> {
        Self::below(&workspace::cache()?.join("clusters"), name)
    }

    /// The same, if this is the folder in which every cluster has its own.
    pub fn below(clusters: &Path, name: Name) -> Result<Self> {
        let folder = resolved(&clusters.join(&name.0))?;
        let shown = folder.display().to_string();
        // It stands in lists that spaces divide: mounts, and the lines of `ip -batch`.
        let plain = |letter: char| letter.is_alphanumeric() || "/._-+@".contains(letter);
        if !shown.chars().all(plain) {
            bail!("a cluster cannot be kept in {shown}: set XDG_CACHE_HOME to a path of plain letters");
        }
        // Nodes see the machine's files, but these folders are their own.
        let hidden = ["/run", "/etc", "/opt", "/var/lib", "/var/log"];
        if let Some(hidden) = hidden.iter().find(|hidden| folder.starts_with(hidden)) {
            bail!("a cluster cannot be kept below {hidden}: set XDG_CACHE_HOME to another folder");
        }
        let hash = format!("{:x}", Sha256::digest(folder.as_os_str().as_encoded_bytes()));
        let group = format!("weft-cluster-{name}-{}", &hash[..8]);
        Ok(Self { name, folder, group })
    }

    /// What its cgroup folders are called. It tells clusters of the same name in different caches apart.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Everything of the cluster that is on the disk.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of the cluster.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.folder.join(relative)
    }

    /// The programs of this cluster, each under its usual name.
    pub fn programs(&self) -> PathBuf {
        self.path("bin")
    }

    /// The credentials of the cluster's administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("certificates/admin.kubeconfig")
    }

    /// The network namespace of the control plane, where alone the API server can be reached.
    pub fn control_plane_network(&self) -> PathBuf {
        self.network(CONTROL_PLANE)
    }

    /// The network namespace of a node.
    pub fn network(&self, node: &str) -> PathBuf {
        self.path("network").join(node)
    }

    /// The file that says, with the options it was started with, that the cluster is complete.
    pub fn complete(&self) -> PathBuf {
        self.path("complete")
    }

    /// The options of a cluster that came up.
    pub fn options(&self) -> Option<String> {
        fs::read_to_string(self.complete()).ok()
    }

    /// A program that finds the control plane's network, and the cluster's programs on its path.
    pub fn in_control_plane(&self, program: &str) -> Command {
        let mut command = launch::program("nsenter");
        command.arg(format!("--net={}", self.control_plane_network().display())).arg(program);
        command.env("PATH", self.search_path()).env("KUBECONFIG", self.kubeconfig());
        // What kubectl learns of a cluster goes when the cluster goes.
        command.env("KUBECACHEDIR", self.path("kubectl"));
        command
    }

    /// kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> Command {
        self.in_control_plane("kubectl")
    }

    /// The cluster's programs first, and then the system's.
    pub fn search_path(&self) -> String {
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        format!("{}:{system}", self.programs().display())
    }

    /// Waits until no other command works on the cluster, unless it is interrupted. Makes its folder.
    pub fn lock(&self) -> Result<Lock> {
        let clusters = self.folder.parent().context("a cluster cannot be kept at the root")?;
        fs::create_dir_all(clusters).with_context(|| format!("cannot make {}", clusters.display()))?;
        for _ in 0..TURNS {
            if let Some(lock) = self.take_turn()? {
                return Ok(lock);
            }
        }
        bail!("cannot lock {}: it does not stay", self.folder.display())
    }

    /// Nothing if who held the lock has removed the folder with it.
    fn take_turn(&self) -> Result<Option<Lock>> {
        if let Err(error) = fs::create_dir(&self.folder)
            && error.kind() != ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("cannot make {}", self.folder.display()));
        }
        let opened = match File::open(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(|| format!("cannot open {}", self.folder.display()))?,
        };
        lock::take(&opened, &format!("another command on the cluster {}", self.name))?;
        let locked = opened.metadata()?.ino();
        let stays = fs::metadata(&self.folder).is_ok_and(|now| now.ino() == locked);
        Ok(stays.then_some(Lock(opened)))
    }
}

/// The path without symbolic links, as the kernel tells it of mounts; what is not there yet has none.
fn resolved(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(found) => Ok(found),
        Err(error) if error.kind() == ErrorKind::NotFound => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(resolved(parent)?.join(name)),
            _ => Ok(path.to_owned()),
        },
        Err(error) => Err(error).with_context(|| format!("cannot follow {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_path_is_known_without_its_links_before_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(folder.path()).unwrap().join("real");
        fs::create_dir(&real).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("real", &link).unwrap();
        assert_eq!(resolved(&link.join("clusters/weft")).unwrap(), real.join("clusters/weft"));
        fs::create_dir_all(real.join("clusters/weft")).unwrap();
        assert_eq!(resolved(&link.join("clusters/weft")).unwrap(), real.join("clusters/weft"));
    }

    fn place_below(folder: &Path) -> Place {
        Place::below(folder, "weft".parse().unwrap()).unwrap()
    }

    #[test]
    fn clusters_of_one_name_in_two_caches_have_groups_of_their_own() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = place_below(one.path());
        assert!(place.group().starts_with("weft-cluster-weft-"), "{}", place.group());
        assert_ne!(place.group(), place_below(other.path()).group());
        let link = other.path().join("link");
        std::os::unix::fs::symlink(one.path(), &link).unwrap();
        assert_eq!(place.group(), place_below(&link).group(), "a link leads to the same cache");
    }

    #[test]
    fn a_cluster_is_kept_where_its_nodes_can_see_it() {
        let refusal = |folder: &str| {
            let refused = Place::below(Path::new(folder), "weft".parse().unwrap());
            refused.unwrap_err().to_string()
        };
        for hidden in ["/run", "/etc", "/opt", "/var/lib", "/var/log"] {
            let told = refusal(&format!("{hidden}/weft-is-not-here/clusters"));
            assert!(told.contains(&format!("below {hidden}:")), "{told}");
        }
        let told = refusal("/home/weft is not here/clusters");
        assert!(told.contains("plain letters"), "{told}");
        assert!(Place::below(Path::new("/home/weft-is-not-here/clusters"), "weft".parse().unwrap()).is_ok());
    }

    #[test]
    fn one_holds_the_lock_though_the_folder_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = place_below(&folder.path().join("clusters"));
        let held = AtomicBool::new(false);
        // Each is left fewer turns than it may lose.
        let work = || {
            for _ in 0..TURNS / 2 {
                let lock = place.lock().unwrap();
                assert!(!held.swap(true, Ordering::SeqCst), "two hold the lock");
                held.store(false, Ordering::SeqCst);
                fs::remove_dir(place.folder()).unwrap();
                drop(lock);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
        assert!(!place.folder().exists() && folder.path().join("clusters").exists());
    }

    #[test]
    fn a_folder_that_does_not_stay_is_not_locked_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let place = place_below(folder.path());
        std::os::unix::fs::symlink("nowhere", place.folder()).unwrap();
        let told = place.lock().err().unwrap().to_string();
        assert!(told.contains("does not stay"), "{told}");
    }

    #[test]
    fn a_name_is_a_plain_word() {
        for good in ["weft", "tier-1f"] {
            assert_eq!(good.parse::<Name>().unwrap().to_string(), good);
        }
        for bad in ["", "Weft", "../weft", "we ft", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
