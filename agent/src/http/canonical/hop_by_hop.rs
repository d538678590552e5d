//! Fields that are meant for one hop alone (RFC 9110, section 7.6.1).

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Takes away what is not for the next hop: before anybody judges the headers, so that what a Connection field takes away
/// was never seen. That trailers are welcome (TE) stays, because gRPC needs it and this agent forwards them.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // What says whose the message is and how to read it is for all hops, whatever a Connection field names.
    let kept = |name: &HeaderName| *name == HOST || *name == CONTENT_LENGTH || *name == CONTENT_TYPE || *name == TE;
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !kept(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        if tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers")) {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
}

/// The protocol that an HTTP/1.1 request asks to go on with. Not HTTP/2: an upgrade to h2c is not forwarded.
#[must_use]
pub fn is_upgrade(parts: &Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11
        || !tokens(&parts.headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
    {
        return None;
    }
    let mut wanted = parts.headers.get_all(UPGRADE).iter();
    // A value with other bytes is not searched for HTTP/2.
    let protocol = wanted.next().filter(|protocol| protocol.to_str().is_ok())?;
    let http2 = tokens(&parts.headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("h2c"));
    (!http2 && !protocol.is_empty() && wanted.next().is_none()).then(|| protocol.clone())
}

/// The elements of a list, of all fields of this name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn headers(written: &[(&'static str, &'static str)]) -> HeaderMap {
        written.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_what_is_meant_for_everybody_goes_on() {
        let rows: [(&[_], &[_]); 7] = [
            (&[("accept", "*/*")], &[("accept", "*/*")]),
            (&[("connection", "x-mine"), ("x-mine", "1"), ("x-other", "2")], &[("x-other", "2")]),
            (&[("connection", "close, X-Mine ,"), ("x-mine", "1")], &[]),
            (&[("keep-alive", "5"), ("proxy-connection", "close"), ("transfer-encoding", "chunked")], &[]),
            (&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMA")], &[]),
            (&[("connection", "te"), ("te", "gzip, Trailers")], &[("te", "trailers")]),
            (&[("te", "gzip;q=0.5")], &[]),
        ];
        for (received, forwarded) in rows {
            let mut stripped = headers(received);
            strip_hop_by_hop(&mut stripped);
            assert_eq!(stripped, headers(forwarded), "{received:?}");
        }
    }

    #[test]
    fn nobody_can_have_the_host_or_the_length_taken_away() {
        let essential = [("host", "web"), ("content-length", "5"), ("content-type", "text/plain")];
        let mut stripped = headers(&essential);
        stripped.append(CONNECTION, HeaderValue::from_static("host, content-length, content-type"));
        strip_hop_by_hop(&mut stripped);
        assert_eq!(stripped, headers(&essential));
    }

    #[test]
    fn an_upgrade_is_asked_for_by_two_fields_and_is_not_to_http2() {
        let ask = |version, written: &[(&'static str, &'static str)]| {
            let mut parts = Request::builder().version(version).body(()).unwrap().into_parts().0;
            parts.headers = headers(written);
            is_upgrade(&parts)
        };
        let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert_eq!(ask(Version::HTTP_11, &both), Some(HeaderValue::from_static("websocket")));
        assert_eq!(ask(Version::HTTP_10, &both), None);
        assert_eq!(ask(Version::HTTP_11, &both[..1]), None);
        assert_eq!(ask(Version::HTTP_11, &both[1..]), None);
        assert_eq!(ask(Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "h2c")]), None);
        assert_eq!(ask(Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "websocket, H2C")]), None);
    }
}
