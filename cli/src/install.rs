//! `weft install` and `weft upgrade`: the objects that the Helm charts become, printed or applied in order.
//!
//! Kinds first, for the API server must know them before their objects; then the controller; then the agents, which
//! must not be newer than it.

use anyhow::Context as _;
use weft_charts::{Chart, Object, Release, Values, stream};

use crate::Outcome;
use crate::arguments::{InstallArguments, Installation};
use crate::kubectl::{self, Step};
use crate::paint::print;

/// Names as the charts have them.
pub const RELEASE: &str = "weft";
pub const CONTROLLER: &str = "deployment/weft-controller";
pub const AGENT: &str = "daemonset/weft-agent";

/// How long the API server may take to learn a kind, and a rollout to end: each node takes a drain of 30 s at most.
const KINDS_TIMEOUT: &str = "--timeout=60s";
pub const ROLLOUT_TIMEOUT: &str = "--timeout=15m";

pub fn install(arguments: &InstallArguments) -> anyhow::Result<Outcome> {
    let installation = &arguments.installation;
    if arguments.apply {
        kubectl::run(&plan(installation)?, installation.context.as_deref())?;
        print(next(&installation.namespace))?;
    } else if arguments.crds {
        print(stream(&definitions(installation)?))?;
    } else {
        print(stream(&objects(installation, &[])?))?;
    }
    Ok(Outcome::Fine)
}

pub fn upgrade(installation: &Installation) -> anyhow::Result<Outcome> {
    let (context, namespace) = (installation.context.as_deref(), installation.namespace.as_str());
    kubectl::ask(&["get", CONTROLLER, "--namespace", namespace, "--output=name"], context)
        .with_context(|| format!("there is no Weft in {namespace} to upgrade"))?;
    kubectl::run(&plan(installation)?, context)?;
    Ok(Outcome::Fine)
}

/// Kinds, controller, agents; each waited for before the next.
fn plan(installation: &Installation) -> anyhow::Result<Vec<Step>> {
    let kinds = definitions(installation)?;
    let (agents, rest): (Vec<Object>, Vec<Object>) =
        objects(installation, &[])?.into_iter().partition(|object| object.kind == "DaemonSet");
    let namespace = installation.namespace.as_str();
    let mut known = vec!["wait", "--for=condition=Established", KINDS_TIMEOUT];
    let names: Vec<String> = kinds.iter().map(|kind| format!("crd/{}", kind.name)).collect();
    known.extend(names.iter().map(String::as_str));
    let rolled_out = |what| ["rollout", "status", what, "--namespace", namespace, ROLLOUT_TIMEOUT];
    Ok(vec![
        Step::apply("Weft's kinds", stream(&kinds)),
        Step::new("wait until the API server knows them", &known),
        Step::apply("the controller", stream(&rest)),
        Step::new("wait for the controller", &rolled_out(CONTROLLER)),
        Step::apply("the agents", stream(&agents)),
        Step::new("wait for an agent on every node", &rolled_out(AGENT)),
    ])
}

pub fn definitions(installation: &Installation) -> anyhow::Result<Vec<Object>> {
    Ok(Chart::definitions()?.render(&release(installation, "weft-crds"), &Values::default())?)
}

/// Weft's objects with the user's values, and `more` over them.
pub fn objects(installation: &Installation, more: &[&str]) -> anyhow::Result<Vec<Object>> {
    let mut values = Values::default();
    // Helm makes the namespace itself, or finds it; here nobody else does.
    values.set("namespace.create=true")?;
    for file in &installation.values {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        values.add_file(&text).with_context(|| file.display().to_string())?;
    }
    let settings = installation.set.iter().map(String::as_str).chain(more.iter().copied());
    settings.into_iter().try_for_each(|setting| values.set(setting))?;
    Chart::weft()?.render(&release(installation, RELEASE), &values).context("the values are refused")
}

fn release(installation: &Installation, name: &str) -> Release {
    Release { name: name.to_owned(), namespace: installation.namespace.clone() }
}

fn next(namespace: &str) -> String {
    format!("Weft is in {namespace}. Capture a namespace's pods: kubectl label namespace NAME weft.dev/capture=enabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(set: &[&str]) -> Installation {
        Installation {
            namespace: "mesh".to_owned(),
            values: Vec::new(),
            set: set.iter().map(|&setting| setting.to_owned()).collect(),
            context: None,
        }
    }

    #[test]
    fn kinds_come_before_the_controller_and_the_controller_before_agents() {
        let plan = plan(&installation(&[])).unwrap();
        let kinds = |step: &Step| {
            let text = step.input.clone().unwrap_or_default();
            let mut kinds: Vec<String> =
                text.lines().filter_map(|line| line.strip_prefix("kind: ").map(str::to_owned)).collect();
            kinds.dedup();
            kinds
        };
        let applied: Vec<Vec<String>> = plan.iter().filter(|step| step.arguments[0] == "apply").map(kinds).collect();
        assert_eq!(applied[0], ["CustomResourceDefinition"]);
        assert!(applied[1].contains(&"Deployment".to_owned()) && applied[1].contains(&"MeshConfig".to_owned()));
        assert_eq!(applied[2], ["DaemonSet"]);
        assert_eq!(plan.iter().filter(|step| step.arguments[0] == "rollout").count(), 2);
    }

    #[test]
    fn the_namespace_is_made_unless_somebody_says_otherwise() {
        let made =
            |set: &[&str]| objects(&installation(set), &[]).unwrap().iter().any(|object| object.kind == "Namespace");
        assert!(made(&[]) && !made(&["namespace.create=false"]));
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        let error = objects(&installation(&["agents.remove=true"]), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("agents"), "{error:#}");
    }
}
