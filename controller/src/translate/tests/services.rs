//! What a Service means: whom its addresses and ports lead to. Each row of what Kubernetes promises is a test.

use super::*;

/// A slice of the Service `web`; `more` are fields of the slice beside its endpoints.
fn slice(name: &str, family: &str, ports: &str, endpoints: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: {family}\nports: [{ports}]\nendpoints:\n{endpoints}\n"
    )
}

/// With the port that `web` is called by.
fn of_web(endpoints: &str) -> String {
    slice("web-1", "IPv4", "{name: http, port: 8080}", endpoints)
}

/// An endpoint that is said to be a pod's, with further fields.
fn of_pod(address: &str, pod: &str, more: &str) -> String {
    format!("- {{addresses: [{address}], targetRef: {{kind: Pod, name: {pod}, namespace: shop}}{more}}}\n")
}

const LEAVING: &str = ", conditions: {ready: false, serving: true, terminating: true}";

fn addresses(list: &[Vec<u8>]) -> Vec<String> {
    let read = |bytes: &Vec<u8>| match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(address) => std::net::IpAddr::from(address).to_string(),
        Err(_) => std::net::IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice()).unwrap()).to_string(),
    };
    list.iter().map(read).collect()
}

#[test]
fn endpoints_are_ready_ones_else_those_that_serve_while_terminating() {
    let ready = "- {addresses: [10.1.0.2]}\n";
    let leaving = "- {addresses: [10.1.0.3], conditions: {ready: false, serving: true, terminating: true}}\n";
    let broken = "- {addresses: [10.1.0.4], conditions: {ready: false}}\n";
    let pod = web("", "");
    for (title, endpoints, expected) in [
        ("ready alone", format!("{ready}{leaving}{broken}"), "80: 10.1.0.2:8080=web"),
        ("the last one leaves", format!("{leaving}{broken}"), "80: 10.1.0.3:8080="),
        ("none", broken.to_owned(), "80: "),
    ] {
        let out = all(&[SHOP, &pod, SERVICE, &of_web(&endpoints)]);
        assert_eq!(out.service("web"), [expected, "81: "], "{title}");
    }
    let early = SERVICE.replace("selector:", "publishNotReadyAddresses: true\n  selector:");
    assert_eq!(all(&[SHOP, &early, &of_web(broken)]).service("web")[0], "80: 10.1.0.4:8080=");
    let manual = SERVICE.replace("  selector: {app: web}\n", "");
    assert_eq!(all(&[SHOP, &manual, &of_web(ready)]).service("web")[0], "80: 10.1.0.2:8080=");
}

#[test]
fn without_slices_a_selector_finds_its_pods_with_ports_of_their_own() {
    let second = web("", "")
        .replace("name: web\n", "name: web2\n")
        .replace("uid: web", "uid: web2")
        .replace("netns/web", "netns/web2");
    let second = second.replace("10.1.0.2", "10.1.0.3").replace("containerPort: 8080", "containerPort: 8081");
    let out = all(&[SHOP, &web("", ""), &second, SERVICE]);
    assert_eq!(
        out.service("web"),
        ["80: 10.1.0.2:8080=web,10.1.0.3:8081=web2", "81: 10.1.0.2:9090=web,10.1.0.3:9090=web2"]
    );
    let unready = second.replace("podIP: 10.1.0.3", "podIP: 10.1.0.3\n  conditions: [{type: Ready, status: 'False'}]");
    let out = all(&[SHOP, &web("", ""), &unready, SERVICE]);
    assert_eq!(out.service("web")[0], "80: 10.1.0.2:8080=web");
    let headless = SERVICE.replace("10.96.0.2", "None");
    let out = all(&[SHOP, &web("", ""), &headless]);
    assert_eq!(out.service("web")[0], "80: 10.1.0.2:8080=web");
}

#[test]
fn a_service_cannot_take_an_address_that_is_not_its_own() {
    let thief = |address: &str| {
        SERVICE
            .replace("name: web,", "name: thief,")
            .replace("clusterIP: 10.96.0.2", &format!("externalIPs: [{address}]"))
    };
    let addresses = |out: &Translation, name: &str| {
        let row = out.service_row(name);
        row.addresses.len() + row.external_addresses.len()
    };
    let out = all(&[SHOP, &web("", ""), SERVICE, &thief("10.96.0.2")]);
    assert_eq!((addresses(&out, "web"), addresses(&out, "thief")), (1, 0));
    let out = all(&[SHOP, &web("", ""), &thief("10.1.0.2")]);
    assert_eq!(addresses(&out, "thief"), 0);
    assert!(out.found("a pod's address"));
    // The same addresses, as IPv6 writes them.
    let out = all(&[SHOP, &web("", ""), SERVICE, &thief("'::ffff:10.96.0.2'")]);
    assert_eq!((addresses(&out, "web"), addresses(&out, "thief")), (1, 0));
    let out = all(&[SHOP, &web("", ""), &thief("'::ffff:10.1.0.2'")]);
    assert_eq!(addresses(&out, "thief"), 0);
}

