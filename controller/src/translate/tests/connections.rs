//! `TLSRoutes` and `TCPRoutes` as users write them: what agents receive, and what their owners are told.

use super::routes::{TO_V1, http, in_order, route_of, with};
use super::*;
use crate::status::Aspect;

const EVERY_PORT: &str = "{group: '', kind: Service, name: web}";

/// `second` is that of its creation.
fn metadata(name: &str, second: u32) -> String {
    format!("namespace: shop, name: {name}, creationTimestamp: '2026-01-01T00:00:{second:02}Z'")
}

fn tcp(name: &str, second: u32, parents: &str, backend: &str) -> String {
    route_of("TCPRoute", &metadata(name, second), parents, &format!("[{{backendRefs: [{backend}]}}]"))
}

fn tls(name: &str, second: u32, parents: &str, hostnames: &str) -> String {
    let route = route_of("TLSRoute", &metadata(name, second), parents, &format!("[{{{TO_V1}}}]"));
    format!("{route}  hostnames: [{hostnames}]\n")
}

fn port(number: u16) -> String {
    format!("{{group: '', kind: Service, name: web, port: {number}}}")
}

#[test]
fn the_oldest_tcp_route_takes_all_connections_and_the_others_are_accepted() {
    let [old, young] = [("old", 1, 1), ("young", 2, 9)].map(|(name, second, weight)| {
        let backends = format!("{{name: v1, port: 8080, weight: {weight}}}, {{name: v2, port: 6379, weight: 0}}");
        tcp(name, second, &port(80), &backends)
    });
    let out = with(&[&young, &old]);
    let routes = out.routes("routes/shop/web/80");
    assert_eq!((routes.kind(), routes.matches.len()), (v1::RouteKind::Tcp, 1));
    let rule = &routes.rules[routes.matches[0].rule as usize];
    assert_eq!((rule.route.as_str(), rule.backends[0].weight), ("TCPRoute shop/old", 1));
    assert!(rule.backends.iter().all(|backend| backend.invalid.is_empty()), "any protocol is carried");
    for name in ["old", "young"] {
        assert_eq!(out.verdict(name), ["Accepted/Accepted", "ResolvedRefs/ResolvedRefs"], "{name}");
    }
    assert_eq!(out.message("old", Aspect::Accepted), "the route is in force");
    assert_eq!(
        out.message("young", Aspect::Accepted),
        "all connections to Service shop/web port 80 follow TCPRoute shop/old, which is older"
    );
}

#[test]
fn tls_routes_merge_and_the_oldest_has_a_hostname() {
    let out = with(&[
        &tls("young", 2, &port(81), "'*.example', cart.example, b.example"),
        &tls("old", 1, &port(81), "cart.example, '*.shop.example', b.example"),
    ]);
    let routes = out.routes("routes/shop/web/81");
    let of = |one: &v1::RouteMatch| (one.server_name.clone(), routes.rules[one.rule as usize].route.clone());
    let expected = [
        ("cart.example", "TLSRoute shop/old"),
        ("b.example", "TLSRoute shop/old"),
        ("*.shop.example", "TLSRoute shop/old"),
        ("*.example", "TLSRoute shop/young"),
    ];
    let expected = expected.map(|(name, route)| (name.to_owned(), route.to_owned()));
    assert_eq!(
        (routes.kind(), routes.matches.iter().map(of).collect::<Vec<_>>()),
        (v1::RouteKind::Tls, expected.into())
    );
    assert_eq!(out.verdict("young")[0], "Accepted/Accepted");
    let told = out.message("young", Aspect::Accepted);
    let taken = "cart.example at Service shop/web port 81 is taken by TLSRoute shop/old, which is older, as are 1 more";
    assert!(told.starts_with(taken), "{told}");
}

