//! Programs of a cluster: each is below the cluster's cgroup folder before it does anything, and so ends with the cluster.
//!
//! Those that make the cluster are awaited, those that are the cluster outlive xtask: they have a session of their own
//! and write to a log.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cgroups::Hierarchies;
use super::place::Place;
use crate::run;

/// Moves itself into the folders that are named before "--", and becomes the command behind it. Where a folder is gone
/// the cluster is gone, and the command must not be.
const JOIN: &str = r#"
set -e
while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs"; shift; done
shift
exec "$@"
"#;

/// Lines of a log that a failure shows.
const LAST_WORDS: usize = 12;

/// Letters of a line that a failure shows: some print whole objects.
const LONGEST_LINE: usize = 240;

/// Runs a program of `up` to its end and returns what it printed; it does not outlive the cluster when `up` is killed.
pub fn captured(folders: &[PathBuf], command: &Command) -> Result<String> {
    run::captured(&mut bound(folders, command))
}

/// The folder in which what is part of the cluster without being in a node is: the control plane, what makes the
/// cluster, and what asks it.
pub const CONTROL_PLANE: &str = "control-plane";

/// A program beside a cluster that runs, which ends with it. It does not start when the cluster is gone.
pub fn beside(place: &Place, command: &Command) -> Result<Command> {
    Ok(bound(&Hierarchies::of_this_machine()?.folders(place, CONTROL_PLANE), command))
}

/// The program becomes one of the cluster before it does anything.
fn bound(folders: &[PathBuf], command: &Command) -> Command {
    let mut bound = Command::new("sh");
    bound.args(["-c", JOIN, "sh"]).args(folders).arg("--");
    bound.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        bound.env(name, value.unwrap_or_default());
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

/// The programs that were started, to be watched until the cluster is complete.
pub struct Started {
    programs: Vec<(String, Child, PathBuf)>,
}

impl Started {
    pub fn nothing() -> Self {
        Self { programs: Vec::new() }
    }

    /// Starts a program in a network namespace and in cgroup folders.
    pub fn add(
        &mut self,
        place: &Place,
        name: &str,
        (network, folders): (&Path, &[PathBuf]),
        words: &[impl AsRef<OsStr>],
    ) -> Result<()> {
        let log = place.path(format!("{name}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", JOIN, "sh"]).args(folders).arg("--");
        command.arg("nsenter").arg(format!("--net={}", network.display())).args(words);
        command.env("PATH", place.search_path()).current_dir("/");
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.programs.push((name.to_owned(), child, log));
        Ok(())
    }

    /// Fails, with its last words, if one of the programs has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        for (name, child, log) in &mut self.programs {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended with {status}; it last said:\n{}", last_words(log));
            }
        }
        Ok(())
    }
}

/// The end of every log below a folder.
pub fn all_last_words(folder: &Path) -> String {
    let mut logs = Vec::new();
    collect_logs(folder, &mut logs);
    logs.sort();
    let spoken = logs.iter().map(|log| (log, last_words(log))).filter(|(_, words)| !words.is_empty());
    let shown = spoken.map(|(log, words)| format!("==> {} <==\n{words}\n", log.display()));
    shown.collect()
}

/// The cluster's own folders only: what containers write is theirs.
fn collect_logs(folder: &Path, logs: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let node = entry.file_name().to_string_lossy().starts_with("node");
        if path.is_dir() && node {
            collect_logs(&path, logs);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            logs.push(path);
        }
    }
}

fn last_words(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<String> = text.lines().map(|line| line.chars().take(LONGEST_LINE).collect()).collect();
    lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
}
