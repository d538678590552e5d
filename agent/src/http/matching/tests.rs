//! Which request fits which match: the rows of Gateway API, and a second opinion without any index.

use std::cell::Cell;

use http::{HeaderName, Method, Request, Version};
use proptest::prelude::*;

use super::super::canonical::canonical;
use super::super::cors::tests::any;
use super::*;
use crate::model::{Filter, Matches, Pattern, RouteKind};

fn rule(index: u32) -> Arc<RouteRule> {
    Arc::new(RouteRule { index, ..RouteRule::silent("HTTPRoute shop/web") })
}

fn anything() -> RouteMatch {
    RouteMatch { rule: rule(0), path: PathMatch::Any, method: None, headers: Vec::new(), query: Vec::new() }
}

fn routes(matches: Vec<RouteMatch>) -> Routes {
    let numbered = |one: RouteMatch, index| RouteMatch {
        rule: Arc::new(RouteRule { index, ..RouteRule::clone(&one.rule) }),
        ..one
    };
    let matches = matches.into_iter().zip(0..).map(|(one, index)| numbered(one, index));
    Routes {
        service: "shop/web".parse().unwrap(),
        port: 80,
        audience: None,
        kind: RouteKind::Http,
        matches: Matches::new(matches.collect()),
    }
}

struct Asked {
    canonical: Canonical,
    headers: HeaderMap,
}

fn ask(method: &str, target: &str, headers: &[(&str, &str)]) -> Asked {
    let mut request =
        Request::builder().version(Version::HTTP_2).method(method).uri(format!("http://web:8080{target}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).unwrap().into_parts().0;
    Asked { canonical: canonical(&parts).unwrap(), headers: parts.headers }
}

impl Asked {
    fn chosen(&self, routes: &Routes) -> Option<u32> {
        routes.choose(&self.canonical, &self.headers).map(|chosen| chosen.rule.index)
    }

    fn tries(&self, routes: &Routes) -> usize {
        let tries = Cell::new(0);
        let fits = |wanted: &RouteMatch| {
            tries.set(tries.get() + 1);
            fits(wanted, self.canonical.method(), &self.canonical, &self.headers)
        };
        routes.matches.first(self.canonical.method(), &self.canonical, &self.headers, fits);
        tries.get()
    }
}

#[track_caller]
fn check(wanted: RouteMatch, asked: &Asked, fits: bool) {
    assert_eq!(asked.chosen(&routes(vec![wanted])).is_some(), fits);
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(PathPrefix::new(path))
}

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.into())
}

fn pattern(text: &str) -> ValueMatch {
    ValueMatch::Pattern(Pattern::new(text).unwrap())
}

#[test]
fn a_path_fits_as_gateway_api_says() {
    let rows = [
        (PathMatch::Exact("/abc".into()), "/abc", true),
        (PathMatch::Exact("/abc".into()), "/abc/", false),
        (PathMatch::Exact("/abc".into()), "/ABC", false),
        (PathMatch::Exact("/abc".into()), "/abc?x", true),
        (PathMatch::Exact("/abc/".into()), "/abc", false),
        (prefix("/abc"), "/abc", true),
        (prefix("/abc"), "/abc/", true),
        (prefix("/abc"), "/abc/d", true),
        (prefix("/abc"), "/abcd", false),
        (prefix("/abc/"), "/abc", true),
        (prefix("/abc/"), "/abc/d", true),
        (prefix("/abc/"), "/abcd", false),
        (prefix("/Abc"), "/abc", false),
        (prefix("/"), "/", true),
        (prefix("/"), "/anything", true),
        // What one spelling hides another does not.
        (PathMatch::Exact("/abc".into()), "/%61bc", true),
        (prefix("/abc"), "/x/../abc/d", true),
        (prefix("/abc"), "//abc", false),
        (PathMatch::Pattern(Pattern::new("/v[0-9]+/.*").unwrap()), "/v1/a", true),
        (PathMatch::Pattern(Pattern::new("/v[0-9]+").unwrap()), "/v1/a", false),
        (PathMatch::Pattern(Pattern::new("/v[0-9]+").unwrap()), "/x/v1", false),
        // gRPC: service and method, service, method.
        (PathMatch::Exact("/shop.Cart/Add".into()), "/shop.Cart/Add", true),
        (prefix("/shop.Cart"), "/shop.Cart/Remove", true),
        (prefix("/shop.Cart"), "/shop.CartV2/Add", false),
        (PathMatch::GrpcMethod("Add".into()), "/shop.Cart/Add", true),
        (PathMatch::GrpcMethod("Add".into()), "/shop.Cart/AddAll", false),
        (PathMatch::GrpcMethod("Add".into()), "/a/b/Add", false),
        (PathMatch::GrpcMethod("Add".into()), "/Add", false),
        (PathMatch::GrpcMethod("Add".into()), "//Add", false),
        (PathMatch::Any, "/shop.Cart/Add", true),
    ];
    for (path, target, fits) in rows {
        let wanted = RouteMatch { path: path.clone(), ..anything() };
        let found = ask("GET", target, &[]).chosen(&routes(vec![wanted])).is_some();
        assert_eq!(found, fits, "{path:?} {target}");
    }
}

