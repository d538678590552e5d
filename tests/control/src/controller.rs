//! The controller as a process, with the account and the permissions that it has in a cluster.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_rig::binaries::folder_of_this_program;
use weft_rig::place::Launch;
use weft_rig::process::{Process, Signal};
use weft_rig::{admin, wait};

use crate::cluster::{Cluster, NAMESPACE, PATIENCE};

/// A controller that is asked to end takes no longer.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Seconds. Where no agent reports, the first generation waits for one this long.
const SHORT_LEASE: &str = "1";

const TALKATIVE: [&str; 2] = ["--log", "info,weft_controller=debug"];

pub struct Controller {
    folder: PathBuf,
    pub address: String,
    pub process: Process,
}

impl Controller {
    /// On `port`, with a state of its own by the name; does not wait for anything.
    pub fn launch(cluster: &Cluster, name: &str, port: u16) -> Result<Self> {
        Self::launch_flagged(cluster, name, port, &["--lease", SHORT_LEASE])
    }

    /// The same with the lease and the log that users have.
    pub fn launch_as_users_do(cluster: &Cluster, name: &str, port: u16) -> Result<Self> {
        Self::launch_with(cluster, name, port, &token(cluster)?, &[])
    }

    /// The same with this credential.
    pub fn launch_by(cluster: &Cluster, name: &str, port: u16, token: &str) -> Result<Self> {
        Self::launch_with(cluster, name, port, token, &[&TALKATIVE, &["--lease", SHORT_LEASE][..]].concat())
    }

    /// The same with these flags.
    pub fn launch_flagged(cluster: &Cluster, name: &str, port: u16, flags: &[&str]) -> Result<Self> {
        Self::launch_with(cluster, name, port, &token(cluster)?, &[&TALKATIVE, flags].concat())
    }

    fn launch_with(cluster: &Cluster, name: &str, port: u16, token: &str, flags: &[&str]) -> Result<Self> {
        let folder = cluster.folder().join(name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("token"), token)?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "one",
            "clusters": [{"name": "one", "cluster": {
                "server": "https://127.0.0.1:6443", "certificate-authority": cluster.folder().join("pki/ca.crt"),
            }}],
            "users": [{"name": "one", "user": {"tokenFile": folder.join("token")}}],
            "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        });
        fs::write(folder.join("kubeconfig"), kubeconfig.to_string())?;
        let address = format!("127.0.0.1:{port}");
        let command = Launch::new(folder_of_this_program()?.join("weft-controller"));
        let command = command.args(["serve", "--kubernetes"]).args(flags);
        let command = command.args(["--namespace", NAMESPACE, "--listen", &address]);
        let command = command.arg("--kubeconfig").arg(folder.join("kubeconfig"));
        let command = command.arg("--state-dir").arg(folder.join("state"));
        let process = command.start(&folder.join("controller.log"))?;
        Ok(Self { folder, address, process })
    }

    /// Until it has published something.
    pub fn start(cluster: &Cluster, name: &str, port: u16) -> Result<Self> {
        let mut controller = Self::launch(cluster, name, port)?;
        controller.await_generation()?;
        Ok(controller)
    }

    pub fn await_generation(&mut self) -> Result<()> {
        let published = |status: &Value| status["generation"].as_u64() > Some(0);
        self.await_status("the controller to publish", published).map(drop)
    }

    pub fn await_status(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let socket = self.folder.join("state/admin.sock");
        wait::until(what, PATIENCE, || {
            self.process.expect_running()?;
            let status = admin::ask(&socket, "/status")?;
            ensure!(holds(&status), "{status:#}");
            Ok(status)
        })
    }

    /// An error that holds all of these.
    pub fn await_error(&mut self, parts: &[&str]) -> Result<()> {
        let told = |error: &Value| parts.iter().all(|part| error.to_string().contains(part));
        let named = |status: &Value| status["errors"].as_array().is_some_and(|errors| errors.iter().any(told));
        self.await_status(&format!("an error about {parts:?}"), named).map(drop)
    }

    pub fn await_no_error(&mut self) -> Result<()> {
        let none = |status: &Value| status["errors"].as_array().is_some_and(Vec::is_empty);
        self.await_status("all errors to be over", none).map(drop)
    }

    pub fn await_log(&mut self, text: &str) -> Result<()> {
        self.process.await_output(text, PATIENCE)
    }

    /// The file that its credential is in.
    pub fn token_file(&self) -> PathBuf {
        self.folder.join("token")
    }

    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    pub fn stop(self) -> Result<()> {
        let (status, output) = self.process.stop(END_LIMIT)?;
        ensure!(status.success(), "it ended with {status}: {output}");
        Ok(())
    }
}

fn token(cluster: &Cluster) -> Result<String> {
    cluster.token("weft-controller", &[], None)
}
