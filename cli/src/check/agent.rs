//! One agent, by what it says of itself.

use jiff::Timestamp;

use super::list::Checks;
use crate::answers::Status;
use crate::paint::span;

/// A certificate with less life than this should have been renewed, in seconds.
const CERTIFICATE_SHORT: i64 = 30;

pub fn look(status: &Status, group: &str, now: Timestamp, checks: &mut Checks) {
    checks.fine(group, "answers");
    readiness(status, group, checks);
    hooks(status, group, checks);
    certificates(status, group, now, checks);
    pods(status, group, checks);
    observed(status, group, checks);
    foreign(status, group, checks);
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

fn observed(status: &Status, group: &str, checks: &mut Checks) {
    for pod in &status.observed {
        if let Some(reason) = &pod.reason {
            let fix = "Remove what the cause names; the agent tries again by itself.";
            checks.problem(group, format!("{} is observed", pod.name), reason.clone(), fix);
        }
    }
    let observed = status.observed.iter().filter(|pod| pod.is_noted).count();
    if observed > 0 {
        checks.fine(group, format!("{observed} of {} pods observed", status.observed.len()));
    }
}

fn foreign(status: &Status, group: &str, checks: &mut Checks) {
    for other in &status.kernel.foreign {
        checks.warning(
            group,
            format!("Weft is alone at {}", other.hook),
            format!(
                "The program {} of somebody else is there too; both run, and whoever runs last decides.",
                other.program
            ),
            "Nothing, if captured pods work as they should. Else find out whose it is: bpftool cgroup tree",
        );
    }
}
