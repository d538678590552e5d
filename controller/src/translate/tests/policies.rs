//! Which policy decides for which pod, and what the operator's floor does to it.

use super::*;

#[test]
fn the_most_specific_authentication_policy_wins_whole() {
    let everywhere = policy(
        "AuthenticationPolicy",
        "everywhere",
        "",
        "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}\n  client: {requireMeshTLS: true}",
    );
    let labelled = policy(
        "AuthenticationPolicy",
        "labelled",
        "",
        "  targetRefs: [{kind: Pod, selector: {matchLabels: {app: web}}}]\n  server: {mtls: Permissive, ports: [{port: 9090, mtls: Strict}]}",
    );
    let service = policy(
        "AuthenticationPolicy",
        "service",
        "",
        "  targetRefs: [{kind: Service, name: web, sectionName: http}]\n  server: {mtls: Strict}",
    );
    let out = all(&[SHOP, &web("", ""), &everywhere]);
    assert_eq!((out.web().mtls(), out.web().mtls_policy.as_str()), (v1::MtlsMode::Strict, "shop/everywhere"));
    assert_eq!(out.web().on_agent_failure(), v1::FailureMode::Closed, "strict is closed without a label");
    assert!(out.web().require_mesh_tls);
    assert_eq!(out.workload("web").mtls(), v1::MtlsMode::Strict);

    let out = all(&[SHOP, &web("", ""), &everywhere, &labelled]);
    assert_eq!((out.web().mtls(), out.web().mtls_policy.as_str()), (v1::MtlsMode::Permissive, "shop/labelled"));
    assert!(!out.web().require_mesh_tls, "half of a policy that lost was merged in");
    assert_eq!(out.web().ports, [v1::PortMtls { port: 9090, mode: v1::MtlsMode::Strict.into() }]);
    assert_eq!(out.reasons("everywhere"), [Reason::Accepted], "less specific is no conflict");

    let out = all(&[SHOP, &web("", ""), SERVICE, &labelled, &service]);
    let strict: Vec<u32> = out.web().ports.iter().map(|port| port.port).collect();
    assert_eq!(strict, [8080, 9090]);
}

#[test]
fn among_equals_the_older_wins_and_the_loser_is_told() {
    let named = |name: &str, created: &str, mode: &str| {
        policy(
            "AuthenticationPolicy",
            name,
            created,
            &format!("  targetRefs: [{{kind: Pod}}]\n  server: {{mtls: {mode}}}"),
        )
    };
    let old = named("z-old", ", creationTimestamp: 2026-01-01T00:00:00Z", "Strict");
    let young = named("a-young", ", creationTimestamp: 2026-02-01T00:00:00Z", "Permissive");
    let out = all(&[SHOP, &web("", ""), &young, &old]);
    assert_eq!(out.web().mtls_policy, "shop/z-old");
    assert_eq!((out.reasons("z-old"), out.reasons("a-young")), (vec![Reason::Accepted], vec![Reason::Conflicted]));
    let out = all(&[SHOP, &web("", ""), &named("b", "", "Permissive"), &named("a", "", "Strict")]);
    assert_eq!(out.web().mtls_policy, "shop/a");
}

#[test]
fn the_operators_floor_cannot_be_loosened() {
    let loose = policy(
        "AuthenticationPolicy",
        "loose",
        "",
        "  targetRefs: [{kind: Pod}]\n  server: {mtls: Permissive, ports: [{port: 9090, mtls: Permissive}], exemptions: [{from: {any: true}, reason: x}]}",
    );
    let floor = mesh("  enforced: {minimumMtls: Strict, minimumFailureMode: Closed}");
    let open = namespace("shop", "weft.dev/capture: enabled, weft.dev/on-agent-failure: open");
    let out = all(&[&open, &web("", ""), &loose, &floor]);
    assert_eq!((out.web().mtls(), out.web().mtls_policy.as_str()), (v1::MtlsMode::Strict, "MeshConfig/default"));
    assert_eq!(out.web().ports, []);
    assert_eq!(out.web().on_agent_failure(), v1::FailureMode::Closed);
    assert_eq!(out.web().exemptions, []);
    assert!(out.found("exemptions are refused"));
    let allowed = mesh("  enforced: {minimumMtls: Strict, allowedExclusions: [MtlsExemptions]}");
    assert_eq!(all(&[&open, &web("", ""), &loose, &allowed]).web().exemptions.len(), 1);
}

