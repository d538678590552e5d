//! Sessions of routes: what agents keep them by, and what excludes them.

use weft_proto::v1::session_persistence::Carrier;

use super::routes::{TO_V1, http, route_of, with};
use super::*;
use crate::status::Aspect;

const WEB: &str = "{group: '', kind: Service, name: web, port: 80}";

fn keeping(session: &str) -> String {
    format!("{{sessionPersistence: {session}, {TO_V1}}}")
}

fn session(out: &Translation, rule: usize) -> v1::SessionPersistence {
    out.routes("routes/shop/web/80").rules[rule].session_persistence.clone().expect("a session")
}

fn cookie_of(out: &Translation, rule: usize) -> String {
    let Some(Carrier::Cookie(cookie)) = session(out, rule).carrier else { panic!("no cookie") };
    cookie.name
}

#[test]
fn a_session_is_kept_by_what_the_rule_says() {
    let cookie = |name: &str, path: &str, permanent| {
        Carrier::Cookie(v1::SessionCookie { name: name.to_owned(), path: path.to_owned(), permanent })
    };
    let year = 365 * 24 * 3_600_000;
    for (written, carrier, absolute_timeout_ms) in [
        ("{cookie: {name: sid}}", cookie("sid", "/", false), 0),
        (
            "{type: Cookie, cookie: {name: sid, path: /cart}, absoluteTimeout: 90s}",
            cookie("sid", "/cart", false),
            90_000,
        ),
        ("{cookie: {name: sid, lifetimeType: Permanent}, absoluteTimeout: 8760h}", cookie("sid", "/", true), year),
        ("{type: Header, header: {name: X-Session}}", Carrier::Header("x-session".to_owned()), 0),
    ] {
        for kind in ["HTTPRoute", "GRPCRoute"] {
            let route = route_of(kind, "namespace: shop, name: web", WEB, &format!("[{}]", keeping(written)));
            let out = with(&[&route]);
            assert_eq!(out.verdict("web"), ["Accepted/Accepted", "ResolvedRefs/ResolvedRefs"], "{kind} {written}");
            let expected = v1::SessionPersistence { carrier: Some(carrier.clone()), absolute_timeout_ms };
            assert_eq!(session(&out, 0), expected, "{kind} {written}");
        }
    }
}

#[test]
fn a_cookie_without_a_name_gets_one_of_its_rules_own_that_stays() {
    let unnamed = keeping("{cookie: {}}");
    let named = format!("{{name: cart, matches: [{{path: {{value: /cart}}}}], {}", &unnamed[1..]);
    let out = with(&[&http("web", &format!("[{unnamed}, {named}]"))]);
    let (first, cart) = (cookie_of(&out, 0), cookie_of(&out, 1));
    assert!(first.starts_with("weft-session-") && cart.starts_with("weft-session-") && first != cart);
    // The rule's own name holds it wherever the rule stands; another route's is another.
    let out = with(&[&http("web", &format!("[{named}, {unnamed}]"))]);
    assert_eq!(cookie_of(&out, 0), cart);
    assert_ne!(cookie_of(&out, 1), first);
    let out = with(&[&http("other", &format!("[{unnamed}, {named}]"))]);
    assert!(cookie_of(&out, 0) != first && cookie_of(&out, 1) != cart);
}

#[test]
fn what_no_session_can_be_kept_by_is_told_and_its_requests_are_refused() {
    for (written, field) in [
        ("{sessionName: x}", "sessionName"),
        ("{cookie: {}, idleTimeout: 1h}", "idleTimeout"),
        ("{cookieConfig: {lifetimeType: Session}}", "cookieConfig"),
        ("{type: Url, cookie: {}}", "type"),
        ("{cookie: {}, absoluteTimeout: 0s}", "absoluteTimeout"),
        ("{cookie: {name: __Host-sid}}", "cookie.name"),
        ("{cookie: {name: __secure-sid}}", "cookie.name"),
        ("{cookie: {path: cart}}", "cookie.path"),
        ("{cookie: {path: '/; Domain=example.com'}}", "cookie.path"),
        ("{cookie: {path: '/ä'}}", "cookie.path"),
        ("{cookie: {lifetimeType: Eternal}}", "cookie.lifetimeType"),
        ("{type: Header, header: {name: Connection}}", "header.name"),
        ("{type: Header, header: {name: Set-Cookie}}", "header.name"),
        ("{type: Header, header: {name: weft-reason}}", "header.name"),
        ("{type: Header, header: {name: Content-Type}}", "header.name"),
        ("{type: Header, header: {name: grpc-status}}", "header.name"),
    ] {
        let out = with(&[&http("web", &format!("[{}]", keeping(written)))]);
        assert_eq!(out.verdict("web")[0], "Accepted/UnsupportedValue", "{written}");
        let message = out.message("web", Aspect::Accepted);
        assert!(message.starts_with(&format!("spec.rules[0].sessionPersistence.{field}: ")), "{written}: {message}");
        let rule = &out.routes("routes/shop/web/80").rules[0];
        assert!(rule.session_persistence.is_none() && !rule.filters.is_empty(), "{written}");
    }
}

#[test]
fn a_route_is_rejected_where_its_backend_keeps_clients_by_their_address() {
    let sticky = "apiVersion: v1\nkind: Service\nmetadata: {name: sticky, namespace: shop}\nspec:\n  \
         clusterIP: 10.96.0.9\n  sessionAffinity: ClientIP\n  ports: [{port: 8080}]\n";
    let to = |rules: &str| with(&[sticky, &http("web", rules)]);
    let plain = "{backendRefs: [{name: sticky, port: 8080}]}";
    let kept = format!("{{sessionPersistence: {{cookie: {{}}}}, {}", &plain[1..]);
    let out = to(&format!("[{{matches: [{{path: {{value: /x}}}}], {TO_V1}}}, {kept}]"));
    assert_eq!(out.verdict("web")[0], "Accepted/UnsupportedValue");
    let message = out.message("web", Aspect::Accepted);
    assert!(message.starts_with("spec.rules[1].backendRefs[0]: Service shop/sticky"), "{message}");
    assert!(!out.has_routes("routes/shop/web/80"), "it is in force");
    // Each by itself is fine.
    let out = to(&format!("[{plain}, {}]", keeping("{cookie: {}}")));
    assert_eq!(out.verdict("web")[0], "Accepted/Accepted");
}