#[test]
fn a_header_fits_by_the_first_of_its_values() {
    let asked = ask("GET", "/", &[("X-User", "tester"), ("x-user", "other"), ("x-empty", ""), ("x-case", "Tester")]);
    let rows = [
        ("x-user", exact("tester"), true),
        ("x-user", exact("other"), false),
        ("x-user", exact("TESTER"), false),
        ("x-user", pattern("test.*"), true),
        ("x-user", pattern("test"), false),
        ("x-case", pattern("(?i)tester"), true),
        ("x-empty", exact(""), true),
        ("x-absent", exact(""), false),
        ("x-absent", pattern(".*"), false),
        // HTTP/2 has no Host field.
        ("host", exact("web"), true),
        ("host", exact("WEB:8080"), true),
        ("host", exact("web:80"), false),
        ("host", exact("db"), false),
        ("host", pattern("w.b"), true),
    ];
    for (name, value, fits) in rows {
        let header = HeaderMatch { name: HeaderName::from_static(name), value };
        check(RouteMatch { headers: vec![header], ..anything() }, &asked, fits);
    }
}

#[test]
fn a_query_parameter_fits_by_the_first_of_its_values() {
    let asked = ask("GET", "/?a=1&a=2&b&c=&%64=x%20y+z&&e=100%&=nameless&f=%ff", &[]);
    let rows = [
        ("a", exact("1"), true),
        ("a", exact("2"), false),
        ("A", exact("1"), false),
        ("b", exact(""), true),
        ("c", exact(""), true),
        ("d", exact("x y z"), true),
        ("d", pattern("x.*"), true),
        ("d", pattern("x"), false),
        ("e", exact("100%"), true),
        ("f", pattern(".*"), false),
        ("g", exact(""), false),
    ];
    for (name, value, fits) in rows {
        let query = QueryMatch { name: name.into(), value };
        check(RouteMatch { query: vec![query], ..anything() }, &asked, fits);
    }
}

#[test]
fn all_conditions_of_a_match_must_fit() {
    let wanted = RouteMatch {
        path: prefix("/a"),
        method: Some(Method::POST),
        headers: vec![HeaderMatch { name: HeaderName::from_static("x-user"), value: exact("tester") }],
        query: vec![QueryMatch { name: "v".into(), value: exact("2") }],
        ..anything()
    };
    let header = ("x-user", "tester");
    check(wanted.clone(), &ask("POST", "/a?v=2", &[header]), true);
    check(wanted.clone(), &ask("GET", "/a?v=2", &[header]), false);
    check(wanted.clone(), &ask("POST", "/b?v=2", &[header]), false);
    check(wanted.clone(), &ask("POST", "/a?v=1", &[header]), false);
    check(wanted, &ask("POST", "/a?v=2", &[]), false);
}

#[test]
fn the_first_match_that_fits_decides() {
    let paths = [prefix("/a/b"), PathMatch::Exact("/a/b".into()), prefix("/a"), PathMatch::Exact("/c".into())];
    let routes = routes(paths.into_iter().map(|path| RouteMatch { path, ..anything() }).collect());
    for (target, expected) in [("/a/b", Some(0)), ("/a/c", Some(2)), ("/c", Some(3)), ("/d", None)] {
        assert_eq!(ask("GET", target, &[]).chosen(&routes), expected, "{target}");
    }
}

#[test]
fn a_request_without_a_path_fits_what_says_nothing_of_paths() {
    let parts = Request::builder().method("OPTIONS").uri("*").header("host", "web").body(()).unwrap().into_parts().0;
    let asked = Asked { canonical: canonical(&parts).unwrap(), headers: parts.headers };
    check(anything(), &asked, true);
    check(RouteMatch { path: prefix("/"), ..anything() }, &asked, true);
    check(RouteMatch { path: prefix("/a"), ..anything() }, &asked, false);
}

