use proptest::prelude::*;

use super::*;
use crate::model::{Aliases, Endpoint, ServicePort};

const MINUTE: Duration = Duration::from_mins(1);

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn endpoint(number: u8) -> Endpoint {
    let workload = format!("3b7c1c4e-0000-4000-8000-{number:012}").parse().unwrap();
    Endpoint { address: ([10, 1, 0, number], 8080).into(), workload: Some(workload) }
}

fn alias(number: u8) -> Alias {
    Alias::of(&endpoint(number))
}

fn port(endpoints: Vec<Endpoint>) -> ServicePort {
    ServicePort {
        port: 80,
        name: "".into(),
        app_protocol: "".into(),
        endpoints,
        local: None,
        affinity: None,
        aliases: Aliases::default(),
    }
}

fn cookie() -> Cookie {
    Cookie { name: "sid".into(), path: "/".into(), permanent: false }
}

fn by_cookie(cookie: Cookie, absolute_timeout: Option<Duration>) -> SessionPersistence {
    SessionPersistence { carrier: Carrier::Cookie(cookie), absolute_timeout }
}

fn by_header(name: &'static str) -> SessionPersistence {
    SessionPersistence { carrier: Carrier::Header(HeaderName::from_static(name)), absolute_timeout: None }
}

fn showing(name: &'static str, values: &[&str]) -> HeaderMap {
    values.iter().map(|value| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

fn at<'a>(rule: &'a SessionPersistence, service: &str, headers: &HeaderMap, now: Timestamp) -> Session<'a> {
    Session::of(rule, (&service.parse().unwrap(), 80), headers, now)
}

/// What the answer of an endpoint says of the session, and a request that shows it then.
fn told(session: &Session<'_>, by: Alias) -> (Option<String>, HeaderMap) {
    let mut headers = HeaderMap::new();
    session.tell(by, &mut headers);
    let (name, carried) = match &session.persistence.carrier {
        Carrier::Cookie(_) => (SET_COOKIE, "cookie"),
        Carrier::Header(name) => (name.clone(), "x-session"),
    };
    let text = headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let shown = text.as_deref().map(|text| text.split(';').next().unwrap_or_default().to_owned());
    (text, showing(carried, &shown.iter().map(String::as_str).collect::<Vec<_>>()))
}

#[test]
fn a_token_is_the_same_for_every_agent_and_every_release() {
    let rule = by_header("x-session");
    let (token, shown) = told(&at(&rule, "shop/web", &HeaderMap::new(), now()), alias(1));
    assert_eq!(token.as_deref(), Some(KNOWN), "sessions of agents before this one end");
    assert_eq!(at(&rule, "shop/web", &shown, now()).endpoints().next(), Some(alias(1)));
    // Whose address it is now is not in it.
    let moved = Endpoint { address: "[fd00::1]:80".parse().unwrap(), ..endpoint(1) };
    assert_eq!(Alias::of(&moved), alias(1));
}

const KNOWN: &str = "AQGiAyCiABitFiMUpG0m3KPnkQ";

#[test]
fn a_session_begins_stays_and_moves() {
    for rule in [by_cookie(cookie(), None), by_header("x-session")] {
        let first = at(&rule, "shop/web", &HeaderMap::new(), now());
        assert_eq!((first.endpoints().next(), first.stay(alias(1))), (None, Stay::Begun));
        let (_, shown) = told(&first, alias(1));
        let second = at(&rule, "shop/web", &shown, now() + MINUTE);
        assert_eq!(second.stay(alias(1)), Stay::Kept);
        assert_eq!(told(&second, alias(1)).0, None, "what the client has shown already is not said again");
        assert_eq!(second.stay(alias(2)), Stay::Moved);
        let (_, shown) = told(&second, alias(2));
        assert_eq!(at(&rule, "shop/web", &shown, now()).stay(alias(2)), Stay::Kept);
    }
}

#[test]
fn each_backend_has_an_endpoint_of_its_own_in_one_token() {
    let rule = by_cookie(cookie(), None);
    let service = |number: u8| format!("shop/web-{number}");
    let backends = u8::try_from(limits::SESSION_BACKENDS).unwrap();
    let mut shown = HeaderMap::new();
    for number in 1..=backends {
        shown = told(&at(&rule, &service(number), &shown, now()), alias(number)).1;
    }
    let kept = |shown: &HeaderMap, number| at(&rule, &service(number), shown, now()).stay(alias(number));
    assert!((1..=backends).all(|number| kept(&shown, number) == Stay::Kept));
    // Another port of one is another backend, and one too many: the first one has to begin again.
    let other = Session::of(&rule, (&service(2).parse().unwrap(), 81), &shown, now());
    let (_, shown) = told(&other, alias(99));
    assert_eq!(kept(&shown, 1), Stay::Begun);
    assert!((2..=backends).all(|number| kept(&shown, number) == Stay::Kept));
    let (_, moved) = told(&at(&rule, &service(3), &shown, now()), alias(50));
    assert_eq!((kept(&moved, 2), kept(&moved, 3), kept(&moved, 4)), (Stay::Kept, Stay::Moved, Stay::Kept));
}

