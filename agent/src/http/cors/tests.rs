//! What browsers and caches are told, row by row: those of Gateway API's conformance suite, and those that it has not.

use std::sync::Arc;

use http::{Request, Version};

use super::super::canonical::canonical;
use super::*;
use crate::model::{Filter, Origin, PathMatch, RouteMatch, RouteRule};

const PAGE: (&str, &str) = ("origin", "https://www.foo.com");
const PUT: (&str, &str) = ("access-control-request-method", "PUT");

/// Origins without a port have their scheme's.
fn origin(scheme: Scheme, host: OriginHost) -> Origin {
    Origin { scheme, host, port: scheme.port() }
}

/// Every page may ask, and nothing else is said.
pub fn any() -> Cors {
    Cors {
        origins: Origins::Any,
        credentials: false,
        methods: None,
        headers: None,
        exposed: None,
        max_age: HeaderValue::from_static("5"),
    }
}

/// The conformance suite's first route.
fn listed() -> Cors {
    let names = |text| Some(Names::Listed(HeaderValue::from_static(text)));
    Cors {
        origins: Origins::Listed(vec![
            origin(Scheme::Https, OriginHost::Exact("www.foo.com".into())),
            origin(Scheme::Https, OriginHost::Below(".bar.com".into())),
        ]),
        credentials: true,
        methods: names("GET, OPTIONS"),
        headers: names("x-header-1, x-header-2"),
        exposed: names("x-header-3, x-header-4"),
        max_age: HeaderValue::from_static("3600"),
    }
}

fn everything(credentials: bool) -> Cors {
    Cors { credentials, methods: Some(Names::Any), headers: Some(Names::Any), exposed: Some(Names::Any), ..any() }
}

fn rule(cors: Cors) -> RouteRule {
    RouteRule { filters: vec![Filter::Cors(Box::new(cors))], ..RouteRule::silent("HTTPRoute shop/web") }
}

fn with(cors: Cors) -> RouteMatch {
    let rule = Arc::new(rule(cors));
    RouteMatch { rule, path: PathMatch::Any, method: None, headers: Vec::new(), query: Vec::new() }
}

