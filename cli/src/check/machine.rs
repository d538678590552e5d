//! This machine: its kernel, its mounts, the agents that run here, and the controller where it does.

use jiff::Timestamp;
use serde_json::Value;

use super::list::Checks;
use super::{agent, controller, kernel};
use crate::agents::Agent;
use crate::arguments::Arguments;
use crate::ask::AskError;
use crate::controller::status;
use crate::paint::some_of;

pub async fn look(arguments: &Arguments, agents: &[Agent]) -> Checks {
    let mut checks = Checks::default();
    machine(agents, &mut checks);
    for agent in agents {
        look_at(agent, Timestamp::now(), &mut checks);
        if let Ok(snapshot) = agent.ask::<Value>("/config", &[]).await {
            configuration(&agent.node, &snapshot, &mut checks);
        }
    }
    if let Some(socket) = &arguments.controller_socket {
        match status(socket).await {
            Ok(status) => controller::look(&status, &mut checks),
            Err(error) => checks.problem(
                controller::GROUP,
                "answers",
                format!("{}: {error}.", socket.display()),
                "Start the controller, or correct --controller-socket.",
            ),
        }
    }
    checks
}

fn machine(agents: &[Agent], checks: &mut Checks) {
    const GROUP: &str = "machine";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if kernel::is_new_enough(&release) == Some(true) {
        checks.fine(GROUP, format!("kernel {release}"));
    } else {
        checks.problem(GROUP, format!("kernel {release}"), kernel::TOO_OLD, "Upgrade the kernel of this node.");
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // An agent may live in another mount namespace than this command; its pinned hooks prove both mounts.
    let mut hooks = agents.iter().filter_map(Agent::status).flat_map(|status| &status.kernel.hooks);
    let proven = hooks.any(|hook| hook.pinned && hook.attached);
    for (kind, name, fix) in [
        ("cgroup2", "cgroup v2 is mounted", "Mount it: mount -t cgroup2 none /sys/fs/cgroup/unified"),
        ("bpf", "a BPF file system is mounted", "Mount it: mount -t bpf none /sys/fs/bpf"),
    ] {
        if proven || mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind)) {
            checks.fine(GROUP, name);
        } else {
            checks.problem(GROUP, name, format!("No file system of the kind {kind} is mounted here."), fix);
        }
    }
}

fn look_at(agent: &Agent, now: Timestamp, checks: &mut Checks) {
    let group = format!("agent of {}", agent.node);
    let Some(status) = agent.status() else {
        let problem = agent.problem().map(ToString::to_string).unwrap_or_default();
        let fix = match agent.problem() {
            Some(AskError::Forbidden) => "Run weft as root.",
            Some(AskError::Silent) => {
                "Its log says what it does; its parent process ends and restarts an agent whose workers hang."
            }
            _ => "Start it (weft-agent run), or say with --run-dir where it runs. Its log says why it ended.",
        };
        checks.problem(&group, "answers", format!("{}: {problem}.", agent.socket().display()), fix);
        return;
    };
    agent::look(status, &group, now, checks);
}

/// What the node's own pods are not permitted, and those that nothing asks to capture.
fn configuration(node: &str, snapshot: &Value, checks: &mut Checks) {
    let group = format!("agent of {node}");
    let mut passing = Vec::new();
    for (uid, row) in snapshot["workloads"].as_object().into_iter().flatten() {
        let name = row["name"].as_str().unwrap_or(uid);
        let enrolment = &snapshot["enrolments"][uid];
        for refused in enrolment["refused"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let fix = "Take the label or annotation away, or let MeshConfig or the namespace permit it.";
            checks.warning(&group, format!("labels and annotations of {name}"), refused, fix);
        }
        if row["node"].as_str() != Some(node) {
            continue;
        }
        if let Some(reason) = row["not_capturable"].as_str() {
            let fix = "It stays outside of the mesh; let strict ports exempt it if it must reach them.";
            checks.warning(&group, format!("{name} can be captured"), reason, fix);
        } else if enrolment.is_null() {
            passing.push(name);
        }
    }
    if !passing.is_empty() {
        let (count, shown) = (passing.len(), some_of(&passing));
        checks.fine(&group, format!("{count} pods are not asked to be captured: {shown}"));
    }
}
