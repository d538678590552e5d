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

/// The part of a cluster that is in no node: the control plane, what makes the cluster, and what asks it.
pub const CONTROL_PLANE: &str = "control-plane";

/// Lines of a log that a failure shows.
const LAST_WORDS: usize = 12;

/// Letters of a line that a failure shows: some print whole objects.
const LONGEST_LINE: usize = 240;

/// Where a developer's programs are told of proxies. None of those knows the way into a cluster.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A program that goes straight to what it asks.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    for proxy in PROXIES {
        command.env_remove(proxy);
    }
    command
}

/// Makes the cgroup folders of a part, and the script that moves itself into them and becomes another program. Where a
/// folder is gone the cluster is gone, and the program must not be.
pub fn make_room(place: &Place, part: &str) -> Result<()> {
    let folders = Hierarchies::of_this_machine()?.make(place, part)?;
    let moves = folders.iter().map(|folder| format!("echo 0 > '{}/cgroup.procs'\n", folder.display()));
    let script = script(place, part);
    let text = format!("set -e\n{}exec \"$@\"\n", moves.collect::<String>());
    fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))
}

/// Runs a program of `up` to its end and returns what it printed; it does not outlive the cluster when `up` is killed.
pub fn captured(place: &Place, command: &Command) -> Result<String> {
    run::captured(&mut beside(place, command))
}

/// A program that is part of the cluster before it does anything, and ends with it.
pub fn beside(place: &Place, command: &Command) -> Command {
    let mut bound = program("sh");
    bound.arg(script(place, CONTROL_PLANE)).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    bound
}

fn script(place: &Place, part: &str) -> PathBuf {
    place.path(format!("{part}.join"))
}

/// The programs that were started, to be watched until the cluster is complete.
pub struct Started {
    programs: Vec<(String, Child, PathBuf)>,
}

impl Started {
    pub fn nothing() -> Self {
        Self { programs: Vec::new() }
    }

    /// Starts a program in the network namespace and the cgroup folders of a part.
    pub fn add(&mut self, place: &Place, part: &str, name: &str, words: &[impl AsRef<OsStr>]) -> Result<()> {
        let log = place.path(format!("{name}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = program("setsid");
        command.arg("sh").arg(script(place, part));
        command.arg("nsenter").arg(format!("--net={}", place.network(part).display())).args(words);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_a_cluster_knows_no_proxy() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path(), "weft".parse().unwrap()).unwrap();
        for command in [place.kubectl(), beside(&place, &place.kubectl()), beside(&place, &Command::new("ip"))] {
            let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
            for proxy in PROXIES {
                assert!(removed.contains(&(OsStr::new(proxy), None)), "{proxy} {command:?}");
            }
        }
    }
}