fn asked(method: &str, headers: &[(&str, &str)]) -> (Canonical, HeaderMap) {
    let mut request = Request::builder().version(Version::HTTP_2).method(method).uri("http://web/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).unwrap().into_parts().0;
    (canonical(&parts).unwrap(), parts.headers)
}

/// What an answer that said `said` says in the end, sorted.
#[track_caller]
fn check(cors: Cors, method: &str, headers: &[(&str, &str)], said: &[(&str, &str)], expected: &[&str]) {
    answered(StatusCode::OK, (cors, false), (method, headers), said, expected);
}

#[track_caller]
fn answered(
    status: StatusCode,
    (cors, is_bystander): (Cors, bool),
    (method, headers): (&str, &[(&str, &str)]),
    said: &[(&str, &str)],
    expected: &[&str],
) {
    let matched = with(cors);
    let (request, headers) = asked(method, headers);
    let chosen = Chosen { rule: &matched.rule, matched: &matched, is_bystander };
    let sharing = Sharing::of(&chosen, &request, &headers).expect("the rule has the filter");
    let mut answer = HeaderMap::new();
    for (name, value) in said {
        answer.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    sharing.write(status, &mut answer);
    let mut lines: Vec<_> = answer.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    assert_eq!(lines, expected);
}

#[test]
fn a_preflight_is_told_what_the_filter_allows() {
    let asked = [PAGE, ("access-control-request-method", "GET"), ("access-control-request-headers", "x-header-1")];
    let allowed = |origin: &str| {
        [
            "access-control-allow-credentials: true".to_owned(),
            "access-control-allow-headers: x-header-1, x-header-2".to_owned(),
            "access-control-allow-methods: GET, OPTIONS".to_owned(),
            format!("access-control-allow-origin: {origin}"),
            "access-control-expose-headers: x-header-3, x-header-4".to_owned(),
            "access-control-max-age: 3600".to_owned(),
            "vary: Origin".to_owned(),
        ]
    };
    for origin in ["https://www.foo.com", "https://www.bar.com", "https://xpto.www.bar.com", "https://www.foo.com:443"]
    {
        let expected = allowed(origin);
        let headers = [("origin", origin), asked[1], asked[2]];
        check(listed(), "OPTIONS", &headers, &[], &expected.each_ref().map(String::as_str));
    }
    // Its methods and headers are the filter's, whatever is asked for: the browser compares.
    let expected = allowed(PAGE.1);
    check(listed(), "OPTIONS", &[PAGE, PUT], &[], &expected.each_ref().map(String::as_str));
    // Nothing is said where nothing is configured: what needs no permission needs none.
    check(any(), "OPTIONS", &[PAGE, PUT], &[], &["access-control-allow-origin: *", "access-control-max-age: 5"]);
}

#[test]
fn an_origin_that_is_not_allowed_is_told_nothing() {
    let none = Cors { origins: Origins::Listed(Vec::new()), ..any() };
    check(none, "OPTIONS", &[PAGE, PUT], &[], &["vary: Origin"]);
    for origin in [
        "https://foobar.com",
        "http://www.foo.com",
        "https://www.foo.com:8443",
        "https://www.foo.com.evil.org",
        "https://evilwww.foo.com",
        "https://bar.com",
        "https://.bar.com",
        "https://evilbar.com",
        "https://www.bar.com/path",
        "https://user@www.bar.com",
        "https://www.foo.com https://www.bar.com",
        "https://www.foo.com.",
        "null",
        "",
    ] {
        for method in ["OPTIONS", "GET"] {
            check(listed(), method, &[("origin", origin), PUT], &[], &["vary: Origin"]);
        }
    }
    // Two origins are none.
    check(listed(), "GET", &[PAGE, PAGE], &[], &["vary: Origin"]);
}

#[test]
fn wildcards_are_what_was_asked_for() {
    let asked = [PAGE, PUT, ("access-control-request-headers", "x-header-1, authorization")];
    let methods_and_headers =
        ["access-control-allow-headers: x-header-1, authorization", "access-control-allow-methods: PUT"];
    let without = [
        methods_and_headers[0],
        methods_and_headers[1],
        "access-control-allow-origin: *",
        "access-control-expose-headers: *",
        "access-control-max-age: 5",
    ];
    check(everything(false), "OPTIONS", &asked, &[], &without);
    let with = [
        "access-control-allow-credentials: true",
        methods_and_headers[0],
        methods_and_headers[1],
        "access-control-allow-origin: https://www.foo.com",
        "access-control-expose-headers: vary",
        "access-control-max-age: 5",
        "vary: Origin",
    ];
    check(everything(true), "OPTIONS", &asked, &[], &with);
    // No headers are asked for: none are allowed.
    check(everything(false), "OPTIONS", &asked[..2], &[], &[&without[1..]].concat());
}

#[test]
fn nobody_speaks_for_the_rule_of_another() {
    let preflight = ("OPTIONS", &[PAGE, PUT][..]);
    answered(StatusCode::NO_CONTENT, (everything(true), true), preflight, &[], &["vary: Origin"]);
    answered(StatusCode::NO_CONTENT, (everything(false), true), preflight, &[], &[]);
}

#[test]
fn an_answer_that_renews_a_stored_one_leaves_its_list_alone() {
    let request = ("GET", &[PAGE][..]);
    let check = |status, cors, expected: &[&str]| {
        answered(status, (cors, false), request, &[("etag", "1")], expected);
    };
    let own = ["access-control-allow-credentials: true", "access-control-allow-origin: https://www.foo.com"];
    let all = "access-control-expose-headers: etag, vary";
    check(StatusCode::OK, everything(true), &[own[0], own[1], all, "etag: 1", "vary: Origin"]);
    check(StatusCode::NOT_MODIFIED, everything(true), &[own[0], own[1], "etag: 1", "vary: Origin"]);
    let star = ["access-control-allow-origin: *", "access-control-expose-headers: *", "etag: 1"];
    check(StatusCode::NOT_MODIFIED, everything(false), &star);
}

#[test]
fn any_origin_is_any_and_never_a_star_with_credentials() {
    for origin in ["https://foobar.com:12345", "http://[::1]:8080", "capacitor://localhost", "null"] {
        let own = format!("access-control-allow-origin: {origin}");
        let credentials = Cors { credentials: true, ..any() };
        let expected = ["access-control-allow-credentials: true", &own, "vary: Origin"];
        check(credentials, "GET", &[("origin", origin)], &[], &expected);
        check(any(), "GET", &[("origin", origin)], &[], &["access-control-allow-origin: *"]);
    }
    check(Cors { credentials: true, ..any() }, "GET", &[("origin", "*")], &[], &["vary: Origin"]);
    let on_a_port = Origin { scheme: Scheme::Http, host: OriginHost::Any, port: 8080 };
    let cors = Cors { origins: Origins::Listed(vec![on_a_port]), ..any() };
    let expected = ["access-control-allow-origin: http://[::1]:8080", "vary: Origin"];
    check(cors.clone(), "GET", &[("origin", "http://[::1]:8080")], &[], &expected);
    check(cors, "GET", &[("origin", "http://localhost")], &[], &["vary: Origin"]);
}

#[test]
fn an_answer_says_one_thing_whatever_its_backend_says() {
    let backend = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-origin", "https://evil.org"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "DELETE"),
        ("access-control-allow-headers", "x-evil"),
        ("access-control-expose-headers", "x-evil"),
        ("access-control-max-age", "86400"),
        ("server", "nginx"),
    ];
    let shared = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: https://www.foo.com",
        "access-control-expose-headers: x-header-3, x-header-4",
        "server: nginx",
        "vary: Origin",
    ];
    check(listed(), "GET", &[PAGE], &backend, &shared);
    check(listed(), "GET", &[("origin", "https://evil.org")], &backend, &["server: nginx", "vary: Origin"]);
    // Who asks without an origin may fill a cache for those that have one.
    check(listed(), "GET", &[], &backend, &["server: nginx", "vary: Origin"]);
    check(any(), "GET", &[], &backend, &["access-control-allow-origin: *", "server: nginx"]);
    // A preflight has both headers.
    check(listed(), "OPTIONS", &[PAGE], &[], &[&shared[..3], &shared[4..]].concat());
    check(listed(), "GET", &[PAGE, PUT], &[], &[&shared[..3], &shared[4..]].concat());
}

