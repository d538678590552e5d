//! What policy and routing may rely on: one form, or an error.

use http::Request;
use proptest::prelude::*;

use super::*;

fn parts(version: Version, method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().version(version).method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request that the parser lets through").into_parts().0
}

fn get(target: &str) -> Result<Canonical, Refused> {
    canonical(&parts(Version::HTTP_11, "GET", target, &[("host", "web")]))
}

#[test]
fn every_path_has_one_spelling() {
    let rows = [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/", "/a/"),
        ("/%61", "/a"),
        ("/%7euser", "/~user"),
        ("/%2d%2E%5f", "/-._"),
        ("/a%3ab", "/a%3Ab"),
        ("/a%20b", "/a%20b"),
        ("/%c3%a9a", "/%C3%A9a"),
        ("/éa", "/%C3%A9a"),
        ("/{id}", "/%7Bid%7D"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/...", "/..."),
        ("/a..b", "/a..b"),
        // Encoded twice is a name with a percent sign.
        ("/%252e%252e/a", "/%252e%252e/a"),
        // Empty segments are segments.
        ("//a", "//a"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
    ];
    for (path, expected) in rows {
        assert_eq!(get(path).as_ref().map(Canonical::path), Ok(expected), "{path}");
    }
}

#[test]
fn an_ambiguous_path_is_refused() {
    let rows = [
        ("/a%2fb", Refused::Separator),
        ("/a%2Fb", Refused::Separator),
        ("/a%5cb", Refused::Separator),
        ("/a\\b", Refused::Separator),
        ("/a%00", Refused::Control),
        ("/a%0d%0ab", Refused::Control),
        ("/a%7f", Refused::Control),
        ("/a%", Refused::Percent),
        ("/a%4", Refused::Percent),
        ("/a%zz", Refused::Percent),
        ("/a/..;/b", Refused::DotParameters),
        ("/a/.;x=1/b", Refused::DotParameters),
        ("/a/%2e%2e;/b", Refused::DotParameters),
    ];
    for (path, expected) in rows {
        // The parser of `http::Uri` refuses some of these by itself.
        assert_eq!(canonical_path(path), Err(expected), "{path}");
    }
}

#[test]
fn what_servers_take_out_of_a_path_is_refused_where_rules_judge() {
    let rows = [
        ("/a/b", Ok(())),
        ("/a%2Cb", Ok(())),
        ("/a//b", Err(Refused::EmptySegment)),
        ("/a;b", Err(Refused::Parameters)),
        ("/a%3Bb", Err(Refused::Parameters)),
        ("/a/..%3b/b", Err(Refused::Parameters)),
    ];
    for (path, expected) in rows {
        assert_eq!(get(path).expect("a request").check_for_rules(), expected, "{path}");
    }
}

#[test]
fn a_query_is_forwarded_as_it_came() {
    let request = get("/a/../b?x=%2f..&y=a+b&z=100%").expect("a request");
    assert_eq!((request.path(), request.query()), ("/b", Some("x=%2f..&y=a+b&z=100%")));
    assert_eq!(get("/?").expect("a request").query(), Some(""));
    assert_eq!(get("/").expect("a request").query(), None);
}

#[test]
fn an_authority_has_one_spelling() {
    let rows = [
        ("web", "web", None),
        ("WEB.Shop.svc", "web.shop.svc", None),
        ("web.shop.", "web.shop", None),
        ("web.:8080", "web", Some(8080)),
        ("web:", "web", None),
        ("my_app", "my_app", None),
        ("10.0.0.1:80", "10.0.0.1", Some(80)),
        ("[2001:DB8:0::1]:8080", "[2001:db8::1]", Some(8080)),
        ("[::1]", "[::1]", None),
        ("", "", None),
    ];
    for (written, host, port) in rows {
        let authority = Authority::read(written.as_bytes()).expect(written);
        assert_eq!((authority.host(), authority.port()), (host, port), "{written}");
        assert_eq!(Authority::read(authority.to_string().as_bytes()), Ok(authority), "{written}");
    }
    for wrong in
        ["a b", "a,b", "a/b", "web:80:90", "web:0", "web:65536", "web:+80", "[::1", "[::1]80", ".", "a..", ":80", "é"]
    {
        assert_eq!(Authority::read(wrong.as_bytes()), Err(Refused::Authority), "{wrong}");
    }
    assert_eq!(Authority::read(b"user@web"), Err(Refused::UserInAuthority));
    assert_eq!(Authority::read(b"a%2eb"), Err(Refused::Authority));
}

#[test]
fn host_and_target_name_the_same_authority() {
    type Row =
        (Version, &'static str, &'static str, &'static [(&'static str, &'static str)], Result<&'static str, Refused>);
    let v11 = Version::HTTP_11;
    let rows: [Row; 17] = [
        (v11, "GET", "/", &[("host", "Web:80")], Ok("web:80")),
        (v11, "GET", "/", &[], Err(Refused::HostMissing)),
        (v11, "GET", "/", &[("host", "")], Ok("")),
        (v11, "GET", "/", &[("host", "web"), ("host", "web")], Err(Refused::HostTwice)),
        (Version::HTTP_10, "GET", "/", &[], Ok("")),
        (v11, "GET", "http://web/", &[("host", "WEB:80")], Ok("web")),
        (v11, "GET", "https://web/", &[("host", "web:443")], Ok("web")),
        (v11, "GET", "http://web/", &[("host", "db")], Err(Refused::HostDiffers)),
        (v11, "GET", "http://web:81/", &[("host", "web")], Err(Refused::HostDiffers)),
        (v11, "GET", "http://web/", &[], Err(Refused::HostMissing)),
        (v11, "GET", "http://a@web/", &[("host", "web")], Err(Refused::UserInAuthority)),
        (Version::HTTP_2, "GET", "http://web/", &[], Ok("web")),
        (Version::HTTP_2, "GET", "http://web/", &[("host", "db")], Err(Refused::HostDiffers)),
        (Version::HTTP_2, "GET", "/", &[("host", "web")], Ok("web")),
        (Version::HTTP_2, "GET", "/", &[], Err(Refused::HostMissing)),
        (v11, "CONNECT", "db:5432", &[("host", "db")], Ok("db:5432")),
        (v11, "CONNECT", "db:5432", &[("host", "web:5432")], Err(Refused::HostDiffers)),
    ];
    for (version, method, target, headers, expected) in rows {
        let judged = canonical(&parts(version, method, target, headers)).map(|request| request.authority().to_string());
        assert_eq!(judged.as_deref().map_err(|refused| *refused), expected, "{method} {target} {headers:?}");
    }
}

#[test]
fn each_method_has_its_forms_of_target() {
    let rows = [
        ("OPTIONS", "*", Ok("*")),
        ("GET", "*", Err(Refused::TargetForm)),
        ("GET", "web:80", Err(Refused::TargetForm)),
        ("CONNECT", "web:80", Ok("")),
        ("CONNECT", "web", Err(Refused::TargetForm)),
        ("CONNECT", "/", Err(Refused::TargetForm)),
        ("CONNECT", "http://web:80/", Err(Refused::TargetForm)),
        ("GET", "ftp://web/", Err(Refused::Scheme)),
        ("GET", "http://web?x", Ok("/")),
        ("get", "/", Err(Refused::MethodCase)),
        ("Patch", "/", Err(Refused::MethodCase)),
        ("PURGE", "/", Ok("/")),
        ("purge", "/", Ok("/")),
    ];
    for (method, target, expected) in rows {
        let judged = canonical(&parts(Version::HTTP_11, method, target, &[("host", "web")]));
        assert_eq!(judged.as_ref().map(Canonical::path).map_err(|refused| *refused), expected, "{method} {target}");
    }
}

#[test]
fn a_body_has_one_length() {
    type Row = (Version, &'static [(&'static str, &'static str)], Option<Refused>);
    let v11 = Version::HTTP_11;
    let rows: [Row; 12] = [
        (v11, &[("content-length", "5")], None),
        (v11, &[("transfer-encoding", "Chunked")], None),
        (v11, &[("content-length", "5"), ("transfer-encoding", "chunked")], Some(Refused::TwoLengths)),
        (v11, &[("content-length", "5"), ("content-length", "6")], Some(Refused::ContentLength)),
        (v11, &[("content-length", "5"), ("content-length", "5")], Some(Refused::ContentLength)),
        (v11, &[("content-length", "5, 5")], Some(Refused::ContentLength)),
        (v11, &[("content-length", "+5")], Some(Refused::ContentLength)),
        (v11, &[("content-length", "")], Some(Refused::ContentLength)),
        (v11, &[("transfer-encoding", "gzip, chunked")], Some(Refused::TransferEncoding)),
        (v11, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Some(Refused::TransferEncoding)),
        (Version::HTTP_10, &[("transfer-encoding", "chunked")], Some(Refused::TransferEncoding)),
        (Version::HTTP_2, &[("transfer-encoding", "chunked")], Some(Refused::TransferEncoding)),
    ];
    for (version, headers, expected) in rows {
        let headers = [&[("host", "web")], headers].concat();
        assert_eq!(canonical(&parts(version, "POST", "/", &headers)).err(), expected, "{version:?} {headers:?}");
    }
}

#[test]
fn what_was_judged_is_written_for_either_version() {
    let received = parts(Version::HTTP_11, "GET", "http://WEB.:8080/a/../%62?q", &[("host", "web:8080")]);
    let request = canonical(&received).expect("a request");
    let mut sent = received.clone();
    request.write(&mut sent, Version::HTTP_11).expect("written");
    assert_eq!((sent.uri.to_string().as_str(), &sent.headers[HOST]), ("/b?q", &HeaderValue::from_static("web:8080")));
    request.write(&mut sent, Version::HTTP_2).expect("written");
    assert_eq!((sent.uri.to_string().as_str(), sent.headers.get(HOST)), ("http://web:8080/b?q", None));
    let mut tunnel = parts(Version::HTTP_11, "CONNECT", "DB:5432", &[("host", "db:5432")]);
    canonical(&tunnel).expect("a request").write(&mut tunnel, Version::HTTP_11).expect("written");
    assert_eq!(tunnel.uri.to_string(), "db:5432");
    let mut all = parts(Version::HTTP_11, "OPTIONS", "*", &[("host", "web")]);
    canonical(&all).expect("a request").write(&mut all, Version::HTTP_11).expect("written");
    assert_eq!(all.uri.to_string(), "*");
}

#[test]
fn a_request_for_a_forward_proxy_goes_on_as_it_came_where_nobody_judges_it() {
    let received = parts(Version::HTTP_11, "GET", "http://far:8080/a/../%62?q", &[("host", "far:8080")]);
    let request = as_received(&received).expect("a request");
    let mut sent = received.clone();
    request.write(&mut sent, Version::HTTP_11).expect("written");
    assert_eq!(sent.uri, received.uri);
    assert_eq!(sent.headers[HOST], HeaderValue::from_static("far:8080"));
    // In HTTP/2 every request names its whole target, so it says nothing about a proxy.
    let received = parts(Version::HTTP_2, "GET", "http://web/a", &[]);
    let mut sent = received.clone();
    as_received(&received).expect("a request").write(&mut sent, Version::HTTP_11).expect("written");
    assert_eq!((sent.uri.to_string().as_str(), &sent.headers[HOST]), ("/a", &HeaderValue::from_static("web")));
}

#[test]
fn what_names_no_host_stays_what_it_was() {
    let nameless = parts(Version::HTTP_10, "GET", "/a", &[]);
    let mut sent = nameless.clone();
    canonical(&nameless).expect("a request").write(&mut sent, Version::HTTP_11).expect("written");
    assert_eq!((sent.version, sent.headers.get(HOST)), (Version::HTTP_10, None));
    // HTTP/2 has no request without one.
    let refused = canonical(&nameless).expect("a request").write(&mut nameless.clone(), Version::HTTP_2);
    assert_eq!(refused, Err(Refused::HostMissing));
    let named = parts(Version::HTTP_10, "GET", "/a", &[("host", "web")]);
    let mut sent = named.clone();
    canonical(&named).expect("a request").write(&mut sent, Version::HTTP_11).expect("written");
    assert_eq!((sent.version, &sent.headers[HOST]), (Version::HTTP_11, &HeaderValue::from_static("web")));
    let empty = parts(Version::HTTP_11, "GET", "/a", &[("host", "")]);
    let mut sent = empty.clone();
    canonical(&empty).expect("a request").write(&mut sent, Version::HTTP_11).expect("written");
    assert_eq!((sent.version, &sent.headers[HOST]), (Version::HTTP_11, &HeaderValue::from_static("")));
}

/// Paths of the pieces that have confused servers.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5C", "%25", "%00", "%", "%7e", "%C3", ";", "a", "B", "\\", "é",
        "{", "\"", "~", ":", "@", "+", "|",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn the_canonical_form_of_a_canonical_path_is_itself(path in prop_oneof![pieces(), "/[ -~]{0,30}"]) {
        if let Ok(once) = canonical_path(&path) {
            prop_assert_eq!(canonical_path(&once), Ok(once.clone()));
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."));
        }
    }

    #[test]
    fn the_path_that_is_forwarded_is_the_one_that_was_judged(
        path in pieces(),
        query in prop::option::of("[a-z0-9=&%+./]{0,12}"),
        version in prop::sample::select(vec![Version::HTTP_11, Version::HTTP_2]),
    ) {
        let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let received = Request::builder().uri(uri).header(HOST, "Web:8080").body(()).expect("a request").into_parts().0;
        let Ok(judged) = canonical(&received) else { return Ok(()) };
        let mut sent = received;
        judged.write(&mut sent, version).expect("what has a canonical form can be written");
        // What goes over the wire is text: whoever reads it must come to the same judgement.
        let text = sent.uri.to_string();
        let mut read = Request::builder().version(version).uri(text).body(()).expect("a request").into_parts().0;
        read.headers = sent.headers;
        prop_assert_eq!(canonical(&read), Ok(judged));
    }

    #[test]
    fn no_bytes_make_an_authority_that_reads_differently_again(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(authority) = Authority::read(&bytes) {
            prop_assert_eq!(Authority::read(authority.to_string().as_bytes()), Ok(authority));
        }
    }
}
