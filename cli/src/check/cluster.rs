//! A Kubernetes cluster, as kubectl shows it: what Weft needs before it is installed, and what became of it afterwards.
//!
//! Agents and controllers are asked inside their own pods. Each part is a pure reading of what kubectl printed.

mod capture;
mod certificates;
mod meshes;
mod nodes;
mod own;

use std::thread;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::list::Checks;
use crate::kubectl;

/// Where Weft is, or is to be.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// None: kubectl's current context.
    pub context: Option<&'a str>,
    pub namespace: &'a str,
}

/// A pod of Weft's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub node: String,
    container: String,
    ready: bool,
}

/// The oldest minor version of Kubernetes 1 that Weft is for.
const MINOR_MINIMUM: u32 = 30;

/// Kinds of Gateway API that Weft reads, and where the release with them is.
const KINDS: [&str; 5] = [
    "httproutes.gateway.networking.k8s.io",
    "grpcroutes.gateway.networking.k8s.io",
    "tlsroutes.gateway.networking.k8s.io",
    "tcproutes.gateway.networking.k8s.io",
    "referencegrants.gateway.networking.k8s.io",
];
const INSTALL_KINDS: &str = "Install them: kubectl apply --server-side -f \
     https://github.com/kubernetes-sigs/gateway-api/releases/latest/download/standard-install.yaml";

/// Pods that are asked at the same time: each is a connection through the API server.
const ASKED_AT_ONCE: usize = 8;

/// Everything that a part may need, asked for once.
struct Known {
    nodes: Value,
    namespaces: Value,
    /// Names of definitions, and the version of Weft's bundle where they are of one.
    definitions: Vec<(String, String)>,
}

pub fn look(cluster: Cluster<'_>) -> Checks {
    let mut checks = Checks::default();
    let Some(known) = know(cluster, &mut checks) else { return checks };
    nodes::look(&known.nodes, &mut checks);
    kinds(&known, &mut checks);
    let webhooks = names(cluster, "mutatingwebhookconfigurations,validatingwebhookconfigurations");
    meshes::look(&known.definitions, &known.namespaces, &webhooks, &mut checks);
    own::look(cluster, &known, &mut checks);
    checks
}

/// None: nothing more can be said.
fn know(cluster: Cluster<'_>, checks: &mut Checks) -> Option<Known> {
    const GROUP: &str = "cluster";
    let version = match cluster.json::<Value>(&["version", "--output=json"]) {
        Ok(version) if version["serverVersion"].is_object() => version,
        other => {
            let cause = other.err().unwrap_or_else(|| "kubectl names no server.".to_owned());
            let fix =
                "Look at kubectl's context and credentials: kubectl config current-context, kubectl cluster-info.";
            checks.problem(GROUP, "the API server answers", cause, fix);
            return None;
        }
    };
    checks.fine(GROUP, "the API server answers");
    server(version["serverVersion"]["gitVersion"].as_str().unwrap_or_default(), checks);
    let may = cluster.ask(&["auth", "can-i", "*", "*", "--all-namespaces"]);
    if may.is_ok() {
        checks.fine(GROUP, "you may install, upgrade and uninstall Weft");
    } else {
        checks.warning(
            GROUP,
            "you may install, upgrade and uninstall Weft",
            "You may not do everything here; what you may not read is missing below.",
            "Use the credentials of a cluster-admin.",
        );
    }
    let columns = r"--output=custom-columns=NAME:.metadata.name,VERSION:.metadata.annotations.weft\.dev/bundle-version";
    let mut read = |what: &str, asked: Result<Value, String>| {
        asked
            .inspect_err(|cause| {
                checks.problem(GROUP, format!("reads {what}"), cause, "Ask for the right to list them.");
            })
            .ok()
    };
    let nodes = read("nodes", cluster.json(&["get", "nodes", "--output=json"]))?;
    let namespaces = read("namespaces", cluster.json(&["get", "namespaces", "--output=json"]))?;
    let definitions = cluster.ask(&["get", "crds", "--no-headers", columns]).unwrap_or_default();
    let row = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.next().unwrap_or_default()))
    };
    Some(Known { nodes, namespaces, definitions: definitions.lines().filter_map(row).collect() })
}

/// `v1.36.3`, perhaps with more behind it.
fn server(version: &str, checks: &mut Checks) {
    let minor = version.strip_prefix("v1.").and_then(|rest| rest.split(['.', '+', '-']).next()?.parse::<u32>().ok());
    let name = format!("Kubernetes {version}");
    match minor {
        Some(minor) if minor >= MINOR_MINIMUM => checks.fine("cluster", name),
        _ => checks.problem(
            "cluster",
            name,
            format!("It is not Kubernetes 1.{MINOR_MINIMUM} or newer, which Weft is for."),
            "Upgrade the cluster.",
        ),
    }
}

fn kinds(known: &Known, checks: &mut Checks) {
    const GROUP: &str = "Gateway API";
    for kind in KINDS {
        if known.definitions.iter().any(|(name, _)| name == kind) {
            checks.fine(GROUP, format!("{kind} is there"));
        } else {
            let cause = "Weft reads objects of this kind, and nobody can write one. All else works without.";
            checks.warning(GROUP, format!("{kind} is there"), cause, INSTALL_KINDS);
        }
    }
}

