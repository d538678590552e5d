//! Routes as users write them: what agents receive, and what their owners are told.

use weft_proto::v1::route_filter::Kind as Applied;

use super::*;
use crate::object::Kind;
use crate::status::Aspect;

/// Services with the ports 80 (`http`) and 81 (`admin`, undeclared), and one with a port that is no HTTP.
const SERVICES: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  \
     clusterIP: 10.96.0.2\n  ports: [{name: http, port: 80}, {name: admin, port: 81}]\n\
     ---\napiVersion: v1\nkind: Service\nmetadata: {name: v1, namespace: shop}\nspec:\n  \
     clusterIP: 10.96.0.3\n  ports: [{port: 8080}]\n\
     ---\napiVersion: v1\nkind: Service\nmetadata: {name: v2, namespace: shop}\nspec:\n  \
     clusterIP: 10.96.0.4\n  ports: [{port: 8080}, {name: redis, port: 6379}]\n\
     ---\napiVersion: v1\nkind: Service\nmetadata: {name: far, namespace: other}\nspec:\n  \
     clusterIP: 10.96.0.5\n  ports: [{port: 8080}]\n\
     ---\napiVersion: v1\nkind: Service\nmetadata: {name: headless, namespace: shop}\nspec:\n  \
     clusterIP: None\n  ports: [{port: 8080}]\n\
     ---\napiVersion: v1\nkind: Service\nmetadata: {name: elsewhere, namespace: shop}\nspec:\n  \
     type: ExternalName\n  externalName: example.com\n  ports: [{port: 8080}]\n";

const WEB: &str = "{group: '', kind: Service, name: web, port: 80}";

/// `name` may carry more metadata; `rules` is a YAML flow list.
pub fn route_of(kind: &str, metadata: &str, parents: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec:\n  \
         parentRefs: [{parents}]\n  rules: {rules}\n"
    )
}

pub fn http(name: &str, rules: &str) -> String {
    route_of("HTTPRoute", &format!("namespace: shop, name: {name}"), WEB, rules)
}

fn grpc(name: &str, rules: &str) -> String {
    route_of("GRPCRoute", &format!("namespace: shop, name: {name}"), WEB, rules)
}

pub const TO_V1: &str = "backendRefs: [{name: v1, port: 8080}]";

pub fn with(routes: &[&str]) -> Translation {
    let mut parts = vec![SERVICES];
    parts.extend(routes);
    all(&parts)
}

impl Translation {
    pub fn routes(&self, name: &str) -> v1::Routes {
        let found = self.shared.get(name).unwrap_or_else(|| panic!("no {name}"));
        match found.body.clone() {
            Some(Body::Routes(routes)) => {
                let of_requests = matches!(routes.kind(), v1::RouteKind::Http | v1::RouteKind::Grpc);
                let kind = if of_requests { "routes.http" } else { "routes.l4" };
                let keeps = routes.rules.iter().any(|rule| rule.session_persistence.is_some());
                let own = |rule: &v1::RouteRule| rule.backends.iter().any(|one| one.session_persistence.is_some());
                let own = routes.rules.iter().any(own).then_some("routes.sessions.backend");
                let features = [kind].into_iter().chain(keeps.then_some("routes.sessions")).chain(own);
                assert!(found.requires.iter().eq(features), "{:?}", found.requires);
                routes
            }
            other => panic!("{name} is {other:?}"),
        }
    }

    fn web_routes(&self) -> v1::Routes {
        self.routes("routes/shop/web/80")
    }

    pub fn has_routes(&self, name: &str) -> bool {
        self.shared.contains_key(name)
    }

    /// `Accepted/Accepted`, `ResolvedRefs/BackendNotFound` and so on, of the only route of that name.
    pub fn verdict(&self, name: &str) -> Vec<String> {
        let (_, conditions) =
            self.conditions.iter().find(|(key, _)| key.name == name).expect("the route has a verdict");
        let written = |found: &PolicyCondition| format!("{}/{}", found.aspect.as_str(), found.reason.as_str());
        conditions.iter().map(written).collect()
    }

    pub fn message(&self, name: &str, aspect: Aspect) -> String {
        let conditions = self.conditions.iter().filter(|(key, _)| key.name == name);
        let mut all = conditions.flat_map(|(_, conditions)| conditions).filter(|found| found.aspect == aspect);
        all.next().expect("there is such a condition").message.clone()
    }
}