#[test]
fn an_exemption_opens_no_port_of_another_policy() {
    let pods = policy(
        "AuthenticationPolicy",
        "pods",
        "",
        "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict, exemptions: [{from: {any: true}, reason: x}]}",
    );
    let service = policy(
        "AuthenticationPolicy",
        "service",
        "",
        "  targetRefs: [{kind: Service, name: web, sectionName: http}]\n  server: {mtls: Strict}",
    );
    assert_eq!(all(&[SHOP, &web("", ""), SERVICE, &pods]).web().exemptions[0].ports, Vec::<u32>::new(), "every port");
    assert_eq!(all(&[SHOP, &web("", ""), SERVICE, &pods, &service]).web().exemptions[0].ports, [9090]);
}

#[test]
fn strict_pods_have_no_exclusions_unless_the_operator_allows_them() {
    let asking = web(
        "",
        ", weft.dev/exclude-inbound-ports: '9090', weft.dev/exclude-outbound-ports: '25', weft.dev/exclude-outbound-cidrs: 10.0.0.0/8",
    );
    let strict = policy("AuthenticationPolicy", "strict", "", "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}");
    let free = all(&[SHOP, &asking]).web();
    assert_eq!((free.excluded_inbound_ports, free.excluded_outbound_ports), (vec![9090], vec![25]));
    let out = all(&[SHOP, &asking, &strict]);
    let bound = out.web();
    assert!(
        bound.excluded_inbound_ports.is_empty()
            && bound.excluded_outbound_ports.is_empty()
            && bound.excluded_outbound_cidrs.is_empty()
    );
    assert_eq!(bound.refused.len(), 3, "{:?}", bound.refused);
    assert!(out.workload("web").excluded_inbound_ports.is_empty(), "peers would send plaintext");
    let allowed = mesh("  enforced: {allowedExclusions: [InboundPorts]}");
    assert_eq!(all(&[SHOP, &asking, &strict, &allowed]).web().excluded_inbound_ports, [9090]);
}

#[test]
fn a_policy_on_a_service_guards_its_pods_at_its_target_ports() {
    let allow = |target: &str| {
        policy(
            "AuthorizationPolicy",
            "allow",
            "",
            &format!("  targetRefs: [{target}]\n  action: Allow\n  rules: [{{from: [{{serviceAccounts: [client]}}]}}]"),
        )
    };
    let out = all(&[SHOP, &web("", ""), SERVICE, &allow("{kind: Service, name: web, sectionName: http}")]);
    assert_eq!(out.web().authorization, ["authorization/shop/allow"]);
    let policy = out.authorization("authorization/shop/allow");
    assert_eq!((policy.target_ports.clone(), policy.action()), (vec![8080], v1::Action::Allow));
    let source = &policy.rules[0].from.as_ref().unwrap().sources[0];
    assert_eq!(source.service_accounts.as_ref().unwrap().values, ["shop/client"]);

    let out = all(&[SHOP, &web("", ""), SERVICE, &allow("{kind: Pod}")]);
    assert!(out.authorization("authorization/shop/allow").target_ports.is_empty(), "every port");
    // The pod has no port of that name: it must not be guarded on every port instead.
    let elsewhere = SERVICE.replace("targetPort: http", "targetPort: grpc");
    let out = all(&[SHOP, &web("", ""), &elsewhere, &allow("{kind: Service, name: web, sectionName: http}")]);
    assert!(out.web().authorization.is_empty());

    let second = web("", "")
        .replace("name: web\n", "name: web2\n")
        .replace("uid: web", "uid: web2")
        .replace("netns/web", "netns/web2");
    let second = second.replace("10.1.0.2", "10.1.0.3").replace("containerPort: 8080", "containerPort: 8081");
    let out = all(&[SHOP, &web("", ""), &second, SERVICE, &allow("{kind: Service, name: web, sectionName: http}")]);
    assert_eq!(out.web().authorization, ["authorization/shop/allow/8080"]);
    assert_eq!(out.enrolment("web2").unwrap().authorization, ["authorization/shop/allow/8081"]);
}

#[test]
fn targets_that_do_not_count_are_told() {
    let deny = |target: &str| {
        policy("AuthorizationPolicy", "deny", "", &format!("  targetRefs: [{target}]\n  action: Deny\n  rules: []"))
    };
    let manual = SERVICE.replace("  selector: {app: web}\n", "");
    for (service, target, reason) in [
        (SERVICE, "{kind: Service, name: other}", Reason::TargetNotFound),
        (SERVICE, "{kind: Service, name: web, sectionName: other}", Reason::TargetNotFound),
        (manual.as_str(), "{kind: Service, name: web}", Reason::Invalid),
        (SERVICE, "{kind: Service, name: web}", Reason::Accepted),
    ] {
        let out = all(&[SHOP, &web("", ""), service, &deny(target)]);
        assert_eq!(out.reasons("deny"), [reason], "{target}");
        assert_eq!(out.web().authorization.is_empty(), reason != Reason::Accepted, "{target}");
    }
    let plain = namespace("shop", "");
    assert!(
        all(&[&plain, &web("", ""), &deny("{kind: Pod}")])
            .found("not enforced for pods that are not captured: Pod shop/web")
    );
}