/// Rules like those of a platform's many tenants, of every kind.
fn many(rules: usize) -> Routes {
    let header = |value: usize| HeaderMatch { name: "x-user".parse().unwrap(), value: exact(&value.to_string()) };
    let parameter = |value: usize| QueryMatch { name: "user".into(), value: exact(&value.to_string()) };
    let one = |index: usize| match index % 5 {
        0 => RouteMatch { path: PathMatch::Exact(format!("/exact/{index}").into()), ..anything() },
        1 => RouteMatch { path: prefix(&format!("/below/{index}")), ..anything() },
        2 => RouteMatch { path: PathMatch::GrpcMethod(format!("Call{index}").into()), ..anything() },
        3 => RouteMatch { headers: vec![header(index)], method: Some(Method::GET), ..anything() },
        _ => RouteMatch { path: prefix("/"), query: vec![parameter(index)], ..anything() },
    };
    routes((0..rules).map(one).collect())
}

#[test]
fn ten_thousand_rules_are_not_tried_one_after_the_other() {
    for rules in [10, 10_000] {
        let routes = many(rules);
        for (index, place) in (rules - 5..rules).zip(0..5) {
            let (target, user) = match place {
                0 => (format!("/exact/{index}"), ""),
                1 => (format!("/below/{index}/a/b/c"), ""),
                2 => (format!("/any.Service/Call{index}"), ""),
                3 => ("/".to_owned(), &*index.to_string()),
                _ => (format!("/?user={index}"), ""),
            };
            let asked = ask("GET", &target, &[("x-user", user)]);
            assert_eq!(asked.chosen(&routes), u32::try_from(index).ok(), "{target}");
            assert_eq!(asked.tries(&routes), 1, "{target} of {rules}");
        }
        assert_eq!(ask("POST", "/nobody", &[("x-user", "nobody")]).tries(&routes), 0);
    }
}

/// As the words say it: elements one by one, the first of each name, and no index.
fn naively(matches: &[RouteMatch], asked: &Written) -> Option<usize> {
    let elements = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let path = elements(&asked.path);
    let first = |list: &[(&str, &str)], name: &str| {
        list.iter().find(|(written, _)| *written == name).map(|(_, value)| (*value).to_owned())
    };
    let value_fits = |wanted: &ValueMatch, value: Option<String>| match wanted {
        ValueMatch::Exact(text) => value.is_some_and(|value| value == **text),
        ValueMatch::Pattern(pattern) => value.is_some_and(|value| pattern.fits(&value)),
    };
    matches.iter().position(|wanted| {
        let path_fits = match &wanted.path {
            PathMatch::Any => true,
            PathMatch::Exact(whole) => elements(whole) == path,
            PathMatch::Prefix(prefix) => path.starts_with(&elements(prefix.as_str())),
            PathMatch::GrpcMethod(last) => path.len() == 3 && path[2] == **last && !path[1].is_empty(),
            PathMatch::Pattern(pattern) => pattern.fits(&asked.path),
        };
        let header = |one: &HeaderMatch| match (&one.value, one.name == HOST) {
            (ValueMatch::Exact(text), true) => ["web", "WEB", "web:8080"].contains(&&**text),
            (_, true) => value_fits(&one.value, Some("web".to_owned())),
            (_, false) => value_fits(&one.value, first(&asked.headers, one.name.as_str())),
        };
        path_fits
            && wanted.method.as_ref().is_none_or(|wanted| *wanted == asked.method)
            && wanted.headers.iter().all(header)
            && wanted.query.iter().all(|one| value_fits(&one.value, first(&asked.query, &one.name)))
    })
}

/// A request to the Host `web:8080`.
#[derive(Debug)]
struct Written {
    path: String,
    method: Method,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
}

impl Written {
    fn ask(&self) -> Asked {
        let query: Vec<_> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        ask(self.method.as_str(), &format!("{}?{}", self.path, query.join("&")), &self.headers)
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", ""]), 1..4)
        .prop_map(|elements| format!("/{}", elements.join("/")))
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::GET, Method::POST])
}

/// Few enough that they often meet.
fn text() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "ab", ""])
}

fn written() -> impl Strategy<Value = Written> {
    let headers = prop::collection::vec((prop::sample::select(vec!["x-a", "x-b"]), text()), 0..4);
    let query = prop::collection::vec((prop::sample::select(vec!["a", "b"]), text()), 0..4);
    (path(), method(), headers, query).prop_map(|(path, method, headers, query)| Written {
        path,
        method,
        headers,
        query,
    })
}

