//! Network namespaces without names.
//!
//! A namespace lives as long as its pause process and is addressed as /proc/PID/ns/net: when the
//! process ends, whatever the reason, devices, addresses and routes in it are gone.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// A network namespace and the process that holds it.
#[derive(Debug)]
pub struct Namespace {
    pause: Child,
    path: PathBuf,
}

impl Namespace {
    /// Makes an empty namespace with `lo` up; its pause process joins `cgroup` if one is given.
    pub fn create(cgroup: Option<&Path>) -> Result<Self> {
        let members = cgroup.map(open_members).transpose()?;
        let mut command = Command::new("sleep");
        command.arg("infinity").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        // SAFETY: between fork and exec the closure makes system calls on values prepared before the fork.
        unsafe {
            command.pre_exec(move || {
                if let Some(members) = &members {
                    rustix::io::write(members, b"0")?;
                }
                rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)?;
                Ok(())
            });
        }
        let pause = command.spawn().context("cannot start a pause process")?;
        let path = PathBuf::from(format!("/proc/{}/ns/net", pause.id()));
        let namespace = Self { pause, path };
        crate::place::Place::of(&namespace).ip(&["link set lo up".to_owned()])?;
        // Addresses here are unique by construction, and their link-local ones must serve at once: a node that
        // still doubts its own cannot ask for its neighbours', and loses the first seconds of IPv6.
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        Ok(namespace)
    }

    /// The process that holds it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pause.id()
    }

    /// Where it can be opened, by every process of the sandbox.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a sysctl of this namespace, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        inside(&self.path, || fs::write(Path::new("/proc/sys").join(name), value))?
            .with_context(|| format!("cannot set {name} to {value}"))
    }

    /// Reads a sysctl of this namespace.
    pub fn read_sysctl(&self, name: &str) -> Result<String> {
        let text = inside(&self.path, || fs::read_to_string(Path::new("/proc/sys").join(name)))?;
        Ok(text.with_context(|| format!("cannot read {name}"))?.trim().to_owned())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.pause.kill().ok();
        self.pause.wait().ok();
    }
}

/// Runs `work` on a thread of its own that has entered the namespace at `path`.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let namespace = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || -> Result<T> {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        thread.join().map_err(|_| anyhow!("the work inside {} panicked", path.display()))?
    })
}

/// Opens a cgroup folder for joining; writing `0` to it moves the writer.
pub(crate) fn open_members(cgroup: &Path) -> Result<File> {
    let members = cgroup.join("cgroup.procs");
    fs::OpenOptions::new().write(true).open(&members).with_context(|| format!("cannot open {}", members.display()))
}
