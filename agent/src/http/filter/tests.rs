//! What a user's filters do, row by row.

use http::{HeaderName, Request, Response, Version};
use proptest::prelude::*;

use super::super::canonical::{canonical, canonical_path};
use super::*;
use crate::model::{Backend, BackendTarget, PathMatch, PathPrefix, RouteMatch, RouteRule};

/// A request on its way: matched by this path, dialled at port 8080.
struct Way {
    matched: RouteMatch,
    canonical: Canonical,
    headers: HeaderMap,
}

fn way(path: PathMatch, target: &str) -> Way {
    let rule = RouteRule::silent("HTTPRoute shop/web");
    let matched = RouteMatch { rule: Arc::new(rule), path, method: None, headers: Vec::new(), query: Vec::new() };
    let uri = format!("http://web.shop:9000{target}");
    let parts = Request::builder().version(Version::HTTP_2).uri(uri).body(()).unwrap().into_parts().0;
    Way { matched, canonical: canonical(&parts).unwrap(), headers: HeaderMap::new() }
}

impl Way {
    fn apply(&mut self, filters: &[Filter]) -> Result<Next, Broken> {
        let chosen = Chosen { rule: &self.matched.rule, matched: &self.matched, is_bystander: false };
        apply_request(filters, Some(&chosen), 8080, &mut self.canonical, &mut self.headers)
    }
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(PathPrefix::new(path))
}

fn header(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}

#[test]
fn headers_are_removed_then_set_then_added() {
    let edit = HeaderEdit {
        remove: vec![HeaderName::from_static("x-gone"), HeaderName::from_static("x-both")],
        set: vec![header("x-set", "new"), header("x-both", "set")],
        add: vec![header("x-add", "second"), header("x-new", "first"), header("x-both", "added")],
    };
    let received = [
        header("x-gone", "1"),
        header("x-set", "old"),
        header("x-set", "older"),
        header("x-add", "first"),
        header("x-both", "old"),
    ];
    let expected: HeaderMap = [
        header("x-set", "new"),
        header("x-add", "first"),
        header("x-add", "second"),
        header("x-new", "first"),
        header("x-both", "set"),
        header("x-both", "added"),
    ]
    .into_iter()
    .collect();
    let mut way = way(prefix("/"), "/");
    way.headers = received.clone().into_iter().collect();
    assert_eq!(way.apply(&[Filter::RequestHeaders(edit.clone())]), Ok(Next::Forward));
    assert_eq!(way.headers, expected);
    let mut answer = Response::new(()).into_parts().0;
    answer.headers = received.into_iter().collect();
    apply_response(&[Filter::ResponseHeaders(edit.clone())], &mut answer);
    assert_eq!(answer.headers, expected);
    // Each on its own side alone.
    let (mut untouched, before) = (answer.clone(), answer.headers.clone());
    apply_response(&[Filter::RequestHeaders(edit)], &mut untouched);
    assert_eq!(untouched.headers, before);
}