#[test]
fn a_session_ends_at_its_timeout_whoever_asks() {
    let rule = by_cookie(cookie(), Some(MINUTE));
    let (_, shown) = told(&at(&rule, "shop/web", &HeaderMap::new(), now()), alias(1));
    // A move does not make it begin anew.
    let half = now() + MINUTE / 2;
    let (_, moved) = told(&at(&rule, "shop/web", &shown, half), alias(2));
    let tick = Duration::from_millis(1);
    for (at_what, expected) in [
        (now(), Stay::Kept),
        (now() + MINUTE - tick, Stay::Kept),
        (now() + MINUTE, Stay::Begun),
        // Clocks differ, but not so much.
        (now() - limits::SESSION_CLOCK_AHEAD, Stay::Kept),
        (now() - limits::SESSION_CLOCK_AHEAD - tick, Stay::Begun),
    ] {
        assert_eq!(at(&rule, "shop/web", &shown, at_what).stay(alias(1)), expected, "{at_what}");
        assert_eq!(at(&rule, "shop/web", &moved, at_what).stay(alias(2)), expected, "{at_what}");
    }
    let endless = by_cookie(cookie(), None);
    assert_eq!(at(&endless, "shop/web", &shown, now() + 1000 * MINUTE).stay(alias(1)), Stay::Kept);
}

#[test]
fn a_cookie_says_what_browsers_have_to_keep_to() {
    let permanent = Cookie { permanent: true, ..cookie() };
    let timeout = Some(Duration::from_millis(90_500));
    let under = Cookie { path: "/cart".into(), ..cookie() };
    for (rule, proxy, expected) in [
        (by_cookie(cookie(), None), &[][..], "; Path=/; HttpOnly; SameSite=Strict"),
        (by_cookie(under, timeout), &[], "; Path=/cart; HttpOnly; SameSite=Strict"),
        (by_cookie(permanent.clone(), timeout), &[], "; Path=/; HttpOnly; SameSite=Strict; Max-Age=91"),
        (by_cookie(cookie(), None), &["https"], "; Path=/; HttpOnly; SameSite=Strict; Secure"),
        (by_cookie(cookie(), None), &["HTTPS, http"], "; Path=/; HttpOnly; SameSite=Strict; Secure"),
        (by_cookie(cookie(), None), &["http"], "; Path=/; HttpOnly; SameSite=Strict"),
    ] {
        let headers = showing("x-forwarded-proto", proxy);
        let (text, _) = told(&at(&rule, "shop/web", &headers, now()), alias(1));
        let text = text.expect("a cookie");
        let (pair, attributes) = text.split_at(text.find(';').expect("attributes"));
        assert!(pair.starts_with("sid="), "{text}");
        assert_eq!(attributes, expected);
    }
    // What is left of it, where the session only moves.
    let rule = by_cookie(permanent, timeout);
    let (_, shown) = told(&at(&rule, "shop/web", &HeaderMap::new(), now()), alias(1));
    let (text, _) = told(&at(&rule, "shop/web", &shown, now() + MINUTE), alias(2));
    assert!(text.is_some_and(|text| text.ends_with("; Max-Age=31")));
}

#[test]
fn an_answers_own_cookies_and_headers_stay() {
    let rule = by_cookie(cookie(), None);
    // Of two cookies with one name a browser keeps the last.
    for (own, cookies) in [("other=own; Path=/x", 2), ("sid=own; Path=/x", 1)] {
        let own = HeaderValue::from_static(own);
        let mut headers = HeaderMap::from_iter([(SET_COOKIE, own.clone())]);
        at(&rule, "shop/web", &HeaderMap::new(), now()).tell(alias(1), &mut headers);
        let all: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!((all.len(), all[0]), (cookies, &own));
    }
    // A header has one value: two would be none to its client, and another one would end the session.
    let rule = by_header("x-session");
    let (_, shown) = told(&at(&rule, "shop/web", &HeaderMap::new(), now()), alias(1));
    for shown in [HeaderMap::new(), shown] {
        let mut headers = showing("x-session", &["own"]);
        at(&rule, "shop/web", &shown, now()).tell(alias(1), &mut headers);
        assert_eq!(headers.get_all("x-session").iter().count(), 1);
        assert_eq!(at(&rule, "shop/web", &headers, now()).stay(alias(1)), Stay::Kept);
    }
}

/// A rule's path has changed, or two rules share a name: the browser shows both, the one of the longer path first.
#[test]
fn of_several_tokens_the_one_that_still_leads_somewhere_counts() {
    let rule = by_cookie(cookie(), None);
    let pair = |number| {
        let (_, shown) = told(&at(&rule, "shop/web", &HeaderMap::new(), now()), alias(number));
        shown["cookie"].to_str().unwrap().to_owned()
    };
    let shown = showing("cookie", &[&format!("{}; {}", pair(1), pair(2))]);
    let session = at(&rule, "shop/web", &shown, now());
    let all = vec![endpoint(2), endpoint(3)];
    assert_eq!(session.endpoints().find_map(|alias| port(all.clone()).place_of(alias, &all)), Some(0));
    assert_eq!(session.stay(alias(2)), Stay::Kept);
    let many: Vec<String> = (1..).take(limits::SESSION_TOKENS + 1).map(pair).collect();
    let session = at(&rule, "shop/web", &showing("cookie", &[&many.join("; ")]), now());
    assert_eq!(session.endpoints().count(), limits::SESSION_TOKENS);
}

