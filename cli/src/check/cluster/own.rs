//! What Weft itself has in the cluster: kinds, controllers and who of them leads, agents, and their versions.

use jiff::Timestamp;
use serde_json::Value;

use super::super::list::{Checks, Verdict};
use super::super::{agent, controller};
use super::{Cluster, Known, Pod, ask_all, capture, certificates, nodes, own_pods};
use crate::answers::Status;
use crate::arguments::Installation;
use crate::controller::ControllerStatus;
use crate::install::{AGENT, CONTROLLER, definitions};

/// This command's version, which is that of the charts in it.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where a controller answers people, in its pod.
const CONTROLLER_SOCKET: &str = "--controller-socket=/var/lib/weft/admin.sock";

/// Why the rest is not looked at.
struct Absent;

pub fn look(cluster: Cluster<'_>, known: &Known, checks: &mut Checks) {
    if is_installed(cluster, checks).is_err() {
        return;
    }
    kinds(cluster, &known.definitions, checks);
    let controllers = controllers(cluster, checks);
    let agents = agents(cluster, known, checks);
    versions(&known.definitions, &controllers, &agents, checks);
    certificates::look(cluster, &agents, checks);
    capture::look(cluster, &known.namespaces, &controllers, &agents, checks);
}

fn is_installed(cluster: Cluster<'_>, checks: &mut Checks) -> Result<(), Absent> {
    const GROUP: &str = "weft";
    let name = format!("Weft is installed in {}", cluster.namespace);
    match cluster.object(CONTROLLER) {
        Ok(Some(deployment)) => {
            let number = |field: &str| deployment["status"][field].as_i64().unwrap_or(0);
            let (ready, wanted) = (number("readyReplicas"), deployment["spec"]["replicas"].as_i64().unwrap_or(0));
            checks.fine(GROUP, name);
            if ready == wanted && ready > 0 {
                checks.fine(GROUP, format!("{ready} of {wanted} controllers are ready"));
            } else {
                let place = cluster.namespace;
                checks.problem(
                    GROUP,
                    format!("{ready} of {wanted} controllers are ready"),
                    "Without one nothing changes any more, and certificates end.",
                    format!("Look why: kubectl --namespace {place} describe {CONTROLLER}; kubectl --namespace {place} logs {CONTROLLER}"),
                );
            }
            Ok(())
        }
        Ok(None) => {
            let cause = "Nothing of it is there, or it is in another namespace (--namespace).";
            checks.warning(GROUP, name, cause, "Install it: weft install --values mesh.yaml --apply");
            Err(Absent)
        }
        Err(cause) => {
            checks.problem(GROUP, name, cause, "Ask for the right to read that namespace.");
            Err(Absent)
        }
    }
}

fn kinds(cluster: Cluster<'_>, there: &[(String, String)], checks: &mut Checks) {
    const GROUP: &str = "kinds";
    let installation = Installation {
        namespace: cluster.namespace.to_owned(),
        values: Vec::new(),
        set: Vec::new(),
        context: cluster.context.map(str::to_owned),
    };
    let fix = "Apply those of this command: weft install --crds | kubectl apply --server-side -f -";
    let wanted: Vec<String> =
        definitions(&installation).map(|all| all.into_iter().map(|kind| kind.name).collect()).unwrap_or_default();
    let before = checks.made.len();
    for kind in &wanted {
        match there.iter().find(|(name, _)| name == kind) {
            None => checks.problem(GROUP, kind, "The API server does not know it.", fix),
            Some((_, version)) if version != VERSION => {
                checks.warning(GROUP, kind, format!("Its definition is of {version}, this command of {VERSION}."), fix);
            }
            Some(_) => {}
        }
    }
    if checks.made.len() == before {
        checks.fine(GROUP, format!("{} kinds of version {VERSION}", wanted.len()));
    }
}

/// What each controller says, and whether it leads.
fn controllers(cluster: Cluster<'_>, checks: &mut Checks) -> Vec<ControllerStatus> {
    use controller::GROUP;
    let pods = match own_pods(cluster, "weft-controller") {
        Ok(pods) => pods,
        Err(cause) => {
            checks.problem(GROUP, "its pods", cause, "Ask for the right to list pods there.");
            return Vec::new();
        }
    };
    let mut statuses = Vec::new();
    let answers = ask_all::<ControllerStatus>(cluster, &pods, &["/status", CONTROLLER_SOCKET]);
    let mut leaders = Vec::new();
    for (Pod { name, .. }, answer) in pods.iter().zip(answers) {
        match answer {
            Ok(status) => {
                if status.leads {
                    leaders.push(name.as_str());
                    controller::look(&status, checks);
                }
                statuses.push(status);
            }
            Err(cause) => {
                let fix = format!("Look into its log: kubectl --namespace {} logs {name}", cluster.namespace);
                checks.problem(GROUP, format!("{name} answers"), cause, fix);
            }
        }
    }
    match leaders.as_slice() {
        [one] => checks.fine(GROUP, format!("{one} leads, of {}", pods.len())),
        [] => checks.problem(
            GROUP,
            "one of them leads",
            "None that answers does, so agents are told nothing new and no status is written.",
            format!(
                "Look at the Lease and the logs: kubectl --namespace {} get lease/weft-controller",
                cluster.namespace
            ),
        ),
        several => checks.warning(
            GROUP,
            "one of them leads",
            format!("{} say that they do; a moment ago the one may have followed the other.", several.join(" and ")),
            "Ask again; if it stays so, look at their logs.",
        ),
    }
    statuses
}