#[test]
fn a_prefix_is_replaced_as_gateway_api_says() {
    let rows = [
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo/", "/xyz", "/foo", "/xyz"),
        ("/foo", "/xyz", "/foo/", "/xyz/"),
        ("/foo", "/xyz/", "/foo/", "/xyz/"),
        ("/foo", "", "/foo", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/foo", "", "/foo/", "/"),
        ("/foo", "/", "/foo/", "/"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo", "/", "/foo/bar", "/bar"),
        ("/", "/xyz", "/", "/xyz/"),
        ("/", "/xyz", "/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo/bar?q=1", "/xyz/bar?q=1"),
    ];
    for (old, new, target, expected) in rows {
        let path = Some(PathRewrite::Prefix(PathPrefix::new(new)));
        let mut forwarded = way(prefix(old), target);
        let rewrite = Filter::Rewrite(Rewrite { hostname: None, path: path.clone() });
        assert_eq!(forwarded.apply(&[rewrite]), Ok(Next::Forward));
        let query = forwarded.canonical.query().map(|query| format!("?{query}")).unwrap_or_default();
        assert_eq!(format!("{}{query}", forwarded.canonical.path()), expected, "{old} → {new}: {target}");
        // Redirects have the same table.
        let redirect = Redirect { scheme: None, hostname: None, path, port: None, status: StatusCode::FOUND };
        let answer = way(prefix(old), target).apply(&[Filter::Redirect(redirect)]);
        assert_eq!(location(answer), format!("http://web.shop:8080{expected}"));
    }
}

#[test]
fn a_whole_path_and_the_host_are_replaced() {
    let rewrite = Rewrite { hostname: Some("db.shop".into()), path: Some(PathRewrite::Full(Box::from("/one"))) };
    let mut forwarded = way(PathMatch::Exact("/old".into()), "/old?q=1");
    assert_eq!(forwarded.apply(&[Filter::Rewrite(rewrite)]), Ok(Next::Forward));
    let mut sent = Request::new(()).into_parts().0;
    forwarded.canonical.write(&mut sent, Version::HTTP_11).unwrap();
    assert_eq!((sent.uri.to_string().as_str(), sent.headers["host"].to_str().unwrap()), ("/one?q=1", "db.shop"));
}

#[track_caller]
fn location(answer: Result<Next, Broken>) -> String {
    match answer {
        Ok(Next::Redirect(redirection)) => redirection.location.to_str().unwrap().to_owned(),
        Ok(Next::Forward) | Err(_) => panic!("no redirect: {answer:?}"),
    }
}

#[test]
fn a_redirect_keeps_what_it_does_not_name() {
    let keep = Redirect { scheme: None, hostname: None, path: None, port: None, status: StatusCode::FOUND };
    let (http, https) = (Some(Scheme::Http), Some(Scheme::Https));
    let path = Some(PathRewrite::Full(Box::from("/new")));
    let rows = [
        (keep.clone(), "http://web.shop:8080/old?q=1"),
        (Redirect { hostname: Some("example.org".into()), ..keep.clone() }, "http://example.org:8080/old?q=1"),
        (Redirect { path: path.clone(), ..keep.clone() }, "http://web.shop:8080/new?q=1"),
        // The scheme's own port, unless one is given; well-known ones are not written.
        (Redirect { scheme: https, ..keep.clone() }, "https://web.shop/old?q=1"),
        (Redirect { scheme: http, ..keep.clone() }, "http://web.shop/old?q=1"),
        (Redirect { scheme: https, port: Some(8443), ..keep.clone() }, "https://web.shop:8443/old?q=1"),
        (Redirect { scheme: https, port: Some(443), ..keep.clone() }, "https://web.shop/old?q=1"),
        (Redirect { scheme: https, port: Some(80), ..keep.clone() }, "https://web.shop:80/old?q=1"),
        (Redirect { scheme: http, port: Some(443), ..keep.clone() }, "http://web.shop:443/old?q=1"),
        (Redirect { port: Some(80), ..keep.clone() }, "http://web.shop/old?q=1"),
        (Redirect { port: Some(8443), ..keep.clone() }, "http://web.shop:8443/old?q=1"),
    ];
    for (redirect, expected) in rows {
        assert_eq!(location(way(prefix("/old"), "/old?q=1").apply(&[Filter::Redirect(redirect)])), expected);
    }
    for status in [301, 302, 303, 307, 308].map(|status| StatusCode::from_u16(status).unwrap()) {
        let answer = way(prefix("/"), "/").apply(&[Filter::Redirect(Redirect { status, ..keep.clone() })]);
        assert!(matches!(answer, Ok(Next::Redirect(redirection)) if redirection.status == status));
    }
}

#[test]
fn a_request_without_a_host_or_a_path_is_not_led_astray() {
    let keep = Redirect { scheme: None, hostname: None, path: None, port: None, status: StatusCode::FOUND };
    let rewrite = Rewrite { hostname: Some("db".into()), path: Some(PathRewrite::Full(Box::from("/x"))) };
    let asked = |method: &str, uri: &str, version| {
        let request = Request::builder().method(method).uri(uri).version(version);
        let request = if version == Version::HTTP_10 { request } else { request.header("host", "web") };
        canonical(&request.body(()).unwrap().into_parts().0).unwrap()
    };
    let mut nobody = way(prefix("/"), "/");
    nobody.canonical = asked("GET", "//example.org/", Version::HTTP_10);
    assert_eq!(nobody.apply(&[Filter::Redirect(keep.clone())]), Err(Broken::NoHost));
    let mut all = way(PathMatch::Any, "/");
    all.canonical = asked("OPTIONS", "*", Version::HTTP_11);
    assert_eq!(location(all.apply(&[Filter::Redirect(keep)])), "http://web:8080/");
    assert_eq!(all.apply(&[Filter::Rewrite(rewrite.clone())]), Ok(Next::Forward));
    assert_eq!((all.canonical.path(), all.canonical.host()), ("*", "db"));
    let mut tunnel = way(PathMatch::Any, "/");
    tunnel.canonical = asked("CONNECT", "web:443", Version::HTTP_11);
    assert_eq!(tunnel.apply(&[Filter::Rewrite(rewrite)]), Ok(Next::Forward));
    assert_eq!(tunnel.canonical.authority().to_string(), "db:443");
}

proptest! {
    #[test]
    fn a_rewritten_path_is_canonical(
        old in "(/[ab]{1,2}){0,2}/?",
        new in "(/[xy]{1,2}){0,2}/?",
        rest in "(/[a.%2e]{0,3}){0,3}",
    ) {
        let Ok(uri) = format!("http://web{old}{rest}").parse::<http::Uri>() else { return Ok(()) };
        let parts = Request::builder().version(Version::HTTP_2).uri(uri).body(()).unwrap().into_parts().0;
        let Ok(asked) = canonical(&parts) else { return Ok(()) };
        let mut forwarded = way(prefix(&old), "/");
        forwarded.canonical = asked;
        let path = Some(PathRewrite::Prefix(PathPrefix::new(&new)));
        if forwarded.apply(&[Filter::Rewrite(Rewrite { hostname: None, path })]) == Ok(Next::Forward) {
            let written = forwarded.canonical.path();
            let again = canonical_path(written);
            prop_assert_eq!(again.as_deref(), Ok(written));
        }
    }
}

#[test]
fn a_filter_that_cannot_be_applied_refuses_with_its_sentence() {
    let why = "HTTPRoute shop/web[0]: Weft has no filter X";
    let edit = HeaderEdit { set: vec![header("x-set", "new")], ..HeaderEdit::default() };
    let mut way_ = way(prefix("/"), "/");
    let refused = way_.apply(&[Filter::RequestHeaders(edit), Filter::Unsupported(why.into())]).unwrap_err();
    assert_eq!((refused.to_string().as_str(), way_.headers.len()), (why, 0));
    let rewrite = Rewrite { hostname: None, path: Some(PathRewrite::Prefix(PathPrefix::new("/x"))) };
    assert_eq!(way(PathMatch::Exact("/a".into()), "/a").apply(&[Filter::Rewrite(rewrite)]), Err(Broken::NoPrefix));
}

#[test]
fn a_mirror_takes_its_share() {
    let mirror = |per_million| {
        let target = BackendTarget::Service { service: "shop/copy".parse().unwrap(), port: 80 };
        Filter::Mirror(Box::new(Mirror {
            backend: Backend { weight: 1, target, filters: Vec::new(), session: None },
            per_million,
        }))
    };
    let mut random = rand::rng();
    let taken = |filters: &[Filter], random: &mut rand::rngs::ThreadRng| {
        (0..1000).map(|_| mirrors(filters, random).len()).sum::<usize>()
    };
    assert_eq!(taken(&[mirror(0)], &mut random), 0);
    assert_eq!(taken(&[mirror(1_000_000)], &mut random), 1000);
    assert_eq!(taken(&[mirror(1_000_000), mirror(1_000_000)], &mut random), 2000);
    // Fifteen standard deviations to either side.
    assert!((250..750).contains(&taken(&[mirror(500_000)], &mut random)));
}
