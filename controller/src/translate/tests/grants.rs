//! Backends of another namespace where the operator demands that namespace's word.

use super::parts::only;
use super::routes::{TO_V1, http, route_of, with};
use super::*;
use crate::status::Aspect;

const DEMAND: &str = "  enforced: {crossNamespaceBackends: GrantRequired}";
const TO_FAR: &str = "backendRefs: [{name: far, namespace: other, port: 8080}]";
const REFUSED: &str = "ResolvedRefs/RefNotPermitted";

/// Of `namespace`, for that kind of `from`; `name` says of which Service, if not of all.
pub fn grant(namespace: &str, kind: &str, from: &str, name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\n\
         metadata: {{name: for-{from}, namespace: {namespace}}}\nspec:\n  \
         from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: {from}}}]\n  \
         to: [{{group: '', kind: Service, {name}}}]\n"
    )
}

fn of_kind(kind: &str, hostnames: &str) -> String {
    let web = "{group: '', kind: Service, name: web, port: 81}";
    route_of(kind, "namespace: shop, name: web", web, &format!("[{{{TO_FAR}}}]")) + hostnames
}

fn check(objects: &[&str], expected: &str) -> Translation {
    let out = with(objects);
    assert_eq!(out.verdict("web"), ["Accepted/Accepted", expected], "{objects:?}");
    let invalid = |routes: v1::Routes| routes.rules[0].backends[0].invalid.clone();
    let refused = out.has_routes("routes/shop/web/81").then(|| invalid(out.routes("routes/shop/web/81")));
    assert!(refused.is_none_or(|why| why.is_empty() == (expected == "ResolvedRefs/ResolvedRefs")), "{objects:?}");
    out
}

#[test]
fn routes_of_every_kind_need_a_grant_only_where_the_operator_demands_one() {
    let demand = mesh(DEMAND);
    for (kind, hostnames) in
        [("HTTPRoute", ""), ("GRPCRoute", ""), ("TLSRoute", "  hostnames: [a.example]\n"), ("TCPRoute", "")]
    {
        let route = of_kind(kind, hostnames);
        check(&[&route], "ResolvedRefs/ResolvedRefs");
        check(&[&route, &mesh("  enforced: {crossNamespaceBackends: Allowed}")], "ResolvedRefs/ResolvedRefs");
        let refused = check(&[&route, &demand], REFUSED);
        assert_eq!(
            refused.message("web", Aspect::ResolvedRefs),
            format!(
                "spec.rules[0].backendRefs[0]: no ReferenceGrant of other lets a {kind} of shop name Service other/far"
            )
        );
        check(&[&route, &demand, &grant("other", kind, "shop", "")], "ResolvedRefs/ResolvedRefs");
        check(&[&route, &demand, &grant("other", kind, "shop", "name: far")], "ResolvedRefs/ResolvedRefs");
    }
}

/// What a Service of which nothing may be told says of its clients neither is told nor decides.
#[test]
fn a_backend_that_is_not_permitted_excludes_no_session() {
    let sticky = "apiVersion: v1\nkind: Service\nmetadata: {name: sticky, namespace: other}\nspec:\n  \
        clusterIP: 10.96.0.9\n  sessionAffinity: ClientIP\n  ports: [{port: 8080}]\n";
    let rule = "[{sessionPersistence: {cookie: {}}, backendRefs: [{name: sticky, namespace: other, port: 8080}]}]";
    let (route, demand) = (http("web", rule), mesh(DEMAND));
    assert_eq!(with(&[sticky, &route]).verdict("web")[0], "Accepted/UnsupportedValue");
    let out = with(&[sticky, &route, &demand]);
    assert_eq!(out.verdict("web"), ["Accepted/Accepted", REFUSED]);
    assert!(!out.message("web", Aspect::ResolvedRefs).contains("ClientIP"));
}

#[test]
fn only_a_grant_of_the_backends_namespace_that_means_the_route_permits_it() {
    let (route, demand) = (of_kind("HTTPRoute", ""), mesh(DEMAND));
    let wrong = [
        grant("shop", "HTTPRoute", "shop", ""),
        grant("other", "GRPCRoute", "shop", ""),
        grant("other", "HTTPRoute", "bank", ""),
        grant("other", "HTTPRoute", "shop", "name: near"),
    ];
    for one in &wrong {
        check(&[&route, &demand, one], REFUSED);
    }
    // Several add up, and one that does not fit takes nothing away.
    let right = grant("other", "HTTPRoute", "shop", "name: far").replace("for-shop", "right");
    check(&[&route, &demand, &wrong[1].replace("for-shop", "wrong"), &wrong[2], &right], "ResolvedRefs/ResolvedRefs");
}

#[test]
fn the_own_namespace_needs_no_grant_and_an_absent_service_is_no_secret_given_away() {
    let demand = mesh(DEMAND);
    let own = with(&[&http("web", &format!("[{{{TO_V1}}}]")), &demand]);
    assert_eq!(own.verdict("web")[1], "ResolvedRefs/ResolvedRefs");
    let absent = of_kind("HTTPRoute", "").replace("name: far", "name: absent");
    check(&[&absent, &demand], REFUSED);
    check(&[&absent, &demand, &grant("other", "HTTPRoute", "shop", "")], "ResolvedRefs/BackendNotFound");
}

#[test]
fn a_share_and_a_mirror_without_a_grant_are_invalid_and_siblings_keep_theirs() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: far, namespace: other, port: 8080}}}";
    let rule = format!(
        "[{{filters: [{mirror}], backendRefs: [{{name: far, namespace: other, port: 8080, weight: 3}}, {{name: v1, port: 8080}}]}}]"
    );
    let out = with(&[&http("web", &rule), &mesh(DEMAND)]);
    let rule = &out.routes("routes/shop/web/80").rules[0];
    let shares: Vec<(u32, bool)> = rule.backends.iter().map(|one| (one.weight, one.invalid.is_empty())).collect();
    assert_eq!(shares, [(3, false), (1, true)]);
    let Some(v1::route_filter::Kind::Mirror(mirror)) = &rule.filters[0].kind else { panic!("no mirror") };
    assert!(mirror.backend.as_ref().unwrap().invalid.contains("no ReferenceGrant of other"));
    assert_eq!(out.verdict("web")[1], REFUSED);
}

#[test]
fn a_grant_that_comes_or_goes_and_the_operators_word_are_noticed_at_once() {
    let mut known = objects(&of_kind("HTTPRoute", ""));
    let mut translator = Translator::default();
    let mut check = |known: &Objects, expected: &str| {
        let told = whole(&translator.translate(known, &Observed::default(), &facts()));
        assert_eq!(told.verdict("web")[1], expected);
    };
    // Neither Service is there, and who is refused does not learn that.
    let permitted = "ResolvedRefs/BackendNotFound";
    check(&known, permitted);
    let (demand, grant) = (only(&mesh(DEMAND)), only(&grant("other", "HTTPRoute", "shop", "")));
    known.insert(demand.clone());
    check(&known, REFUSED);
    known.insert(grant.clone());
    check(&known, permitted);
    known.remove(&grant.key());
    check(&known, REFUSED);
    known.remove(&demand.key());
    check(&known, permitted);
}
