//! Translation as a table: objects as users write them, and what agents receive.

mod calls;
mod cluster;
mod connections;
mod grants;
mod parts;
mod places;
mod policies;
mod routes;
mod services;
mod sessions;
mod traffic;
mod x_backends;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weft_proto::resource;
use weft_proto::v1::{self, resource::Body};

use super::part::bounded;
use super::*;
use crate::limits;
use crate::source::Directory;
use crate::status::{PolicyCondition, Reason};

/// Reads objects the way users write them.
fn objects(text: &str) -> Objects {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    let reading = Directory::impatient(folder.path(), folder.path().join("kept.json")).read(&BTreeSet::new());
    assert_eq!(reading.defects, [], "the test's own objects are broken");
    reading.objects
}

fn facts() -> Facts {
    Facts {
        trust_domain: "cluster.local".parse().unwrap(),
        lease: Duration::from_secs(10),
        roots_der: vec![vec![1]],
        agents: None,
        inherited: None,
    }
}

/// What all parts come to together.
#[derive(Debug, Default)]
struct Translation {
    shared: Resources,
    nodes: BTreeMap<NodeName, Resources>,
    conditions: Conditions,
    findings: BTreeSet<Finding>,
}

fn translate(objects: &Objects, observed: &Observed, facts: &Facts) -> Translation {
    whole(&Translator::default().translate(objects, observed, facts))
}

fn whole(parts: &Parts) -> Translation {
    let mut whole = Translation::default();
    let mut names = BTreeSet::new();
    for part in parts.values() {
        whole.shared.extend(part.portion.shared.clone());
        for name in part.portion.shared.keys() {
            assert!(names.insert(name.clone()), "{name} is in two portions");
        }
        for (node, own) in &part.portion.nodes {
            let all = whole.nodes.entry(node.clone()).or_default();
            for (name, resource) in own {
                assert!(all.insert(name.clone(), resource.clone()).is_none(), "{name} is in two portions");
            }
        }
        whole.conditions.extend(Conditions::clone(&part.conditions));
        whole.findings.extend(part.findings.clone());
    }
    whole
}

fn all(objects: &[&str]) -> Translation {
    observed(objects, &Observed::default())
}

fn observed(parts: &[&str], observed: &Observed) -> Translation {
    translate(&objects(&parts.join("\n---\n")), observed, &facts())
}

fn namespace(name: &str, labels: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {weft.dev/capture: enabled}}\n";

/// `more` goes into the metadata, `spec` into the spec, `status` into the status.
fn pod(name: &str, address: &str, more: &str, spec: &str, status: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: shop\n  uid: {name}\n{more}\n\
         spec:\n  nodeName: one\n  serviceAccountName: {name}\n{spec}\nstatus:\n  podIP: {address}\n{status}\n"
    )
}

fn web(more_labels: &str, more_annotations: &str) -> String {
    let metadata = format!(
        "  labels: {{app: web{more_labels}}}\n  annotations: {{weft.dev/netns: /run/netns/web{more_annotations}}}"
    );
    let spec = "  containers: [{ports: [{name: http, containerPort: 8080}, {containerPort: 9090}]}]";
    pod("web", "10.1.0.2", &metadata, spec, "")
}

fn policy(kind: &str, name: &str, created: &str, spec: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop{created}}}\nspec:\n{spec}\n"
    )
}

fn mesh(spec: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: default}}\nspec:\n  networks: {{pods: [10.1.0.0/16]}}\n{spec}\n"
    )
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  \
     clusterIP: 10.96.0.2\n  selector: {app: web}\n  ports: [{name: http, port: 80, targetPort: http}, {name: admin, port: 81, targetPort: 9090}]\n";

/// `address:port=workload`.
fn written(endpoint: &v1::Endpoint) -> String {
    let address = match endpoint.address.len() {
        4 => std::net::IpAddr::from(<[u8; 4]>::try_from(endpoint.address.as_slice()).unwrap()),
        _ => std::net::IpAddr::from(<[u8; 16]>::try_from(endpoint.address.as_slice()).unwrap()),
    };
    format!("{}={}", std::net::SocketAddr::new(address, endpoint.port.try_into().unwrap()), endpoint.workload)
}