#[test]
fn the_operators_rules_are_every_captured_pods() {
    let floor = mesh("  enforced: {authorization: [{action: Deny, rules: [{from: [{namespaces: [guest]}]}]}]}");
    let audit = policy("AuthorizationPolicy", "audit", "", "  targetRefs: [{kind: Pod}]\n  action: Audit\n  rules: []");
    let out = all(&[SHOP, &web("", ""), &floor, &audit]);
    assert_eq!(out.web().authorization, ["authorization/MeshConfig/default", "authorization/shop/audit"]);
    assert!(out.authorization("authorization/MeshConfig/default").enforced);
}

#[test]
fn exclusions_are_bounded_and_never_name_the_agents_own_ports() {
    let list = |count: u16| (1..=count).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
    let ranges = (0..65).map(|number| format!("10.{number}.0.0/16")).collect::<Vec<_>>().join(",");
    let asking = |ports: &str, ranges: &str| {
        let annotations = format!(
            ", weft.dev/exclude-inbound-ports: '{ports}', weft.dev/exclude-outbound-ports: '{ports}', weft.dev/exclude-outbound-cidrs: '{ranges}'"
        );
        all(&[SHOP, &web("", &annotations)])
    };
    let most = asking(&list(64), "10.0.0.0/8").web();
    assert_eq!(
        (most.excluded_inbound_ports.len(), most.excluded_outbound_ports.len(), most.refused.len()),
        (64, 64, 0)
    );
    let more = asking(&list(65), &ranges);
    let web = more.web();
    assert!(web.excluded_inbound_ports.is_empty() && web.excluded_outbound_ports.is_empty());
    assert!(web.excluded_outbound_cidrs.is_empty());
    assert_eq!(web.refused.len(), 3, "{:?}", web.refused);
    assert!(more.found("more than 64 entries"));
    let own = asking("61000,9090,61063,61064", "");
    assert_eq!(own.web().excluded_inbound_ports, [9090, 61064]);
    assert!(own.found("61063 is refused because it is one of the agents' own ports"));
    assert!(own.workload("web").excluded_inbound_ports == [9090, 61064]);
}

#[test]
fn a_pod_that_requires_mesh_tls_never_fails_open() {
    let required = policy(
        "AuthenticationPolicy",
        "required",
        "",
        "  targetRefs: [{kind: Pod}]\n  server: {mtls: Permissive}\n  client: {requireMeshTLS: true}",
    );
    let open = namespace("shop", "weft.dev/capture: enabled, weft.dev/on-agent-failure: open");
    let generous = mesh("  defaults: {onAgentFailure: Open}");
    for parts in [vec![SHOP], vec![open.as_str()], vec![SHOP, generous.as_str()]] {
        let mut all_parts = parts.clone();
        let web = web("", "");
        all_parts.extend([web.as_str(), required.as_str()]);
        assert_eq!(all(&all_parts).web().on_agent_failure(), v1::FailureMode::Closed, "{parts:?}");
    }
}

#[test]
fn a_permissive_pod_does_not_exclude_its_way_around_authorization() {
    let asking = web("", ", weft.dev/exclude-inbound-ports: '8080,9090'");
    let leaving = web(", weft.dev/capture: disabled", "");
    let authorization = |spec: &str| policy("AuthorizationPolicy", "rules", "", spec);
    let floor = mesh("  enforced: {authorization: [{action: Deny, rules: [{from: [{namespaces: [guest]}]}]}]}");
    let allowed = mesh("  enforced: {allowedExclusions: [InboundPorts], podsMayOptOut: true}");
    let allow = authorization("  targetRefs: [{kind: Pod}]\n  action: Allow\n  rules: [{to: [{ports: [8080]}]}]");
    let http = "  targetRefs: [{kind: Service, name: web, sectionName: http}]\n  action: Allow\n  rules: []";
    let deny = "  targetRefs: [{kind: Pod}]\n  action: Deny\n  rules: [{to: [{ports: [8080]}]}]";
    for (title, more, excluded, stays) in [
        ("no policy", vec![], vec![8080, 9090], false),
        ("an Allow refuses every other port", vec![allow.clone()], vec![], true),
        ("a Service's port", vec![authorization(http)], vec![9090], true),
        ("a Deny of one port", vec![authorization(deny)], vec![9090], true),
        ("a Deny of all others", vec![authorization(&deny.replace("{ports:", "{notPorts:"))], vec![], true),
        ("a dry run", vec![authorization(&format!("{deny}\n  dryRun: true"))], vec![8080, 9090], false),
        ("the operator's rules", vec![floor], vec![], true),
        ("where the operator allows it", vec![allow, allowed], vec![8080, 9090], false),
    ] {
        let parts = |web: &str| [vec![SHOP.to_owned(), web.to_owned(), SERVICE.to_owned()], more.clone()].concat();
        let translated = |web: &str| all(&parts(web).iter().map(String::as_str).collect::<Vec<_>>());
        let out = translated(&asking);
        assert_eq!(out.web().excluded_inbound_ports, excluded, "{title}");
        assert_eq!(out.workload("web").excluded_inbound_ports, excluded, "{title}: peers would go around");
        assert_eq!(translated(&leaving).enrolment("web").is_some(), stays, "{title}: opting out");
    }
}

