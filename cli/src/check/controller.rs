//! The controller, by what it says of objects, policies and agents.

use super::list::Checks;
use crate::controller::ControllerStatus;
use crate::paint::span;

pub const GROUP: &str = "controller";

/// An agent that starts, or that changes its controller, is away for moments; who misses it for this long (the controller's
/// usual lease) takes it for gone.
const AWAY_MS: u64 = 10_000;

pub fn look(status: &ControllerStatus, checks: &mut Checks) {
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
            let (what, cause) = (format!("hears the agent of {}", agent.node), format!("Silent for {since}."));
            if agent.heard_ms_ago < AWAY_MS {
                checks.warning(
                    GROUP,
                    what,
                    cause,
                    "It may be on its way to another controller: look again in a moment.",
                );
            } else {
                let fix = "Start the agent on that node, or delete the node if it is gone for good.";
                checks.problem(GROUP, what, cause, fix);
            }
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