impl Translation {
    fn workload(&self, uid: &str) -> v1::Workload {
        match self.shared.get(format!("workload/{uid}").as_str()).and_then(|found| found.body.clone()) {
            Some(Body::Workload(workload)) => workload,
            other => panic!("workload {uid} is {other:?}"),
        }
    }

    fn enrolment(&self, uid: &str) -> Option<v1::Enrolment> {
        let body = self.told(&format!("enrolment/{uid}"))?;
        let Body::Enrolment(enrolment) = body else { panic!("enrolment {uid} is {body:?}") };
        Some(enrolment)
    }

    fn observation(&self, uid: &str) -> Option<v1::Enrolment> {
        let body = self.told(&format!("observation/{uid}"))?;
        let Body::Observation(observation) = body else { panic!("observation {uid} is {body:?}") };
        observation.enrolment
    }

    fn way_of_newcomers(&self, namespace: &str) -> Option<v1::FailureMode> {
        let body = self.shared.get(format!("namespace/{namespace}").as_str())?.body.clone()?;
        let Body::Namespace(row) = body else { panic!("namespace {namespace} is {body:?}") };
        Some(row.on_agent_failure())
    }

    /// What one node alone receives under this name.
    fn told(&self, name: &str) -> Option<Body> {
        self.nodes.values().find_map(|own| own.get(name))?.body.clone()
    }

    fn web(&self) -> v1::Enrolment {
        self.enrolment("web").expect("web is enrolled")
    }

