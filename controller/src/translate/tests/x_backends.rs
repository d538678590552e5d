//! `XBackend`s: the pods that stand behind them, the routes that lead there, and what both owners are told.

use weft_proto::v1::session_persistence::Carrier;

use super::parts::only;
use super::routes::{http, route_of, with};
use super::*;
use crate::status::{Aspect, Subject};

/// Of type `EndpointSelector`; `more` are further fields of its spec.
pub fn x_backend(name: &str, labels: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackend\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{type: EndpointSelector, port: {{number: 8080}}, endpointSelector: {{matchLabels: {{{labels}}}}}{more}}}\n"
    )
}

pub const TO_CART: &str = "{group: gateway.networking.x-k8s.io, kind: XBackend, name: cart}";

fn to_cart() -> String {
    http("web", &format!("[{{backendRefs: [{TO_CART}]}}]"))
}

fn first(out: &Translation) -> v1::RouteBackend {
    out.routes("routes/shop/web/80").rules[0].backends[0].clone()
}

fn cart_pod(name: &str, address: &str, labels: &str, status: &str) -> String {
    pod(name, address, &format!("  labels: {{{labels}}}"), "", status)
}

#[test]
fn its_endpoints_are_the_ready_pods_that_have_all_of_its_labels() {
    let unready = "  conditions: [{type: Ready, status: 'False'}]";
    let elsewhere =
        cart_pod("far", "10.1.0.7", "app: cart, tier: a", "").replace("namespace: shop", "namespace: other");
    let leaving = cart_pod("leaving", "10.1.0.8", "app: cart, tier: a", "")
        .replace("  uid: leaving", "  uid: leaving\n  deletionTimestamp: '2026-01-01T00:00:00Z'");
    let pods = [
        cart_pod("one", "10.1.0.2", "app: cart, tier: a", ""),
        cart_pod("two", "10.1.0.3", "app: cart, tier: a, more: x", ""),
        cart_pod("other", "10.1.0.4", "app: cart, tier: b", ""),
        cart_pod("early", "10.1.0.5", "app: cart, tier: a", unready),
        cart_pod("over", "10.1.0.6", "app: cart, tier: a", "  phase: Succeeded"),
        elsewhere,
        leaving.clone(),
    ];
    let (backend, route) = (x_backend("cart", "app: cart, tier: a", ""), to_cart());
    let mut parts: Vec<&str> = vec![SHOP, &backend, &route];
    parts.extend(pods.iter().map(String::as_str));
    let out = all(&parts);
    assert_eq!(out.service("xbackend.cart"), ["8080: 10.1.0.2:8080=one,10.1.0.3:8080=two"]);
    assert!(out.service_row("xbackend.cart").addresses.is_empty());
    // The last one serves while it is being ended.
    assert_eq!(all(&[SHOP, &backend, &route, &leaving]).service("xbackend.cart"), ["8080: 10.1.0.8:8080=leaving"]);
    assert_eq!(all(&[SHOP, &backend, &route]).service("xbackend.cart"), ["8080: "]);
    assert!(!all(&[SHOP, &backend]).shared.contains_key("service/shop/xbackend.cart"), "no route leads there");
}

#[test]
fn a_route_leads_there_beside_services_and_its_owner_is_told_by_whom() {
    let rule = format!("[{{backendRefs: [{TO_CART}, {{name: v1, port: 8080, weight: 3}}]}}]");
    let consumer = route_of(
        "GRPCRoute",
        "namespace: shop, name: calls",
        "{group: '', kind: Service, name: far, namespace: other, port: 8080}",
        &format!("[{{backendRefs: [{TO_CART}]}}]"),
    );
    let out = with(&[&http("web", &rule), &consumer, &x_backend("cart", "app: cart", ", protocol: H2C")]);
    assert_eq!(out.verdict("web"), ["Accepted/Accepted", "ResolvedRefs/ResolvedRefs"]);
    let backend = first(&out);
    assert_eq!((backend.service.as_str(), backend.port, backend.weight), ("xbackend.cart", 8080, 1));
    assert!(backend.invalid.is_empty() && backend.session_persistence.is_none(), "{backend:?}");
    assert_eq!(out.service_row("xbackend.cart").ports[0].app_protocol, "http2");
    assert_eq!(ancestors(&out), ["other/far Accepted", "shop/web Accepted"]);
    // Where another route leads the requests, none comes here.
    let calls = route_of(
        "GRPCRoute",
        "namespace: shop, name: calls",
        "{group: '', kind: Service, name: web}",
        "[{backendRefs: [{name: v1, port: 8080}]}]",
    );
    let out = with(&[&http("web", &rule), &calls, &x_backend("cart", "app: cart", "")]);
    assert_eq!((out.verdict("web")[0].as_str(), ancestors(&out).len()), ("Accepted/Conflicted", 0));
}

