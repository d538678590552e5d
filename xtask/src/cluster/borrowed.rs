//! A cluster that ends with its owner: also when the owner is killed, a process of its own takes it down.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::options::Choice;
use super::place::{Name, Place};
use super::{down, launch, load, lock, network, removal, up};
use crate::{run, workspace};

pub struct Borrowed {
    place: Place,
    /// None once it has been waited for.
    guard: Option<Child>,
    #[expect(dead_code, reason = "the lock ends when the file is closed")]
    lock: File,
}

impl Borrowed {
    /// Starts the cluster of this kind of work, of which there is one at a time in a copy of the repository; what is left of
    /// an earlier one is removed first. It is locked until it is gone, also when xtask is killed: what takes it down has
    /// the lock as its standard output.
    pub fn up(work: &str, choice: Choice) -> Result<Self> {
        let name = own_name(work)?;
        let lock = locked(work, &name)?;
        let place = Place::of(name)?;
        let mut guard = Command::new(std::env::current_exe()?);
        guard.args(["cluster", "--name", &place.name.to_string(), "down", "--after-input"]);
        // In a group of its own: what is sent to ours must not reach it.
        let guard = guard.process_group(0).stdin(Stdio::piped()).stdout(lock.try_clone()?).spawn()?;
        let borrowed = Self { place, guard: Some(guard), lock };
        run::watchfully(|| {
            if removal::is_needed(&borrowed.place)? {
                down(&borrowed.place)?;
            }
            up::up(&borrowed.place, choice)
        })?;
        Ok(borrowed)
    }

    /// A program in the control plane's network, with the cluster's kubectl and its credentials; it ends with the cluster.
    pub fn command(&self, program: &Path) -> Result<Command> {
        let mut command = self.place.in_control_plane(&program.display().to_string());
        command.env("WEFT_CLUSTER", self.place.name.to_string()).env("XTASK", std::env::current_exe()?);
        command.env("WEFT_CLUSTER_OPTIONS", self.place.options().unwrap_or_default());
        Ok(launch::beside(&self.place, &command))
    }

    /// Puts an image into both nodes.
    pub fn load(&self, image: &Path) -> Result<()> {
        load(&self.place, image)
    }

    /// What `weft install` has to be told of its networks.
    pub fn values() -> [String; 2] {
        let list = |name: &str, network: &str| format!("--set=meshConfig.networks.{name}={{{network}}}");
        [list("pods", network::PODS), list("services", network::SERVICES)]
    }

    /// The last lines of every log, for failures.
    pub fn last_words(&self) -> String {
        launch::all_last_words(self.place.folder())
    }

    /// Takes the cluster down. Fails if anything of it is left.
    pub fn down(mut self) -> Result<()> {
        // Who asks to stop now would leave before it is known whether the cluster has gone.
        run::watchfully(|| self.end())
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        drop(guard.stdin.take());
        let status = guard.wait()?;
        ensure!(
            status.success() && !removal::is_needed(&self.place)?,
            "the cluster {} is not gone: cargo xtask cluster --name {0} down",
            self.place.name
        );
        Ok(())
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// Waits until nobody else has the cluster. The lock is where the cluster is: `cargo clean` removes neither.
fn locked(work: &str, cluster: &Name) -> Result<File> {
    let folder = workspace::cache()?.join("tiers");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{cluster}.lock"));
    let lock = OpenOptions::new().create(true).append(true).open(&path);
    let lock = lock.with_context(|| format!("cannot write {}", path.display()))?;
    lock::take(&lock, &format!("another run of {work} in this copy of the repository"))?;
    lock.set_len(0)?;
    Ok(lock)
}

/// One for each copy of the repository and each kind of work, so that a run finds what its killed predecessor left, and nobody else's.
fn own_name(work: &str) -> Result<Name> {
    let hash = format!("{:x}", Sha256::digest(workspace::root().as_os_str().as_encoded_bytes()));
    format!("{work}-{}", &hash[..8]).parse().with_context(|| format!("the cluster of {work}"))
}