    fn authorization(&self, name: &str) -> v1::AuthorizationPolicy {
        let own = self.nodes.values().find_map(|own| own.get(name));
        match own.or_else(|| self.shared.get(name)).and_then(|found| found.body.clone()) {
            Some(Body::Authorization(policy)) => policy,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn service_row(&self, name: &str) -> v1::Service {
        let found = self.shared.get(format!("service/shop/{name}").as_str()).and_then(|found| found.body.clone());
        let Some(Body::Service(service)) = found else { panic!("service {name} is {found:?}") };
        service
    }

    /// `port: address:port=workload,...` per port.
    fn service(&self, name: &str) -> Vec<String> {
        let service = self.service_row(name);
        let ports = service.ports.iter();
        ports
            .map(|port| format!("{}: {}", port.port, port.endpoints.iter().map(written).collect::<Vec<_>>().join(",")))
            .collect()
    }

    fn found(&self, part: &str) -> bool {
        self.findings.iter().any(|finding| finding.message.contains(part))
    }

    fn reasons(&self, name: &str) -> Vec<Reason> {
        let conditions = self.conditions.iter().filter(|(key, _)| key.name == name);
        conditions.flat_map(|(_, conditions)| conditions.iter().map(|condition| condition.reason)).collect()
    }
}

#[test]
fn a_captured_pod_is_enrolled_on_its_node_alone() {
    let out = all(&[SHOP, &web("", "")]);
    assert_eq!(out.nodes.keys().map(ToString::to_string).collect::<Vec<_>>(), ["one"]);
    let enrolment = out.web();
    assert_eq!(enrolment.netns, "/run/netns/web");
    assert_eq!((enrolment.mtls(), enrolment.on_agent_failure()), (v1::MtlsMode::Permissive, v1::FailureMode::Open));
    assert_eq!(enrolment.mtls_policy, "default");
    let workload = out.workload("web");
    assert_eq!((workload.application.as_str(), workload.node.as_str()), ("web", "one"));
    assert_eq!(workload.addresses, [vec![10, 1, 0, 2]]);
    assert!(!workload.mesh_capable);
}

#[test]
fn a_pod_narrows_what_its_namespace_permits_and_never_widens_it() {
    let strict = policy("AuthenticationPolicy", "strict", "", "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}");
    let locked = mesh("  enforced: {podsMayOptOut: false}");
    let free = mesh("  enforced: {podsMayOptOut: true}");
    for (title, namespace_says, pod_says, more, captured, refused) in [
        ("the namespace's word", "enabled", "", vec![], true, false),
        ("no word", "", "", vec![], false, false),
        ("a pod opts out", "enabled", "disabled", vec![], false, false),
        ("a pod opts in alone", "", "enabled", vec![], false, true),
        ("a pod opts in against its namespace", "disabled", "enabled", vec![], false, true),
        ("a strict pod opts out", "enabled", "disabled", vec![&strict], true, true),
        ("a strict pod opts out where it may", "enabled", "disabled", vec![&strict, &free], false, false),
        ("a pod opts out where none may", "enabled", "disabled", vec![&locked], true, true),
        ("observed, not captured", "observe", "", vec![], false, false),
        ("a pod is only observed", "enabled", "observe", vec![], false, false),
        ("a strict pod is only observed", "enabled", "observe", vec![&strict], true, true),
        ("a pod opts in where it is to be observed", "observe", "enabled", vec![], false, true),
    ] {
        let label = |value: &str| if value.is_empty() { String::new() } else { format!("weft.dev/capture: {value}") };
        let pod_label = if pod_says.is_empty() { String::new() } else { format!(", {}", label(pod_says)) };
        let (space, web) = (namespace("shop", &label(namespace_says)), web(&pod_label, ""));
        let mut parts = vec![space.as_str(), web.as_str()];
        parts.extend(more.iter().map(|text| text.as_str()));
        let out = all(&parts);
        assert_eq!(out.enrolment("web").is_some(), captured, "{title}");
        assert_eq!(out.found("refused"), refused, "{title}: {:?}", out.findings);
    }
}

#[test]
fn a_captured_namespace_says_what_becomes_of_pods_that_nobody_tells_of() {
    let authentication = |name: &str, created: &str, target: &str, mtls: &str| {
        let spec = format!("  targetRefs: [{target}]\n  server: {{mtls: {mtls}}}");
        policy("AuthenticationPolicy", name, &format!(", creationTimestamp: \"{created}\""), &spec)
    };
    let all_pods = "{kind: Pod}";
    let some_pods = "{kind: Pod, selector: {matchLabels: {app: web}}}";
    let strict = authentication("strict", "2026-01-02T00:00:00Z", all_pods, "Strict");
    let older = authentication("older", "2026-01-01T00:00:00Z", all_pods, "Permissive");
    let partly = authentication("partly", "2026-01-01T00:00:00Z", some_pods, "Strict");
    let floor = mesh("  enforced: {minimumFailureMode: Closed}");
    let removing = mesh("  state: Removing");
    let (open, closed) = (Some(v1::FailureMode::Open), Some(v1::FailureMode::Closed));
    for (title, name, labels, more, way) in [
        ("captured", "shop", "weft.dev/capture: enabled", vec![], open),
        ("fails closed", "shop", "weft.dev/capture: enabled, weft.dev/on-agent-failure: closed", vec![], closed),
        ("strict", "shop", "weft.dev/capture: enabled", vec![&strict], closed),
        ("permissive by an older policy", "shop", "weft.dev/capture: enabled", vec![&strict, &older], open),
        ("some pods are strict", "shop", "weft.dev/capture: enabled", vec![&partly], open),
        ("the operator's floor", "shop", "weft.dev/capture: enabled", vec![&floor], closed),
        ("observed", "shop", "weft.dev/capture: observe, weft.dev/on-agent-failure: closed", vec![], None),
        ("no word", "shop", "weft.dev/on-agent-failure: closed", vec![], None),
        (
            "the cluster's own",
            "kube-system",
            "weft.dev/capture: enabled, weft.dev/on-agent-failure: closed",
            vec![],
            open,
        ),
        ("a mesh that is removed", "shop", "weft.dev/capture: enabled", vec![&strict, &removing], None),
    ] {
        let space = namespace(name, labels);
        let mut parts = vec![space.as_str()];
        parts.extend(more.iter().map(|text| text.as_str()));
        let out = all(&parts);
        assert_eq!(out.way_of_newcomers(name), way, "{title}");
    }
}

#[test]
fn an_observed_pod_is_told_to_its_node_as_it_would_be_captured() {
    let space = namespace("shop", "weft.dev/capture: observe");
    let strict = policy("AuthenticationPolicy", "strict", "", "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}");
    let out = all(&[&space, &web("", ""), &strict]);
    assert!(out.enrolment("web").is_none() && !out.workload("web").mesh_capable);
    let observed = out.observation("web").expect("not observed");
    assert_eq!((observed.uid.as_str(), observed.netns.as_str()), ("web", "/run/netns/web"));
    assert_eq!((observed.mtls(), observed.mtls_policy.as_str()), (v1::MtlsMode::Strict, "shop/strict"));
    let host = all(&[&space, &pod("host", "10.1.0.9", "", "  hostNetwork: true", "")]);
    assert!(host.observation("host").is_none() && host.found("not observed although"));
    let removing = all(&[&space, &web("", ""), &mesh("  state: Removing")]);
    assert!(removing.observation("web").is_none());
}

#[test]
fn what_cannot_be_captured_says_why_and_is_not_enrolled() {
    let netns = "  annotations: {weft.dev/netns: /n}";
    for (name, metadata, spec, why) in [
        ("host", netns, "  hostNetwork: true", "node's network"),
        ("mirror", "  annotations: {weft.dev/netns: /n, kubernetes.io/config.mirror: x}", "", "mirror"),
        ("windows", netns, "  os: {name: windows}", "windows"),
        ("sandboxed", netns, "  runtimeClassName: gvisor", "gvisor"),
    ] {
        let out = all(&[SHOP, &pod(name, "10.1.0.9", metadata, spec, "")]);
        assert!(out.workload(name).not_capturable.contains(why), "{name}: {}", out.workload(name).not_capturable);
        assert!(out.enrolment(name).is_none(), "{name}");
        assert!(out.found("not captured although"), "{name}");
    }
    // Its agent finds a pod by its uid; a person's pod may have none.
    let uid = pod("bare", "10.1.0.9", "", "", "");
    assert_eq!(all(&[SHOP, &uid]).enrolment("bare").expect("enrolled").netns, "");
    let bare = all(&[SHOP, &uid.replace("  uid: bare\n", "")]);
    assert!(bare.shared.values().any(|resource| match &resource.body {
        Some(Body::Workload(row)) => row.not_capturable.contains("weft.dev/netns"),
        _ => false,
    }));
    let nobody = pod("nobody", "10.1.0.9", netns, "", "").replace("  serviceAccountName: nobody\n", "");
    assert!(all(&[SHOP, &nobody]).workload("nobody").not_capturable.contains("no service account"));
}

#[test]
fn addresses_belong_to_live_undisputed_pods() {
    let other = |status: &str| pod("other", "10.1.0.2", "", "", status);
    let finished = all(&[SHOP, &web("", ""), &other("  phase: Succeeded")]);
    assert_eq!(finished.workload("web").addresses.len(), 1);
    assert!(!finished.shared.contains_key("workload/other"), "a finished pod is there");
    let disputed = all(&[SHOP, &web("", ""), &other("")]);
    assert!(disputed.workload("web").addresses.is_empty() && disputed.workload("other").addresses.is_empty());
    assert!(disputed.found("claimed by Pod shop/other too"));
    assert!(disputed.web().refused[0].contains("Pod shop/other"));
    let served = all(&[SHOP, &web("", ""), &other(""), SERVICE]);
    assert_eq!(served.service("web"), ["80: ", "81: "], "nobody knows who answers at a disputed address");
    let host = all(&[SHOP, &web("", ""), &pod("host", "10.1.0.2", "", "  hostNetwork: true", "")]);
    assert_eq!(host.workload("web").addresses.len(), 1, "a pod on the host's network claims no address");
}

#[test]
fn a_network_namespace_is_one_pods() {
    let other = |path: &str, status: &str| {
        pod("other", "10.1.0.3", &format!("  annotations: {{weft.dev/netns: {path}}}"), "", status)
    };
    let shared = all(&[SHOP, &web("", ""), &other("/run//netns/./web", "")]);
    for name in ["web", "other"] {
        assert!(shared.enrolment(name).is_none(), "{name}");
        assert!(shared.workload(name).not_capturable.contains("network namespace is named by"), "{name}");
    }
    assert!(shared.found("named by Pod shop/other too") && shared.found("named by Pod shop/web too"));
    assert!(all(&[SHOP, &web("", ""), &other("/run/netns/web", "  phase: Succeeded")]).enrolment("web").is_some());
    let elsewhere = other("/run/netns/web", "").replace("nodeName: one", "nodeName: two");
    assert!(all(&[SHOP, &web("", ""), &elsewhere]).enrolment("web").is_some());
}

#[test]
fn a_service_has_a_bounded_number_of_ports_and_endpoints() {
    let ports: Vec<String> =
        (1..=65).map(|port| format!("{{name: p{port}, port: {port}, targetPort: 8080}}")).collect();
    let addresses: Vec<String> = (0..500).map(|number| format!("10.2.{}.{}", number / 250, number % 250)).collect();
    let slice_ports: Vec<String> = (1..=65).map(|port| format!("{{name: p{port}, port: 8080}}")).collect();
    let slice = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv4\nports: [{}]\nendpoints: [{{addresses: [{}]}}]\n",
        slice_ports.join(", "),
        addresses.join(", ")
    );
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {{ports: [{}]}}\n",
        ports.join(", ")
    );
    let out = all(&[SHOP, &service, &slice]);
    let Some(Body::Service(found)) = out.shared["service/shop/web"].body.clone() else { panic!("no service") };
    assert_eq!(found.ports.len(), 64);
    assert_eq!(found.ports.iter().map(|port| port.endpoints.len()).sum::<usize>(), 30_000);
    assert!(out.found("more than 64 ports") && out.found("more than 30000 endpoints"));
}

