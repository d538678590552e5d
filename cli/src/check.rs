//! `weft check`: everything that is wrong on this machine, with cause and fix.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::Outcome;
use crate::agents::{self, Agent};
use crate::answers::Status;
use crate::arguments::{Arguments, CheckArguments, Output};
use crate::ask::AskError;
use crate::controller::{self, ControllerStatus};
use crate::paint::{Mood, Paint, print, print_json, print_table, span};

/// The oldest kernel that is tested.
const KERNEL_MINIMUM: (u32, u32) = (6, 1);
/// A certificate with less life than this should have been renewed, in seconds.
const CERTIFICATE_SHORT: i64 = 30;

/// Pods that one line names.
const PODS_NAMED: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Fine,
    /// Works, and a person should know.
    Warning,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    /// The heading that it is printed under.
    group: String,
    name: String,
    verdict: Verdict,
    cause: Option<String>,
    fix: Option<String>,
}

pub async fn run(arguments: &Arguments, options: &CheckArguments, paint: Paint) -> anyhow::Result<Outcome> {
    let agents = agents::find(&arguments.run_directories).await;
    let mut checks = Checks::default();
    machine(&agents, &mut checks);
    for agent in &agents {
        look_at(agent, Timestamp::now(), &mut checks);
        if let Ok(snapshot) = agent.ask::<Value>("/config", &[]).await {
            configuration(&agent.node, &snapshot, &mut checks);
        }
    }
    if let Some(socket) = &arguments.controller_socket {
        controller(socket, &controller::status(socket).await, &mut checks);
    }
    let checks = checks.made;
    let problems = checks.iter().filter(|check| check.verdict == Verdict::Problem).count();
    let outcome = if problems == 0 { Outcome::Fine } else { Outcome::ProblemFound };
    if arguments.output == Output::Json {
        print_json(&checks)?;
        return Ok(outcome);
    }
    show(&checks, options.quiet, paint)?;
    Ok(outcome)
}

#[derive(Debug, Default)]
struct Checks {
    made: Vec<Check>,
}

impl Checks {
    fn fine(&mut self, group: &str, name: impl Into<String>) {
        self.add(group, name, Verdict::Fine, None);
    }

    fn problem(&mut self, group: &str, name: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(group, name, Verdict::Problem, Some((cause.into(), fix.into())));
    }

    fn warning(&mut self, group: &str, name: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(group, name, Verdict::Warning, Some((cause.into(), fix.into())));
    }

    fn add(&mut self, group: &str, name: impl Into<String>, verdict: Verdict, told: Option<(String, String)>) {
        let (cause, fix) = told.unzip();
        self.made.push(Check { group: group.to_owned(), name: name.into(), verdict, cause, fix });
    }
}