#[test]
fn a_balancers_address_is_not_taken_by_who_merely_names_it() {
    let balanced = SERVICE.to_owned() + "status: {loadBalancer: {ingress: [{ip: 203.0.113.7}]}}\n";
    let thief = |more: &str| {
        let thief = SERVICE.replace("name: web,", "name: thief,");
        thief.replace("clusterIP: 10.96.0.2", "clusterIP: 10.96.0.3\n  externalIPs: [203.0.113.7]") + more
    };
    let out = all(&[SHOP, &web("", ""), &balanced, &thief("")]);
    let external = |out: &Translation, name: &str| out.service_row(name).external_addresses.len();
    assert_eq!((external(&out, "web"), external(&out, "thief")), (1, 0));
    assert!(out.found("203.0.113.7 is refused"));
    // Two controllers' words are as good.
    let out = all(&[SHOP, &web("", ""), &balanced, &thief("status: {loadBalancer: {ingress: [{ip: 203.0.113.7}]}}\n")]);
    assert_eq!((external(&out, "web"), external(&out, "thief")), (0, 0));
}

#[test]
fn a_service_has_so_many_external_addresses_and_no_more() {
    let many: Vec<String> = (1..=20).map(|last| format!("192.0.2.{last}")).collect();
    let service = SERVICE.replace("  selector", &format!("  externalIPs: [{}]\n  selector", many.join(", ")));
    let out = all(&[SHOP, &web("", ""), &service]);
    assert_eq!(out.service_row("web").external_addresses.len(), 16);
    assert!(out.found("more than 16 external addresses; 4 are left out"));
}

#[test]
fn a_cluster_address_and_external_ones_lead_to_the_service() {
    let loaded = SERVICE.replace(
        "  clusterIP: 10.96.0.2",
        "  type: LoadBalancer\n  clusterIPs: [10.96.0.2, 'fd96::2']\n  externalIPs: [192.0.2.1]",
    ) + "status: {loadBalancer: {ingress: [{ip: 203.0.113.7}, {hostname: x.example}, {ip: 203.0.113.8, ipMode: Proxy}]}}\n";
    let row = all(&[SHOP, &web("", ""), &loaded]).service_row("web");
    assert_eq!(addresses(&row.addresses), ["10.96.0.2", "fd96::2"]);
    assert_eq!(
        addresses(&row.external_addresses),
        ["192.0.2.1", "203.0.113.7"],
        "a proxying balancer sees its traffic"
    );
}

#[test]
fn services_share_an_external_address_unless_they_mean_the_same_port() {
    let other = |port: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: other, namespace: shop}}\n\
             spec: {{clusterIP: 10.96.0.3, externalIPs: [192.0.2.1], ports: [{{port: {port}}}]}}\n"
        )
    };
    let first = SERVICE.replace("clusterIP: 10.96.0.2", "clusterIP: 10.96.0.2\n  externalIPs: [192.0.2.1]");
    let out = all(&[SHOP, &first, &other(443)]);
    assert_eq!(out.service_row("web").external_addresses.len() + out.service_row("other").external_addresses.len(), 2);
    let out = all(&[SHOP, &first, &other(80)]);
    assert_eq!(out.service_row("web").external_addresses.len() + out.service_row("other").external_addresses.len(), 0);
    assert!(out.found("192.0.2.1 is refused: it is claimed by several Services"));
}

#[test]
fn an_external_name_has_no_address_and_no_row_and_disturbs_nobody() {
    let name = "apiVersion: v1\nkind: Service\nmetadata: {name: outside, namespace: shop}\n\
                spec: {type: ExternalName, externalName: db.example.com, externalIPs: [192.0.2.1], clusterIP: 10.96.0.2, ports: [{port: 80}]}\n";
    let first = SERVICE.replace("clusterIP: 10.96.0.2", "clusterIP: 10.96.0.2\n  externalIPs: [192.0.2.1]");
    let out = all(&[SHOP, &web("", ""), &first, name]);
    assert!(!out.shared.contains_key("service/shop/outside"));
    let row = out.service_row("web");
    assert_eq!(
        (row.addresses.len(), row.external_addresses.len(), out.findings.len()),
        (1, 1, 1),
        "{:?}",
        out.findings
    );
    assert!(out.found("spec.networks"), "the one finding is about the test's own mesh");
}

