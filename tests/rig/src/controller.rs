//! The controller of a mesh, in the fabric's namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::binaries::Binaries;
use crate::fabric::Fabric;
use crate::place::Place;
use crate::process::Process;
use crate::wait;

/// A controller that does not listen by then never will.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Where it listens in the fabric.
const PORT: u16 = 15010;
/// The lease of a node in demo and tests, in seconds; a real mesh takes longer ones.
const LEASE: &str = "10";

/// A controller and its folders.
#[derive(Debug)]
pub struct Controller {
    binary: PathBuf,
    place: Place,
    directory: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
    process: Option<Process>,
}

impl Controller {
    pub(crate) fn start(
        binaries: &Binaries,
        fabric: &Fabric,
        directory: &Path,
        folder: &Path,
        flags: &[String],
    ) -> Result<Self> {
        fs::create_dir_all(folder.join("state"))?;
        let mut controller = Self {
            binary: binaries.controller.clone(),
            place: fabric.place(),
            directory: directory.to_owned(),
            folder: folder.to_owned(),
            flags: flags.to_vec(),
            process: None,
        };
        controller.resume()?;
        Ok(controller)
    }

    /// Host and port, as the agents are told.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{PORT}", Fabric::ipv4())
    }

    /// The root certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.state_dir().join("ca.pem")
    }

    /// Its state, the keys of the CA among it.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Starts it (again, with what it has on disk) and waits until it listens.
    pub fn resume(&mut self) -> Result<()> {
        let command = self.place.command(&self.binary).arg("serve");
        let command = command.arg("--directory").arg(&self.directory).arg("--state-dir").arg(self.state_dir());
        let command = command.args(["--listen", &self.address(), "--lease", LEASE]).args(&self.flags);
        let mut process = command.start(&self.folder.join("controller.log"))?;
        wait::until("the controller to listen", START_LIMIT, || {
            process.expect_running()?;
            let listed =
                self.place.command("ss").args(["-Hltn", &format!("sport = :{PORT}")]).run()?.expect_success()?;
            ensure!(!listed.trim().is_empty() && self.certificate().exists(), "it does not yet:\n{}", process.tail());
            Ok(())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Makes a join token for a node; returns the file that holds it.
    pub fn create_token(&mut self, node: &str) -> Result<PathBuf> {
        let command = self
            .place
            .command(&self.binary)
            .args(["token", "create", "--node", node])
            .arg("--state-dir")
            .arg(self.state_dir());
        let token = command.run()?.expect_success()?;
        let file = self.folder.join(format!("{node}.token"));
        fs::write(&file, token.trim())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }

    /// Its log.
    pub fn log(&self) -> Result<String> {
        let log = self.folder.join("controller.log");
        Ok(String::from_utf8_lossy(&fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?)
            .into_owned())
    }
}
