//! Pods that the API server calls take its TLS, and nobody needs to say so.

use super::*;

const STRICT: &str = "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}";
const CALLED: &str = "{namespace: shop, name: web";

fn webhooks(kind: &str, service: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}\nmetadata: {{name: guard}}\n\
         webhooks: [{{name: a.example.com, clientConfig: {{url: 'https://elsewhere.example.com'}}}},\n           \
         {{name: b.example.com, clientConfig: {{caBundle: Cg==, service: {service}}}, rules: []}}]\n"
    )
}

/// Ports, from anywhere, TLS alone, and the reason of each exemption.
fn exempted(out: &Translation) -> Vec<String> {
    let line = |one: &v1::Exemption| format!("{:?} {} {} {}", one.ports, one.any, one.tls_only, one.reason);
    out.web().exemptions.iter().map(line).collect()
}

#[test]
fn every_kind_of_caller_opens_exactly_the_target_port() {
    let strict = policy("AuthenticationPolicy", "strict", "", STRICT);
    let api = format!(
        "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: v1.metrics.k8s.io}}\nspec: {{service: {CALLED}, port: 80}}}}\n"
    );
    let definition = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: things.example.com}}\n\
         spec: {{conversion: {{strategy: Webhook, webhook: {{clientConfig: {{service: {CALLED}, port: 80, path: /c}}}}}}}}}}\n"
    );
    for (caller, name) in [
        (
            webhooks("ValidatingWebhookConfiguration", &format!("{CALLED}, port: 80}}")),
            "ValidatingWebhookConfiguration guard",
        ),
        (
            webhooks("MutatingWebhookConfiguration", &format!("{CALLED}, port: 80}}")),
            "MutatingWebhookConfiguration guard",
        ),
        (api, "APIService v1.metrics.k8s.io"),
        (definition, "CustomResourceDefinition things.example.com"),
    ] {
        let out = all(&[SHOP, &web("", ""), SERVICE, &strict, &caller]);
        assert_eq!(exempted(&out), [format!("[8080] true true the API server calls it ({name})")]);
        assert_eq!(out.web().mtls(), v1::MtlsMode::Strict, "other ports are as strict as before");
        // Nobody but an administrator writes such objects, so the floor does not shut the cluster's own server out.
        let floor = mesh("  enforced: {minimumMtls: Strict}");
        assert_eq!(exempted(&all(&[SHOP, &web("", ""), SERVICE, &floor, &caller])).len(), 1, "{name}");
    }
}

#[test]
fn new_pods_of_a_called_namespace_are_not_refused_without_a_controller() {
    let strict = policy("AuthenticationPolicy", "strict", "", STRICT);
    let caller = webhooks("ValidatingWebhookConfiguration", &format!("{CALLED}, port: 80}}"));
    assert_eq!(all(&[SHOP, SERVICE, &strict]).way_of_newcomers("shop"), Some(v1::FailureMode::Closed));
    // Also while it has no pod: the next one is waited for before anything else may begin.
    assert_eq!(all(&[SHOP, SERVICE, &strict, &caller]).way_of_newcomers("shop"), Some(v1::FailureMode::Open));
}

#[test]
fn what_is_not_called_needs_no_exemption_and_what_is_not_strict_yet_has_it() {
    let strict = policy("AuthenticationPolicy", "strict", "", STRICT);
    let one_port = "  targetRefs: [{kind: Pod}]\n  server: {mtls: Permissive, ports: [{port: 9090, mtls: Strict}]}";
    let one_port = policy("AuthenticationPolicy", "strict", "", one_port);
    let caller = |more: &str| webhooks("ValidatingWebhookConfiguration", &format!("{CALLED}{more}}}"));
    let selectorless = SERVICE.replace("  selector: {app: web}\n", "");
    let other = "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1.}\nspec: {version: v1}\n";
    for (title, caller, service, policy, expected) in [
        ("the default port is not there", caller(""), SERVICE, &strict, 0),
        ("the port is not there", caller(", port: 82"), SERVICE, &strict, 0),
        ("another Service", caller(", port: 80").replace("name: web", "name: api"), SERVICE, &strict, 0),
        ("no selector", caller(", port: 80"), &selectorless, &strict, 0),
        ("permissive there", caller(", port: 80"), SERVICE, &one_port, 1),
        ("strict there", caller(", port: 81"), SERVICE, &one_port, 1),
        ("an API that the API server serves itself", other.to_owned(), SERVICE, &strict, 0),
    ] {
        let out = all(&[SHOP, &web("", ""), service, policy, &caller]);
        assert_eq!(exempted(&out).len(), expected, "{title}: {:?}", exempted(&out));
    }
    assert_eq!(exempted(&all(&[SHOP, &web("", ""), SERVICE, &caller(", port: 80")])).len(), 1, "a permissive pod");
}

#[test]
fn several_callers_of_a_port_are_one_sentence() {
    let strict = policy("AuthenticationPolicy", "strict", "", STRICT);
    let callers: Vec<String> = (0..5)
        .map(|index| {
            let caller = webhooks("ValidatingWebhookConfiguration", &format!("{CALLED}, port: 80}}"));
            caller.replace("name: guard", &format!("name: guard-{index}"))
        })
        .collect();
    let web = web("", "");
    let mut parts = vec![SHOP, web.as_str(), SERVICE, strict.as_str()];
    parts.extend(callers.iter().map(String::as_str));
    let found = exempted(&all(&parts));
    assert!(found.len() == 1 && found[0].ends_with("ValidatingWebhookConfiguration guard-2 and 2 more)"), "{found:?}");
}
