//! A cluster's name, its folder, and the lock that lets one command at a time work on it.
//!
//! Everything that a cluster leaves on the disk is in its folder, and what it leaves in the kernel is found by its name.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use rustix::fs::FlockOperation;

use crate::workspace;

/// Names become parts of paths; this leaves room below the kernel's limit for the paths of sockets.
const LONGEST_NAME: usize = 32;

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
}

/// As long as this lives, no other command works on the cluster.
pub struct Lock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl Place {
    /// Where a cluster of this name is, or would be.
    pub fn of(name: Name) -> Result<Self> {
        let folder = workspace::cache()?.join("clusters").join(&name.0);
        // Nodes see the machine's files, but these folders are their own.
        let hidden = ["/run", "/etc", "/opt", "/var/lib", "/var/log"];
        if let Some(hidden) = hidden.iter().find(|hidden| folder.starts_with(hidden)) {
            bail!("a cluster cannot be kept below {hidden}: set XDG_CACHE_HOME to another folder");
        }
        Ok(Self { name, folder })
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
        self.network("control-plane")
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
        let mut command = Command::new("nsenter");
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

    /// Waits until no other command works on the cluster. Makes its folder.
    pub fn lock(&self) -> Result<Lock> {
        loop {
            fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
            let opened = File::open(&self.folder)?;
            if rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive).is_err() {
                println!("another command works on the cluster {}; waiting for it", self.name);
                rustix::fs::flock(&opened, FlockOperation::LockExclusive)?;
            }
            // Who held the lock may have removed the folder with it.
            if fs::metadata(&self.folder)
                .is_ok_and(|now| opened.metadata().is_ok_and(|locked| locked.ino() == now.ino()))
            {
                return Ok(Lock(opened));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