#[test]
fn exposing_everything_with_credentials_names_what_there_is() {
    let said = [("x-a", "1"), ("set-cookie", "a=b"), ("access-control-expose-headers", "x-old")];
    let expected = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: https://www.foo.com",
        "access-control-expose-headers: x-a, vary",
        "set-cookie: a=b",
        "vary: Origin",
        "x-a: 1",
    ];
    check(everything(true), "GET", &[PAGE], &said, &expected);
}

#[test]
fn vary_is_added_to_what_the_backend_says() {
    for (said, expected) in [
        ("Accept-Encoding", &["vary: Accept-Encoding", "vary: Origin"][..]),
        ("Accept-Encoding, origin", &["vary: Accept-Encoding, origin"]),
        ("*", &["vary: *"]),
    ] {
        check(listed(), "GET", &[("origin", "null")], &[("vary", said)], expected);
    }
}

#[test]
fn who_is_refused_is_told_by_name() {
    let refusal = |headers: &[(&str, &str)], is_bystander: bool| {
        let matched = with(listed());
        let (request, headers) = asked("OPTIONS", headers);
        let chosen = Chosen { rule: &matched.rule, matched: &matched, is_bystander };
        Sharing::of(&chosen, &request, &headers).unwrap().refusal()
    };
    assert_eq!(refusal(&[PAGE, PUT], false), None);
    assert_eq!(refusal(&[], false), None);
    let sentence = "the rule's CORS filter does not allow the origin https://evil.org\\xe2\\x80\\xae";
    assert_eq!(refusal(&[("origin", "https://evil.org\u{202e}"), PUT], false).as_deref(), Some(sentence));
    let sentence = "the rule that takes the announced request has no CORS filter";
    assert_eq!(refusal(&[PAGE, PUT], true).as_deref(), Some(sentence));
}