#[test]
fn a_resource_that_no_agent_could_receive_goes_without_its_body() {
    let netns = "x".repeat(limits::RESOURCE_BYTES);
    let body = Body::Enrolment(v1::Enrolment { uid: "web".to_owned(), netns, ..v1::Enrolment::default() });
    let whole = resource::versioned("enrolment/web".to_owned(), vec!["f".to_owned()], body);
    let mut findings = BTreeSet::new();
    let sent = bounded(whole.clone(), &mut findings);
    assert_eq!((sent.name.as_str(), sent.requires.len(), &sent.body), ("enrolment/web", 1, &None));
    assert_ne!(sent.version, whole.version, "an agent that holds the whole one would keep it");
    assert_eq!(findings.len(), 1);
}

#[test]
fn plaintext_is_permitted_only_for_permissive_fail_open_workloads_of_a_node_that_is_gone() {
    let uid: WorkloadUid = "web".parse().unwrap();
    let node: NodeName = "one".parse().unwrap();
    let capable = BTreeMap::from([(node.clone(), Arc::new(BTreeSet::from([uid])))]);
    let gone = Observed { capable: capable.clone(), gone: BTreeSet::from([node]), ..Observed::default() };
    let live = Observed { capable, ..Observed::default() };
    let strict = policy("AuthenticationPolicy", "strict", "", "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}");
    let one_port = policy(
        "AuthenticationPolicy",
        "port",
        "",
        "  targetRefs: [{kind: Pod}]\n  server: {mtls: Permissive, ports: [{port: 9090, mtls: Strict}]}",
    );
    let other_port = one_port.replace("mtls: Strict", "mtls: Kept").replace("mtls: Permissive", "mtls: Strict");
    let other_port = other_port.replace("mtls: Kept", "mtls: Permissive");
    let closed = namespace("shop", "weft.dev/capture: enabled, weft.dev/on-agent-failure: closed");
    let strict_open = namespace("shop", "weft.dev/capture: enabled, weft.dev/on-agent-failure: open");
    for (title, space, more, seen, expected) in [
        ("gone", SHOP, "", &gone, (true, true)),
        ("live", SHOP, "", &live, (true, false)),
        ("closed", closed.as_str(), "", &gone, (true, false)),
        ("strict", SHOP, strict.as_str(), &gone, (true, false)),
        ("one strict port", SHOP, one_port.as_str(), &gone, (true, false)),
        ("one strict port, labelled open", strict_open.as_str(), one_port.as_str(), &gone, (true, false)),
        ("one permissive port, labelled open", strict_open.as_str(), other_port.as_str(), &gone, (true, false)),
        ("strict, labelled open", strict_open.as_str(), strict.as_str(), &gone, (true, false)),
        ("not captured", "", "", &gone, (false, false)),
    ] {
        let out = observed(&[space, &web("", ""), more], seen);
        let workload = out.workload("web");
        assert_eq!((workload.mesh_capable, workload.plaintext_permitted), expected, "{title}");
    }
}

