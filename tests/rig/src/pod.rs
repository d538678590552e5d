//! A pod: a namespace, an address, a cgroup folder, and the programs in them.

use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::fabric::pod_addresses;
use crate::netns::Namespace;
use crate::object::{Name, PodPlan};
use crate::place::{Launch, Outcome, Place};
use crate::process::Process;
use crate::wait;

/// How long the processes of a removed pod may take to vanish.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);

/// A pod with its programs.
#[derive(Debug)]
pub struct Pod {
    plan: PodPlan,
    uid: String,
    number: u8,
    namespace: Namespace,
    cgroup: PathBuf,
    addresses: [IpAddr; 2],
    scratch: PathBuf,
    programs: Vec<Process>,
    pub(crate) ready: bool,
}

impl Pod {
    pub(crate) fn create(
        plan: &PodPlan,
        uid: &str,
        number: u8,
        namespace: Namespace,
        cgroup: PathBuf,
        scratch: &Path,
    ) -> Result<Self> {
        let scratch = scratch.join(format!("{}-{}", plan.name.namespace, plan.name.name));
        fs::create_dir_all(&scratch)?;
        let addresses = pod_addresses(plan.node, number);
        let (plan, uid) = (plan.clone(), uid.to_owned());
        Ok(Self { plan, uid, number, namespace, cgroup, addresses, scratch, programs: Vec::new(), ready: true })
    }

    /// The number of its address on the node.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.plan.name
    }

    /// The node it runs on, counted from 1.
    #[must_use]
    pub fn node(&self) -> usize {
        self.plan.node
    }

    /// The uid of its object.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> IpAddr {
        self.addresses[0]
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> IpAddr {
        self.addresses[1]
    }

    pub(crate) fn addresses(&self) -> &[IpAddr; 2] {
        &self.addresses
    }

    pub(crate) fn plan(&self) -> &PodPlan {
        &self.plan
    }

    /// Its network namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its cgroup folder.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A folder for the files of its programs.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Where its programs run.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::of(&self.namespace).in_cgroup(&self.cgroup)
    }

    /// A command that will run in the pod.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Launch {
        self.place().command(program)
    }

    /// Runs a shell line in the pod, to its end.
    pub fn shell(&self, line: &str) -> Result<Outcome> {
        self.place().shell(line).run()
    }

    /// Starts a program in the pod; its output goes to a file of that name in [`Pod::scratch`].
    pub fn start(&self, name: &str, launch: Launch) -> Result<Process> {
        launch.start(&self.scratch.join(format!("{name}.log")))
    }

    /// Starts a program that belongs to the pod and ends with it.
    pub fn serve(&mut self, name: &str, launch: Launch) -> Result<&mut Process> {
        let process = self.start(name, launch)?;
        let at = self.programs.len();
        self.programs.push(process);
        Ok(&mut self.programs[at])
    }

    /// The programs that belong to the pod.
    #[must_use]
    pub fn programs(&self) -> &[Process] {
        &self.programs
    }

    /// Ends the programs of the pod at once; the pod itself stays.
    pub fn kill_programs(&mut self) {
        self.programs.clear();
    }

    /// Waits until something listens on `port` in the pod.
    pub fn await_listener(&mut self, port: u16, limit: Duration) -> Result<()> {
        let what = format!("somebody to listen on port {port} in {}", self.plan.name);
        wait::until(&what, limit, || {
            for program in &mut self.programs {
                program.expect_running()?;
            }
            let listed =
                self.place().command("ss").args(["-Hltn", &format!("sport = :{port}")]).run()?.expect_success()?;
            if listed.trim().is_empty() {
                bail!("nobody does; {}", self.programs.iter().map(Process::tail).collect::<String>());
            }
            Ok(())
        })
    }

    /// Ends everything in the pod and takes the pod away.
    pub(crate) fn remove(mut self) -> Result<()> {
        self.kill_programs();
        fs::write(self.cgroup.join("cgroup.kill"), "1").ok();
        let cgroup = self.cgroup.clone();
        drop(self);
        wait::until("the pod's cgroup folder to become empty", REMOVAL_LIMIT, || Ok(fs::remove_dir(&cgroup)?))
    }
}
