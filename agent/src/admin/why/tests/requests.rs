//! Requests: those that somebody asks about, and those that agents have kept.

use http::{Method, StatusCode};
use weft_policy::Operation;

use super::*;
use crate::admin::AskedRequest;
use crate::admin::story::{Story, TaleOfRequest};
use crate::http::retry::Outcome;
use crate::model::{
    Backend, BackendTarget, ConnectionRoutes, ConnectionRules, Ejection, Matches, PathMatch, PathPrefix, PortRoutes,
    RouteKind, RouteMatch, RouteRule, Routes, ServerNames, Traffic, TrafficScope,
};
use crate::telemetry::{ConnectionId, Ejected, FailedAttempt, RequestRecord};

/// Rule 0: `/v1` to `shop/web`; rule 1: `/none` to a Service without endpoints, beside an invalid backend.
fn routes() -> Routes {
    let backend = |service: &str, weight| Backend {
        weight,
        target: BackendTarget::Service { service: service.parse().unwrap(), port: 80 },
        filters: vec![],
        session: None,
    };
    let invalid =
        Backend { weight: 1, target: BackendTarget::Invalid("no such Service".into()), filters: vec![], session: None };
    let rule = |index, path: &str, backends| RouteMatch {
        rule: Arc::new(RouteRule {
            index,
            backends,
            request_timeout: Some(Duration::from_millis(100)),
            ..RouteRule::silent("HTTPRoute shop/web")
        }),
        path: PathMatch::Prefix(PathPrefix::new(path)),
        method: None,
        headers: vec![],
        query: vec![],
    };
    Routes {
        service: "shop/web".parse().unwrap(),
        port: 80,
        audience: None,
        kind: RouteKind::Http,
        matches: Matches::new(vec![
            rule(0, "/v1", vec![backend("shop/web", 1)]),
            rule(1, "/none", vec![backend("shop/none", 3), invalid]),
        ]),
    }
}

fn traffic() -> Traffic {
    let ejection = Ejection {
        consecutive_failures: 3,
        base_time: Duration::from_secs(30),
        maximum_time: Duration::from_mins(5),
        maximum_percent: 50,
    };
    let of = TrafficScope { service: "shop/web".parse().unwrap(), port: 80, audience: None };
    Traffic { policy: Some("TrafficPolicy shop/web".into()), ejection: Some(ejection), ..Traffic::defaults(Some(of)) }
}

fn snapshot(world: &World, node: &str) -> Snapshot {
    let unserved = Service {
        name: "shop/none".parse().unwrap(),
        addresses: vec![],
        external_addresses: vec![],
        ports: vec![ServicePort {
            port: 80,
            name: "http".into(),
            app_protocol: "".into(),
            endpoints: vec![],
            local: None,
            affinity: None,
            aliases: Aliases::default(),
        }],
    };
    let whole = world.parts(node);
    let services = whole.services.into_iter().chain([Arc::new(unserved)]).collect();
    Snapshot::new(Parts {
        services,
        routes: vec![Arc::new(PortRoutes::Requests(routes()))],
        traffic: vec![Arc::new(traffic())],
        ..whole
    })
}

fn ejected() -> Ejected {
    Ejected {
        endpoint: "10.1.1.9:8080".parse().unwrap(),
        workload: Some(WEB.to_owned()),
        service: "shop/web".parse().ok(),
        port: 80,
        since: now() - Duration::from_secs(3),
        until: now() + Duration::from_secs(27),
        request: ConnectionId::random(),
    }
}

fn ask(world: &World, node: &str, words: (&str, &str), requests: &[RequestRecord], ejected: &[Ejected]) -> Answer {
    asked_of(&snapshot(world, node), world, node, words, (requests, ejected))
}