fn names(cluster: Cluster<'_>, kinds: &str) -> Vec<String> {
    let listed = cluster.ask(&["get", kinds, "--output=name"]).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

impl Cluster<'_> {
    /// What kubectl prints; or what it says is wrong.
    fn ask(self, words: &[&str]) -> Result<String, String> {
        kubectl::ask(words, self.context).map_err(|error| format!("{error:#}"))
    }

    fn json<T: DeserializeOwned>(self, words: &[&str]) -> Result<T, String> {
        serde_json::from_str(&self.ask(words)?).map_err(|error| format!("kubectl's answer cannot be read: {error}"))
    }

    /// An object of Weft's namespace; none if it is not there.
    fn object(self, name: &str) -> Result<Option<Value>, String> {
        let words = ["get", name, "--namespace", self.namespace, "--ignore-not-found", "--output=json"];
        let printed = self.ask(&words)?;
        if printed.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&printed).map(Some).map_err(|error| format!("kubectl's answer cannot be read: {error}"))
    }
}

/// The agents' pods, one for each node: of several the one that is ready.
pub fn agents(cluster: Cluster<'_>) -> anyhow::Result<Vec<Pod>> {
    let mut pods = own_pods(cluster, "weft-agent").map_err(anyhow::Error::msg)?;
    pods.sort_by(|one, other| (&one.node, !one.ready).cmp(&(&other.node, !other.ready)));
    pods.dedup_by(|later, earlier| later.node == earlier.node);
    anyhow::ensure!(!pods.is_empty(), "no agent runs in {}: is Weft installed there?", cluster.namespace);
    Ok(pods)
}

/// Pods of Weft's own that run and are not about to end.
fn own_pods(cluster: Cluster<'_>, name: &str) -> Result<Vec<Pod>, String> {
    let selector = format!("--selector=app.kubernetes.io/name={name}");
    let listed: List = cluster.json(&["get", "pods", "--namespace", cluster.namespace, &selector, "--output=json"])?;
    Ok(listed.items.iter().filter_map(running).collect())
}

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

fn running(pod: &Value) -> Option<Pod> {
    let status = &pod["status"];
    if status["phase"] != "Running" || pod["metadata"]["deletionTimestamp"].is_string() {
        return None;
    }
    let conditions = status["conditions"].as_array();
    let ready = conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
    Some(Pod {
        name: pod["metadata"]["name"].as_str()?.to_owned(),
        node: pod["spec"]["nodeName"].as_str()?.to_owned(),
        container: pod["spec"]["containers"][0]["name"].as_str()?.to_owned(),
        ready,
    })
}

/// Asks each pod the same question of its admin socket, in their order.
pub fn ask_all<T: DeserializeOwned + Send>(
    cluster: Cluster<'_>,
    pods: &[Pod],
    question: &[&str],
) -> Vec<Result<T, String>> {
    let ask = |pod: &Pod| {
        let exec =
            ["exec", "--namespace", cluster.namespace, &pod.name, "--container", &pod.container, "--", "/weft", "ask"];
        let words: Vec<&str> = exec.into_iter().chain(question.iter().copied()).collect();
        cluster.json(&words)
    };
    let mut answers = Vec::new();
    for some in pods.chunks(ASKED_AT_ONCE) {
        thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|pod| scope.spawn(move || ask(pod))).collect();
            let joined =
                asked.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("it was never asked".to_owned())));
            answers.extend(joined);
        });
    }
    answers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::list::Verdict;
    use super::*;

    #[test]
    fn old_servers_are_named() {
        for (version, expected) in [
            ("v1.36.3", Verdict::Fine),
            ("v1.30.0-eks-1", Verdict::Fine),
            ("v1.29.9+k3s1", Verdict::Problem),
            ("", Verdict::Problem),
        ] {
            let mut checks = Checks::default();
            server(version, &mut checks);
            assert_eq!(checks.made[0].verdict, expected, "{version}");
        }
    }

    #[test]
    fn missing_kinds_come_with_the_command_that_installs_them() {
        let definitions = vec![(KINDS[0].to_owned(), String::new())];
        let mut checks = Checks::default();
        kinds(&Known { nodes: Value::Null, namespaces: Value::Null, definitions }, &mut checks);
        let (there, missing) = checks.made.split_first().unwrap();
        assert_eq!((there.verdict, missing.len()), (Verdict::Fine, KINDS.len() - 1));
        for missing in missing {
            assert_eq!(missing.verdict, Verdict::Warning);
            assert!(missing.fix.as_ref().is_some_and(|fix| fix.contains("kubectl apply --server-side -f https://")));
        }
    }

    #[test]
    fn a_pod_that_ends_is_not_asked() {
        let pod = |phase: &str, ending: Value| {
            json!({
                "metadata": {"name": "a", "deletionTimestamp": ending},
                "spec": {"nodeName": "n", "containers": [{"name": "agent"}]},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
            })
        };
        assert!(running(&pod("Running", Value::Null)).is_some_and(|pod| pod.ready && pod.container == "agent"));
        assert_eq!(running(&pod("Running", json!("2026-11-22T00:00:00Z"))), None);
        assert_eq!(running(&pod("Pending", Value::Null)), None);
    }
}