/// One word for each match, in order.
pub fn in_order(routes: &v1::Routes) -> Vec<String> {
    let written = |found: &v1::RouteMatch| {
        let path = found.path.as_ref().map(|path| match path.kind() {
            v1::PathMatchKind::Exact => format!("={}", path.value),
            v1::PathMatchKind::Prefix => format!("{}*", path.value),
            v1::PathMatchKind::RegularExpression => format!("~{}", path.value),
            v1::PathMatchKind::GrpcMethod => format!("*/{}", path.value),
            v1::PathMatchKind::Unspecified => "?".to_owned(),
        });
        let mut words = vec![path.unwrap_or_else(|| "any".to_owned())];
        words.extend(Some(found.method.clone()).filter(|method| !method.is_empty()));
        let value = |sign: &str, found: &v1::ValueMatch| {
            format!("{sign}{}{}{}", found.name, if found.regular_expression { "~" } else { "=" }, found.value)
        };
        words.extend(found.headers.iter().map(|header| value("", header)));
        words.extend(found.query.iter().map(|query| value("?", query)));
        format!("{}->{}", words.join(" "), found.rule)
    };
    routes.matches.iter().map(written).collect()
}

#[test]
fn a_route_of_the_services_namespace_is_everybodys() {
    let out = with(&[&http("web", &format!("[{{{TO_V1}}}]"))]);
    let routes = out.web_routes();
    assert_eq!((routes.namespace.as_str(), routes.service.as_str(), routes.port), ("shop", "web", 80));
    assert_eq!((routes.audience.as_str(), routes.kind()), ("", v1::RouteKind::Http));
    assert_eq!(in_order(&routes), ["/*->0"], "the default of the CRD");
    let rule = &routes.rules[0];
    assert_eq!((rule.route.as_str(), rule.index), ("HTTPRoute shop/web", 0));
    let backend = v1::RouteBackend {
        weight: 1,
        namespace: "shop".to_owned(),
        service: "v1".to_owned(),
        port: 8080,
        ..v1::RouteBackend::default()
    };
    assert_eq!(rule.backends, [backend]);
    assert_eq!(out.verdict("web"), ["Accepted/Accepted", "ResolvedRefs/ResolvedRefs"]);
    assert!(!out.has_routes("routes/shop/web/81"));
}

#[test]
fn a_route_of_another_namespace_is_its_own_clients_alone() {
    let parent = "{group: core, kind: Service, namespace: other, name: far}";
    let route = route_of("HTTPRoute", "namespace: shop, name: mine", parent, &format!("[{{{TO_V1}}}]"));
    let out = with(&[&route]);
    let routes = out.routes("routes/other/far/8080/shop");
    assert_eq!((routes.namespace.as_str(), routes.audience.as_str()), ("other", "shop"));
    assert_eq!(routes.rules[0].backends[0].namespace, "shop", "a backend without namespace is the route's neighbour");
    assert!(!out.has_routes("routes/other/far/8080"));
}

#[test]
fn routes_of_one_port_are_merged_in_gateway_apis_order() {
    let young = http("a-young", "[{matches: [{path: {value: /api}}]}]");
    let old = route_of(
        "HTTPRoute",
        "namespace: shop, name: z-old, creationTimestamp: 2026-01-01T00:00:00Z",
        WEB,
        "[{matches: [{path: {value: /api/}}, {path: {type: RegularExpression, value: '/a.*'}}, {headers: [{name: X-User, value: t}]}]}, \
          {matches: [{path: {type: Exact, value: /api}}, {path: {value: /api/v2}, method: GET}, {queryParams: [{name: Q, value: '1'}]}]}]",
    );
    let out = with(&[&young, &old]);
    let expected = ["=/api->1", "/api/v2* GET->1", "/api*->0", "/api*->2", "~/a.*->0", "/* x-user=t->0", "/* ?Q=1->1"];
    assert_eq!(in_order(&out.web_routes()), expected);
    assert_eq!(out.web_routes().rules.len(), 3);
}

