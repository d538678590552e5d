//! A translation that remembers says what one says that has never seen anything before.

use super::*;
use crate::object::Object;
use crate::store::Contents;

/// One object, as several people would write it.
type Versions = Vec<Object>;

pub fn only(text: &str) -> Object {
    let all = objects(text);
    let within = all.namespaces.values().next().map(|contents| Contents::clone(contents)).unwrap_or_default();
    let route = within.routes().next().cloned().map(Object::Route);
    let kinds = [
        all.mesh_config.map(Object::MeshConfig),
        all.nodes.values().next().cloned().map(Object::Node),
        all.callers.values().next().cloned().map(Object::Caller),
        route,
        within.namespace.map(Object::Namespace),
        within.pods.values().next().cloned().map(Object::Pod),
        within.services.values().next().cloned().map(Object::Service),
        within.endpoint_slices.values().next().cloned().map(Object::EndpointSlice),
        within.authentication.values().next().cloned().map(Object::AuthenticationPolicy),
        within.authorization.values().next().cloned().map(Object::AuthorizationPolicy),
        within.traffic.values().next().cloned().map(Object::TrafficPolicy),
        within.backend_traffic.values().next().cloned().map(Object::BackendTrafficPolicy),
        within.backends.values().next().cloned().map(Object::XBackend),
        within.grants.values().next().cloned().map(Object::ReferenceGrant),
    ];
    kinds.into_iter().flatten().next().expect("the text is of one object")
}

fn in_bank(text: &str) -> String {
    text.replace("namespace: shop", "namespace: bank")
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  {spec}\n  \
         ports: [{{name: http, port: 80, targetPort: 8080}}]\n"
    )
}

fn route(kind: &str, name: &str, parent: &str, backend: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, {parent}, port: 80}}]\n  rules: [{{backendRefs: [{{{backend}, port: 80}}]}}]\n"
    )
}

fn slice(addresses: &str, more: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\n\
         ports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [{addresses}]{more}}}]\n"
    )
}

/// Namespaces, nodes, and what holds for all.
fn places() -> Vec<Vec<String>> {
    let node =
        |range: &str| format!("apiVersion: v1\nkind: Node\nmetadata: {{name: one}}\nspec: {{podCIDR: {range}}}\n");
    let in_zone = node("10.1.0.0/24").replace("name: one", "name: one, labels: {topology.kubernetes.io/zone: a}");
    let by_node = mesh("").replace("10.1.0.0/16]", "10.1.0.0/16], services: [10.96.0.0/12], byNode: true");
    let webhook = |service: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {{name: hook}}\n\
             webhooks: [{{name: hook.example.org, clientConfig: {{service: {{{service}, port: 80}}}}}}]\n"
        )
    };
    vec![
        vec![webhook("namespace: shop, name: web"), webhook("namespace: bank, name: till")],
        vec![
            mesh(""),
            by_node,
            mesh("  defaults: {mtls: Strict}"),
            mesh("  enforced: {minimumMtls: Strict}"),
            mesh("  enforced: {crossNamespaceBackends: GrantRequired}"),
        ],
        vec![node("10.1.0.0/24"), node("10.1.1.0/24"), in_zone],
        vec![
            namespace("shop", "weft.dev/capture: enabled"),
            namespace("shop", "weft.dev/capture: disabled"),
            namespace("shop", "weft.dev/capture: enabled, weft.dev/on-agent-failure: closed"),
        ],
        vec![namespace("bank", "weft.dev/capture: enabled"), namespace("bank", "")],
    ]
}

fn pods() -> Vec<Vec<String>> {
    let till = |address: &str| in_bank(&pod("till", address, "  labels: {app: till}", "", ""));
    let agent = |ready: &str| {
        let status = format!("  conditions: [{{type: Ready, status: '{ready}'}}]");
        pod("weft-agent", "10.0.0.1", "", "  hostNetwork: true", &status)
            .replace("namespace: shop", "namespace: weft-system")
    };
    let shares = pod("till", "10.1.0.9", "  annotations: {weft.dev/netns: /run/netns/web}", "", "");
    let finished = pod("api", "10.1.0.2", "", "", "  phase: Succeeded");
    vec![
        vec![web("", ""), web("", ", weft.dev/exclude-inbound-ports: '9090'"), web(", weft.dev/capture: disabled", "")],
        vec![pod("api", "10.1.0.3", "", "", ""), pod("api", "10.1.0.2", "", "", ""), finished],
        vec![till("10.1.0.2"), till("10.1.1.4"), till("10.96.0.2"), in_bank(&shares)],
        vec![agent("True"), agent("False")],
    ]
}

fn services() -> Vec<Vec<String>> {
    let till = |spec: &str| in_bank(&service("till", spec));
    vec![
        vec![
            SERVICE.to_owned(),
            service("web", "clusterIP: 10.96.0.2\n  selector: {app: web}\n  externalIPs: [192.0.2.1]"),
        ],
        vec![
            till("clusterIP: 10.96.0.3\n  selector: {app: till}"),
            till("clusterIP: 10.96.0.3\n  selector: {app: till}\n  externalIPs: [192.0.2.1, 10.1.0.3]"),
            till("clusterIP: 10.96.0.2\n  selector: {app: till}"),
            till("type: ExternalName\n  externalName: example.org"),
            till("clusterIP: 10.96.0.3\n  selector: {app: till}\n  trafficDistribution: PreferClose"),
        ],
        vec![
            slice("10.1.0.2", ""),
            slice("10.1.1.4", ""),
            slice("10.1.0.2", ", targetRef: {kind: Pod, name: web, namespace: shop}"),
        ],
    ]
}

