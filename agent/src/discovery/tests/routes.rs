//! Routes and traffic policies: as written, safely, and found by those who are meant.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request};
use weft_proto::resource::versioned;
use weft_proto::v1::{self, path_rewrite, resource::Body, route_filter, session_persistence::Carrier as Carried};

use super::super::apply::{Change, Resources};
use super::super::parse::{Features, Read, Reading, read};
use super::*;
use crate::http::canonical::canonical;
use crate::limits;
use crate::model::{
    BackendTarget, Balancing, Carrier, ConnectionRules, Cookie, Filter, Names, Origin, OriginHost, Origins, PathMatch,
    PathRewrite, PortRoutes, RetryBudget, RetryWindows, RouteKind, Routes, Scheme, SessionPersistence, Snapshot,
    Traffic,
};

fn own(resource: &v1::Resource) -> Read {
    read(resource, &Features::own(), &domains())
}

fn backend(service: &str) -> v1::RouteBackend {
    v1::RouteBackend {
        weight: 1,
        namespace: "shop".to_owned(),
        service: service.to_owned(),
        port: 80,
        ..v1::RouteBackend::default()
    }
}

fn rule(backend_service: &str) -> v1::RouteRule {
    v1::RouteRule {
        route: "HTTPRoute shop/web".to_owned(),
        backends: vec![backend(backend_service)],
        ..v1::RouteRule::default()
    }
}

fn path(kind: v1::PathMatchKind, value: &str) -> v1::PathMatch {
    v1::PathMatch { kind: kind.into(), value: value.to_owned() }
}

fn any_path(rule: u32) -> v1::RouteMatch {
    v1::RouteMatch { rule, path: Some(path(v1::PathMatchKind::Prefix, "/")), ..v1::RouteMatch::default() }
}

fn routes() -> v1::Routes {
    v1::Routes {
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: 80,
        kind: v1::RouteKind::Http.into(),
        matches: vec![any_path(0)],
        rules: vec![rule("web")],
        ..v1::Routes::default()
    }
}

fn traffic() -> v1::Traffic {
    v1::Traffic { namespace: "shop".to_owned(), service: "web".to_owned(), port: 80, ..v1::Traffic::default() }
}

fn of(routes: v1::Routes) -> (Routes, Option<String>) {
    let Read { reading: Reading::Routes(read), nack } = own(&resource(Body::Routes(routes))) else {
        panic!("no routes")
    };
    (of_requests(&read), nack)
}

fn of_requests(read: &PortRoutes) -> Routes {
    read.of_requests().expect("routes of requests").clone()
}

fn of_connections(read: &PortRoutes) -> &ConnectionRules {
    match read {
        PortRoutes::Connections(routes) => &routes.rules,
        PortRoutes::Requests(_) => panic!("routes of requests"),
    }
}

fn as_written(routes: v1::Routes) -> Routes {
    let (read, nack) = of(routes);
    assert_eq!(nack, None);
    read
}

fn with_match(one: v1::RouteMatch) -> v1::Routes {
    v1::Routes { matches: vec![one], ..routes() }
}

fn with_rule(one: v1::RouteRule) -> v1::Routes {
    v1::Routes { rules: vec![one], ..routes() }
}

fn filtered(kind: route_filter::Kind) -> Filter {
    let filter = v1::RouteFilter { kind: Some(kind) };
    let read = as_written(with_rule(v1::RouteRule { filters: vec![filter], ..rule("web") }));
    read.matches.all()[0].rule.filters[0].clone()
}

#[test]
fn a_rule_is_known_by_its_route_and_place() {
    let named = v1::RouteRule { index: 2, ..rule("web") };
    assert_eq!(as_written(with_rule(named.clone())).matches.all()[0].rule.to_string(), "HTTPRoute shop/web[2]");
    let named = v1::RouteRule { name: "canary".to_owned(), ..named };
    assert_eq!(as_written(with_rule(named)).matches.all()[0].rule.to_string(), "HTTPRoute shop/web[2] (canary)");
}

