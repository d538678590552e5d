//! The tables of `weft status`.

use jiff::Timestamp;

use crate::agents::Agent;
use crate::answers::{Certificate, Status};
use crate::ask::AskError;
use crate::controller::ControllerStatus;
use crate::paint::{Mood, Paint, ago, print, print_table, some_of, span};

/// A certificate with less life than this is worth a look, in seconds.
const CERTIFICATE_SHORT: i64 = 3_600;

pub fn show(
    agents: &[Agent],
    controller: Option<&Result<ControllerStatus, AskError>>,
    paint: Paint,
) -> anyhow::Result<()> {
    let now = Timestamp::now();
    show_agents(agents, now, paint)?;
    show_pods(agents, now, paint)?;
    show_observed(agents, paint)?;
    match controller {
        None => Ok(()),
        Some(Ok(status)) => show_controller(status, agents, paint),
        Some(Err(error)) => print(paint.text(Mood::Bad, format!("\nThe controller cannot be asked: {error}."))),
    }
}

fn show_agents(agents: &[Agent], now: Timestamp, paint: Paint) -> anyhow::Result<()> {
    let mut table =
        paint.table(&["NODE", "AGENT", "PODS", "CONNECTIONS", "WORKERS", "CONTROLLER", "SNAPSHOT", "VERSION"]);
    for agent in agents {
        table.add_row(match agent.status() {
            Some(status) => agent_row(status, now, paint),
            None => vec![paint.cell(Mood::Plain, &agent.node), paint.cell(Mood::Bad, "down")],
        });
    }
    print_table(table)?;
    for agent in agents {
        if let Some(problem) = agent.problem() {
            print(paint.text(Mood::Bad, format!("{}: {problem} ({})", agent.node, agent.socket().display())))?;
        }
        for error in agent
            .status()
            .into_iter()
            .filter_map(|status| status.controller.last_error.as_deref().filter(|_| !status.controller.connected))
        {
            print(paint.text(Mood::Doubtful, format!("{}: controller away: {error}", agent.node)))?;
        }
    }
    Ok(())
}

fn agent_row(status: &Status, now: Timestamp, paint: Paint) -> Vec<comfy_table::Cell> {
    let state = match (status.ready, status.draining) {
        (_, true) => paint.cell(Mood::Doubtful, "draining"),
        (true, false) => paint.cell(Mood::Good, "ready"),
        (false, false) => paint.cell(Mood::Bad, "not ready"),
    };
    let enrolled = status.pods.iter().filter(|pod| pod.enrolled).count();
    let all = enrolled == status.pods.len();
    let alive = status.workers.iter().filter(|worker| worker.alive).count();
    let connections: u64 = status.workers.iter().map(|worker| worker.connections).sum();
    let controller = if status.controller.connected {
        paint.cell(Mood::Good, "connected")
    } else {
        let since = status.controller.since.map(|since| format!(", {}", ago(since, now))).unwrap_or_default();
        paint.cell(Mood::Doubtful, format!("away{since}"))
    };
    let nacks = if status.nacks.is_empty() { String::new() } else { format!(", {} unread", status.nacks.len()) };
    let age = status.snapshot_applied.map(|applied| format!(" ({})", ago(applied, now))).unwrap_or_default();
    vec![
        paint.cell(Mood::Plain, &status.node),
        state,
        paint.cell(if all { Mood::Good } else { Mood::Bad }, format!("{enrolled}/{}", status.pods.len())),
        paint.cell(Mood::Plain, connections),
        paint.cell(
            if alive == status.workers.len() { Mood::Good } else { Mood::Bad },
            format!("{alive}/{}", status.workers.len()),
        ),
        controller,
        paint.cell(
            if nacks.is_empty() { Mood::Plain } else { Mood::Doubtful },
            format!("{}{age}{nacks}", status.snapshot),
        ),
        paint.cell(Mood::Plain, &status.version),
    ]
}