fn value() -> impl Strategy<Value = ValueMatch> {
    let patterns = ["a.*", "b?"].map(pattern).to_vec();
    prop_oneof![4 => text().prop_map(exact), 1 => prop::sample::select(patterns)]
}

fn header() -> impl Strategy<Value = HeaderMatch> {
    let host = prop::sample::select(vec!["web", "WEB", "web:8080", "web:80", "db"]).prop_map(exact);
    prop_oneof![
        4 => (prop::sample::select(vec!["x-a", "x-b"]), value()),
        1 => (Just("host"), host),
        1 => (Just("host"), Just(pattern("w.b"))),
    ]
    .prop_map(|(name, value)| HeaderMatch { name: HeaderName::from_static(name), value })
}

fn wanted() -> impl Strategy<Value = RouteMatch> {
    let patterns = ["/a.*", "/.*b"].map(|text| PathMatch::Pattern(Pattern::new(text).unwrap())).to_vec();
    let path = prop_oneof![
        Just(PathMatch::Any),
        Just(prefix("/")),
        path().prop_map(|path| PathMatch::Exact(path.into())),
        path().prop_map(|path| prefix(&path)),
        prop::sample::select(vec!["a", "b"]).prop_map(|method| PathMatch::GrpcMethod(method.into())),
        prop::sample::select(patterns),
    ];
    let query = (prop::sample::select(vec!["a", "b"]), value());
    let query = query.prop_map(|(name, value)| QueryMatch { name: name.into(), value });
    let values = (prop::collection::vec(header(), 0..3), prop::collection::vec(query, 0..3));
    (path, prop::option::of(method()), values).prop_map(|(path, method, (headers, query))| RouteMatch {
        path,
        method,
        headers,
        query,
        ..anything()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_index_changes_nothing(matches in prop::collection::vec(wanted(), 0..40), written in written()) {
        let found = written.ask().chosen(&routes(matches.clone())).map(|index| index as usize);
        prop_assert_eq!(found, naively(&matches, &written));
    }
}

/// Its rule says which pages may ask.
fn with_cors(wanted: RouteMatch) -> RouteMatch {
    let rule = RouteRule { filters: vec![Filter::Cors(Box::new(any()))], ..RouteRule::clone(&wanted.rule) };
    RouteMatch { rule: Arc::new(rule), ..wanted }
}

#[test]
fn a_preflight_is_taken_by_the_rule_of_the_request_that_it_announces() {
    let of = |method: Method, path: &str| RouteMatch { method: Some(method), path: prefix(path), ..anything() };
    // In the order of precedence; the numbers are those of the rules.
    let routes = routes(vec![
        of(Method::OPTIONS, "/own"),
        with_cors(of(Method::OPTIONS, "/twice")),
        with_cors(of(Method::GET, "/api")),
        of(Method::PUT, "/api"),
        RouteMatch { path: prefix("/plain"), ..anything() },
        with_cors(anything()),
    ]);
    let preflight = |path: &str, method: &str| {
        ask("OPTIONS", path, &[("origin", "https://a"), ("access-control-request-method", method)])
    };
    for (path, method, rule) in [
        ("/api", "GET", 2),
        // The announced rule says nothing of other origins: the preflight is any other request of OPTIONS.
        ("/api", "PUT", 5),
        ("/api", "get", 5),
        ("/plain", "GET", 4),
        // A rule for OPTIONS does not take away what the rule of the request itself answers.
        ("/own", "GET", 5),
        ("/own", "OPTIONS", 0),
        ("/twice", "GET", 5),
        ("/twice", "OPTIONS", 1),
    ] {
        assert_eq!(preflight(path, method).chosen(&routes), Some(rule), "{method} {path}");
    }
    for headers in [&[][..], &[("origin", "https://a")], &[("access-control-request-method", "GET")]] {
        assert_eq!(ask("OPTIONS", "/own", headers).chosen(&routes), Some(0), "no preflight");
    }
    for (path, method, is_bystander) in
        [("/api", "PUT", true), ("/api", "GET", false), ("/twice", "OPTIONS", false), ("/", "PUT", false)]
    {
        let asked = preflight(path, method);
        let chosen = routes.choose(&asked.canonical, &asked.headers).unwrap();
        assert_eq!(chosen.is_bystander, is_bystander, "{method} {path}");
    }
    let get = ask("GET", "/own", &[("origin", "https://a"), ("access-control-request-method", "OPTIONS")]);
    assert_eq!(get.chosen(&routes), Some(5), "no preflight");
}