#[test]
fn parents_bind_to_ports() {
    let redis = "{group: '', kind: Service, name: v2";
    for (parent, bound, message) in [
        ("{group: '', kind: Service, name: web}", vec!["web/80", "web/81"], ""),
        ("{group: '', kind: Service, name: web, port: 81}", vec!["web/81"], ""),
        ("{group: '', kind: Service, name: web, sectionName: http}", vec!["web/80"], ""),
        ("{group: '', kind: Service, name: web, sectionName: http, port: 80}", vec!["web/80"], ""),
        (
            "{group: '', kind: Service, name: web, sectionName: http, port: 81}",
            vec![],
            "no TCP port 81 that is named http",
        ),
        ("{group: '', kind: Service, name: web, sectionName: grpc}", vec![], "no TCP port named grpc"),
        ("{group: '', kind: Service, name: web, port: 82}", vec![], "no TCP port 82"),
        ("{group: '', kind: Service, name: absent}", vec![], "there is no Service shop/absent"),
        ("{group: '', kind: Service, name: headless}", vec![], "headless"),
        ("{group: '', kind: Service, name: elsewhere}", vec![], "ExternalName"),
        (&format!("{redis}}}"), vec!["v2/8080"], ""),
        (&format!("{redis}, port: 6379}}"), vec!["v2/6379"], ""),
    ] {
        let out = with(&[&route_of("HTTPRoute", "namespace: shop, name: mine", parent, "[{}]")]);
        let names: Vec<&str> = out.shared.keys().filter_map(|name| name.strip_prefix("routes/shop/")).collect();
        assert_eq!(names, bound, "{parent}");
        let accepted = if bound.is_empty() { "Accepted/NoMatchingParent" } else { "Accepted/Accepted" };
        assert_eq!(out.verdict("mine")[0], accepted, "{parent}");
        assert!(out.message("mine", Aspect::Accepted).contains(message), "{parent}");
    }
}

#[test]
fn other_parents_are_other_controllers_business() {
    let route =
        route_of("HTTPRoute", "namespace: shop, name: mine", "{name: gateway}, {kind: Service, name: web}", "[{}]");
    let out = with(&[&route]);
    assert!(!out.has_routes("routes/shop/web/80"), "a Service of Gateway API's group");
    assert!(out.conditions.is_empty());
}

#[test]
fn a_grpc_route_is_stronger_than_an_http_route() {
    let everywhere = "{group: '', kind: Service, name: web}";
    let loser = http("loser", "[{}]");
    let half = route_of("HTTPRoute", "namespace: shop, name: half", everywhere, "[{}]");
    let consumer = route_of(
        "HTTPRoute",
        "namespace: other, name: consumer",
        "{group: '', kind: Service, namespace: shop, name: web, port: 80}",
        "[{}]",
    );
    let out = with(&[&loser, &half, &consumer, &grpc("winner", "[{}]")]);
    assert_eq!(out.web_routes().kind(), v1::RouteKind::Grpc);
    assert_eq!(out.web_routes().rules.len(), 1);
    assert_eq!(out.verdict("loser")[0], "Accepted/Conflicted");
    assert!(out.message("loser", Aspect::Accepted).contains("GRPCRoute shop/winner"));
    assert_eq!(out.verdict("half")[0], "Accepted/Accepted", "it has the other port");
    assert!(out.message("half", Aspect::Accepted).contains("but not everywhere"));
    assert_eq!(out.routes("routes/shop/web/81").kind(), v1::RouteKind::Http);
    assert_eq!(out.verdict("consumer")[0], "Accepted/Accepted", "another audience");
}

#[test]
fn grpc_methods_are_paths() {
    let rules = "[{matches: [{method: {service: shop.Cart}}, {method: {service: shop.Cart, method: Add}}, {method: {method: Add}}, \
         {headers: [{name: A, value: b}]}, {method: {type: RegularExpression, service: 'shop[.].*'}}]}, {}]";
    let out = with(&[&grpc("cart", rules)]);
    let expected =
        ["=/shop.Cart/Add->0", "/shop.Cart*->0", "~/(?:shop[.].*)/(?:[^/]+)->0", "*/Add->0", "any a=b->0", "any->1"];
    assert_eq!(in_order(&out.web_routes()), expected);
}

#[test]
fn a_backend_that_cannot_be_used_keeps_its_share() {
    for (backend, reason, message) in [
        ("name: v1, port: 8080, weight: 3", "ResolvedRefs", ""),
        ("name: far, namespace: other, port: 8080, weight: 3", "ResolvedRefs", ""),
        ("name: absent, port: 80, weight: 3", "BackendNotFound", "there is no Service shop/absent"),
        ("name: v1, weight: 3", "BackendNotFound", "which port"),
        ("name: v1, port: 9, weight: 3", "BackendNotFound", "has no TCP port 9"),
        ("name: elsewhere, port: 8080, weight: 3", "InvalidKind", "ExternalName"),
        ("name: v1, kind: Bucket, group: s3, weight: 3", "InvalidKind", "kind Bucket of s3"),
        ("name: v2, port: 6379, weight: 3", "UnsupportedProtocol", "declared as tcp"),
    ] {
        let out =
            with(&[&http("web", &format!("[{{backendRefs: [{{{backend}}}, {{name: v2, port: 8080, weight: 0}}]}}]"))]);
        let backends = &out.web_routes().rules[0].backends;
        assert_eq!((backends[0].weight, backends[1].weight), (3, 0), "{backend}");
        assert_eq!(backends[0].invalid.is_empty(), message.is_empty(), "{backend}");
        assert!(backends[0].invalid.contains(message) && backends[1].invalid.is_empty(), "{backend}");
        assert_eq!(out.verdict("web"), ["Accepted/Accepted".to_owned(), format!("ResolvedRefs/{reason}")], "{backend}");
    }
}

