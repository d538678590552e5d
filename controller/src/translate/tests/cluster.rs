//! What only a cluster has: nodes that forge, slices that others write, agents of which nothing is known.

use super::*;

#[test]
fn an_address_outside_of_its_nodes_ranges_is_no_claim() {
    let node = |name: &str, range: &str| {
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDR: {range}}}\n")
    };
    let thief = pod("thief", "10.1.0.2", "", "", "").replace("nodeName: one", "nodeName: two");
    let (one, two) = (node("one", "10.1.0.0/24"), node("two", "10.1.1.0/24"));
    let by_node =
        mesh("").replace("{pods: [10.1.0.0/16]}", "{pods: [10.1.0.0/16], services: [10.96.0.0/12], byNode: true}");
    let known = all(&[SHOP, &web("", ""), &thief, &one, &two, &by_node]);
    assert_eq!(known.workload("web").addresses, [vec![10, 1, 0, 2]]);
    assert!(known.workload("thief").addresses.is_empty());
    assert!(known.found("outside of the ranges of its node two"));
    // Many network plugins have ranges of their own, and nodes have ranges none the less.
    let other = all(&[SHOP, &web("", "").replace("10.1.0.2", "10.9.0.2"), &one, &two]);
    assert_eq!(other.workload("web").addresses, [vec![10, 9, 0, 2]]);
    let unknown = all(&[SHOP, &web("", ""), &thief]);
    assert!(unknown.workload("web").addresses.is_empty(), "an address that two may have has an owner");
}

#[test]
fn a_pods_own_agent_learns_what_it_declares_for_probes() {
    let spec = "  initContainers:\n  - {name: once, livenessProbe: {tcpSocket: {port: 1}}}\n  \
         - {name: beside, restartPolicy: Always, livenessProbe: {tcpSocket: {port: 2}}}\n  \
         containers:\n  - name: web\n    ports: [{name: http, containerPort: 8080}]\n    \
         readinessProbe: {httpGet: {path: /ready, port: http}}\n    livenessProbe: {grpc: {port: 9000}}\n    \
         startupProbe: {httpGet: {host: 10.1.0.9, port: 80}}\n    \
         lifecycle: {preStop: {httpGet: {port: 8081}}, postStart: {exec: {command: [\"true\"]}}}";
    let probed = all(&[SHOP, &pod("web", "10.1.0.2", "", spec, "")]);
    assert_eq!(probed.web().probe_ports, [2, 8080, 8081, 9000]);
    assert!(probed.found("startupProbe of container web") && probed.found("names the host \"10.1.0.9\""));
    assert_eq!(probed.web().refused.len(), 1);
    // Its declaration gone, nothing is left of it.
    assert!(all(&[SHOP, &pod("web", "10.1.0.2", "", "", "")]).web().probe_ports.is_empty());
}

#[test]
fn whoever_sends_a_kubelet_elsewhere_is_named_captured_or_not() {
    let spec = "  containers:\n  - {name: web, livenessProbe: {httpGet: {host: 10.1.0.9, port: 80}}}";
    let hook = "  containers:\n  - {name: web, lifecycle: {postStart: {httpGet: {host: 10.1.0.9, port: 80}}}}";
    let other = SHOP.replace("name: shop", "name: other").replace("enabled", "disabled");
    for sender in [pod("sender", "10.1.0.3", "", spec, ""), pod("sender", "10.1.0.3", "", hook, "")] {
        let sender = sender.replace("namespace: shop", "namespace: other");
        let all = all(&[SHOP, &web("", ""), &other, &sender]);
        assert!(all.found("names the host \"10.1.0.9\"") && all.found("refuseProbeHosts"), "{:?}", all.findings);
    }
}

#[test]
fn a_pod_takes_no_service_out_by_claiming_its_address() {
    let services = mesh("").replace("10.1.0.0/16]", "10.1.0.0/16], services: [10.96.0.0/12]");
    let claim = all(&[SHOP, &pod("thief", "10.96.0.2", "", "", ""), SERVICE, &services]);
    assert!(claim.found("is of the ranges of Services") && !claim.found("it is a pod's address"));
    // Nor where nobody said what the ranges are.
    let claim = all(&[SHOP, &web("", ""), &pod("thief", "10.96.0.2", "", "", ""), SERVICE]);
    assert!(claim.found("is a Service's cluster address") && !claim.found("it is a pod's address"));
    assert!(claim.workload("thief").addresses.is_empty());
    assert_eq!(claim.service("web")[0], "80: 10.1.0.2:8080=web");
}

