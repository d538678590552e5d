//! What an API server would refuse, and what becomes of the rest.

use serde_json::{Value as Json, json};

use super::*;
use crate::object::RawMetadata;

fn metadata() -> Metadata {
    let raw = RawMetadata { name: "web".to_owned(), namespace: Some("shop".to_owned()), ..RawMetadata::default() };
    Metadata::parse(Kind::HttpRoute, raw).unwrap()
}

fn http(rules: &Json) -> Result<Route, FieldError> {
    Route::http(metadata(), serde_json::from_value(json!({ "rules": rules })).unwrap())
}

fn grpc(rules: &Json) -> Result<Route, FieldError> {
    Route::grpc(metadata(), serde_json::from_value(json!({ "rules": rules })).unwrap())
}

fn check_refused(found: Result<Route, FieldError>, path: &str, part: &str) {
    let error = found.unwrap_err();
    assert_eq!(error.path, path, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

fn header(name: &str) -> Json {
    json!({ "name": name, "value": "v" })
}

fn many(count: usize, value: Json) -> Json {
    Json::Array(vec![value; count])
}

fn headers(count: usize) -> Json {
    (0..count).map(|index| header(&format!("h{index}"))).collect()
}

fn session(session: &Json) -> Json {
    json!([{ "sessionPersistence": session }])
}

#[test]
fn a_rule_that_an_api_server_would_refuse_names_its_field() {
    for (rules, path, part) in [
        (json!([]), "spec.rules", "no rule"),
        (many(17, json!({})), "spec.rules", "16 are allowed"),
        (many(3, json!({ "matches": many(64, json!({})) })), "spec.rules", "192 matches"),
        (json!([{ "matches": many(65, json!({})) }]), "spec.rules[0].matches", "64 are allowed"),
        (
            json!([{ "matches": many(64, json!({ "path": { "type": "RegularExpression", "value": "/" } })) },
                   { "matches": [{ "headers": [{ "type": "RegularExpression", "name": "a", "value": "b" }] }] }]),
            "spec.rules",
            "65 regular expressions",
        ),
        (json!([{ "name": "a" }, { "name": "a" }]), "spec.rules[1].name", "its own name"),
        (json!([{ "backendRefs": many(17, json!({ "name": "v1" })) }]), "spec.rules[0].backendRefs", "16 are allowed"),
        (
            json!([{ "backendRefs": [{ "name": "a", "weight": -1 }] }]),
            "spec.rules[0].backendRefs[0].weight",
            "from 0 to",
        ),
        (json!([{ "timeouts": { "request": "1 s" } }]), "spec.rules[0].timeouts.request", "not a duration"),
        (
            json!([{ "timeouts": { "request": "1s", "backendRequest": "2s" } }]),
            "spec.rules[0].timeouts.backendRequest",
            "longer",
        ),
        (json!([{ "retry": { "codes": [200] } }]), "spec.rules[0].retry.codes[0]", "400 to 599"),
        (json!([{ "retry": { "attempts": -1 } }]), "spec.rules[0].retry.attempts", "0 to 10"),
        (json!([{ "retry": { "attempts": 11 } }]), "spec.rules[0].retry.attempts", "0 to 10"),
        (session(&json!({})), "spec.rules[0].sessionPersistence.cookie", "missing"),
        (session(&json!({ "type": "Header" })), "spec.rules[0].sessionPersistence.header", "missing"),
        (
            session(&json!({ "type": "Header", "header": { "name": "a" }, "cookie": {} })),
            "spec.rules[0].sessionPersistence.cookie",
            "another",
        ),
        (
            session(&json!({ "cookie": {}, "header": { "name": "a" } })),
            "spec.rules[0].sessionPersistence.header",
            "another",
        ),
        (
            session(&json!({ "cookie": { "lifetimeType": "Permanent" } })),
            "spec.rules[0].sessionPersistence.absoluteTimeout",
            "missing",
        ),
        (
            session(&json!({ "cookie": { "name": "a b" } })),
            "spec.rules[0].sessionPersistence.cookie.name",
            "not a name",
        ),
        (
            session(&json!({ "cookie": {}, "absoluteTimeout": "1 h" })),
            "spec.rules[0].sessionPersistence.absoluteTimeout",
            "not a duration",
        ),
    ] {
        check_refused(http(&rules), path, part);
    }
}

#[test]
fn a_match_that_an_api_server_would_refuse_names_its_field() {
    let path = |kind: &str, value: &str| json!({ "path": { "type": kind, "value": value } });
    for (found, field, part) in [
        (path("PathPrefix", "api"), "path.value", "begin with"),
        (path("PathPrefix", ""), "path.value", "begin with"),
        (path("PathPrefix", "/a//b"), "path.value", "fits no request"),
        (path("Exact", "/a/.."), "path.value", "fits no request"),
        (json!({ "headers": headers(17) }), "headers", "16 are allowed"),
        (json!({ "queryParams": headers(17) }), "queryParams", "16 are allowed"),
        (json!({ "headers": [header("a"), header("a")] }), "headers[1].name", "twice"),
        (json!({ "headers": [header("a b")] }), "headers[0].name", "not a name"),
        (json!({ "queryParams": [{ "name": "a", "value": "" }] }), "queryParams[0].value", "0 bytes"),
    ] {
        check_refused(http(&json!([{ "matches": [found] }])), &format!("spec.rules[0].matches[0].{field}"), part);
    }
}

#[test]
fn a_filter_that_an_api_server_would_refuse_names_its_field() {
    let redirect = json!({ "type": "RequestRedirect", "requestRedirect": {} });
    let rewrite = |path: Json| json!({ "type": "URLRewrite", "urlRewrite": { "path": path } });
    let mirror = |field: &str, share: Json| json!({ "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "v1", "port": 80 }, field: share } });
    let edit = |edit: Json| json!({ "type": "RequestHeaderModifier", "requestHeaderModifier": edit });
    let cors = |field: &str, value: Json| json!({ "type": "CORS", "cors": { field: value } });
    let origins = |count: usize| (0..count).map(|index| json!(format!("https://a{index}"))).collect::<Json>();
    for (filter, field, part) in [
        (edit(json!({ "set": headers(17) })), "requestHeaderModifier.set", "16 are allowed"),
        (
            edit(json!({ "set": [{ "name": "a", "value": "x\r\nb: c" }] })),
            "requestHeaderModifier.set[0].value",
            "control",
        ),
        (edit(json!({ "remove": ["a:"] })), "requestHeaderModifier.remove[0]", "not a name"),
        (json!({ "type": "URLRewrite" }), "urlRewrite", "missing"),
        (json!({ "type": "URLRewrite", "cors": {} }), "cors", "no such field"),
        (rewrite(json!({ "type": "ReplaceFullPath" })), "urlRewrite.path.replaceFullPath", "missing"),
        (
            rewrite(json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" })),
            "urlRewrite.path.replacePrefixMatch",
            "exactly one match",
        ),
        (json!({ "type": "CORS" }), "cors", "missing"),
        (cors("allowOrigins", json!(["*", "https://a"])), "cors.allowOrigins", "everything"),
        (cors("allowOrigins", json!(["https://a", "https://a"])), "cors.allowOrigins[1]", "twice"),
        (cors("allowOrigins", origins(65)), "cors.allowOrigins", "64 are allowed"),
        (cors("allowMethods", json!(["*", "GET"])), "cors.allowMethods", "everything"),
        (cors("allowHeaders", json!(["*", "x-a"])), "cors.allowHeaders", "everything"),
        (cors("allowHeaders", json!(["x a"])), "cors.allowHeaders[0]", "not a name"),
        (cors("exposeHeaders", json!([""])), "cors.exposeHeaders[0]", "not a name"),
        (cors("maxAge", json!(0)), "cors.maxAge", "1 to 2147483647"),
        (cors("maxAge", json!(4_294_967_296_u64)), "cors.maxAge", "1 to 2147483647"),
        (mirror("percent", json!(101)), "requestMirror.percent", "0 to 100"),
        (mirror("fraction", json!({ "numerator": 2, "denominator": 1 })), "requestMirror.fraction", "no share"),
    ] {
        let rules = json!([{ "matches": [{}, {}], "filters": [filter] }]);
        check_refused(http(&rules), &format!("spec.rules[0].filters[0].{field}"), part);
    }
    let twice = json!([{ "filters": [redirect, redirect] }]);
    check_refused(http(&twice), "spec.rules[0].filters[1]", "two filters");
    let both = json!([{ "filters": [redirect, { "type": "URLRewrite", "urlRewrite": {} }] }]);
    check_refused(http(&both), "spec.rules[0].filters", "exclude each other");
    let nowhere = json!([{ "filters": [redirect], "backendRefs": [{ "name": "v1" }] }]);
    check_refused(http(&nowhere), "spec.rules[0].backendRefs", "redirects");
}

#[test]
fn grpc_names_are_checked() {
    let matched = |method: Json| json!([{ "matches": [{ "method": method }] }]);
    for (rules, path, part) in [
        (matched(json!({})), "spec.rules[0].matches[0].method", "neither"),
        (matched(json!({ "service": "a/b" })), "spec.rules[0].matches[0].method.service", "no gRPC service"),
        (matched(json!({ "service": "a..b" })), "spec.rules[0].matches[0].method.service", "no gRPC service"),
        (matched(json!({ "method": "1a" })), "spec.rules[0].matches[0].method.method", "no gRPC method"),
        (
            json!([{ "filters": [{ "type": "URLRewrite", "urlRewrite": {} }] }]),
            "spec.rules[0].filters[0].urlRewrite",
            "no such field",
        ),
        (json!([{ "filters": [{ "type": "CORS", "cors": {} }] }]), "spec.rules[0].filters[0].cors", "no such field"),
    ] {
        check_refused(grpc(&rules), path, part);
    }
    let absolute = grpc(&matched(json!({ "service": ".shop.Cart", "method": "Add" }))).unwrap();
    assert_eq!(absolute.rules[0].matches[0].condition.path.as_ref().unwrap().value, "/shop.Cart/Add");
}

#[test]
fn an_expression_stays_within_its_brackets() {
    let escape = json!([{ "matches": [{ "method": { "type": "RegularExpression", "service": "a)|(?:.*" } }] }]);
    let route = grpc(&escape).unwrap();
    assert!(route.rules[0].is_dropped());
    assert_eq!(route.rules[0].refusals[0].path, "spec.rules[0].matches[0].method.service");
}

#[test]
fn rules_say_what_agents_read() {
    let route = http(&json!([{
        "name": "all",
        "matches": [{ "path": { "value": "/a/" }, "headers": [{ "name": "X-A", "value": "1" }, { "name": "x-a", "value": "2" }] }],
        "filters": [
            { "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [header("X-Set")], "add": [header("X-Add")], "remove": ["X-Gone"] } },
            { "type": "URLRewrite", "urlRewrite": { "hostname": "b.example", "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "" } } },
            { "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "v2", "port": 80 }, "fraction": { "numerator": 1, "denominator": 3 } } },
        ],
        "backendRefs": [{ "name": "v1", "port": 80 }],
        "timeouts": { "request": "0s", "backendRequest": "1s500ms" },
        "retry": { "codes": [503, 503, 502], "backoff": "25ms" },
    }]))
    .unwrap();
    let rule = &route.rules[0];
    assert_eq!((rule.name.as_str(), rule.request_timeout_ms, rule.backend_timeout_ms), ("all", Some(0), 1500));
    let retry = rule.retry.clone().unwrap();
    assert_eq!((retry.attempts, retry.statuses, retry.backoff_ms), (1, vec![503, 502], 25));
    let condition = &rule.matches[0].condition;
    assert_eq!(condition.path.as_ref().unwrap().value, "/a", "a slash at the end says nothing");
    assert_eq!(condition.headers.len(), 1, "of equivalent names the first counts");
    assert_eq!((condition.headers[0].name.as_str(), condition.headers[0].value.as_str()), ("x-a", "1"));
    let header = |name: &str| v1::Header { name: name.to_owned(), value: "v".to_owned() };
    let edit =
        v1::HeaderEdit { set: vec![header("x-set")], add: vec![header("x-add")], remove: vec!["x-gone".to_owned()] };
    assert_eq!(rule.filters[0], Filter::Own(v1::route_filter::Kind::RequestHeaders(edit)));
    let path = Some(v1::PathRewrite { kind: Some(v1::path_rewrite::Kind::Prefix("/".to_owned())) });
    let rewrite = v1::Rewrite { hostname: "b.example".to_owned(), path };
    assert_eq!(rule.filters[1], Filter::Own(v1::route_filter::Kind::Rewrite(rewrite)));
    assert!(matches!(&rule.filters[2], Filter::Mirror(mirror) if mirror.per_million == 333_333));
    assert_eq!(rule.backends[0].weight, 1);
}

#[test]
fn an_origin_is_what_the_definition_takes() {
    let of = |origin: &str| {
        let cors = json!({ "type": "CORS", "cors": { "allowOrigins": [origin] } });
        http(&json!([{ "filters": [cors] }]))
    };
    let found = |scheme: &str, host: &str, port| v1::CorsOrigin { scheme: scheme.into(), host: host.into(), port };
    for (origin, expected) in [
        ("https://a.example", found("https", "a.example", 443)),
        ("http://A.example", found("http", "a.example", 80)),
        ("https://*.a.example:8443", found("https", "*.a.example", 8443)),
        ("http://*", found("http", "*", 80)),
        ("http://*:8080", found("http", "*", 8080)),
        ("http://10.0.0.1:3000", found("http", "10.0.0.1", 3000)),
    ] {
        let route = of(origin).unwrap();
        let Filter::Own(v1::route_filter::Kind::Cors(cors)) = &route.rules[0].filters[0] else { panic!("{origin}") };
        assert_eq!((cors.any_origin, &cors.origins, cors.max_age_seconds), (false, &vec![expected], 5), "{origin}");
    }
    for origin in [
        "",
        "a.example",
        "ftp://a",
        "HTTPS://a",
        "https://",
        "https://a/",
        "https://a..b",
        "https://a.*",
        "https://*a",
        "https://*.*.a",
        "https://[::1]",
        "https://a:",
        "https://a:123456",
        "https://a:b",
        "null",
        &format!("https://{}", "a".repeat(246)),
    ] {
        check_refused(of(origin), "spec.rules[0].filters[0].cors.allowOrigins[0]", "no origin");
    }
    for origin in ["https://a:0", "https://a:65536"] {
        let route = of(origin).unwrap();
        assert_eq!(route.rules[0].refusals[0].path, "spec.rules[0].filters[0].cors.allowOrigins[0]", "{origin}");
    }
}

#[test]
fn cors_says_what_agents_read_and_has_no_place_on_a_backend() {
    let cors = json!({ "type": "CORS", "cors": {
        "allowOrigins": ["*"], "allowCredentials": true, "allowMethods": ["PUT", "DELETE"], "allowHeaders": ["*"],
        "exposeHeaders": ["X-A", "*"], "maxAge": 3600,
    }});
    let backend = json!({ "name": "v1", "port": 80, "filters": [cors] });
    let route = http(&json!([{ "filters": [cors] }, { "backendRefs": [backend] }])).unwrap();
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expected = v1::Cors {
        any_origin: true,
        origins: Vec::new(),
        credentials: true,
        methods: list(&["PUT", "DELETE"]),
        headers: list(&["*"]),
        exposed: list(&["X-A", "*"]),
        max_age_seconds: 3600,
    };
    assert_eq!(route.rules[0].filters, [Filter::Own(v1::route_filter::Kind::Cors(expected))]);
    let refusal = &route.rules[1].backends[0].refusals[0];
    assert_eq!(refusal.reason, RefusalReason::UnsupportedValue);
    assert!(refusal.problem.contains("before a backend is chosen"), "{refusal}");
}

#[test]
fn a_filter_that_frames_messages_is_not_a_routes() {
    for name in ["Host", "content-length", "Transfer-Encoding", "connection"] {
        let edit = json!({ "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [header(name)] } });
        let backend = json!({ "name": "v1", "port": 80, "filters": [edit] });
        let route = http(&json!([{ "filters": [edit] }, { "backendRefs": [backend] }])).unwrap();
        assert_eq!(route.rules[0].refusals[0].reason, RefusalReason::UnsupportedValue, "{name}");
        assert!(route.rules[1].refusals.is_empty(), "its siblings go on");
        assert_eq!(route.rules[1].backends[0].refusals.len(), 1, "{name}");
    }
    let redirect = json!({ "name": "v1", "filters": [{ "type": "RequestRedirect", "requestRedirect": {} }] });
    let route = http(&json!([{ "backendRefs": [redirect] }])).unwrap();
    assert_eq!(route.rules[0].backends[0].refusals[0].reason, RefusalReason::IncompatibleFilters);
}

fn tls(spec: Json) -> Result<Route, FieldError> {
    Route::tls(metadata(), serde_json::from_value(spec).unwrap())
}

fn tcp(spec: Json) -> Result<Route, FieldError> {
    Route::tcp(metadata(), serde_json::from_value(spec).unwrap())
}

fn to_v1() -> Json {
    json!([{ "backendRefs": [{ "name": "v1", "port": 80 }] }])
}

#[test]
fn a_route_of_connections_that_an_api_server_would_refuse_names_its_field() {
    let filtered = json!([{ "backendRefs": [{ "name": "v1", "filters": [{ "type": "RequestMirror" }] }] }]);
    for (spec, path, part) in [
        (json!({}), "spec.rules", "exactly one"),
        (json!({ "rules": [{}, {}] }), "spec.rules", "exactly one"),
        (json!({ "rules": [{}] }), "spec.rules[0].backendRefs", "no backend"),
        (json!({ "rules": filtered }), "spec.rules[0].backendRefs[0].filters", "no filters"),
        (json!({ "rules": [{ "backendRefs": many(17, json!({ "name": "v1" })) }] }), "spec.rules[0].backendRefs", "16"),
        (json!({ "rules": to_v1(), "hostnames": ["a.example"] }), "spec.hostnames", "use a TLSRoute"),
    ] {
        check_refused(tcp(spec), path, part);
    }
    for hostname in
        ["10.0.0.1", "*", "*.", "a.*.example", "**.example", "A.example", "a..example", "a.example.", "-a", ""]
    {
        let found = tls(json!({ "rules": to_v1(), "hostnames": ["a.example", hostname] }));
        check_refused(found, "spec.hostnames[1]", "no name that TLS could ask for");
    }
    check_refused(tls(json!({ "rules": to_v1() })), "spec.hostnames", "names no server");
    let many = many(1025, json!("a.example"));
    check_refused(tls(json!({ "rules": to_v1(), "hostnames": many })), "spec.hostnames", "1024 are allowed");
}

#[test]
fn a_route_of_connections_has_one_rule_and_a_match_for_each_hostname() {
    let names = |route: Route| {
        let matches = route.rules.into_iter().flat_map(|rule| rule.matches);
        matches.map(|found| found.condition.server_name).collect::<Vec<_>>()
    };
    let route = tls(json!({ "rules": to_v1(), "hostnames": ["a.example", "*.example"] })).unwrap();
    assert!(!route.has_hostnames, "they count");
    assert_eq!(names(route), ["a.example", "*.example"]);
    assert_eq!(names(tcp(json!({ "rules": to_v1() })).unwrap()), [""]);
}
