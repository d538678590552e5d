//! Which pods should be captured, and are they: what namespaces ask for, held against what agents have.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::list::Checks;
use super::Cluster;
use super::meshes::is_captured;
use super::nodes::name;
use crate::answers::Status;
use crate::controller::ControllerStatus;

const GROUP: &str = "capture";

/// One line for each pod that runs: namespace, name, its own label.
const LINES: &str = r#"--output=jsonpath={range .items[*]}{.metadata.namespace}{"\t"}{.metadata.name}{"\t"}{.metadata.labels.weft\.dev/capture}{"\n"}{end}"#;

pub fn look(
    cluster: Cluster<'_>,
    namespaces: &Value,
    controllers: &[ControllerStatus],
    agents: &[Status],
    checks: &mut Checks,
) {
    match cluster.ask(&["get", "pods", "--all-namespaces", "--field-selector=status.phase=Running", LINES]) {
        Ok(lines) => compare(&lines, namespaces, controllers, agents, checks),
        Err(cause) => checks.problem(GROUP, "reads pods", cause, "Ask for the right to list them."),
    }
}

/// Pods that an agent has and could not enrol are told with that agent.
fn compare(lines: &str, namespaces: &Value, controllers: &[ControllerStatus], agents: &[Status], checks: &mut Checks) {
    let enrolled: BTreeMap<&str, bool> =
        agents.iter().flat_map(|status| &status.pods).map(|pod| (pod.name.as_str(), pod.enrolled)).collect();
    let asking: Vec<&str> =
        namespaces["items"].as_array().into_iter().flatten().filter(|one| is_captured(one)).map(name).collect();
    let (mut captured, mut wanted) = (0, 0);
    for line in lines.lines() {
        let mut words = line.split('\t');
        let (Some(namespace), Some(pod)) = (words.next(), words.next()) else { continue };
        if !asking.contains(&namespace) || words.next().is_some_and(|own| !own.is_empty() && own != "enabled") {
            continue;
        }
        wanted += 1;
        let title = format!("{namespace}/{pod}");
        match enrolled.get(title.as_str()) {
            Some(true) => captured += 1,
            Some(false) => {}
            None => {
                let told = found(controllers, &title);
                let cause =
                    told.unwrap_or_else(|| "No agent has heard of it yet, or none runs on its node.".to_owned());
                let fix = "Remove what the cause names, or let it stay outside: kubectl label pod NAME weft.dev/capture=disabled";
                checks.warning(GROUP, format!("{title} is captured"), cause, fix);
            }
        }
    }
    match asking.len() {
        0 => checks.fine(GROUP, "no namespace asks for it: kubectl label namespace NAME weft.dev/capture=enabled"),
        namespaces => {
            checks.fine(GROUP, format!("{captured} of {wanted} pods of {namespaces} namespaces are captured"));
        }
    }
}

/// What the controller says about a pod.
fn found(controllers: &[ControllerStatus], title: &str) -> Option<String> {
    let all = controllers.iter().flat_map(|status| &status.findings);
    let told: Vec<&str> =
        all.filter(|one| one.object == format!("Pod {title}")).map(|one| one.message.as_str()).collect();
    (!told.is_empty()).then(|| format!("The controller says: {}.", told.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::list::Verdict;
    use super::*;

    #[test]
    fn pods_that_nobody_has_are_named_with_the_controllers_reason() {
        let agent: Status = serde_json::from_value(json!({
            "node": "a", "ready": true, "snapshot": "s",
            "pods": [{"name": "shop/web", "uid": "1", "enrolled": true}, {"name": "shop/bad", "uid": "2", "enrolled": false}],
        }))
        .unwrap();
        let controller: ControllerStatus = serde_json::from_value(json!({
            "findings": [{"object": "Pod shop/host", "message": "it uses its node's network"}],
        }))
        .unwrap();
        let namespaces = json!({"items": [
            {"metadata": {"name": "shop", "labels": {"weft.dev/capture": "enabled"}}},
            {"metadata": {"name": "other"}},
        ]});
        let lines = "shop\tweb\t\nshop\tbad\t\nshop\thost\t\nshop\tnew\tenabled\nshop\tapart\tdisabled\nother\tweb\t\n";
        let mut checks = Checks::default();
        compare(lines, &namespaces, &[controller], &[agent], &mut checks);
        let told: Vec<_> = checks.made.iter().map(|check| (check.verdict, check.name.as_str())).collect();
        assert_eq!(
            told,
            [
                (Verdict::Warning, "shop/host is captured"),
                (Verdict::Warning, "shop/new is captured"),
                (Verdict::Fine, "1 of 4 pods of 1 namespaces are captured"),
            ]
        );
        assert!(checks.made[0].cause.as_ref().is_some_and(|cause| cause.contains("node's network")));
    }
}