#[test]
fn the_strongest_kind_has_a_port_and_the_others_are_told_who() {
    let far = "{group: '', kind: Service, name: far, namespace: other}";
    let out = with(&[
        &http("requests", &format!("[{{{TO_V1}}}]")),
        &tls("names", 1, &port(81), "cart.example"),
        &tcp("late", 2, EVERY_PORT, "{name: v1, port: 8080}"),
        &tcp("lost", 3, &port(80), "{name: v1, port: 8080}"),
        &tls("lost-too", 3, &port(80), "cart.example"),
        &tcp("far", 1, far, "{name: v1, port: 8080}"),
    ]);
    let kinds = [80, 81].map(|port| out.routes(&format!("routes/shop/web/{port}")).kind());
    assert_eq!(kinds, [v1::RouteKind::Http, v1::RouteKind::Tls]);
    assert_eq!(out.routes("routes/other/far/8080/shop").kind(), v1::RouteKind::Tcp, "a consumer's");
    for (name, winner) in [
        (
            "late",
            "HTTPRoute shop/requests speaks for Service shop/web port 80, and HTTPRoutes are stronger than TCPRoutes",
        ),
        ("lost", "HTTPRoute shop/requests"),
        ("lost-too", "HTTPRoutes are stronger than TLSRoutes"),
    ] {
        assert_eq!(out.verdict(name)[0], "Accepted/Conflicted", "{name}");
        let told = out.message(name, Aspect::Accepted);
        assert!(told.contains(winner), "{name}: {told}");
    }
    assert_eq!(out.verdict("far"), ["Accepted/Accepted", "ResolvedRefs/ResolvedRefs"]);
}

#[test]
fn a_route_without_a_port_has_those_that_may_speak_it() {
    let v2 = "{group: '', kind: Service, name: v2}";
    let out = with(&[
        &tls("names", 1, EVERY_PORT, "cart.example"),
        &tcp("all", 1, v2, "{name: v1, port: 8080}"),
        &route_of("HTTPRoute", &metadata("requests", 1), v2, "[{}]"),
    ]);
    assert!(!out.has_routes("routes/shop/web/80"), "declared as http");
    assert_eq!(out.routes("routes/shop/web/81").kind(), v1::RouteKind::Tls);
    assert_eq!(out.routes("routes/shop/v2/8080").kind(), v1::RouteKind::Http);
    assert_eq!(out.routes("routes/shop/v2/6379").kind(), v1::RouteKind::Tcp, "redis is no HTTP");
    assert!(out.message("all", Aspect::Accepted).contains("but not everywhere"));
    let only_http = "{group: '', kind: Service, name: plain}";
    let plain = "apiVersion: v1\nkind: Service\nmetadata: {name: plain, namespace: shop}\nspec:\n  \
         clusterIP: 10.96.0.9\n  ports: [{name: http, port: 80}]\n";
    let out = with(&[plain, &tls("names", 1, only_http, "cart.example")]);
    assert_eq!(out.verdict("names")[0], "Accepted/NoMatchingParent");
}

#[test]
fn a_backend_that_cannot_be_used_keeps_its_share_of_connections() {
    for (kind, backend, reason, message) in [
        ("TCPRoute", "name: v2, port: 6379", "ResolvedRefs", ""),
        ("TLSRoute", "name: v2, port: 6379", "ResolvedRefs", ""),
        ("TCPRoute", "name: far, namespace: other, port: 8080", "ResolvedRefs", ""),
        ("TCPRoute", "name: absent, port: 1", "BackendNotFound", "there is no Service shop/absent"),
        ("TLSRoute", "name: v1", "BackendNotFound", "which port"),
        ("TCPRoute", "name: v1, port: 9", "BackendNotFound", "has no TCP port 9"),
        ("TLSRoute", "name: elsewhere, port: 8080", "InvalidKind", "ExternalName"),
        ("TCPRoute", "name: v1, kind: Bucket, group: s3, port: 1", "InvalidKind", "kind Bucket of s3"),
        ("TLSRoute", "name: web, port: 80", "UnsupportedProtocol", "declared as http, which takes no TLS"),
    ] {
        let rules = format!("[{{backendRefs: [{{{backend}, weight: 3}}, {{name: v1, port: 8080, weight: 1}}]}}]");
        let names = if kind == "TLSRoute" { "  hostnames: [cart.example]\n" } else { "" };
        let out = with(&[&format!("{}{names}", route_of(kind, &metadata("l4", 1), &port(81), &rules))]);
        let backends = &out.routes("routes/shop/web/81").rules[0].backends;
        assert_eq!(backends.iter().map(|one| one.weight).collect::<Vec<_>>(), [3, 1], "{backend}");
        assert_eq!(backends[0].invalid.is_empty(), message.is_empty(), "{backend}");
        assert!(backends[0].invalid.contains(message) && backends[1].invalid.is_empty(), "{backend}");
        assert_eq!(out.verdict("l4"), ["Accepted/Accepted", &format!("ResolvedRefs/{reason}")], "{backend}");
    }
}

#[test]
fn every_match_of_a_tcp_route_is_any_connection() {
    let out = with(&[&tcp("all", 1, &port(80), "{name: v1, port: 8080}")]);
    assert_eq!(in_order(&out.routes("routes/shop/web/80")), ["any->0"]);
}