#[test]
fn ranges_that_overlap_make_no_pod_a_stranger() {
    let wide = mesh("").replace("10.1.0.0/16]", "10.1.0.0/16], services: [10.0.0.0/8]");
    let known = all(&[SHOP, &web("", ""), SERVICE, &wide]);
    assert_eq!(known.workload("web").addresses, [vec![10, 1, 0, 2]]);
    assert_eq!(known.service("web")[0], "80: 10.1.0.2:8080=web");
}

#[test]
fn a_pods_lie_takes_its_own_endpoint_alone() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: one}\nspec: {podCIDR: 10.1.0.0/24}\n";
    let by_node = mesh("").replace("10.1.0.0/16]", "10.1.0.0/16], byNode: true");
    let slice = |target: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [192.0.2.7]{target}}}]\n"
        )
    };
    let thief = pod("thief", "192.0.2.7", "", "", "");
    let of = |slice: &str| all(&[SHOP, &thief, node, SERVICE, &by_node, slice]).service("web")[0].clone();
    assert_eq!(of(&slice("")), "80: 192.0.2.7:8080=", "a database outside was taken out");
    assert_eq!(of(&slice(", targetRef: {kind: Pod, name: thief, namespace: shop}")), "80: ", "dialled in plaintext");
}

#[test]
fn what_an_agent_serves_of_which_nothing_is_known_is_not_said_to_speak_no_mtls() {
    let agent = |ready: &str| {
        pod(
            "agent",
            "10.0.0.1",
            "",
            "  hostNetwork: true",
            &format!("  conditions: [{{type: Ready, status: {ready:?}}}]"),
        )
        .replace("namespace: shop", "namespace: weft-system")
        .replace("serviceAccountName: agent", "serviceAccountName: weft-agent")
    };
    let account = Agents { namespace: "weft-system".to_owned(), service_account: "weft-agent".to_owned() };
    let inherited = |uids: &[&str]| Some(Arc::new(uids.iter().map(|uid| uid.parse().unwrap()).collect()));
    let of = |uids: &[&str]| Facts { agents: Some(account.clone()), inherited: inherited(uids), ..facts() };
    let capable_of = |facts: &Facts, agent: &str, observed: &Observed| {
        let known = objects(&[SHOP, &web("", ""), agent].join("\n---\n"));
        translate(&known, observed, facts).workload("web").mesh_capable
    };
    let capable = |agent: &str, observed: &Observed| capable_of(&of(&["web"]), agent, observed);
    let unknown = Observed::default();
    assert!(capable(&agent("True"), &unknown), "it was downgraded because nobody has asked its agent");
    assert!(!capable(&agent("False"), &unknown), "its node's agent has never served");
    let other = agent("True").replace("serviceAccountName: weft-agent", "serviceAccountName: other");
    assert!(!capable(&other, &unknown));
    assert!(!capable_of(&of(&["other"]), &agent("True"), &unknown), "nobody can have had it enrolled before us");
    let spoken = Observed { spoken: BTreeSet::from(["one".parse().unwrap()]), ..Observed::default() };
    assert!(!capable(&agent("True"), &spoken), "its agent has said that it does not serve it");
}

#[test]
fn a_stand_in_decides_for_every_pod_of_its_namespace_whatever_others_say() {
    let specific = policy(
        "AuthenticationPolicy",
        "web",
        "",
        "  targetRefs: [{kind: Service, name: web}]\n  server: {mtls: Permissive}",
    );
    let mut known = objects(&[SHOP, &web("", ""), SERVICE, &specific].join("\n---\n"));
    let strict = |known: &Objects| translate(known, &Observed::default(), &facts()).web();
    assert_eq!(strict(&known).mtls, i32::from(v1::MtlsMode::Permissive));
    let stand_in = crate::object::AuthenticationPolicy::stand_in("shop", "broken");
    known.insert(crate::object::Object::AuthenticationPolicy(Arc::new(stand_in)));
    assert_eq!((strict(&known).mtls, strict(&known).ports.len()), (i32::from(v1::MtlsMode::Strict), 0));
}
