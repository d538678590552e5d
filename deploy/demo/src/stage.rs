//! The mesh of the story, with what the scenes keep asking of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_rig::packets::Wiretap;
use weft_rig::place::Outcome;
use weft_rig::process::Process;
use weft_rig::{Binaries, Mesh, Sandbox, wait};

use crate::cast;
use crate::screen::Screen;

/// Labels take effect at once; this is for machines that are busy with something else.
pub const EFFECT_LIMIT: Duration = Duration::from_secs(15);

/// A client that talks to each kind of server, with a marker of its scene.
const CONVERSATIONS: [&str; 4] = ["web", "database", "cache", "chat"];

/// The mesh of the story.
#[derive(Debug)]
pub struct Stage {
    pub mesh: Mesh,
    pub binaries: Binaries,
    /// Hears everything that crosses between the nodes.
    pub tap: Wiretap,
    /// A conversation that began before anything was captured.
    pub old_chat: Option<Process>,
    /// A conversation through the agents.
    pub held_chat: Option<Process>,
    /// Markers that must never be readable on the wire.
    pub secrets: Vec<String>,
}

impl Stage {
    pub fn build(sandbox: &Sandbox, binaries: &Binaries, screen: &Screen) -> Result<Self> {
        screen.step("two nodes, a controller, two agents; pods run nginx, MariaDB, Redis, a WebSocket chat …");
        let mut mesh = cast::plan().controller(binaries).agents().start(sandbox)?;
        cast::start(&mut mesh, &binaries.testapp)?;
        let tap = mesh.fabric().listen(1)?;
        Ok(Self { mesh, binaries: binaries.clone(), tap, old_chat: None, held_chat: None, secrets: Vec::new() })
    }

    /// Runs a shell line in a pod and shows it.
    pub fn run(&self, screen: &Screen, pod: &str, line: &str) -> Result<Outcome> {
        let mut outcome = self.mesh.pod(pod)?.shell(line)?;
        outcome.line = line.replace(&*self.binaries.testapp.to_string_lossy(), "weft-testapp");
        screen.command(pod, &outcome);
        Ok(outcome)
    }

    /// Talks to all four servers, with a marker in each conversation; returns the markers.
    pub fn converse(&self, screen: &Screen, pod: &str, scene: &str) -> Result<Vec<String>> {
        let mut markers = Vec::new();
        for server in CONVERSATIONS {
            let marker = format!("weft-{scene}-{server}");
            let line = self.line_for(server, &marker);
            self.run(screen, pod, &line)?.expect_success()?;
            markers.push(marker);
        }
        Ok(markers)
    }

    fn line_for(&self, server: &str, marker: &str) -> String {
        match server {
            "web" => format!("curl -sS --max-time 5 http://web.shop/{marker}"),
            "database" => format!("mariadb -h database.shop -u root -N -e \"select '{marker}', version()\""),
            "cache" => format!("redis-cli -h cache.shop set greeting {marker}"),
            _ => format!(
                "{} websocket-talk --to ws://chat.shop/ --seconds 1 --beat 500 --message {marker}",
                self.binaries.testapp.display()
            ),
        }
    }

    /// Sends so many requests and tells who has answered how often; every answer must be a good one.
    pub fn requests(&self, pod: &str, to: &str, count: u64, more: &[&str]) -> Result<BTreeMap<String, u64>> {
        self.tally(pod, to, count, more, "names")
    }

    /// The same by status.
    pub fn statuses(&self, pod: &str, to: &str, count: u64, more: &[&str]) -> Result<BTreeMap<String, u64>> {
        self.tally(pod, to, count, more, "statuses")
    }

    fn tally(&self, pod: &str, to: &str, count: u64, more: &[&str], by: &str) -> Result<BTreeMap<String, u64>> {
        let pod = self.mesh.pod(pod)?;
        let command = pod.command(&self.binaries.testapp).args(["requests", "--to", to, "--count", &count.to_string()]);
        let report = command.args(more).within(EFFECT_LIMIT).run()?.expect_success()?;
        let report: Value = serde_json::from_str(report.lines().last().unwrap_or_default())?;
        Ok(serde_json::from_value(report[by].clone())?)
    }

    /// Fails if any of the markers cannot be read on the wire.
    pub fn expect_readable(&self, screen: &Screen, markers: &[String]) -> Result<()> {
        for marker in markers {
            let sighting = self.tap.find(marker)?.with_context(|| format!("{marker} was not on the wire"))?;
            screen.quote(&format!("{} → {}  {}", sighting.from, sighting.to, sighting.excerpt));
        }
        Ok(())
    }

    /// Fails if any of the markers can be read on the wire.
    pub fn expect_secret(&mut self, markers: Vec<String>) -> Result<()> {
        for marker in &markers {
            if let Some(sighting) = self.tap.find(marker)? {
                bail!("{marker} is readable on the wire: {sighting:?}");
            }
        }
        self.secrets.extend(markers);
        Ok(())
    }

    /// Edits a label and shows the edit.
    pub fn label(
        &mut self,
        screen: &Screen,
        kind: &str,
        namespace: &str,
        name: &str,
        label: &str,
        value: &str,
    ) -> Result<()> {
        let file = self.mesh.directory().label(kind, namespace, name, label, Some(value))?;
        let shown = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        screen.typed("operator", &format!("edit {shown}   # labels: {label}: {value}"));
        Ok(())
    }

    /// Writes an object and shows it.
    pub fn apply(&mut self, screen: &Screen, object: Value) -> Result<()> {
        let file = self.mesh.directory().apply(object)?;
        screen.typed("operator", &format!("edit {}", file.file_name().unwrap_or_default().to_string_lossy()));
        for line in std::fs::read_to_string(&file)?.lines().skip_while(|line| !line.starts_with("spec")) {
            screen.quote(line);
        }
        Ok(())
    }

    /// The lines of a node's access log that `wanted` picks; waits until there is one.
    pub fn records(&mut self, node: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let log = self.mesh.node(node)?.access_log();
        wait::until(&format!("{what} in the access log of node{node}"), Duration::from_secs(5), || {
            let text = std::fs::read_to_string(&log).with_context(|| format!("no {}", log.display()))?;
            let records: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let found: Vec<Value> = records.iter().filter(|record| wanted(record)).cloned().collect();
            ensure!(
                !found.is_empty(),
                "none of its {} lines; the last: {}",
                records.len(),
                records.last().unwrap_or(&Value::Null)
            );
            Ok(found)
        })
    }

    /// Asks `weft why` and shows the answer. It exits with a failure where it found a problem, which is what is asked for.
    pub fn why(&self, screen: &Screen, question: &[&str]) -> Result<String> {
        let mut outcome = self.mesh.weft(&self.binaries.cli)?.arg("why").args(question).run()?;
        outcome.line = format!("weft why {}", question.join(" "));
        screen.command("operator", &outcome);
        ensure!(!outcome.stdout.is_empty(), "weft why has no answer: {}", outcome.stderr);
        Ok(outcome.stdout)
    }

    /// Waits until the labels have taken effect on every node.
    pub fn await_capture(&mut self) -> Result<()> {
        self.mesh.await_enrolled(EFFECT_LIMIT)
    }
}