#[test]
fn settings_say_what_is_captured_and_whose_trust_counts() {
    let out = all(&[&mesh(
        "  neverCapture: ['10.96.0.1:443']\n  trustDomain: other.example\n  trustDomainAliases: [old.example]",
    )]);
    let Some(Body::Settings(settings)) = out.shared["settings"].body.clone() else { panic!("no settings") };
    assert_eq!(settings.captured_cidrs, ["10.1.0.0/16"]);
    assert_eq!(settings.never_captured, ["10.96.0.1:443"]);
    assert_eq!((settings.trust_domain.as_str(), settings.lease_ms), ("cluster.local", 10_000));
    assert_eq!(settings.trust_domain_aliases, ["old.example"]);
    assert!(out.found("other.example"));
}

proptest! {
    // Each case writes and reads files.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Pure: the order of objects in their files changes nothing, and the same objects give the same versions.
    #[test]
    fn order_changes_nothing(seed in any::<[u8; 12]>()) {
        let strict = policy("AuthenticationPolicy", "strict", "", "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}");
        let allow = policy("AuthorizationPolicy", "allow", "", "  targetRefs: [{kind: Service, name: web}]\n  action: Allow\n  rules: []");
        let (one, other) = (web("", ""), pod("other", "10.1.0.7", "", "", ""));
        let ordered = [SHOP, one.as_str(), other.as_str(), SERVICE, strict.as_str(), allow.as_str()];
        let mut shuffled: Vec<(u8, &str)> = seed.iter().copied().zip(ordered).collect();
        shuffled.sort_unstable();
        let shuffled: Vec<&str> = shuffled.into_iter().map(|(_, text)| text).collect();
        let (left, right) = (all(&ordered), all(&shuffled));
        prop_assert_eq!(left.shared, right.shared);
        prop_assert_eq!(left.nodes, right.nodes);
    }

    /// Whatever pods claim, no address has two owners, and nobody owns one that it does not claim.
    #[test]
    fn no_address_has_two_owners(claims in proptest::collection::vec((0_u8..6, any::<bool>()), 0..10)) {
        let pods: Vec<String> = claims.iter().enumerate().map(|(index, (address, finished))| {
            pod(&format!("p{index}"), &format!("10.1.0.{address}"), "", "", if *finished { "  phase: Failed" } else { "" })
        }).collect();
        let mut parts = vec![SHOP];
        parts.extend(pods.iter().map(String::as_str));
        let out = all(&parts);
        for (address, _) in &claims {
            let live: Vec<usize> = (0..claims.len()).filter(|index| claims[*index] == (*address, false)).collect();
            let owners: Vec<usize> = live.iter().copied().filter(|index| !out.workload(&format!("p{index}")).addresses.is_empty()).collect();
            prop_assert_eq!(owners, if live.len() == 1 { live } else { vec![] });
        }
    }
}