fn asked_of(
    snapshot: &Snapshot,
    world: &World,
    node: &str,
    words: (&str, &str),
    (requests, ejected): (&[RequestRecord], &[Ejected]),
) -> Answer {
    let view = if node == "a" { &world.view_a } else { &world.view_b };
    let requests: Vec<_> = requests.iter().cloned().map(Arc::new).collect();
    let name = node.parse().unwrap();
    let known = Known { node: &name, snapshot, view, records: &[], requests: &requests, ejected, now: now() };
    let (method, path) = words;
    let question = Question {
        source: CLIENT.to_owned(),
        destination: "web.shop:80".to_owned(),
        port: None,
        security: Some(Security::Mtls),
        request: AskedRequest::read(
            Some(method).filter(|method| !method.is_empty()),
            Some(path).filter(|path| !path.is_empty()),
            None,
            None,
        )
        .unwrap(),
    };
    answer(&question, &known).unwrap()
}

fn facts(answer: &Answer) -> String {
    answer.facts.iter().map(|fact| fact.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_rule_that_takes_a_request_is_named_with_what_it_allows() {
    let answer = ask(&World::whole(), "a", ("GET", "/v1/x"), &[], &[]);
    assert!(answer.findings.is_empty(), "{:#?}", answer.findings);
    let facts = facts(&answer);
    assert!(facts.contains("HTTPRoute shop/web[0] takes it (path /v1 or below) and leads to shop/web:80"), "{facts}");
    assert!(facts.contains("A request has 100ms"), "{facts}");
}

/// Routes of connections to `shop/web` in place of those of requests.
fn ask_of_connections(rules: ConnectionRules) -> Answer {
    let world = World::whole();
    let routes = ConnectionRoutes { service: "shop/web".parse().unwrap(), port: 80, audience: None, rules };
    let parts = Parts { routes: vec![Arc::new(PortRoutes::Connections(routes))], ..world.parts("a") };
    asked_of(&Snapshot::new(parts), &world, "a", ("", ""), (&[], &[]))
}

fn rule_of_connections(route: &str, backends: &[(u32, BackendTarget)]) -> Arc<RouteRule> {
    let backend = |(weight, target): &(u32, BackendTarget)| Backend {
        weight: *weight,
        target: target.clone(),
        filters: vec![],
        session: None,
    };
    Arc::new(RouteRule { backends: backends.iter().map(backend).collect(), ..RouteRule::silent(route) })
}

#[test]
fn routes_of_connections_are_told_with_all_that_stands_in_their_way() {
    let web = || BackendTarget::Service { service: "shop/web".parse().unwrap(), port: 80 };
    let gone = || BackendTarget::Invalid("there is no Service shop/gone".into());
    let cart = rule_of_connections("TLSRoute shop/cart", &[(1, web())]);
    let rest = rule_of_connections("TLSRoute shop/rest", &[(1, web()), (3, gone())]);
    let names = [("cart.example", Arc::clone(&cart)), ("*.shop.example", cart), ("*.example", rest)];
    let answer = ask_of_connections(ConnectionRules::ByName(ServerNames::new(names)));
    let told = facts(&answer);
    let expected = "TLSRoute shop/cart[0] takes TLS for *.shop.example, or TLS for cart.example: shop/web:80";
    assert!(told.contains(expected) && told.contains("What fits none of them is reset"), "{told}");
    check(&answer, "broken_route", Weight::Weakens);
    assert!(answer.findings[0].summary.contains("shop/gone; 75 % of its connections are reset"), "{answer:#?}");

    let one = |backends: &[(u32, BackendTarget)]| {
        ask_of_connections(ConnectionRules::One(Some(rule_of_connections("TCPRoute shop/web", backends))))
    };
    assert!(one(&[(1, web())]).findings.is_empty());
    assert!(facts(&one(&[(1, web())])).contains("TCPRoute shop/web[0] takes every connection: shop/web:80"));
    for blocked in [one(&[(1, gone())]), one(&[(0, web())])] {
        check(&blocked, "broken_route", Weight::Blocks);
    }
    check(&ask_of_connections(ConnectionRules::One(None)), "no_route", Weight::Blocks);
}

#[test]
fn a_request_that_no_rule_takes_is_told_what_each_wants() {
    let answer = ask(&World::whole(), "a", ("GET", "/else"), &[], &[]);
    check(&answer, "no_route", Weight::Blocks);
    assert_eq!(answer.findings[0].evidence.len(), 2, "{:#?}", answer.findings);
}

#[test]
fn a_share_of_requests_that_nobody_serves_is_told_with_its_size() {
    let answer = ask(&World::whole(), "a", ("GET", "/none"), &[], &[]);
    check(&answer, "no_endpoint", Weight::Weakens);
    assert!(answer.findings[0].summary.contains("75 %"), "{}", answer.findings[0].summary);
    assert_eq!(answer.findings[1].cause.code(), "broken_route");
}

#[test]
fn without_a_request_the_routes_are_listed_and_nothing_is_found() {
    let answer = ask(&World::whole(), "a", ("", ""), &[], &[]);
    assert!(answer.findings.is_empty() && facts(&answer).contains("say --path"), "{answer:#?}");
}

#[test]
fn a_request_is_judged_by_its_method_and_a_connection_is_not_judged_as_opaque() {
    let mut world = World::whole();
    let operation = Operation { methods: Some(vec!["DELETE".parse().unwrap()]), ..Operation::default() };
    let mut deny = (*policy(Action::Deny, vec![])).clone();
    deny.rules = vec![Rule { operations: Some(vec![operation]), ..Rule::ANY }];
    world.enrolments[1].1.policies = vec![Arc::new(deny)];
    check(&ask(&world, "b", ("DELETE", "/v1/x"), &[], &[]), "denied_by_rule", Weight::Blocks);
    assert!(ask(&world, "b", ("GET", "/v1/x"), &[], &[]).findings.is_empty());
    check(&ask(&world, "b", ("GET", "/v1//x"), &[], &[]), "bad_request", Weight::Blocks);
    let connection = ask(&world, "b", ("", ""), &[], &[]);
    assert!(connection.findings.is_empty(), "{:#?}", connection.findings);
    assert!(facts(&connection).contains("is judged by itself, by shop/who"), "{}", facts(&connection));
}

#[test]
fn an_ejected_endpoint_weakens_and_is_named() {
    let answer = ask(&World::whole(), "a", ("GET", "/v1/x"), &[], &[ejected()]);
    check(&answer, "endpoint_ejected", Weight::Weakens);
    let told = format!("{:?}", answer.findings[0]);
    assert!(told.contains("27 s") && told.contains("TrafficPolicy shop/web ejects after 3 failures"), "{told}");
}

fn request(world: &World, direction: Direction, status: Option<u16>) -> RequestRecord {
    let mut record = RequestRecord::begin(ConnectionId::random(), direction, SnapshotVersion("v7".into()));
    record.started = now() - Duration::from_secs(5);
    record.source.workload = Some(Arc::new(world.workloads[0].clone()));
    record.source.address = "10.1.0.5:40000".parse().ok();
    record.destination.workload = Some(Arc::new(world.workloads[1].clone()));
    record.destination.address = "10.1.1.9:8080".parse().ok();
    record.service = "shop/web".parse().ok();
    record.original_destination = "10.96.0.10:80".parse().ok();
    (record.method, record.host, record.path) = (Method::GET, "web.shop".to_owned(), "/else".to_owned());
    (record.status, record.attempts) = (status, 1);
    *record
}

fn tale(world: &World, record: RequestRecord, ejected: &[Ejected]) -> TaleOfRequest {
    let (node, snapshot) = ("a".parse().unwrap(), snapshot(world, "a"));
    Story { node: &node, snapshot: &snapshot, now: now(), ejected }.tell(&Arc::new(record))
}

/// The first cause of a request's story.
#[track_caller]
fn check_story(record: RequestRecord, ejected: &[Ejected], cause: Option<&str>, words: &str) {
    let tale = tale(&World::whole(), record, ejected);
    let first = tale.findings.first();
    assert_eq!(first.map(|finding| finding.cause.code()), cause, "{tale:#?}");
    let told = first.map(|finding| format!("{} {:?} {}", finding.summary, finding.evidence, finding.fix));
    assert!(told.unwrap_or_default().contains(words), "{words} is missing: {tale:#?}");
    assert!(tale.sentences.len() >= 2, "{tale:#?}");
}

#[test]
fn the_story_of_a_request_names_its_cause_first() {
    let world = World::whole();
    let outbound = |status| request(&world, Direction::Outbound, status);
    let failed = |status, reason, detail: &str| {
        let mut record = outbound(status);
        record.route = Some("HTTPRoute shop/web[0]".into());
        record.fail(&ConnectionError::new(Side::Local, reason).with_detail(detail));
        record
    };
    check_story(outbound(Some(200)), &[], None, "");
    check_story(outbound(Some(404)), &[], Some("answered_by_application"), WEB);
    check_story(
        failed(Some(404), Reason::NoRoute, ""),
        &[],
        Some("no_route"),
        "HTTPRoute shop/web[1] takes path /none",
    );
    check_story(failed(Some(504), Reason::RequestTimeout, "late"), &[], Some("request_timeout"), "100ms");
    check_story(failed(Some(503), Reason::RetryBudgetSpent, ""), &[], Some("retry_budget_spent"), "of the requests");
    let mut nobody = failed(Some(503), Reason::NoEndpoint, "");
    nobody.backend = Some(("shop/none".parse().unwrap(), 80));
    check_story(nobody, &[], Some("no_endpoint"), "Service shop/none");
    let mut denied = outbound(Some(403));
    denied.told = Some(Reason::DeniedByRule);
    check_story(denied, &[], Some("denied_by_rule"), "the agent of its node answered 403");
    let mut passed = outbound(Some(200));
    passed.ejected = vec![ejected().endpoint];
    check_story(passed, &[ejected()], Some("endpoint_ejected"), "for another 27 s");
}

#[test]
fn attempts_that_failed_are_told_one_by_one() {
    let world = World::whole();
    let mut record = request(&world, Direction::Outbound, Some(200));
    let outcome = Outcome::Answered(StatusCode::SERVICE_UNAVAILABLE, None);
    record.failed_attempt(FailedAttempt {
        endpoint: "10.1.1.9:8080".parse().unwrap(),
        workload: Some(Arc::new(world.workloads[1].clone())),
        outcome,
        took: Duration::from_millis(3),
        ejected: Some(Duration::from_secs(30)),
    });
    (record.attempts, record.retries) = (2, 1);
    let tale = tale(&world, record, &[]);
    let told = tale.sentences.join("\n");
    assert!(told.contains("shop/web-1 (10.1.1.9:8080) answered 503 after 3.0ms; that ejected it for 30s"), "{told}");
    assert!(told.contains("last of 2 attempts, one of them a retry that the budget paid for"), "{told}");
    assert_eq!(tale.findings[0].cause.code(), "endpoint_ejected");
}

#[test]
fn the_last_request_of_a_pair_is_told_and_a_later_good_one_ends_that() {
    let world = World::whole();
    let mut failed = request(&world, Direction::Outbound, Some(504));
    failed.fail(&ConnectionError::new(Side::Upstream, Reason::RequestTimeout));
    let answer = ask(&world, "a", ("", ""), std::slice::from_ref(&failed), &[]);
    check(&answer, "request_timeout", Weight::Happened);
    let mut later = request(&world, Direction::Outbound, Some(200));
    later.started = now() - Duration::from_secs(1);
    let answer = ask(&world, "a", ("", ""), &[later, failed], &[]);
    assert!(answer.findings.is_empty() && answer.requests.len() == 2, "{:#?}", answer.findings);
}