/// What each agent says.
fn agents(cluster: Cluster<'_>, known: &Known, checks: &mut Checks) -> Vec<Status> {
    const GROUP: &str = "agents";
    let pods = match super::agents(cluster) {
        Ok(pods) => pods,
        Err(error) => {
            let fix = format!("Look why: kubectl --namespace {} describe {AGENT}", cluster.namespace);
            checks.problem(GROUP, "agents run", error.to_string(), fix);
            return Vec::new();
        }
    };
    for node in nodes::of_linux(&known.nodes).filter(|node| !pods.iter().any(|pod| pod.node == *node)) {
        checks.problem(
            GROUP,
            format!("{node} has an agent"),
            "None runs there: its pods are not captured, and strict ones elsewhere refuse them.",
            format!(
                "If it is meant to have one, look at the node's taints and at agent.tolerations and agent.nodeSelector: kubectl --namespace {} get pods --output=wide",
                cluster.namespace
            ),
        );
    }
    let answers = ask_all::<Status>(cluster, &pods, &["/status"]);
    let (mut statuses, mut well) = (Vec::new(), 0);
    for (pod, answer) in pods.iter().zip(answers) {
        let group = format!("agent of {}", pod.node);
        match answer {
            Ok(status) => {
                let mut own = Checks::default();
                agent::look(&status, &group, Timestamp::now(), &mut own);
                // Of a whole cluster only what is wrong is read.
                own.made.retain(|check| check.verdict != Verdict::Fine);
                well += usize::from(own.made.is_empty());
                checks.made.append(&mut own.made);
                statuses.push(status);
            }
            Err(cause) => {
                let fix = format!("Look into its log: kubectl --namespace {} logs {}", cluster.namespace, pod.name);
                checks.problem(&group, "answers", cause, fix);
            }
        }
    }
    checks.fine(GROUP, format!("{well} of {} agents are well", pods.len()));
    statuses
}

/// Agents may be older than the controller and never newer; both are brought along by this command.
fn versions(there: &[(String, String)], controllers: &[ControllerStatus], agents: &[Status], checks: &mut Checks) {
    const GROUP: &str = "versions";
    let newest = controllers.iter().map(|status| numbers(&status.version)).max();
    for status in
        agents.iter().filter(|status| newest.as_ref().is_some_and(|newest| numbers(&status.version) > *newest))
    {
        checks.problem(
            GROUP,
            format!("agent of {}", status.node),
            format!("It is of {}, newer than every controller.", status.version),
            "Bring the controllers to the same version first: weft upgrade",
        );
    }
    let kinds = there.iter().filter(|(name, _)| name.ends_with(".weft.dev")).map(|(_, version)| version);
    let running = controllers.iter().map(|status| &status.version).chain(agents.iter().map(|status| &status.version));
    let mut others: Vec<&String> = running.chain(kinds).filter(|version| *version != VERSION).collect();
    others.sort();
    others.dedup();
    if others.is_empty() {
        checks.fine(GROUP, format!("all are of {VERSION}, as this command"));
    } else {
        let others: Vec<&str> = others.into_iter().map(String::as_str).collect();
        checks.warning(
            GROUP,
            "all are of one version",
            format!("This command is of {VERSION}; there are also {}.", others.join(", ")),
            "Use the command of the version that runs, or bring everything to this one: weft upgrade",
        );
    }
}

/// `0.1.0` as numbers, so that versions can be put in order.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|character: char| !character.is_ascii_digit()).map_while(|number| number.parse().ok()).collect()
}

/// The status of `MeshConfig`, as the leader writes it.
pub fn mesh_status(cluster: Cluster<'_>) -> Option<Value> {
    cluster.object("meshconfig.weft.dev/default").ok().flatten().map(|mesh| mesh["status"].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_may_be_older_than_the_controller_and_not_newer() {
        let controller = |version: &str| -> ControllerStatus {
            serde_json::from_value(serde_json::json!({"version": version, "leads": true})).unwrap()
        };
        let agent = |version: &str| -> Status {
            serde_json::from_value(serde_json::json!({"node": "a", "version": version, "ready": true, "snapshot": "s"}))
                .unwrap()
        };
        for (controllers, agents, expected) in [
            (VERSION, VERSION, vec![Verdict::Fine]),
            ("9.10.0", "9.9.0", vec![Verdict::Warning]),
            ("9.9.0", "9.10.0", vec![Verdict::Problem, Verdict::Warning]),
        ] {
            let mut checks = Checks::default();
            versions(&[], &[controller(controllers)], &[agent(agents)], &mut checks);
            let told: Vec<_> = checks.made.iter().map(|check| check.verdict).collect();
            assert_eq!(told, expected, "{controllers} {agents}");
        }
    }

    #[test]
    fn missing_and_old_kinds_are_named() {
        let cluster = Cluster { context: None, namespace: "weft-system" };
        let mut checks = Checks::default();
        kinds(cluster, &[("meshconfigs.weft.dev".to_owned(), "0.0.1".to_owned())], &mut checks);
        let of = |name: &str| checks.made.iter().find(|check| check.name == name).map(|check| check.verdict);
        assert_eq!(of("meshconfigs.weft.dev"), Some(Verdict::Warning));
        assert_eq!(of("trafficpolicies.weft.dev"), Some(Verdict::Problem));
    }
}