fn show_pods(agents: &[Agent], now: Timestamp, paint: Paint) -> anyhow::Result<()> {
    let mut table = paint.table(&["POD", "NODE", "CAPTURED", "CERTIFICATE", "OUT", "IN", "REFUSED", "SERVICE ACCOUNT"]);
    let mut reasons = Vec::new();
    for status in agents.iter().filter_map(Agent::status) {
        for pod in &status.pods {
            let certificate = status.certificates.iter().find(|other| other.uid.as_deref() == Some(&pod.uid));
            let count = |names: &[&str]| -> u64 {
                names.iter().filter_map(|name| pod.counters.get(*name)).filter_map(serde_json::Value::as_u64).sum()
            };
            let refused: u64 = pod
                .counters
                .iter()
                .filter(|(name, _)| name.contains("_refused_") || name.contains("_dropped_"))
                .filter_map(|(_, count)| count.as_u64())
                .sum();
            let captured = if pod.enrolled { paint.cell(Mood::Good, "yes") } else { paint.cell(Mood::Bad, "no") };
            table.add_row(vec![
                paint.cell(Mood::Plain, &pod.name),
                paint.cell(Mood::Plain, &status.node),
                captured,
                certificate_cell(certificate, now, paint),
                paint.cell(Mood::Plain, count(&["outbound_captured"])),
                paint.cell(Mood::Plain, count(&["inbound_captured"])),
                paint.cell(if refused > 0 { Mood::Doubtful } else { Mood::Plain }, refused),
                paint.cell(
                    Mood::Faint,
                    certificate.map_or_else(|| "-".to_owned(), |certificate| service_account(&certificate.identity)),
                ),
            ]);
            reasons.extend(pod.reason.as_deref().filter(|_| !pod.enrolled).map(|reason| (&pod.name, reason)));
        }
    }
    if table.is_empty() {
        return print("\nNo pod of these nodes is to be captured (label a namespace weft.dev/capture=enabled).");
    }
    print("")?;
    print_table(table)?;
    for (pod, reason) in reasons {
        print(paint.text(Mood::Bad, format!("{pod} is not captured: {reason}")))?;
    }
    Ok(())
}

fn show_observed(agents: &[Agent], paint: Paint) -> anyhow::Result<()> {
    let statuses = agents.iter().filter_map(Agent::status);
    let observed: Vec<&str> =
        statuses.flat_map(|status| &status.observed).filter(|pod| pod.is_noted).map(|pod| pod.name.as_str()).collect();
    if observed.is_empty() {
        return Ok(());
    }
    let shown = some_of(&observed);
    print(paint.text(Mood::Faint, format!("\n{} pods are observed and not captured: {shown}", observed.len())))
}

/// `shop/web` of `spiffe://cluster.local/ns/shop/sa/web`; any other shape as it is.
fn service_account(identity: &str) -> String {
    let parts: Vec<_> = identity.split('/').collect();
    match parts.as_slice() {
        [_, _, _, "ns", namespace, "sa", account] => format!("{namespace}/{account}"),
        _ => identity.to_owned(),
    }
}

fn certificate_cell(certificate: Option<&Certificate>, now: Timestamp, paint: Paint) -> comfy_table::Cell {
    match certificate.and_then(|certificate| certificate.not_after) {
        None => paint.cell(Mood::Bad, "none"),
        Some(end) => match end.duration_since(now).as_secs() {
            ..=0 => paint.cell(Mood::Bad, "expired"),
            left @ 1..CERTIFICATE_SHORT => paint.cell(Mood::Doubtful, span(left)),
            left => paint.cell(Mood::Good, span(left)),
        },
    }
}

fn show_controller(status: &ControllerStatus, agents: &[Agent], paint: Paint) -> anyhow::Result<()> {
    print("")?;
    print(paint.heading(format!(
        "Controller {}, trust domain {}, {} objects, {} refused",
        status.version,
        status.trust_domain,
        status.objects,
        status.errors.len()
    )))?;
    for defect in &status.errors {
        print(paint.text(Mood::Bad, format!("  {}: {}; {}", defect.place(), defect.problem, defect.fix)))?;
    }
    let mut table = paint.table(&["POLICY", "TARGET", "ACCEPTED", "REASON", "MESSAGE"]);
    for policy in &status.policies {
        for target in &policy.targets {
            let (mood, word) = if target.accepted { (Mood::Good, "yes") } else { (Mood::Bad, "no") };
            table.add_row(vec![
                paint.cell(Mood::Plain, &policy.policy),
                paint.cell(Mood::Plain, &target.target),
                paint.cell(mood, word),
                paint.cell(mood, &target.reason),
                paint.cell(Mood::Plain, &target.message),
            ]);
        }
    }
    if !table.is_empty() {
        print_table(table)?;
    }
    for known in &status.agents {
        let here = agents.iter().any(|agent| agent.node == known.node);
        let place = if here { "" } else { ", not on this machine" };
        if !known.live {
            let since = span(i64::try_from(known.heard_ms_ago / 1000).unwrap_or(i64::MAX));
            print(paint.text(
                Mood::Bad,
                format!("The controller has not heard of the agent of {} for {since}{place}.", known.node),
            ))?;
        } else if known.generation < status.generation {
            print(paint.text(
                Mood::Doubtful,
                format!(
                    "The agent of {} lags: generation {} of {}{place}.",
                    known.node, known.generation, status.generation
                ),
            ))?;
        }
    }
    Ok(())
}