/// Each with its reason.
fn ancestors(out: &Translation) -> Vec<String> {
    let own = out.conditions.iter().filter(|(key, _)| key.kind == crate::object::Kind::XBackend);
    let told = |found: &PolicyCondition| {
        let Subject::Ancestor((namespace, name)) = &found.subject else { panic!("{:?}", found.subject) };
        format!("{namespace}/{name} {}", found.reason.as_str())
    };
    own.flat_map(|(_, conditions)| conditions.iter().map(told)).collect()
}

#[test]
fn one_that_cannot_be_in_force_says_so_to_both_owners() {
    let hostname = x_backend("cart", "app: cart", "")
        .replace("EndpointSelector, ", "ExternalHostname, externalHostname: {hostname: a.example}, ")
        .replace(", endpointSelector: {matchLabels: {app: cart}}", "");
    let tls = x_backend("cart", "app: cart", ", tls: {mode: ServerOnly, validation: {}}");
    let cookie = x_backend("cart", "app: cart", ", sessionPersistence: {cookie: {path: cart}}");
    for (backend, of_route, own, field) in [
        (hostname, "InvalidKind", "UnsupportedValue", "spec.type: "),
        (
            x_backend("cart", "app: cart", ", protocol: TCP"),
            "UnsupportedProtocol",
            "UnsupportedProtocol",
            "spec.protocol: ",
        ),
        (tls, "UnsupportedProtocol", "UnsupportedProtocol", "spec.tls.mode: "),
        (cookie, "UnsupportedValue", "UnsupportedValue", "spec.sessionPersistence.cookie.path: "),
    ] {
        let out = with(&[&to_cart(), &backend]);
        assert_eq!(out.verdict("web"), ["Accepted/Accepted".to_owned(), format!("ResolvedRefs/{of_route}")]);
        let message = out.message("web", Aspect::ResolvedRefs);
        let beginning = format!("spec.rules[0].backendRefs[0]: XBackend shop/cart is not accepted: {field}");
        assert!(message.starts_with(&beginning), "{message}");
        assert!(message.ends_with(&first(&out).invalid), "{message}");
        assert_eq!(ancestors(&out), [format!("shop/web {own}")]);
        assert!(out.message("cart", Aspect::Accepted).starts_with(field), "{}", out.message("cart", Aspect::Accepted));
        assert!(!out.shared.contains_key("service/shop/xbackend.cart"), "it is in force");
    }
}

#[test]
fn a_reference_that_leads_to_none_says_why() {
    let cart = x_backend("cart", "app: cart", "");
    let absent = with(&[&to_cart()]);
    assert_eq!(
        absent.message("web", Aspect::ResolvedRefs),
        "spec.rules[0].backendRefs[0]: there is no XBackend shop/cart, or none that can be read"
    );
    assert_eq!(absent.verdict("web")[1], "ResolvedRefs/BackendNotFound");
    // Of another namespace (GEP-4894), whether it is there or not.
    let of_other = to_cart().replace("name: cart", "name: cart, namespace: other");
    let there = cart.replace("namespace: shop", "namespace: other");
    for more in ["", there.as_str()] {
        let out = with(&[&of_other, more]);
        assert_eq!(out.verdict("web")[1], "ResolvedRefs/RefNotPermitted");
        assert_eq!(ancestors(&out), Vec::<String>::new());
    }
    let out = with(&[&to_cart().replace("name: cart", "name: cart, port: 80"), &cart]);
    assert_eq!(out.verdict("web")[1], "ResolvedRefs/UnsupportedValue");
    let calls = x_backend("cart", "app: cart", ", protocol: HTTP11");
    let grpc = to_cart().replace("HTTPRoute", "GRPCRoute");
    assert_eq!(with(&[&grpc, &calls]).verdict("web")[1], "ResolvedRefs/UnsupportedProtocol");
    assert_eq!(with(&[&to_cart(), &calls]).verdict("web")[1], "ResolvedRefs/ResolvedRefs");
    let lines = to_cart().replace("HTTPRoute", "TCPRoute");
    let out = with(&[&lines, &cart]);
    assert_eq!((out.verdict("web")[1].as_str(), ancestors(&out).len()), ("ResolvedRefs/InvalidKind", 0));
}