#[test]
fn ports_that_are_not_tcp_are_left_out_and_their_neighbours_stay() {
    let mixed = SERVICE.replace(
        "ports: [",
        "ports: [{name: dns, port: 80, protocol: UDP, targetPort: 53}, {name: signal, port: 82, protocol: SCTP}, ",
    );
    let ports =
        "{name: dns, port: 53, protocol: UDP}, {name: signal, port: 82, protocol: SCTP}, {name: http, port: 8080}";
    let out = all(&[SHOP, &web("", ""), &mixed, &slice("web-1", "IPv4", ports, "- {addresses: [10.1.0.2]}")]);
    assert_eq!(out.service("web"), ["80: 10.1.0.2:8080=web", "81: "]);
    let udp = "apiVersion: v1\nkind: Service\nmetadata: {name: dns, namespace: shop}\n\
               spec: {clusterIP: 10.96.0.9, ports: [{port: 53, protocol: UDP}]}\n";
    assert_eq!(all(&[SHOP, udp]).service("dns"), Vec::<String>::new());
}

#[test]
fn a_service_without_selector_and_without_slices_has_no_endpoint() {
    let manual = SERVICE.replace("  selector: {app: web}\n", "");
    let out = all(&[SHOP, &web("", ""), &manual]);
    assert_eq!(out.service("web"), ["80: ", "81: "]);
}

#[test]
fn slices_by_hand_may_name_addresses_of_nobody_and_of_pods() {
    let manual = SERVICE.replace("  selector: {app: web}\n", "");
    let hosts = of_web("- {addresses: [192.0.2.7]}\n- {addresses: [10.1.0.2]}");
    let out = all(&[SHOP, &web("", ""), &manual, &hosts]);
    assert_eq!(out.service("web")[0], "80: 10.1.0.2:8080=web,192.0.2.7:8080=");
    // Headless, it is the same: a client dials what DNS says, and a route what is here.
    let headless = manual.replace("10.96.0.2", "None");
    let out = all(&[SHOP, &web("", ""), &headless, &hosts]);
    assert_eq!(out.service("web")[0], "80: 10.1.0.2:8080=web,192.0.2.7:8080=");
    assert!(out.service_row("web").addresses.is_empty());
    // By names, there is nothing that an address could be compared with.
    let names = slice("web-1", "FQDN", "{name: http, port: 8080}", "- {addresses: [db.example.com]}");
    assert_eq!(all(&[SHOP, &manual, &names]).service("web")[0], "80: ");
}

#[test]
fn slices_of_one_service_may_have_other_ports_each() {
    let one = slice("web-1", "IPv4", "{name: http, port: 8080}", "- {addresses: [10.1.0.2]}");
    let two =
        slice("web-2", "IPv4", "{name: http, port: 9999}, {name: admin, port: 9090}", "- {addresses: [192.0.2.7]}");
    let out = all(&[SHOP, &web("", ""), SERVICE, &one, &two]);
    assert_eq!(out.service("web"), ["80: 10.1.0.2:8080=web,192.0.2.7:9999=", "81: 192.0.2.7:9090="]);
}

#[test]
fn each_address_family_is_judged_by_itself() {
    let six = |endpoints: &str| slice("web-6", "IPv6", "{name: http, port: 8080}", endpoints);
    let four = of_web("- {addresses: [192.0.2.7]}");
    let leaving = format!("- {{addresses: ['2001:db8::7']{LEAVING}}}");
    let out = all(&[SHOP, SERVICE, &four, &six(&leaving)]);
    assert_eq!(out.service("web")[0], "80: 192.0.2.7:8080=,[2001:db8::7]:8080=", "IPv6 has nobody who is ready");
    let out = all(&[SHOP, SERVICE, &four, &six(&format!("{leaving}\n- {{addresses: ['2001:db8::8']}}"))]);
    assert_eq!(out.service("web")[0], "80: 192.0.2.7:8080=,[2001:db8::8]:8080=");
}

#[test]
fn an_endpoint_is_the_pods_that_its_slice_names_or_none() {
    let finished = pod("old", "10.1.0.2", "", "", "  phase: Succeeded");
    let host = pod("host", "192.0.2.9", "", "  hostNetwork: true", "");
    let (own, stale) = (of_pod("10.1.0.2", "web", ""), of_pod("10.1.0.2", "old", ""));
    for (title, endpoints, more, expected) in [
        ("its own", own.clone(), vec![], "10.1.0.2:8080=web"),
        ("a finished pod's, whose address another one has now", stale.clone(), vec![&finished], ""),
        ("a pod's that is gone", stale.clone(), vec![], ""),
        ("both", format!("{stale}{own}"), vec![&finished], "10.1.0.2:8080=web"),
        ("one that the pod does not have yet", of_pod("10.1.0.9", "web", ""), vec![], ""),
        ("another pod of the same name", own.replace("name: web", "name: web, uid: earlier"), vec![], ""),
        ("a pod on its node's network", of_pod("192.0.2.9", "host", ""), vec![&host], "192.0.2.9:8080="),
        ("another namespace's pod, by hand", "- {addresses: [10.1.0.2]}".to_owned(), vec![], "10.1.0.2:8080=web"),
    ] {
        let (web, slice) = (web("", ""), of_web(&endpoints));
        let mut parts = vec![SHOP, web.as_str(), SERVICE, slice.as_str()];
        parts.extend(more.into_iter().map(String::as_str));
        assert_eq!(all(&parts).service("web")[0], format!("80: {expected}"), "{title}");
    }
}