#[test]
fn what_weft_cannot_do_is_answered_with_an_error_and_told() {
    let good = "{matches: [{path: {value: /good}}]}";
    for (rule, path, dropped) in [
        (
            "{filters: [{type: CORS, cors: {allowOrigins: ['https://a:70000']}}]}",
            "spec.rules[0].filters[0].cors.allowOrigins[0]",
            false,
        ),
        (
            "{filters: [{type: CORS, cors: {allowMethods: [PURGE]}}]}",
            "spec.rules[0].filters[0].cors.allowMethods[0]",
            false,
        ),
        (
            "{filters: [{type: ExtensionRef, extensionRef: {group: a, kind: b, name: c}}]}",
            "spec.rules[0].filters[0].type",
            false,
        ),
        ("{filters: [{type: ExternalAuth, externalAuth: {}}]}", "spec.rules[0].filters[0].type", false),
        ("{filters: [{type: Teleport}]}", "spec.rules[0].filters[0].type", false),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 418}}]}",
            "spec.rules[0].filters[0].requestRedirect.statusCode",
            false,
        ),
        ("{sessionPersistence: {type: Url}}", "spec.rules[0].sessionPersistence.type", false),
        ("{matches: [{path: {type: Fuzzy, value: /x}}, {}]}", "spec.rules[0].matches[0].path.type", true),
        ("{matches: [{method: PURGE}]}", "spec.rules[0].matches[0].method", true),
        (
            "{matches: [{headers: [{name: a, value: b, type: Fuzzy}]}]}",
            "spec.rules[0].matches[0].headers[0].type",
            true,
        ),
        ("{matches: [{path: {type: RegularExpression, value: '/('}}]}", "spec.rules[0].matches[0].path.value", true),
    ] {
        let out = with(&[&http("web", &format!("[{rule}]"))]);
        assert_eq!(out.verdict("web")[0], "Accepted/UnsupportedValue", "{rule}");
        assert!(
            out.message("web", Aspect::Accepted).starts_with(path),
            "{rule}: {}",
            out.message("web", Aspect::Accepted)
        );
        assert_eq!(out.has_routes("routes/shop/web/80"), !dropped, "{rule}");
        if !dropped {
            let filters = &out.web_routes().rules[0].filters;
            assert!(matches!(&filters[0].kind, Some(Applied::Unsupported(why)) if why.contains(path)), "{rule}");
        }
        let out = with(&[&http("web", &format!("[{rule}, {good}]"))]);
        assert_eq!(out.verdict("web")[..2], ["Accepted/Accepted", "PartiallyInvalid/UnsupportedValue"], "{rule}");
        assert!(out.message("web", Aspect::PartiallyInvalid).starts_with("Dropped Rule 0: "), "{rule}");
        assert_eq!(out.web_routes().rules.len(), if dropped { 1 } else { 2 }, "{rule}");
    }
}

#[test]
fn conditions_carry_the_generation_and_hostnames_are_spoken_of() {
    let route =
        route_of("HTTPRoute", "namespace: shop, name: web, generation: 7", WEB, "[{}]\n  hostnames: [a.example.com]");
    let out = with(&[&route]);
    let (key, conditions) = out.conditions.iter().next().expect("a verdict");
    assert_eq!(key.kind, Kind::HttpRoute);
    assert!(conditions.iter().all(|condition| condition.generation == Some(7)));
    assert!(out.message("web", Aspect::Accepted).contains("hostnames do not count"));
}

#[test]
fn a_ports_declared_protocol_is_one_word() {
    let service =
        SERVICES.replace("{name: admin, port: 81}", "{name: admin, port: 81, appProtocol: kubernetes.io/h2c}");
    let out = all(&[&service]);
    let words = |name: &str| match out.shared[name].body.clone() {
        Some(Body::Service(service)) => service.ports.into_iter().map(|port| port.app_protocol).collect::<Vec<_>>(),
        other => panic!("{name} is {other:?}"),
    };
    assert_eq!(words("service/shop/web"), ["http", "http2"]);
    assert_eq!(words("service/shop/v2"), ["", "tcp"]);
}