#[test]
fn a_path_is_compared_in_the_form_that_requests_have() {
    let read = as_written(with_match(v1::RouteMatch {
        path: Some(path(v1::PathMatchKind::Exact, "/%7euser/a%3ab")),
        ..any_path(0)
    }));
    assert_eq!(read.matches.all()[0].path, PathMatch::Exact("/~user/a%3Ab".into()));
}

#[test]
fn a_match_that_cannot_be_read_refuses_every_request() {
    let value = |name: &str, regular_expression| v1::ValueMatch {
        name: name.to_owned(),
        value: "(".to_owned(),
        regular_expression,
    };
    let matched = |kind, text: &str| with_match(v1::RouteMatch { path: Some(path(kind, text)), ..any_path(0) });
    let spoilt = [
        ("kind", v1::Routes { kind: 0, ..routes() }),
        ("name", v1::Routes { audience: "blog".to_owned(), ..routes() }),
        ("matches[0].rule", with_match(any_path(1))),
        ("matches[0].path", matched(v1::PathMatchKind::Unspecified, "/")),
        ("matches[0].path", matched(v1::PathMatchKind::Exact, "a")),
        ("matches[0].path", matched(v1::PathMatchKind::Prefix, "/a%2fb")),
        ("matches[0].path", matched(v1::PathMatchKind::RegularExpression, "(")),
        ("matches[0].path", matched(v1::PathMatchKind::RegularExpression, "(a{1000}){1000}")),
        ("matches[0].path", matched(v1::PathMatchKind::GrpcMethod, "a/b")),
        ("matches[0].path", matched(v1::PathMatchKind::Exact, &format!("/{}", "a".repeat(limits::ROUTE_TEXT)))),
        ("matches[0].method", with_match(v1::RouteMatch { method: "G ET".to_owned(), ..any_path(0) })),
        ("matches[0].headers[0]", with_match(v1::RouteMatch { headers: vec![value("x y", false)], ..any_path(0) })),
        ("matches[0].headers[0]", with_match(v1::RouteMatch { headers: vec![value("x", true)], ..any_path(0) })),
        ("matches[0].query[0]", with_match(v1::RouteMatch { query: vec![value("x", true)], ..any_path(0) })),
        ("matches", v1::Routes { matches: vec![any_path(0); limits::ROUTE_MATCHES + 1], ..routes() }),
        ("matches", {
            let expression = v1::RouteMatch {
                path: Some(path(v1::PathMatchKind::RegularExpression, "/a")),
                ..v1::RouteMatch::default()
            };
            v1::Routes { matches: vec![expression; limits::ROUTE_PATTERNS + 1], ..routes() }
        }),
        (
            "rules[0].backends[0].port",
            with_rule(v1::RouteRule { backends: vec![v1::RouteBackend { port: 0, ..backend("web") }], ..rule("web") }),
        ),
        (
            "rules[0].retry.statuses",
            with_rule(v1::RouteRule {
                retry: Some(v1::RetryPolicy { statuses: vec![1000], ..v1::RetryPolicy::default() }),
                ..rule("web")
            }),
        ),
    ];
    for (field, spoilt) in spoilt {
        check_spoilt(field, spoilt);
    }
}

fn check_spoilt(field: &str, spoilt: v1::Routes) {
    // The name says "for everybody", whatever the body says.
    let unread = versioned("routes/shop/web/80".to_owned(), Vec::new(), Body::Routes(spoilt));
    let Read { reading: Reading::Routes(read), nack: Some(nack) } = own(&unread) else { panic!("{field}") };
    assert!(nack.starts_with(field), "{nack:?} does not begin with {field:?}");
    let read = of_requests(&read);
    assert_eq!((read.matches.all().len(), read.port), (0, 80), "{field}");
}