#[test]
fn a_named_port_is_a_containers_or_a_sidecars_and_no_other_init_containers() {
    let containers = |init: &str, main: &str| {
        let metadata = "  labels: {app: web}";
        let spec = format!("  initContainers: [{init}]\n  containers: [{main}]");
        all(&[SHOP, &pod("web", "10.1.0.2", metadata, &spec, ""), SERVICE]).service("web")[0].clone()
    };
    let (named, other) = ("ports: [{name: http, containerPort: 8080}]", "ports: [{name: http, containerPort: 8081}]");
    let udp = "{ports: [{name: http, containerPort: 53, protocol: UDP}]}";
    assert_eq!(containers(&format!("{{{named}}}"), "{}"), "80: ");
    assert_eq!(containers(&format!("{{{named}, restartPolicy: Always}}"), "{}"), "80: 10.1.0.2:8080=web");
    assert_eq!(
        containers(&format!("{{{other}, restartPolicy: Always}}"), &format!("{{{named}}}")),
        "80: 10.1.0.2:8080=web"
    );
    assert_eq!(containers("", &format!("{udp}, {{{named}}}")), "80: 10.1.0.2:8080=web");
    // What is added to a running pod to look at it declares nothing.
    let looked_at =
        web("", "").replace("  containers:", "  ephemeralContainers: [{name: debug, image: busybox}]\n  containers:");
    assert_eq!(all(&[SHOP, &looked_at, SERVICE]).service("web")[0], "80: 10.1.0.2:8080=web");
}

#[test]
fn pods_without_slices_drain_and_end_as_with_them() {
    let state = |metadata: &str, status: &str| {
        let metadata = format!("  labels: {{app: web}}\n{metadata}");
        let spec = "  containers: [{ports: [{name: http, containerPort: 8080}]}]";
        pod("other", "10.1.0.3", &metadata, spec, status)
    };
    let deleting = "  deletionTimestamp: 2026-01-01T00:00:00Z";
    let unready = "  conditions: [{type: Ready, status: 'False'}]";
    let early = SERVICE.replace("selector:", "publishNotReadyAddresses: true\n  selector:");
    let (own, other) = ("10.1.0.2:8080=web", "10.1.0.3:8080=other");
    for (title, service, pods, expected) in [
        ("one of two is leaving", SERVICE, vec![web("", ""), state(deleting, "")], own.to_owned()),
        ("the last one is leaving", SERVICE, vec![state(deleting, "")], other.to_owned()),
        ("the last one is leaving and not ready", SERVICE, vec![state(deleting, unready)], String::new()),
        ("a job has ended", SERVICE, vec![web("", ""), state("", "  phase: Succeeded")], own.to_owned()),
        ("a job has failed", SERVICE, vec![state("", "  phase: Failed")], String::new()),
        ("not ready and published", &early, vec![web("", ""), state("", unready)], format!("{own},{other}")),
    ] {
        let mut parts = vec![SHOP, service];
        parts.extend(pods.iter().map(String::as_str));
        assert_eq!(all(&parts).service("web")[0], format!("80: {expected}"), "{title}");
    }
}

#[test]
fn a_pod_that_is_made_again_under_its_name_is_another_workload() {
    let again = |uid: &str| {
        pod("db-0", "10.1.0.5", "  labels: {app: web}", "", "").replace("uid: db-0", &format!("uid: {uid}"))
    };
    let mut known = objects(&[SHOP, &again("first")].join("\n---\n"));
    let second = Arc::clone(objects(&again("second")).pods().next().unwrap());
    known.insert(crate::object::Object::Pod(second));
    let out = translate(&known, &Observed::default(), &facts());
    assert!(!out.shared.contains_key("workload/first"));
    assert_eq!(out.workload("second").addresses.len(), 1);
    assert!(known.pod(&"first".parse().unwrap()).is_none());
}

#[test]
fn a_client_keeps_its_endpoint_as_long_as_the_service_says() {
    let seconds = |more: &str| {
        let service = SERVICE.replace("  selector", &format!("{more}\n  selector"));
        all(&[SHOP, &service]).service_row("web").affinity_seconds
    };
    assert_eq!(seconds("  sessionAffinity: None"), 0);
    assert_eq!(seconds("  sessionAffinity: ClientIP"), 10_800);
    assert_eq!(seconds("  sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}"), 7);
}
