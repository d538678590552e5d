//! `weft uninstall`: pods leave the mesh first, then each node is cleaned, then the objects go.
//!
//! A node whose agent was merely deleted would keep refusing for closed namespaces: its programs outlive the agent.
//! Weft's kinds, and with them everybody's policies, stay unless `--delete-policies` is said. Gateway API is never touched.

use weft_charts::stream;

use crate::Outcome;
use crate::arguments::{Installation, UninstallArguments};
use crate::install::{AGENT, ROLLOUT_TIMEOUT, definitions, objects};

use crate::kubectl::{self, Step};
use crate::paint::print;

/// What the controller makes by itself, beside what the chart has.
const MADE_BY_THE_CONTROLLER: [&str; 3] = ["secret/weft-ca", "configmap/weft-trust", "lease/weft-controller"];

/// The kind of what the controller says of the whole cluster, if it is there. One that a person wrote stays.
const INTRODUCTION: &str = "xmeshes.gateway.networking.x-k8s.io";

/// How long all agents together may take to let their pods go.
const LEAVING_TIMEOUT: &str = "--timeout=60s";

pub fn uninstall(arguments: &UninstallArguments) -> anyhow::Result<Outcome> {
    let installation = &arguments.installation;
    let context = installation.context.as_deref();
    let staying = if arguments.delete_policies { "goes" } else { "stays" };
    let mut kinds = Vec::new();
    for kind in definitions(installation)? {
        let name = kind.name;
        if !is_there(&["crd", &name], context)? {
            continue;
        }
        let found = kubectl::ask(&["get", &name, "--all-namespaces", "--output=name"], context)?;
        print(format!("{name}: {} of them; the kind {staying}", found.lines().count()))?;
        kinds.push(name);
    }
    let agents = is_there(&[AGENT, "--namespace", &installation.namespace], context)?;
    let introduced = is_there(&["crd", INTRODUCTION], context)?;
    let kinds_to_delete = if arguments.delete_policies { kinds } else { Vec::new() };
    let mut plan = if agents { leave(installation)? } else { Vec::new() };
    plan.extend(delete(installation, introduced, &kinds_to_delete)?);
    kubectl::run(&plan, context)?;
    Ok(Outcome::Fine)
}

fn is_there(what: &[&str], context: Option<&str>) -> anyhow::Result<bool> {
    let words = ["get"].into_iter().chain(what.iter().copied());
    let words: Vec<&str> = words.chain(["--ignore-not-found", "--output=name"]).collect();
    Ok(!kubectl::ask(&words, context)?.trim().is_empty())
}

/// Pods out of the mesh, and nodes as they were.
fn leave(installation: &Installation) -> anyhow::Result<Vec<Step>> {
    let namespace = installation.namespace.as_str();
    let mut removal = objects(installation, &["agent.remove=true"])?;
    removal.retain(|object| object.kind == "DaemonSet");
    let removing = r#"--patch={"spec":{"state":"Removing"}}"#;
    let mesh = "meshconfig.weft.dev/default";
    Ok(vec![
        Step::new("every pod leaves the mesh", &["patch", mesh, "--type=merge", removing])
            .or_else("There is no MeshConfig: going on."),
        Step::new("wait until the agents say so", &["wait", "--for=condition=Removed", mesh, LEAVING_TIMEOUT])
            .or_else("Nobody says so: going on. Whatever is still captured is let go when its node is cleaned."),
        Step::apply("clean every node", stream(&removal)),
        Step::new(
            "wait until every node is clean",
            &["rollout", "status", AGENT, "--namespace", namespace, ROLLOUT_TIMEOUT],
        ),
    ])
}

/// What is in the cluster alone. The namespace comes last of Weft's objects.
fn delete(installation: &Installation, introduced: bool, kinds: &[String]) -> anyhow::Result<Vec<Step>> {
    let mut made = vec!["delete", "--ignore-not-found", "--namespace", &installation.namespace];
    made.extend(MADE_BY_THE_CONTROLLER);
    let mut all = objects(installation, &[])?;
    // Kinds that are gone have no object left, and kubectl would not know them.
    all.retain(|object| object.kind != "MeshConfig");
    all.reverse();
    let delete = ["delete", "--ignore-not-found", "--filename=-"];
    let mut plan = vec![
        Step::new("delete what the controller made", &made),
        Step::new("delete Weft's objects", &delete).reading(stream(&all)),
        // After the controller, which would take the mesh for one that is there again, and make and accept this anew.
        Step::new("delete the MeshConfig", &["delete", "--ignore-not-found", "meshconfig.weft.dev/default"])
            .or_else("The kind is not there: going on."),
    ];
    if introduced {
        let own = "--selector=app.kubernetes.io/part-of=weft";
        let words = ["delete", "--ignore-not-found", own, INTRODUCTION];
        plan.push(Step::new("delete the XMesh that the controller made", &words));
    }
    if !kinds.is_empty() {
        let words = ["delete", "--ignore-not-found", "crd"].into_iter().chain(kinds.iter().map(String::as_str));
        let words: Vec<&str> = words.collect();
        plan.push(Step::new("delete Weft's kinds, and with them all policies", &words));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation() -> Installation {
        Installation { namespace: "mesh".to_owned(), values: Vec::new(), set: Vec::new(), context: None }
    }

    #[test]
    fn a_node_that_is_not_clean_ends_it() {
        let plan = leave(&installation()).unwrap();
        let first = |word: &str| plan.iter().position(|step| step.arguments[0] == word).unwrap();
        assert!(first("patch") < first("apply") && first("apply") < first("rollout"));
        assert!(plan[first("apply")].input.as_ref().unwrap().contains("remove"));
        assert_eq!(plan[first("rollout")].otherwise, None);
        assert!(plan.iter().all(|step| step.arguments[0] != "delete"), "nothing goes before nodes are clean");
    }

    #[test]
    fn policies_stay_unless_it_is_said() {
        let deletes_kinds = |plan: &[Step]| plan.iter().any(|step| step.arguments.iter().any(|word| word == "crd"));
        let kinds = ["meshconfigs.weft.dev".to_owned()];
        let (less, more) =
            (delete(&installation(), false, &[]).unwrap(), delete(&installation(), true, &kinds).unwrap());
        assert!(!deletes_kinds(&less) && deletes_kinds(&more));
        let everything = more.iter().filter_map(|step| step.input.clone()).collect::<String>();
        let place =
            |word: &str| more.iter().position(|step| step.arguments.iter().any(|own| own.contains(word))).unwrap();
        let objects = more.iter().position(|step| step.input.is_some()).unwrap();
        assert!(objects < place("meshconfig.weft.dev/default") && objects < place("xmeshes"), "the controller is gone");
        assert!(everything.contains("kind: Deployment") && everything.contains("kind: Namespace"));
        assert!(!everything.contains("kind: CustomResourceDefinition"));
    }
}