#[test]
fn routes_of_a_newer_protocol_refuse_every_request_in_their_own_terms() {
    let grpc = v1::Routes { kind: v1::RouteKind::Grpc.into(), ..routes() };
    let Read { reading: Reading::Routes(read), nack: Some(_) } = own(&too_new(Body::Routes(grpc))) else {
        panic!("no routes")
    };
    let read = of_requests(&read);
    assert_eq!((read.kind, read.matches.all().len()), (RouteKind::Grpc, 0));
    for name in ["routes/shop/web", "routes/shop/web/0", "routes/shop/web/http", "routes/shop/web/80/a/b"] {
        let Read { reading, nack } = own(&versioned(name.to_owned(), Vec::new(), Body::Routes(routes())));
        assert!(reading == Reading::Nothing && nack.is_some(), "{name}");
    }
}

#[test]
fn an_invalid_backend_keeps_its_sentence_and_its_share() {
    let gone =
        v1::RouteBackend { weight: 3, invalid: "Service shop/gone does not exist".to_owned(), ..Default::default() };
    let read = as_written(with_rule(v1::RouteRule { backends: vec![gone, backend("web")], ..rule("web") }));
    let backends = &read.matches.all()[0].rule.backends;
    assert_eq!(backends[0].weight, 3);
    assert_eq!(backends[0].target, BackendTarget::Invalid("Service shop/gone does not exist".into()));
    let service = "shop/web".parse().expect("a name");
    assert_eq!(backends[1].target, BackendTarget::Service { service, port: 80 });
}

#[test]
fn a_filter_that_cannot_be_applied_stays_with_its_reason() {
    let edit = |name: &str, value: &str| {
        let header = v1::Header { name: name.to_owned(), value: value.to_owned() };
        route_filter::Kind::RequestHeaders(v1::HeaderEdit { set: vec![header], ..v1::HeaderEdit::default() })
    };
    let redirect = |redirect: v1::Redirect| route_filter::Kind::Redirect(redirect);
    let found = v1::Redirect { status: 302, ..v1::Redirect::default() };
    let full = |path: &str| Some(v1::PathRewrite { kind: Some(path_rewrite::Kind::Full(path.to_owned())) });
    let mirror = |mirror: v1::Mirror| route_filter::Kind::Mirror(mirror);
    let cors = route_filter::Kind::Cors;
    let filters = vec![v1::RouteFilter { kind: None }];
    let rows = [
        (route_filter::Kind::Unsupported("Weft has no filter X".to_owned()), "Weft has no filter X"),
        (cors(v1::Cors { origins: vec![origin("ftp", "a", 80)], ..found_cors() }), "filter.cors.origins[0].scheme"),
        (cors(v1::Cors { origins: vec![origin("http", "", 80)], ..found_cors() }), "filter.cors.origins[0].host"),
        (cors(v1::Cors { origins: vec![origin("http", "*.", 80)], ..found_cors() }), "filter.cors.origins[0].host"),
        (cors(v1::Cors { origins: vec![origin("http", "a", 0)], ..found_cors() }), "filter.cors.origins[0].port"),
        (cors(v1::Cors { methods: vec!["P UT".to_owned()], ..found_cors() }), "filter.cors.methods"),
        (cors(v1::Cors { headers: vec!["x\r\ny".to_owned()], ..found_cors() }), "filter.cors.headers"),
        (cors(v1::Cors { exposed: vec![String::new()], ..found_cors() }), "filter.cors.exposed"),
        (edit("host", "x"), "filter.headers[host]"),
        (edit("transfer-encoding", "x"), "filter.headers[transfer-encoding]"),
        (edit("x y", "x"), "filter.headers"),
        (edit("x", "a\r\nb: c"), "filter.headers[x]"),
        (redirect(v1::Redirect { status: 304, ..found.clone() }), "filter.redirect.status"),
        (redirect(v1::Redirect { scheme: "ftp".to_owned(), ..found.clone() }), "filter.redirect.scheme"),
        (redirect(v1::Redirect { hostname: "a:80".to_owned(), ..found.clone() }), "filter.redirect.hostname"),
        (redirect(v1::Redirect { port: 70_000, ..found.clone() }), "filter.redirect.port"),
        (redirect(v1::Redirect { path: full("a"), ..found.clone() }), "filter.redirect.path"),
        (redirect(v1::Redirect { path: full("/a%5cb"), ..found }), "filter.redirect.path"),
        (mirror(v1::Mirror { backend: None, per_million: 1 }), "filter.mirror.backend"),
        (mirror(v1::Mirror { backend: Some(backend("web")), per_million: 1_000_001 }), "filter.mirror.per_million"),
        (
            mirror(v1::Mirror { backend: Some(v1::RouteBackend { filters, ..backend("web") }), per_million: 1 }),
            "filter.mirror.backend.filters",
        ),
    ];
    for (kind, expected) in rows {
        let Filter::Unsupported(why) = filtered(kind) else { panic!("{expected}: it was read") };
        assert!(why.starts_with(expected), "{why:?} does not begin with {expected:?}");
    }
}