fn policies() -> Vec<Vec<String>> {
    let strict = |name: &str, created: &str| {
        policy("AuthenticationPolicy", name, created, "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}")
    };
    let timed = |timeout: &str| {
        let spec = format!("  targetRefs: [{{kind: Service, name: till}}]\n  requestTimeout: {timeout}");
        in_bank(&policy("TrafficPolicy", "till", "", &spec))
    };
    let allow = |target: &str| {
        let spec = format!("  targetRefs: [{target}]\n  action: Allow\n  rules: [{{from: [{{namespaces: [bank]}}]}}]");
        policy("AuthorizationPolicy", "allow", "", &spec)
    };
    vec![
        vec![allow("{kind: Pod}"), allow("{kind: Service, name: web}")],
        vec![strict("strict", "")],
        vec![strict("older", ", creationTimestamp: '2020-01-01T00:00:00Z'")],
        vec![timed("1s"), timed("2s")],
        vec![
            in_bank(&traffic::constraint("calm", "", "till", "")),
            in_bank(&traffic::constraint("calm", "", "web", "")),
        ],
        // A consumer's, a producer's, and one that is stronger.
        vec![
            route("HTTPRoute", "mine", "name: till, namespace: bank", "name: web"),
            route("HTTPRoute", "mine", "name: web", "name: till, namespace: bank"),
        ],
        vec![in_bank(&route("HTTPRoute", "theirs", "name: till", "name: web, namespace: shop"))],
        vec![in_bank(&route("GRPCRoute", "calls", "name: till", "name: till"))],
        vec![in_bank(&route("TCPRoute", "lines", "name: till", "name: web, namespace: shop"))],
        vec![grants::grant("shop", "TCPRoute", "bank", ""), grants::grant("shop", "HTTPRoute", "bank", "name: web")],
        vec![grants::grant("bank", "HTTPRoute", "shop", "name: till")],
        vec![
            x_backends::x_backend("cart", "app: web", ""),
            x_backends::x_backend("cart", "app: api", ", protocol: TCP"),
        ],
        vec![
            route("HTTPRoute", "cart", "name: web", "name: web").replace("{name: web, port: 80}", x_backends::TO_CART),
        ],
    ]
}

fn cast() -> Vec<Versions> {
    let all = [places(), pods(), services(), policies()];
    all.into_iter().flatten().map(|versions| versions.iter().map(|text| only(text)).collect()).collect()
}

/// What agents say, by a number.
fn said(number: u8) -> Observed {
    let uids = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<WorkloadUid>>();
    let one: NodeName = "one".parse().unwrap();
    let only = |yes: bool| yes.then(|| one.clone()).into_iter().collect::<BTreeSet<_>>();
    let capable = [uids(&[]), uids(&["web"]), uids(&["web", "till"])][usize::from(number % 3)].clone();
    Observed {
        capable: BTreeMap::from([(one.clone(), Arc::new(capable))]),
        spoken: only((number / 3).is_multiple_of(2)),
        gone: only(!(number / 6).is_multiple_of(2)),
    }
}

fn in_a_cluster() -> Facts {
    let agents = Agents { namespace: "weft-system".to_owned(), service_account: "weft-agent".to_owned() };
    let inherited = Some(Arc::new(BTreeSet::from(["web".parse().unwrap()])));
    Facts { agents: Some(agents), inherited, ..facts() }
}

fn check(steps: &[(usize, usize, u8)], cast: &[Versions]) {
    let facts = in_a_cluster();
    let (mut remembers, mut known) = (Translator::default(), Objects::default());
    for (who, version, number) in steps {
        let versions = &cast[who % cast.len()];
        match versions.get(version % (versions.len() + 1)) {
            Some(object) => drop(known.insert(object.clone())),
            None => drop(known.remove(&versions[0].key())),
        }
        let observed = said(*number);
        let (one, other) = (
            whole(&remembers.translate(&known, &observed, &facts)),
            whole(&Translator::default().translate(&known, &observed, &facts)),
        );
        assert_eq!(one.shared, other.shared);
        assert_eq!(one.nodes, other.nodes);
        assert_eq!(one.conditions, other.conditions);
        assert_eq!(one.findings, other.findings);
    }
}

#[test]
fn what_is_remembered_is_what_would_be_made_anew() {
    let cast = cast();
    // Everything first, so that what comes after it is about something.
    let everything: Vec<_> = (0..cast.len()).map(|who| (who, 0, 4)).collect();
    proptest!(ProptestConfig::with_cases(200), |(
        steps in proptest::collection::vec((0_usize..100, 0_usize..100, 0_u8..12), 1..30),
    )| {
        check(&[&everything[..], &steps].concat(), &cast);
    });
}

#[test]
fn a_change_of_one_namespace_leaves_the_others_parts_alone() {
    let both = [SHOP, &web("", ""), SERVICE, &namespace("bank", "weft.dev/capture: enabled"), &mesh("")];
    let mut known = objects(&both.join("\n---\n"));
    let mut translator = Translator::default();
    let before = translator.translate(&known, &Observed::default(), &facts());
    known.insert(only(&in_bank(&pod("till", "10.1.0.9", "", "", ""))));
    let after = translator.translate(&known, &Observed::default(), &facts());
    assert!(Arc::ptr_eq(&before["shop"], &after["shop"]), "it was made again");
    assert!(!Arc::ptr_eq(&before["bank"], &after["bank"]), "it was not made again");
}
