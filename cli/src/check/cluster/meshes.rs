//! Other meshes, by the kinds, labels and webhooks that are known of them, and what that means for Weft's pods. Pure.

use serde_json::Value;

use super::super::list::Checks;
use super::nodes::name;

const GROUP: &str = "other meshes";

/// Weft's own label of a namespace.
const CAPTURE: &str = "weft.dev/capture";

/// One mesh, as it shows itself.
struct Mesh {
    name: &'static str,
    /// How the names of its definitions end.
    kinds: &'static str,
    /// How a namespace's label or annotation asks for it: the key, and the values that do not.
    asks: &'static [(&'static str, &'static [&'static str])],
    /// What is in the names of its webhooks.
    webhook: &'static str,
    /// What it means where a namespace is in both.
    clash: &'static str,
}

const SIDECAR: &str = "Its proxy beside each container takes the same connections a second time, and hides who speaks.";

const MESHES: [Mesh; 5] = [
    Mesh {
        name: "Istio",
        kinds: ".istio.io",
        asks: &[("istio-injection", &["disabled"]), ("istio.io/rev", &[]), ("istio.io/dataplane-mode", &["none"])],
        webhook: "istio",
        clash: SIDECAR,
    },
    Mesh {
        name: "Linkerd",
        kinds: ".linkerd.io",
        asks: &[("linkerd.io/inject", &["disabled"])],
        webhook: "linkerd",
        clash: SIDECAR,
    },
    Mesh {
        name: "Kuma",
        kinds: ".kuma.io",
        asks: &[("kuma.io/sidecar-injection", &["disabled", "false"])],
        webhook: "kuma",
        clash: SIDECAR,
    },
    Mesh {
        name: "Consul",
        kinds: ".consul.hashicorp.com",
        asks: &[("consul.hashicorp.com/connect-inject", &["false"])],
        webhook: "consul",
        clash: SIDECAR,
    },
    Mesh { name: "Cilium", kinds: ".cilium.io", asks: &[], webhook: "cilium", clash: "" },
];

/// Of Cilium alone, whose programs are on every node, not in chosen namespaces.
const CILIUM: &str = "Its programs at the same hooks run after Weft's (each agent names those it sees below), and its envoy \
     takes what a policy about requests names before Weft's agent sees it.";

pub fn look(definitions: &[(String, String)], namespaces: &Value, webhooks: &[String], checks: &mut Checks) {
    let namespaces = namespaces["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found = false;
    for mesh in &MESHES {
        let installed = definitions.iter().any(|(name, _)| name.ends_with(mesh.kinds))
            || webhooks.iter().any(|name| name.contains(mesh.webhook));
        let asking: Vec<&Value> = namespaces.iter().filter(|namespace| asks(mesh, namespace)).collect();
        found |= installed || !asking.is_empty();
        let (both, alone): (Vec<&Value>, Vec<&Value>) = asking.into_iter().partition(|one| is_captured(one));
        for namespace in &both {
            checks.problem(
                GROUP,
                format!("namespace {} is in one mesh", name(namespace)),
                format!("It asks for {} and for Weft. {}", mesh.name, mesh.clash),
                format!(
                    "Take the label {CAPTURE} or that of {} away, and restart the pods that have its proxy.",
                    mesh.name
                ),
            );
        }
        if installed && mesh.asks.is_empty() {
            checks.warning(
                GROUP,
                format!("{} is here", mesh.name),
                CILIUM,
                "Leave its policies about requests to Weft in captured namespaces; those about addresses and ports go on meaning what they mean.",
            );
        } else if (installed || !alone.is_empty()) && both.is_empty() {
            checks.warning(
                GROUP,
                format!("{} is here", mesh.name),
                format!(
                    "{} namespaces ask for it, none of them for Weft as well. Between the two meshes pods speak plaintext.",
                    alone.len()
                ),
                "Let strict ports exempt the callers of the other mesh, or move a namespace as a whole.",
            );
        }
    }
    if !found {
        checks.fine(GROUP, "none of those that are known is here");
    }
}

fn asks(mesh: &Mesh, namespace: &Value) -> bool {
    let metadata = &namespace["metadata"];
    mesh.asks.iter().any(|(key, refusals)| {
        let said = metadata["labels"][*key].as_str().or_else(|| metadata["annotations"][*key].as_str());
        said.is_some_and(|value| !refusals.contains(&value))
    })
}

pub fn is_captured(namespace: &Value) -> bool {
    namespace["metadata"]["labels"][CAPTURE] == "enabled"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::list::Verdict;
    use super::*;

    fn told(definitions: &[&str], namespaces: &Value, webhooks: &[&str]) -> Vec<(Verdict, String)> {
        let definitions: Vec<_> = definitions.iter().map(|&name| (name.to_owned(), String::new())).collect();
        let webhooks: Vec<_> = webhooks.iter().map(|&name| name.to_owned()).collect();
        let mut checks = Checks::default();
        look(&definitions, &json!({"items": namespaces}), &webhooks, &mut checks);
        checks.made.into_iter().map(|check| (check.verdict, check.name)).collect()
    }

    #[test]
    fn another_mesh_is_a_problem_where_a_namespace_is_in_both() {
        let space = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
        let line = |verdict, name: &str| vec![(verdict, name.to_owned())];
        let ours = space("shop", json!({"weft.dev/capture": "enabled"}));
        let theirs = space("old", json!({"istio-injection": "enabled"}));
        let both = space("both", json!({"weft.dev/capture": "enabled", "istio.io/dataplane-mode": "ambient"}));
        let refused = space("free", json!({"weft.dev/capture": "enabled", "istio-injection": "disabled"}));
        assert_eq!(
            told(&[], &json!([ours, refused]), &[]),
            line(Verdict::Fine, "none of those that are known is here")
        );
        assert_eq!(
            told(&["gateways.networking.istio.io"], &json!([ours, theirs]), &[]),
            line(Verdict::Warning, "Istio is here")
        );
        assert_eq!(told(&[], &json!([both]), &[]), line(Verdict::Problem, "namespace both is in one mesh"));
        assert_eq!(
            told(
                &[],
                &json!([]),
                &["mutatingwebhookconfiguration.admissionregistration.k8s.io/linkerd-proxy-injector"]
            ),
            line(Verdict::Warning, "Linkerd is here")
        );
        assert_eq!(
            told(&["ciliumnetworkpolicies.cilium.io"], &json!([ours]), &[]),
            line(Verdict::Warning, "Cilium is here")
        );
    }
}