fn origin(scheme: &str, host: &str, port: u32) -> v1::CorsOrigin {
    v1::CorsOrigin { scheme: scheme.to_owned(), host: host.to_owned(), port }
}

fn found_cors() -> v1::Cors {
    let methods = vec!["PUT".to_owned(), "DELETE".to_owned()];
    v1::Cors { methods, headers: vec!["*".to_owned()], max_age_seconds: 60, ..v1::Cors::default() }
}

#[test]
fn a_cors_filter_is_read_with_its_wildcards() {
    let origins = vec![origin("https", "a", 443), origin("http", "*.a.b", 8080), origin("http", "*", 80)];
    let Filter::Cors(read) = filtered(route_filter::Kind::Cors(v1::Cors { origins, ..found_cors() })) else {
        panic!("no CORS")
    };
    let host = |scheme, host, port| Origin { scheme, host, port };
    let expected = vec![
        host(Scheme::Https, OriginHost::Exact("a".into()), 443),
        host(Scheme::Http, OriginHost::Below(".a.b".into()), 8080),
        host(Scheme::Http, OriginHost::Any, 80),
    ];
    assert_eq!(read.origins, Origins::Listed(expected));
    let listed = HeaderValue::from_static("PUT, DELETE");
    assert_eq!((&read.methods, &read.headers), (&Some(Names::Listed(listed)), &Some(Names::Any)));
    assert_eq!((&read.exposed, read.max_age.as_bytes()), (&None, &b"60"[..]));
    let any = v1::Cors { any_origin: true, ..found_cors() };
    assert!(matches!(filtered(route_filter::Kind::Cors(any)), Filter::Cors(read) if read.origins == Origins::Any));
}

