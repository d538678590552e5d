//! Which process is this node's kubelet, and which cgroup its sockets are in.
//!
//! Invariant: no process of a pod is ever taken for it, whatever it calls itself, none of another user or another network
//! namespace, and none at all while several may be it. Absent: what is attached there (`probing`).

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroups;
use super::process::Process;
use crate::bpf::Paths;
use crate::limits;

/// What processes are called that are kubelets, and whether they are API servers as well.
const COMMANDS: [(&str, bool); 4] =
    [("kubelet", false), ("k3s-agent", false), ("k3s-server", true), ("kubelite", true)];

/// The kubelet of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubelet {
    pub process: Process,
    pub cgroup: PathBuf,
    /// No other process has its sockets there.
    pub alone: bool,
    /// Whoever may ask the API server to connect somewhere does so as kubelet.
    pub serves_api: bool,
}

/// Where it is looked for.
#[derive(Debug, Clone)]
pub struct Search {
    pods: PathBuf,
    agent: PathBuf,
    named: Option<PathBuf>,
}

impl Search {
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        let (pods, agent) = (paths.pods_cgroup.clone(), paths.agent_cgroup.clone());
        Self { pods, agent, named: paths.kubelet_cgroup.clone() }
    }

    /// The one kubelet; the error says for a person why there is none.
    pub fn find(&self) -> Result<Kubelet, String> {
        if let Some(folder) = &self.named {
            return self.in_named(folder);
        }
        let mounted = cgroups::mounted().map_err(|error| error.to_string())?;
        // The hierarchy that the pods are in, by whichever mount shows them.
        let roots: Vec<&PathBuf> = mounted.iter().filter(|root| self.pods.starts_with(root)).collect();
        let folder_of = |process: Process| {
            roots.iter().find_map(|root| cgroups::folder_of(root, process.number(), limits::CGROUP_DEPTH))
        };
        let candidates = kubelets(&numbers().map_err(|error| format!("/proc cannot be read: {error}"))?);
        let placed = candidates.into_iter().map(|(process, serves_api)| (process, serves_api, folder_of(process)));
        let outside = |cgroup: &Option<PathBuf>| !cgroup.as_ref().is_some_and(|cgroup| cgroup.starts_with(&self.pods));
        let outside: Vec<_> = placed.filter(|(_, _, cgroup)| outside(cgroup)).collect();
        match outside.as_slice() {
            [] => Err("no process of this node is named kubelet; give its cgroup as --kubelet-cgroup".to_owned()),
            [(process, serves_api, Some(cgroup))] => Ok(self.placed(*process, cgroup.clone(), *serves_api)),
            [(process, _, None)] => {
                let number = process.number();
                Err(format!("process {number} is named kubelet and is in no cgroup that is mounted here"))
            }
            [(first, ..), (second, ..), ..] => Err(several(*first, *second)),
        }
    }

    /// The same kubelet as it is now; None when it has ended or left its cgroup.
    #[must_use]
    pub fn look_again(&self, known: &Kubelet) -> Option<Kubelet> {
        let stays = cgroups::processes(&known.cgroup, 0).contains(&known.process.number());
        (stays && known.process.is_alive()).then(|| self.placed(known.process, known.cgroup.clone(), known.serves_api))
    }

    fn in_named(&self, folder: &Path) -> Result<Kubelet, String> {
        let members = cgroups::processes(folder, 0);
        match kubelets(&members).as_slice() {
            [] => {}
            [(process, serves_api)] => return Ok(self.placed(*process, folder.to_owned(), *serves_api)),
            [(first, _), (second, _), ..] => return Err(several(*first, *second)),
        }
        // Whoever names the folder knows what runs there, unless everything does.
        let oldest = members.into_iter().filter_map(Process::look_at).min();
        match oldest.filter(|_| !self.is_above_others(folder)) {
            Some(process) => Ok(self.placed(process, folder.to_owned(), false)),
            None => Err(format!("no kubelet is in {}", folder.display())),
        }
    }

    fn placed(&self, process: Process, cgroup: PathBuf, serves_api: bool) -> Kubelet {
        let alone = !self.is_above_others(&cgroup)
            && cgroups::processes(&cgroup, limits::CGROUP_DEPTH).into_iter().all(|other| is_below(other, process));
        Kubelet { process, cgroup, alone, serves_api }
    }

    /// What is attached to a cgroup sees the sockets of those below it, too.
    fn is_above_others(&self, cgroup: &Path) -> bool {
        self.pods.starts_with(cgroup) || self.agent.starts_with(cgroup)
    }
}

fn several(first: Process, second: Process) -> String {
    let (first, second) = (first.number(), second.number());
    format!(
        "processes {first} and {second} are both named kubelet; give the right one's own cgroup as --kubelet-cgroup"
    )
}

