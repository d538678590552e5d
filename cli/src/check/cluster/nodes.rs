//! Nodes: their kernels, systems and architectures. Pure.

use serde_json::Value;

use super::super::kernel;
use super::super::list::Checks;

const GROUP: &str = "nodes";

/// What images can be made for.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

pub fn look(nodes: &Value, checks: &mut Checks) {
    let nodes = nodes["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut fine = 0;
    for node in nodes {
        let name = name(node);
        let told = &node["status"]["nodeInfo"];
        let word = |field: &str| told[field].as_str().unwrap_or_default();
        if word("operatingSystem") != "linux" {
            checks.warning(
                GROUP,
                format!("{name} runs Linux"),
                format!("Its operating system is {}.", word("operatingSystem")),
                "Its pods stay outside of the mesh; let strict ports exempt those that must reach them.",
            );
            continue;
        }
        let before = checks.made.len();
        if kernel::is_new_enough(word("kernelVersion")) != Some(true) {
            let subject = format!("{name} has kernel {}", word("kernelVersion"));
            checks.problem(GROUP, subject, kernel::TOO_OLD, "Upgrade the kernel of this node.");
        }
        if !ARCHITECTURES.contains(&word("architecture")) {
            checks.problem(
                GROUP,
                format!("{name} is {}", word("architecture")),
                "No image of Weft is made for this architecture.",
                "Keep the agent off this node (agent.nodeSelector), or use another one.",
            );
        }
        fine += usize::from(checks.made.len() == before);
    }
    if fine > 0 {
        checks.fine(GROUP, format!("{fine} of {} nodes can have an agent", nodes.len()));
    }
    if nodes.is_empty() {
        checks.problem(GROUP, "there are nodes", "The cluster has none.", "Add one.");
    }
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The nodes that are to have an agent.
pub fn of_linux(nodes: &Value) -> impl Iterator<Item = &str> {
    let all = nodes["items"].as_array().into_iter().flatten();
    all.filter(|node| node["status"]["nodeInfo"]["operatingSystem"] == "linux").map(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::list::Verdict;
    use super::*;

    #[test]
    fn each_node_that_will_not_do_is_named() {
        let node = |name: &str, kernel: &str, system: &str, architecture: &str| {
            json!({
                "metadata": {"name": name},
                "status": {"nodeInfo": {"kernelVersion": kernel, "operatingSystem": system, "architecture": architecture}},
            })
        };
        let nodes = json!({"items": [
            node("good", "6.18.1", "linux", "amd64"),
            node("old", "5.14.0-70.el9", "linux", "amd64"),
            node("odd", "6.6.1", "linux", "riscv64"),
            node("win", "10.0.20348", "windows", "amd64"),
        ]});
        let mut checks = Checks::default();
        look(&nodes, &mut checks);
        let told: Vec<_> = checks.made.iter().map(|check| (check.verdict, check.name.as_str())).collect();
        assert_eq!(
            told,
            [
                (Verdict::Problem, "old has kernel 5.14.0-70.el9"),
                (Verdict::Problem, "odd is riscv64"),
                (Verdict::Warning, "win runs Linux"),
                (Verdict::Fine, "1 of 4 nodes can have an agent"),
            ]
        );
        assert_eq!(of_linux(&nodes).collect::<Vec<_>>(), ["good", "old", "odd"]);
    }
}