#[test]
fn a_session_is_read_whole_or_refuses_every_request() {
    let session = |carrier, absolute_timeout_ms| v1::SessionPersistence { carrier, absolute_timeout_ms };
    let with = |session| with_rule(v1::RouteRule { session_persistence: Some(session), ..rule("web") });
    let found = v1::SessionCookie { name: "sid".to_owned(), path: "/".to_owned(), permanent: false };
    let cookie = |cookie| Some(Carried::Cookie(cookie));
    let read = as_written(with(session(cookie(found.clone()), 1500)));
    let expected = SessionPersistence {
        carrier: Carrier::Cookie(Cookie { name: "sid".into(), path: "/".into(), permanent: false }),
        absolute_timeout: Some(std::time::Duration::from_millis(1500)),
    };
    assert_eq!(read.matches.all()[0].rule.session, Some(expected));
    let read = as_written(with(session(Some(Carried::Header("x-session".to_owned())), 0)));
    let expected = Carrier::Header(http::HeaderName::from_static("x-session"));
    assert_eq!(
        read.matches.all()[0].rule.session,
        Some(SessionPersistence { carrier: expected, absolute_timeout: None })
    );
    for (bad, field) in [
        (session(None, 0), ""),
        (session(Some(Carried::Header("x y".to_owned())), 0), ".header"),
        (session(cookie(v1::SessionCookie { name: "a;b".to_owned(), ..found.clone() }), 0), ".cookie.name"),
        (session(cookie(v1::SessionCookie { name: String::new(), ..found.clone() }), 0), ".cookie.name"),
        (session(cookie(v1::SessionCookie { path: "/; Secure".to_owned(), ..found.clone() }), 0), ".cookie.path"),
        (session(cookie(v1::SessionCookie { path: "cart".to_owned(), ..found.clone() }), 0), ".cookie.path"),
        (session(cookie(v1::SessionCookie { permanent: true, ..found }), 0), ".absolute_timeout_ms"),
    ] {
        check_spoilt(&format!("rules[0].session_persistence{field}"), with(bad.clone()));
        let backend = v1::RouteBackend { session_persistence: Some(bad), ..backend("web") };
        let rule = v1::RouteRule { backends: vec![backend], ..rule("web") };
        check_spoilt(&format!("rules[0].backends[0].session_persistence{field}"), with_rule(rule));
    }
}

#[test]
fn a_backend_has_a_session_of_its_own() {
    let carrier = Some(Carried::Header("x-session".to_owned()));
    let own = v1::SessionPersistence { carrier, absolute_timeout_ms: 0 };
    let backends = vec![v1::RouteBackend { session_persistence: Some(own), ..backend("web") }, backend("web")];
    let read = as_written(with_rule(v1::RouteRule { backends, ..rule("web") }));
    let kept: Vec<bool> = read.matches.all()[0].rule.backends.iter().map(|one| one.session.is_some()).collect();
    assert_eq!(kept, [true, false]);
}

#[test]
fn a_rewrite_is_read_in_canonical_form() {
    let rewrite = |kind| {
        let path = Some(v1::PathRewrite { kind: Some(kind) });
        filtered(route_filter::Kind::Rewrite(v1::Rewrite { hostname: "DB.Shop.".to_owned(), path }))
    };
    let Filter::Rewrite(read) = rewrite(path_rewrite::Kind::Full("/%61".to_owned())) else { panic!("no rewrite") };
    assert_eq!((read.hostname.as_deref(), read.path), (Some("db.shop"), Some(PathRewrite::Full("/a".into()))));
    for (written, expected) in [("", ""), ("/", ""), ("/x/", "/x"), ("/x", "/x")] {
        let Filter::Rewrite(read) = rewrite(path_rewrite::Kind::Prefix(written.to_owned())) else {
            panic!("no rewrite")
        };
        assert!(matches!(read.path, Some(PathRewrite::Prefix(prefix)) if prefix.as_str() == expected), "{written}");
    }
}