#[test]
fn its_session_comes_before_the_rules_and_is_one_for_all_routes() {
    let cookie = |out: &Translation| {
        let session = first(out).session_persistence.expect("a session");
        let Some(Carrier::Cookie(cookie)) = session.carrier else { panic!("no cookie") };
        cookie.name
    };
    let kept = x_backend("cart", "app: cart", ", sessionPersistence: {cookie: {name: sid}}");
    let out = with(&[
        &to_cart().replace("[{backendRefs", "[{sessionPersistence: {cookie: {name: of-rule}}, backendRefs"),
        &kept,
    ]);
    assert_eq!((cookie(&out).as_str(), out.verdict("web")[0].as_str()), ("sid", "Accepted/Accepted"));
    assert!(out.routes("routes/shop/web/80").rules[0].session_persistence.is_some(), "others keep the rule's");
    let unnamed = kept.replace("name: sid", "");
    let (one, other) =
        (with(&[&to_cart(), &unnamed]), with(&[&to_cart().replace("name: web}", "name: web2}"), &unnamed]));
    assert!(cookie(&one).starts_with("weft-session-") && cookie(&one) == cookie(&other), "{}", cookie(&other));
}

#[test]
fn a_mirror_leads_there_and_counts_as_use() {
    let mirror = format!("{{type: RequestMirror, requestMirror: {{backendRef: {TO_CART}}}}}");
    let rule = format!("[{{filters: [{mirror}], backendRefs: [{{name: v1, port: 8080}}]}}]");
    let kept = x_backend("cart", "app: cart", ", sessionPersistence: {cookie: {}}");
    let out = with(&[&http("web", &rule), &kept]);
    assert_eq!(ancestors(&out), ["shop/web Accepted"]);
    let Some(v1::route_filter::Kind::Mirror(mirror)) = &out.routes("routes/shop/web/80").rules[0].filters[0].kind
    else {
        panic!("no mirror")
    };
    let backend = mirror.backend.as_ref().unwrap();
    assert!(backend.service == "xbackend.cart" && backend.session_persistence.is_none(), "{backend:?}");
}

#[test]
fn what_nobody_uses_is_not_answered_and_use_is_noticed_at_once() {
    let mut known = objects(&[x_backend("cart", "app: cart", "").as_str(), SERVICE].join("\n---\n"));
    let mut translator = Translator::default();
    let mut told = |known: &Objects| ancestors(&whole(&translator.translate(known, &Observed::default(), &facts())));
    assert_eq!(told(&known), Vec::<String>::new());
    let route = only(&to_cart());
    known.insert(route.clone());
    assert_eq!(told(&known), ["shop/web Accepted"]);
    known.remove(&route.key());
    assert_eq!(told(&known), Vec::<String>::new());
}

/// What an agent is sent when a pod becomes ready: the pod's own, and what selects it.
#[test]
fn a_pod_that_becomes_ready_changes_only_what_selects_it() {
    let (cart, other) = (x_backend("cart", "app: cart", ""), x_backend("other", "app: other", ""));
    let unready = cart_pod("one", "10.1.0.2", "app: cart", "  conditions: [{type: Ready, status: 'False'}]");
    let (before, after) = (
        all(&[SHOP, &cart, &other, &to_cart(), SERVICE, &unready]),
        all(&[SHOP, &cart, &other, &to_cart(), SERVICE, &cart_pod("one", "10.1.0.2", "app: cart", "")]),
    );
    let changed: Vec<&str> = after
        .shared
        .iter()
        .filter(|(name, now)| before.shared.get(*name) != Some(now))
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(changed, ["service/shop/xbackend.cart"]);
}