#[test]
fn routes_that_find_no_room_are_told_and_disturb_no_older_ones() {
    let matches = |count: usize| {
        let one = |index: usize| format!("{{path: {{type: Exact, value: /{index}}}}}");
        format!("[{}]", (0..count).map(one).collect::<Vec<_>>().join(", "))
    };
    let full = format!("[{{matches: {}}}, {{matches: {}}}]", matches(64), matches(64));
    let routes: Vec<String> = (10..91).map(|index| http(&format!("r{index}"), &full)).collect();
    let out = with(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(out.web_routes().matches.len(), 10_240);
    assert_eq!(out.verdict("r89")[0], "Accepted/Accepted");
    assert_eq!(out.verdict("r90")[0], "Accepted/UnsupportedValue");
    assert!(out.message("r90", Aspect::Accepted).contains("more and larger routes"));

    let expression = "{headers: [{name: a, value: 'x.*', type: RegularExpression}]}";
    let rules = format!("[{{matches: [{}]}}]", vec![expression; 40].join(", "));
    let out = with(&[&http("first", &rules), &http("second", &rules), &http("third", "[{}]")]);
    assert_eq!(out.web_routes().rules.len(), 2);
    assert_eq!(out.verdict("second")[0], "Accepted/UnsupportedValue");
    assert_eq!(out.verdict("third")[0], "Accepted/Accepted", "it is younger, and small enough");
}

#[test]
fn a_route_is_not_copied_to_more_ports_than_agents_can_hold() {
    let ports: Vec<String> = (1..=60).map(|port| format!("{{name: p{port}, port: {port}}}")).collect();
    let wide = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: wide, namespace: shop}}\nspec:\n  clusterIP: 10.96.0.9\n  ports: [{}]\n",
        ports.join(", ")
    );
    let expression = "{headers: [{name: a, value: 'x.*', type: RegularExpression}]}";
    for (count, reason) in [(4, "Accepted/Accepted"), (5, "Accepted/UnsupportedValue")] {
        let rules = format!("[{{matches: [{}]}}]", vec![expression; count].join(", "));
        let parent = "{group: '', kind: Service, name: wide}";
        let out = with(&[&wide, &route_of("HTTPRoute", "namespace: shop, name: mine", parent, &rules)]);
        assert_eq!(out.verdict("mine")[0], reason, "{count}");
        assert_eq!(out.has_routes("routes/shop/wide/60"), reason == "Accepted/Accepted", "{count}");
    }
}

#[test]
fn a_mirror_that_leads_nowhere_is_told_and_harms_no_request() {
    let rule = format!(
        "[{{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: absent, port: 80}}, percent: 5}}}}], {TO_V1}}}]"
    );
    let out = with(&[&http("web", &rule)]);
    let Some(Applied::Mirror(mirror)) = out.web_routes().rules[0].filters[0].kind.clone() else { panic!("no mirror") };
    assert_eq!(mirror.per_million, 50_000);
    assert!(mirror.backend.unwrap().invalid.contains("no Service shop/absent"));
    assert!(out.web_routes().rules[0].backends[0].invalid.is_empty());
    assert_eq!(out.verdict("web"), ["Accepted/Accepted", "ResolvedRefs/BackendNotFound"]);
}

proptest! {
    /// The order in which files are read says nothing.
    #[test]
    fn routes_follow_from_the_set_of_objects_alone(seed in proptest::collection::vec(any::<u8>(), 5)) {
        let path = |value: &str| format!("[{{matches: [{{path: {{value: {value}}}}}], {TO_V1}}}, {{{TO_V1}}}]");
        let routes = [http("a", &path("/x")), http("b", &path("/x")), http("c", &path("/x/y")), http("d", "[{}]"), SERVICES.to_owned()];
        let mut shuffled: Vec<(u8, &String)> = seed.iter().copied().zip(&routes).collect();
        shuffled.sort();
        let shuffled: Vec<&str> = shuffled.into_iter().map(|(_, text)| text.as_str()).collect();
        let ordered: Vec<&str> = routes.iter().map(String::as_str).collect();
        let (left, right) = (all(&ordered), all(&shuffled));
        prop_assert_eq!(left.web_routes(), right.web_routes());
        prop_assert_eq!(left.conditions, right.conditions);
    }
}