#[test]
fn a_bad_traffic_policy_leaves_the_defaults() {
    let read = |body: v1::Traffic| match own(&resource(Body::Traffic(body))) {
        Read { reading: Reading::Traffic(traffic), nack } => (traffic, nack),
        other => panic!("no traffic: {other:?}"),
    };
    let good = v1::Traffic {
        balancing: v1::Balancing::RoundRobin.into(),
        retry_budget_percent: Some(0),
        request_timeout_ms: 1500,
        ..traffic()
    };
    let (row, nack) = read(good);
    assert_eq!((nack, row.balancing, row.retry_budget.percent), (None, Balancing::RoundRobin, 0));
    assert_eq!(row.request_timeout, Some(std::time::Duration::from_millis(1500)));
    let constraint = v1::RetryConstraint {
        percent: 10,
        interval_ms: 60_000,
        minimum: 7,
        minimum_interval_ms: 2_000,
        ..Default::default()
    };
    let constrained = |retry_constraint| v1::Traffic {
        retry_constraint: Some(retry_constraint),
        retry_budget_percent: Some(0),
        ..traffic()
    };
    let (row, nack) = read(constrained(constraint.clone()));
    let windows = RetryWindows { share: Duration::from_mins(1), minimum: Duration::from_secs(2) };
    assert_eq!((nack, row.retry_budget), (None, RetryBudget { percent: 10, windows, minimum: 7, refuses: true }));
    let ejection = v1::Ejection { consecutive_failures: 5, base_time_ms: 100, maximum_percent: 10, maximum_time_ms: 0 };
    let said = v1::Traffic { balancing: v1::Balancing::RoundRobin.into(), ..traffic() };
    let ejecting = |ejection| v1::Traffic { ejection: Some(ejection), ..said.clone() };
    for (field, bad) in [
        ("balancing", v1::Traffic { balancing: 9, request_timeout_ms: 7, ..traffic() }),
        ("retry_budget_percent", v1::Traffic { retry_budget_percent: Some(101), ..said.clone() }),
        ("retry_constraint.percent", constrained(v1::RetryConstraint { percent: 101, ..constraint.clone() })),
        ("retry_constraint.interval_ms", constrained(v1::RetryConstraint { interval_ms: 999, ..constraint.clone() })),
        (
            "retry_constraint.minimum_interval_ms",
            constrained(v1::RetryConstraint { minimum_interval_ms: 0, ..constraint }),
        ),
        ("ejection.base_time_ms", ejecting(v1::Ejection { base_time_ms: 0, ..ejection })),
        ("ejection.consecutive_failures", ejecting(v1::Ejection { consecutive_failures: 0, ..ejection })),
        ("ejection.maximum_percent", ejecting(v1::Ejection { maximum_percent: 101, ..ejection })),
    ] {
        let (row, nack) = read(bad);
        assert!(nack.is_some_and(|nack| nack.starts_with(field)), "{field}");
        assert_eq!(*row, Traffic::defaults(row.of.clone()), "{field}");
    }
}

fn of_names(names: &[(&str, u32)]) -> v1::Routes {
    let matched = |(name, rule): &(&str, u32)| v1::RouteMatch {
        rule: *rule,
        server_name: (*name).to_owned(),
        ..v1::RouteMatch::default()
    };
    v1::Routes {
        kind: v1::RouteKind::Tls.into(),
        matches: names.iter().map(matched).collect(),
        rules: vec![rule("web"), rule("cart")],
        ..routes()
    }
}

#[test]
fn routes_of_connections_are_read_by_name_or_as_one_rule() {
    let names = of_names(&[("cart.example", 1), ("*.example", 0)]);
    let Read { reading: Reading::Routes(read), nack: None } = own(&resource(Body::Routes(names.clone()))) else {
        panic!("unread")
    };
    let ConnectionRules::ByName(found) = of_connections(&read) else { panic!("not by name") };
    let led = |name: &str| match &found.rule_for(name)?.backends[0].target {
        BackendTarget::Service { service, .. } => Some(service.name.to_string()),
        BackendTarget::Invalid(_) => None,
    };
    let expected = ["cart", "web"].map(|name| Some(name.to_owned()));
    assert_eq!([led("cart.example"), led("a.example")], expected);
    assert_eq!(led("example"), None);

    let one = v1::Routes { kind: v1::RouteKind::Tcp.into(), ..names };
    let Read { reading: Reading::Routes(read), nack: None } = own(&resource(Body::Routes(one))) else {
        panic!("unread")
    };
    let ConnectionRules::One(Some(rule)) = of_connections(&read) else { panic!("not one rule") };
    assert!(matches!(&rule.backends[0].target, BackendTarget::Service { service, .. } if &*service.name == "cart"));
}

