//! What the opening of a WebSocket says in HTTP/1 and not in HTTP/2 (RFC 6455, section 4, and RFC 8441, section 5).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderValue};
use sha1::{Digest as _, Sha1};

use crate::http::canonical::strip_hop_by_hop;

/// As `Upgrade` and `:protocol` name it.
pub const NAME: &str = "websocket";
/// RFC 6455, section 1.3.
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key for a client that has none.
pub fn key() -> HeaderValue {
    value(&BASE64_STANDARD.encode(rand::random::<[u8; 16]>()))
}

/// Asks for a WebSocket with this key.
pub fn begin(headers: &mut HeaderMap, key: Option<&HeaderValue>) {
    headers.remove(SEC_WEBSOCKET_KEY);
    if let Some(key) = key {
        headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    }
    if !headers.contains_key(SEC_WEBSOCKET_VERSION) {
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
}

/// The key of a client, which goes no further.
pub fn taken(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(SEC_WEBSOCKET_KEY)
}

/// Takes out of an answer what is for one side alone.
pub fn end(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(SEC_WEBSOCKET_ACCEPT);
    headers.remove(CONTENT_LENGTH);
}

/// Whether an answer is to this key.
pub fn accepts(headers: &HeaderMap, key: Option<&HeaderValue>) -> bool {
    key.is_some_and(|key| headers.get(SEC_WEBSOCKET_ACCEPT) == Some(&accepted(key)))
}

/// Answers this key.
pub fn accept(headers: &mut HeaderMap, key: Option<&HeaderValue>) {
    if let Some(key) = key {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accepted(key));
    }
}

fn accepted(key: &HeaderValue) -> HeaderValue {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(SUFFIX).finalize();
    value(&BASE64_STANDARD.encode(digest))
}

/// Base64 has no byte that a field cannot have.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_its_specification_says() {
        // The example of RFC 6455, section 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let mut headers = HeaderMap::new();
        assert!(!accepts(&headers, Some(&key)));
        accept(&mut headers, Some(&key));
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accepts(&headers, Some(&key)) && !accepts(&headers, None));
        assert_ne!(super::key(), super::key());
    }
}