fn machine(agents: &[Agent], checks: &mut Checks) {
    const GROUP: &str = "machine";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match version(&release) {
        Some(version) if version >= KERNEL_MINIMUM => checks.fine(GROUP, format!("kernel {release}")),
        _ => checks.problem(
            GROUP,
            format!("kernel {release}"),
            "The kernel is older than 6.1, the oldest that Weft is tested on.",
            "Upgrade the kernel of this node.",
        ),
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

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
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
    checks.fine(&group, "answers");
    readiness(status, &group, checks);
    hooks(status, &group, checks);
    certificates(status, &group, now, checks);
    pods(status, &group, checks);
}

fn readiness(status: &Status, group: &str, checks: &mut Checks) {
    if status.ready {
        checks.fine(group, "ready");
    } else if status.draining {
        checks.warning(
            group,
            "ready",
            "It is draining: a successor has taken over, or it was told to stop.",
            "Nothing during an upgrade.",
        );
    } else {
        checks.problem(
            group,
            "ready",
            "It runs, but does not serve yet.",
            "The lines below and its log say what is missing.",
        );
    }
    let stuck = status.workers.iter().filter(|worker| !worker.alive).count();
    if stuck > 0 {
        checks.problem(
            group,
            "workers",
            format!("{stuck} of {} workers have had no heartbeat for 2 s.", status.workers.len()),
            "The others serve. Its parent process restarts the agent after 5 s; its log says what the worker did.",
        );
    } else {
        checks.fine(group, format!("{} workers alive", status.workers.len()));
    }
    if status.controller.connected {
        checks.fine(group, "connected to the controller");
    } else {
        checks.problem(
            group,
            "connected to the controller",
            status
                .controller
                .last_error
                .clone()
                .unwrap_or_else(|| "There is no connection, and no error was seen.".to_owned()),
            format!(
                "Look whether the controller runs and {} is reachable. Known pods go on until their certificates end.",
                status.controller.address
            ),
        );
    }
    for nack in &status.nacks {
        checks.problem(
            group,
            format!("reads {}", nack.resource),
            format!("{}; its safe reading is in force.", nack.reason),
            "Upgrade this agent, or take the object back.",
        );
    }
}

fn hooks(status: &Status, group: &str, checks: &mut Checks) {
    let bad: Vec<_> = status.kernel.hooks.iter().filter(|hook| !hook.attached || !hook.pinned).collect();
    if bad.is_empty() && !status.kernel.hooks.is_empty() {
        checks.fine(
            group,
            format!("{} hooks attached and pinned in {}", status.kernel.hooks.len(), status.kernel.pin_directory),
        );
    }
    if status.kernel.hooks.is_empty() && !status.ready {
        checks.problem(
            group,
            "hooks",
            "The agent has attached no program.",
            "Its log says why; without a snapshot it waits for the controller.",
        );
    }
    for hook in bad {
        let what = if hook.attached {
            "is attached, but not pinned: it would vanish with the agent"
        } else {
            "is not attached"
        };
        let detail = hook.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        checks.problem(
            group,
            format!("hook {} at {}", hook.name, hook.target),
            format!("It {what}{detail}."),
            "Restart the agent: it attaches again what is missing. Find out what removed it (another program's clean-up of bpffs or of the cgroup).",
        );
    }
}

fn certificates(status: &Status, group: &str, now: Timestamp, checks: &mut Checks) {
    let mut shortest: Option<(i64, &str)> = None;
    for certificate in &status.certificates {
        let name = format!("certificate of {}", certificate.name);
        let error = certificate
            .last_error
            .as_deref()
            .map(|error| format!(" The last attempt to renew it: {error}."))
            .unwrap_or_default();
        let fix = "The controller must be reachable from this node and the workload known to it; the agent tries again by itself.";
        match certificate.not_after.map(|end| end.duration_since(now).as_secs()) {
            None => checks.problem(group, name, format!("There is none.{error}"), fix),
            Some(left) if left <= 0 => {
                checks.problem(group, name, format!("It expired {} ago.{error}", span(-left)), fix);
            }
            Some(left) if !error.is_empty() || left < CERTIFICATE_SHORT => {
                checks.warning(group, name, format!("It has {} left.{error}", span(left)), fix);
            }
            Some(left) => {
                if shortest.is_none_or(|(other, _)| left < other) {
                    shortest = Some((left, &certificate.name));
                }
            }
        }
    }
    if let Some((left, name)) = shortest {
        checks.fine(group, format!("certificates are renewed; the shortest has {} left ({name})", span(left)));
    }
}

fn pods(status: &Status, group: &str, checks: &mut Checks) {
    let mut captured = 0;
    for pod in &status.pods {
        match (&pod.reason, pod.enrolled) {
            (_, true) => captured += 1,
            (reason, false) => checks.problem(
                group,
                format!("{} is captured", pod.name),
                reason.clone().unwrap_or_else(|| "The agent has not enrolled it yet.".to_owned()),
                "Remove what the cause names; the agent tries again by itself.",
            ),
        }
    }
    if captured == status.pods.len() {
        checks.fine(group, format!("{captured} of {captured} pods captured"));
    }
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
        let shown = passing.iter().take(PODS_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = if passing.len() > PODS_NAMED { ", ..." } else { "" };
        checks.fine(&group, format!("{} pods are not asked to be captured: {shown}{more}", passing.len()));
    }
}

fn controller(socket: &Path, answer: &Result<ControllerStatus, AskError>, checks: &mut Checks) {
    const GROUP: &str = "controller";
    let status = match answer {
        Ok(status) => status,
        Err(error) => {
            checks.problem(
                GROUP,
                "answers",
                format!("{}: {error}.", socket.display()),
                "Start the controller, or correct --controller-socket.",
            );
            return;
        }
    };
    checks.fine(GROUP, "answers");
    for defect in &status.errors {
        checks.problem(GROUP, defect.subject(), defect.problem.clone(), defect.fix.clone());
    }
    if status.errors.is_empty() {
        checks.fine(GROUP, format!("{} objects read", status.objects));
    }
    for finding in &status.findings {
        checks.warning(
            GROUP,
            finding.object.clone(),
            finding.message.clone(),
            "Change the object if this is not what was meant.",
        );
    }
    for policy in &status.policies {
        for target in policy.targets.iter().filter(|target| !target.accepted) {
            checks.problem(
                GROUP,
                format!("{} on {}", policy.policy, target.target),
                format!("{}: {}", target.reason, target.message),
                "Correct the policy's target or content; it is not in force for this target.",
            );
        }
    }
    for agent in &status.agents {
        if !agent.live {
            let since = span(i64::try_from(agent.heard_ms_ago / 1000).unwrap_or(i64::MAX));
            checks.problem(
                GROUP,
                format!("hears the agent of {}", agent.node),
                format!("Silent for {since}."),
                "Start the agent on that node, or delete the node if it is gone for good.",
            );
        } else if agent.generation < status.generation {
            checks.warning(
                GROUP,
                format!("agent of {} is up to date", agent.node),
                format!("It has acknowledged generation {} of {}.", agent.generation, status.generation),
                "If this lasts, look into that agent's log.",
            );
        }
    }
}

fn show(checks: &[Check], quiet: bool, paint: Paint) -> anyhow::Result<()> {
    let mut group = "";
    for check in checks.iter().filter(|check| !quiet || check.verdict != Verdict::Fine) {
        if check.group != group {
            if !group.is_empty() {
                print("")?;
            }
            print(paint.heading(&check.group))?;
            group = &check.group;
        }
        let (mood, mark) = match check.verdict {
            Verdict::Fine => (Mood::Good, "✓"),
            Verdict::Warning => (Mood::Doubtful, "!"),
            Verdict::Problem => (Mood::Bad, "✗"),
        };
        print(format!("  {} {}", paint.text(mood, mark), check.name))?;
        let mut table = paint.columns();
        for (label, text) in [("cause", &check.cause), ("fix", &check.fix)] {
            if let Some(text) = text {
                table.add_row(vec![
                    paint.cell(Mood::Plain, "   "),
                    paint.cell(Mood::Faint, label),
                    paint.cell(Mood::Plain, text),
                ]);
            }
        }
        if !table.is_empty() {
            print_table(table)?;
        }
    }
    let count = |verdict: Verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    if !quiet || problems + warnings > 0 {
        print("")?;
    }
    match (problems, warnings) {
        (0, 0) => print(paint.text(Mood::Good, format!("All {} checks passed.", checks.len()))),
        (0, warnings) => print(paint.text(Mood::Doubtful, format!("No problem, {warnings} to know of."))),
        (problems, warnings) => print(paint.text(Mood::Bad, format!("{problems} to mend, {warnings} to know of."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_old_by_its_numbers_not_by_its_letters() {
        assert_eq!(version("6.12.9+deb13-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("5.15.0"), Some((5, 15)));
        assert!(version("6.1.0-1") >= Some(KERNEL_MINIMUM));
        assert!(version("5.15.0") < Some(KERNEL_MINIMUM));
        assert_eq!(version("what"), None);
    }
}