#[test]
fn agents_that_know_no_requests_read_policies_about_them_safely() {
    let asking = |rule: &str| {
        let spec =
            format!("  targetRefs: [{{kind: Pod}}]\n  action: Allow\n  rules: [{{to: [{{ports: [80]}}]}}, {rule}]");
        let floor = mesh(&format!("  enforced: {{authorization: [{{action: Deny, rules: [{rule}]}}]}}"));
        let out = all(&[SHOP, &web("", ""), &floor, &policy("AuthorizationPolicy", "rules", "", &spec)]);
        ["authorization/shop/rules", "authorization/MeshConfig/default"]
            .map(|name| out.nodes.values().chain([&out.shared]).find_map(|all| all.get(name)).unwrap().requires.clone())
    };
    for (rule, features) in [
        ("{from: [{namespaces: [guest]}]}", vec!["authorization.l4"]),
        ("{to: [{methods: [GET]}]}", vec!["authorization.l4", "authorization.l7"]),
        ("{when: [{header: x-user, values: [tester]}]}", vec!["authorization.l4", "authorization.l7"]),
    ] {
        assert_eq!(asking(rule), [features.clone(), features], "{rule}");
    }
}

#[test]
fn the_operators_rules_are_no_more_than_agents_read() {
    let floor = |count: usize| {
        let to: Vec<_> = (1..=16).map(|port| serde_json::json!({ "ports": [port], "methods": ["GET"] })).collect();
        let rules = vec![serde_json::json!({ "to": to }); count];
        let spec = serde_json::json!({ "enforced": { "authorization": [{ "action": "Deny", "rules": rules }] } });
        let metadata = crate::object::Metadata { name: "default".to_owned(), ..crate::object::Metadata::default() };
        crate::object::MeshConfig::parse(metadata, serde_json::from_value(spec).unwrap())
    };
    assert_eq!(floor(64).unwrap().denied.len(), 64 * 16);
    assert_eq!(floor(65).unwrap_err().path, "spec.enforced.authorization");
}

#[test]
fn a_mesh_that_is_removed_lets_every_pod_go() {
    let strict = policy("AuthenticationPolicy", "strict", "", "  targetRefs: [{kind: Pod}]\n  server: {mtls: Strict}");
    let parts = |state: &str| [SHOP.to_owned(), web("", ""), strict.clone(), mesh(&format!("  state: {state}"))];
    let told = |state: &str| {
        let out = all(&parts(state).each_ref().map(String::as_str));
        (out.enrolment("web").is_some(), out.workload("web").mtls())
    };
    assert_eq!(told("Active"), (true, v1::MtlsMode::Strict));
    assert_eq!(told("Removing"), (false, v1::MtlsMode::Permissive));
}

#[test]
fn the_life_of_certificates_has_bounds() {
    let life = |text: &str| {
        let spec = serde_json::json!({ "workloadCertificateLife": text });
        let metadata = crate::object::Metadata { name: "default".to_owned(), ..crate::object::Metadata::default() };
        crate::object::MeshConfig::parse(metadata, serde_json::from_value(spec).unwrap())
            .map(|mesh| mesh.workload_certificate_life.map(|life| life.as_secs()))
            .map_err(|error| error.path)
    };
    assert_eq!(life("10m"), Ok(Some(600)));
    for wrong in ["9s", "721h", "soon"] {
        assert_eq!(life(wrong), Err("spec.workloadCertificateLife".to_owned()), "{wrong}");
    }
}