/// Those of the processes that may be kubelets, the oldest first. What one of them has started bears its name for a moment.
fn kubelets(numbers: &[u32]) -> Vec<(Process, bool)> {
    let named = |number: &u32| {
        let command = Process::command(*number)?;
        let (_, serves_api) = COMMANDS.iter().find(|(name, _)| *name == command)?;
        let process = Process::look_at(*number)?;
        process.is_of_this_node().then_some((process, *serves_api))
    };
    let mut found: Vec<_> = numbers.iter().filter_map(named).collect();
    found.sort_unstable();
    let is_started_by = |process: Process, other: Process| other < process && is_below(process.number(), other);
    let all = found.clone();
    found.retain(|(process, _)| !all.iter().any(|(other, _)| is_started_by(*process, *other)));
    found
}

fn numbers() -> std::io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Whether a process is this one or was started by it.
fn is_below(number: u32, ancestor: Process) -> bool {
    let Some(mut process) = Process::look_at(number) else { return true };
    for _ in 0..limits::PROCESS_ANCESTORS {
        if process == ancestor {
            return true;
        }
        match process.parent() {
            Some(parent) => process = parent,
            // One that has just ended is nobody; the first one has no parent.
            None => return !process.is_alive(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree in which this very process is in the given folder.
    fn search(folders: &[&str], own: &str) -> (tempfile::TempDir, Search) {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        join(root.path(), own, &[std::process::id()]);
        let (pods, agent) = (root.path().join("kubepods"), root.path().join("kubepods/agent"));
        let named = Some(root.path().join(own));
        (root, Search { pods, agent, named })
    }

    fn join(root: &Path, folder: &str, processes: &[u32]) {
        let lines: Vec<String> = processes.iter().map(u32::to_string).collect();
        fs::write(root.join(folder).join("cgroup.procs"), lines.join("\n")).unwrap();
    }

    #[test]
    fn a_kubelet_with_a_cgroup_of_its_own_is_alone_there() {
        let (root, search) = search(&["kubepods", "system.slice/kubelet.service"], "system.slice/kubelet.service");
        let found = search.find().unwrap();
        assert!(found.alone && found.process.number() == std::process::id());
        assert_eq!(search.look_again(&found), Some(found.clone()));
        // Its own children are it; anybody else is not.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        join(root.path(), "system.slice/kubelet.service", &[std::process::id(), child.id()]);
        assert!(search.look_again(&found).unwrap().alone);
        child.kill().unwrap();
        child.wait().unwrap();
        join(root.path(), "system.slice/kubelet.service", &[std::process::id(), 1]);
        assert!(!search.look_again(&found).unwrap().alone);
        join(root.path(), "system.slice/kubelet.service", &[1]);
        assert_eq!(search.look_again(&found), None);
    }

    /// Waits until a child bears its program's name.
    fn started(program: &Path, arguments: &[&str]) -> std::process::Child {
        let mut command = std::process::Command::new(program);
        let child = command.args(arguments).stdin(std::process::Stdio::piped()).spawn().unwrap();
        while Process::command(child.id()).as_deref() != Some("kubelet") {
            std::thread::yield_now();
        }
        child
    }

    #[test]
    fn of_several_that_may_be_kubelet_none_is_believed() {
        let (root, search) = search(&["kubepods", "system.slice"], "system.slice");
        let program = root.path().join("kubelet");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut children = [started(&program, &["60"]), started(&program, &["60"])];
        let [first, second] = children.each_ref().map(std::process::Child::id);
        join(root.path(), "system.slice", &[second]);
        let found = search.find().unwrap();
        assert_eq!(found.process.number(), second);
        join(root.path(), "system.slice", &[first, second]);
        let why = search.find().unwrap_err();
        assert!(why.contains("both named kubelet") && why.contains("--kubelet-cgroup"), "{why}");
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(kubelets(&[first, second]).is_empty());
    }

    #[test]
    fn what_kubelet_starts_is_no_second_one() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("kubelet");
        std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        // A shell of that name that has another one below it, which reads until there is no more.
        let mut parent = started(&program, &["-c", "exec 3<&0; (read line <&3; true) & wait"]);
        let below = || {
            numbers().unwrap().into_iter().filter(|number| {
                Process::look_at(*number).and_then(Process::parent).is_some_and(|other| other.number() == parent.id())
            })
        };
        let child = loop {
            if let Some(child) = below().next() {
                break child;
            }
            std::thread::yield_now();
        };
        assert_eq!(Process::command(child).as_deref(), Some("kubelet"));
        let found: Vec<u32> = kubelets(&[child, parent.id()]).iter().map(|(process, _)| process.number()).collect();
        assert_eq!(found, [parent.id()]);
        drop(parent.stdin.take());
        parent.wait().unwrap();
    }

    #[test]
    fn a_folder_above_the_pods_is_nobodys_own() {
        let (root, search) = search(&["kubepods"], ".");
        // Whoever is named is not looked for among all that are there.
        assert!(search.find().unwrap_err().contains("no kubelet is in"));
        let process = Process::look_at(std::process::id()).unwrap();
        assert!(!search.placed(process, root.path().to_owned(), false).alone);
    }

    #[test]
    fn where_no_process_is_named_kubelet_the_reason_says_so() {
        let (root, search) = search(&["kubepods", "other"], "other");
        let search = Search { named: None, pods: root.path().join("kubepods"), ..search };
        let why = search.find().unwrap_err();
        assert!(why.contains("kubelet") || why.contains("cgroup"), "{why}");
    }
}
