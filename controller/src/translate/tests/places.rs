//! Whom an endpoint is for: the clients of its node, of its zone, or all.

use super::*;

fn node(name: &str, zone: &str) -> String {
    format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n")
}

/// One endpoint for each `address node state hints`.
fn slice(endpoints: &[(&str, &str, &str, &str)]) -> String {
    let lines = endpoints.iter().map(|(address, node, state, hints)| {
        let conditions = match *state {
            "ready" => "ready: true",
            "leaving" => "ready: false, serving: true, terminating: true",
            _ => "ready: false",
        };
        format!("- {{addresses: [{address}], nodeName: {node}, conditions: {{{conditions}}}, hints: {{{hints}}}}}\n")
    });
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n{}",
        lines.collect::<String>()
    )
}

fn zones(names: &str) -> String {
    format!("forZones: [{{name: {names}}}]")
}

/// `name: place,...` per group.
fn groups(groups: &[v1::EndpointGroup]) -> Vec<String> {
    groups.iter().map(|group| format!("{}: {:?}", group.name, group.endpoints)).collect()
}

/// `node: endpoint,...` per node; None where clients get any node's.
fn local(out: &Translation) -> Option<Vec<String>> {
    let local = out.service_row("web").ports[0].local.clone()?;
    let line = |node: &v1::NodeEndpoints| {
        format!("{}: {}", node.node, node.endpoints.iter().map(written).collect::<Vec<_>>().join(","))
    };
    Some(local.nodes.iter().map(line).collect())
}

#[test]
fn every_node_is_told_its_zone() {
    let out = all(&[SHOP, &web("", ""), &node("one", "west"), &node("two", "east")]);
    let place = |node: &str| {
        let own = &out.nodes[&node.parse::<NodeName>().unwrap()];
        match own[format!("node/{node}").as_str()].body.clone() {
            Some(Body::Node(row)) => (row.name, row.zone),
            other => panic!("{node} is {other:?}"),
        }
    };
    assert_eq!(place("one"), ("one".to_owned(), "west".to_owned()));
    assert_eq!(place("two"), ("two".to_owned(), "east".to_owned()));
    let unlabelled = all(&[SHOP, &web("", "")]);
    assert!(unlabelled.nodes[&"one".parse::<NodeName>().unwrap()].contains_key("node/one"));
}

#[test]
fn a_local_service_has_the_endpoints_of_each_node_by_itself() {
    let service = SERVICE.replace("  selector", "  internalTrafficPolicy: Local\n  selector");
    let endpoints = slice(&[
        ("192.0.2.1", "one", "ready", ""),
        ("192.0.2.2", "one", "leaving", ""),
        ("192.0.2.3", "two", "leaving", ""),
        ("192.0.2.4", "three", "broken", ""),
    ]);
    let out = all(&[SHOP, &service, &endpoints]);
    assert_eq!(out.service("web")[0], "80: 192.0.2.1:8080=", "what external addresses lead to");
    assert_eq!(local(&out).unwrap(), ["one: 192.0.2.1:8080=", "two: 192.0.2.3:8080="]);
    assert_eq!(local(&all(&[SHOP, SERVICE, &endpoints])), None);
    let out = all(&[SHOP, &web("", ""), &service]);
    assert_eq!(local(&out).unwrap(), ["one: 10.1.0.2:8080=web"], "without slices the pods say where they are");
}

#[test]
fn hints_count_if_every_ready_endpoint_has_some() {
    let (west, east) = (zones("west"), zones("east"));
    let both = "forZones: [{name: west}, {name: east}], forNodes: [{name: one}]";
    let of = |endpoints: &[(&str, &str, &str, &str)]| {
        let row = all(&[SHOP, SERVICE, &slice(endpoints)]).service_row("web").ports[0].clone();
        (groups(&row.for_nodes), groups(&row.for_zones))
    };
    let (nodes, found) = of(&[("192.0.2.1", "one", "ready", both), ("192.0.2.2", "two", "ready", &east)]);
    assert_eq!((nodes, found), (vec![], vec!["east: [0, 1]".to_owned(), "west: [0]".to_owned()]));
    let (nodes, _) = of(&[("192.0.2.1", "one", "ready", both)]);
    assert_eq!(nodes, ["one: [0]"]);
    let (_, found) = of(&[("192.0.2.1", "one", "ready", &west), ("192.0.2.2", "two", "ready", "")]);
    assert_eq!(found, Vec::<String>::new(), "nobody was to get the second one");
    let (_, found) = of(&[("192.0.2.1", "one", "ready", &west), ("192.0.2.2", "two", "leaving", "")]);
    assert_eq!(found, ["west: [0]"], "one that is leaving is not asked");
    let (_, found) = of(&[("192.0.2.1", "one", "leaving", &west)]);
    assert_eq!(found, Vec::<String>::new(), "the last ones are for everybody");
}

#[test]
fn without_slices_hints_follow_from_what_the_service_asks_for() {
    let second = web("", "").replace("name: web\n", "name: web2\n").replace("uid: web", "uid: web2");
    let second = second.replace("netns/web", "netns/web2").replace("10.1.0.2", "10.1.0.3");
    let second = second.replace("nodeName: one", "nodeName: two");
    let (first, one, two) = (web("", ""), node("one", "west"), node("two", "east"));
    let of = |distribution: &str| {
        let service = SERVICE.replace("  selector", &format!("  trafficDistribution: {distribution}\n  selector"));
        let row = all(&[SHOP, &first, &second, &one, &two, &service]).service_row("web").ports[0].clone();
        (groups(&row.for_nodes), groups(&row.for_zones))
    };
    let by_zone = vec!["east: [1]".to_owned(), "west: [0]".to_owned()];
    assert_eq!(of("PreferSameZone"), (vec![], by_zone.clone()));
    assert_eq!(of("PreferClose"), (vec![], by_zone.clone()));
    assert_eq!(of("PreferSameNode"), (vec!["one: [0]".to_owned(), "two: [1]".to_owned()], by_zone));
    assert_eq!(of("Whatever"), (vec![], vec![]));
}

#[test]
fn hints_beyond_the_bound_are_left_out_and_said() {
    let hints: Vec<String> = (0..8).map(|index| format!("{{name: {}{index}}}", "z".repeat(60))).collect();
    let hints = format!("forZones: [{}]", hints.join(", "));
    let addresses: Vec<String> = (0..29_000).map(|number| format!("10.2.{}.{}", number / 250, number % 250)).collect();
    let endpoints = slice(&[(&addresses.join(", "), "one", "ready", &hints)]);
    let out = all(&[SHOP, SERVICE, &endpoints]);
    let port = out.service_row("web").ports[0].clone();
    assert_eq!((port.endpoints.len(), port.for_zones.len()), (29_000, 0));
    assert!(out.found("its hints take more than"), "{:?}", out.findings);
}