#[test]
fn a_cookie_is_found_among_whatever_else_clients_send() {
    let rule = by_cookie(cookie(), None);
    let (_, shown) = told(&at(&rule, "shop/web", &HeaderMap::new(), now()), alias(1));
    let pair = shown["cookie"].to_str().unwrap();
    let token = pair.strip_prefix("sid=").unwrap();
    let many: Vec<_> = (0..900).map(|number| format!("sid{number}={token}; sid=x{number}; ")).collect();
    let many = many.concat();
    for (lines, expected) in [
        (vec![format!("a=b; {pair}; c=d")], Stay::Kept),
        (vec![format!("a=b;{pair};")], Stay::Kept),
        (vec!["a=b".to_owned(), pair.to_owned()], Stay::Kept),
        (vec![format!("sid=\"{token}\"")], Stay::Kept),
        // One of another path, or the application's own, may come first.
        (vec![format!("sid=own; {pair}")], Stay::Kept),
        (vec![format!("{many}{pair}")], Stay::Kept),
        (vec![many], Stay::Begun),
        (vec![format!("SID={token}")], Stay::Begun),
        (vec![format!("xsid={token}")], Stay::Begun),
        (vec![format!("sid{token}")], Stay::Begun),
        (vec!["sid".to_owned(), "sid=".to_owned(), ";;;".to_owned()], Stay::Begun),
        (vec![format!("sid={token}AAAA")], Stay::Begun),
        (vec![format!("sid={}", &token[1..])], Stay::Begun),
        (vec![format!("sid={}", token.repeat(100))], Stay::Begun),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(at(&rule, "shop/web", &showing("cookie", &lines), now()).stay(alias(1)), expected, "{lines:?}");
    }
}

#[test]
fn an_alias_leads_to_an_endpoint_that_is_offered_or_to_none() {
    let outside = Endpoint { address: "10.9.9.9:80".parse().unwrap(), workload: None };
    let all: Vec<_> = (1..=3).map(endpoint).chain([outside.clone()]).collect();
    let row = port(all.clone());
    assert_eq!(row.place_of(Alias::of(&all[2]), &all), Some(2));
    assert_eq!(row.place_of(Alias::of(&outside), &all), Some(3));
    assert_eq!(row.place_of(Alias::of(&all[2]), &all[1..]), Some(1));
    assert_eq!(row.place_of(Alias::of(&all[2]), &all[..2]), None, "it is not for this client");
    assert_eq!(row.place_of(alias(9), &all), None);
    // A copy with other endpoints has other aliases.
    let fewer = ServicePort { endpoints: all[1..].to_vec(), ..row.clone() };
    assert_eq!(fewer.place_of(Alias::of(&all[0]), &all[1..]), None);
    assert_eq!(fewer.place_of(Alias::of(&all[3]), &all[1..]), Some(2));
}

fn any_token() -> impl Strategy<Value = Token> {
    let pin = any::<([u8; 4], [u8; 8])>().prop_map(|(backend, endpoint)| Pin { backend, endpoint: Alias(endpoint) });
    (0..1_u64 << 48, prop::collection::vec(pin, 1..=limits::SESSION_BACKENDS))
        .prop_map(|(began, pins)| Token { began, pins })
}

proptest! {
    #[test]
    fn what_is_written_is_read(token in any_token(), padding in "={0,2}") {
        let text = token.write();
        prop_assert!(text.len() <= 266);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'));
        prop_assert_eq!(Token::read(text.as_bytes()), Some(token.clone()));
        let padded = format!("{text}{padding}");
        prop_assert!(Token::read(padded.as_bytes()).is_none_or(|read| read == token));
    }

    /// Whatever somebody makes up is read as nothing, or as what calls no endpoint that there is.
    #[test]
    fn a_forged_token_begins_a_session(bytes in prop::collection::vec(any::<u8>(), 0..300), version in any::<bool>()) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| version) {
            *first = VERSION;
        }
        let rule = by_header("x-session");
        let headers = showing("x-session", &[&TEXT.encode(&bytes)]);
        let session = at(&rule, "shop/web", &headers, now());
        let all: Vec<_> = (1..=9).map(endpoint).collect();
        let place = session.endpoints().find_map(|alias| port(all.clone()).place_of(alias, &all));
        prop_assert_eq!(place, None);
        let (text, _) = told(&session, alias(1));
        prop_assert!(text.is_some_and(|text| text.len() <= 266));
    }

    #[test]
    fn bytes_of_any_kind_are_no_token(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Token::read(&bytes).is_none_or(|token| token.pins.len() <= limits::SESSION_BACKENDS));
    }
}