#[test]
fn routes_of_connections_that_cannot_be_read_refuse_every_connection() {
    let unread = [
        ("matches[0].server_name", own(&resource(Body::Routes(of_names(&[("", 0)]))))),
        ("matches[0].server_name", own(&resource(Body::Routes(of_names(&[("Cart.example", 0)]))))),
        ("matches[1].rule", own(&resource(Body::Routes(of_names(&[("a", 0), ("b", 9)]))))),
        ("this agent lacks", own(&too_new(Body::Routes(of_names(&[("a", 0)]))))),
    ];
    for (field, read) in unread {
        let Read { reading: Reading::Routes(read), nack: Some(nack) } = read else { panic!("{field}") };
        assert!(nack.starts_with(field), "{nack:?} does not begin with {field:?}");
        assert_eq!(*of_connections(&read), ConnectionRules::One(None), "{field}");
    }
}

/// The world of shop/web:80: a producer's routes, and consumer routes of the namespaces `blog` and (wrongly) `shop`.
fn world() -> Snapshot {
    let written = |audience: Option<&str>, target: &str| {
        let body =
            v1::Routes { audience: audience.unwrap_or_default().to_owned(), rules: vec![rule(target)], ..routes() };
        versioned(weft_proto::resource::routes("shop", "web", 80, audience), Vec::new(), Body::Routes(body))
    };
    let policy = |audience: Option<&str>, balancing: v1::Balancing| {
        let audience_written = audience.unwrap_or_default().to_owned();
        let body = v1::Traffic { audience: audience_written, balancing: balancing.into(), ..traffic() };
        versioned(weft_proto::resource::traffic("shop", "web", 80, audience), Vec::new(), Body::Traffic(body))
    };
    let upserts = encoded(vec![
        resource(Body::Service(service())),
        written(None, "producer"),
        written(Some("blog"), "consumer"),
        written(Some("shop"), "wrong"),
        policy(None, v1::Balancing::LeastRequest),
        policy(Some("blog"), v1::Balancing::RoundRobin),
    ]);
    let mut change = Change::default();
    change.add(v1::DiscoveryResponse { upserts, ..v1::DiscoveryResponse::default() }).expect("within the bounds");
    let mut world = Resources::new(Features::own());
    world.fold(change);
    let (snapshot, nacks) = world.snapshot();
    assert_eq!(nacks, []);
    snapshot
}

#[test]
fn a_client_sees_its_own_routes_or_the_producers() {
    let snapshot = world();
    let web = "shop/web".parse().expect("a name");
    let request = Request::builder().uri("http://web/").header("host", "web").body(()).expect("a request");
    let request = canonical(&request.into_parts().0).expect("a canonical form");
    let leads_to = |client: &str, port| {
        let routes = snapshot.request_routes(&web, port, &client.parse().expect("a namespace"))?;
        let chosen = routes.choose(&request, &HeaderMap::new())?;
        match &chosen.rule.backends[0].target {
            BackendTarget::Service { service, .. } => Some(service.name.to_string()),
            BackendTarget::Invalid(_) => None,
        }
    };
    assert_eq!(leads_to("blog", 80).as_deref(), Some("consumer"));
    assert_eq!(leads_to("shop", 80).as_deref(), Some("producer"));
    assert_eq!(leads_to("other", 80).as_deref(), Some("producer"));
    assert_eq!(leads_to("blog", 81), None);
    let balancing = |client: &str, port| snapshot.traffic(&web, port, &client.parse().expect("a namespace")).balancing;
    assert_eq!(balancing("blog", 80), Balancing::RoundRobin);
    assert_eq!(balancing("other", 80), Balancing::LeastRequest);
    assert_eq!(balancing("other", 81), Balancing::PeakEwma);
    assert_eq!(snapshot.service_port(&web, 80).map(|port| port.endpoints.len()), Some(1));
    assert!(snapshot.service_port(&web, 81).is_none());
    assert!(snapshot.service_port(&"shop/db".parse().expect("a name"), 80).is_none());
}
