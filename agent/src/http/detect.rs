//! What a client speaks, by its first bytes.
//!
//! HTTP/1 is known by its whole request line: other protocols also begin with `GET `. CONNECT is left to whoever asked for a
//! tunnel: its bytes are nobody's requests.

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Version;
use crate::error::ConnectionError;
use crate::limits;
use crate::wire::FirstBytes;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Http(Version),
    Other,
}

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9110, section 9, RFC 5789.
const METHODS: [&[u8]; 8] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"];

/// Waits until the client's first bytes decide; its end decides too, and so does a pause in the middle of what could become
/// a request. Cancel-safe; unbounded in time before the first byte.
pub async fn client_speech(first: &mut FirstBytes, downstream: &TcpStream) -> Result<Speech, ConnectionError> {
    while first.seen().is_empty() {
        if !first.more(downstream).await? {
            return Ok(Speech::Other);
        }
    }
    let rest = async {
        loop {
            if let Some(speech) = judge(first.seen()) {
                return Ok(speech);
            }
            if !first.more(downstream).await? {
                return Ok(Speech::Other);
            }
        }
    };
    timeout(limits::HTTP1_HEAD, rest).await.unwrap_or(Ok(Speech::Other))
}

/// None: more bytes decide.
#[must_use]
pub fn judge(bytes: &[u8]) -> Option<Speech> {
    if bytes.starts_with(PREFACE) {
        return Some(Speech::Http(Version::Http2));
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    // A server skips empty lines before a request (RFC 9112, section 2.2).
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let begins = |method: &&[u8]| line.starts_with(method) && line.get(method.len()).is_none_or(|byte| *byte == b' ');
    if !METHODS.iter().any(|method| begins(method) || method.starts_with(line)) {
        return Some(Speech::Other);
    }
    let end = line.iter().position(|byte| *byte == b'\n');
    match end {
        Some(end) => {
            let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
            let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            let http = version.starts_with(b"HTTP/1.");
            Some(if http { Speech::Http(Version::Http1) } else { Speech::Other })
        }
        // Nothing but HTTP has lines as long as that with a method in front.
        None if bytes.len() >= limits::SNIFF_MAXIMUM => Some(Speech::Http(Version::Http1)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_protocol_is_known_by_its_beginning() {
        let http1 = Some(Speech::Http(Version::Http1));
        let http2 = Some(Speech::Http(Version::Http2));
        let other = Some(Speech::Other);
        let rows: [(&[u8], Option<Speech>); 16] = [
            (b"", None),
            (b"GE", None),
            (b"GET / HTTP/1.1", None),
            (b"GET / HTTP/1.1\r\n", http1),
            (b"GET / HTTP/1.0\n", http1),
            (b"\r\nPOST /x HTTP/1.1\r\n", http1),
            (b"PATCH /x HTTP/1.1\r\nHost: a\r\n\r\n", http1),
            (b"PRI * HT", None),
            (PREFACE, http2),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", other),
            (b"GET key\r\n", other),
            (b"get key\r\n", other),
            (b"GETX", other),
            (b"CONNECT a:1 HTTP/1.1\r\n", other),
            (b"*1\r\n$4\r\nPING\r\n", other),
            (b"\x16\x03\x01", other),
        ];
        for (bytes, expected) in rows {
            assert_eq!(judge(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_long_line_is_not_waited_for_for_ever() {
        let long = [b"GET /".as_slice(), &vec![b'a'; limits::SNIFF_MAXIMUM]].concat();
        assert_eq!(judge(&long), Some(Speech::Http(Version::Http1)));
    }

    proptest! {
        #[test]
        fn a_verdict_never_changes_with_more_bytes(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                "(GET|PRI|POST|HEAD) [ -~\r\n]{0,40}".prop_map(String::into_bytes),
            ],
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(bytes.len() + 1);
            let early = judge(&bytes[..cut]);
            prop_assert!(early.is_none() || early == judge(&bytes));
        }
    }
}
