//! What a client speaks, by its first bytes.
//!
//! HTTP/1 is known by its whole request line: other protocols also begin with `GET `. Where nothing is declared the method
//! must be a well-known one, so that no other protocol is waited for in vain, and CONNECT is left to whoever asked for a
//! tunnel. Where requests are expected any line that speaks of HTTP is one, and the engine answers what it cannot read.

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

/// What a port carries by its declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Anything,
    Requests,
}

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of a frame (RFC 9113, section 4.1).
pub const SETTINGS_HEAD: usize = 9;
/// RFC 9110, section 9, RFC 5789.
const METHODS: [&[u8]; 8] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"];

/// Waits until the client's first bytes decide; its end decides too, and so does a pause in the middle of what could become
/// a request. Cancel-safe; unbounded in time before the first byte.
pub async fn client_speech(
    first: &mut FirstBytes,
    downstream: &TcpStream,
    expected: Expected,
) -> Result<Speech, ConnectionError> {
    while first.seen().is_empty() {
        if !first.more(downstream).await? {
            return Ok(Speech::Other);
        }
    }
    let rest = async {
        loop {
            if let Some(speech) = judge(first.seen(), expected) {
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
pub fn judge(bytes: &[u8], expected: Expected) -> Option<Speech> {
    if bytes.starts_with(PREFACE) {
        return Some(Speech::Http(Version::Http2));
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    // A server skips empty lines before a request (RFC 9112, section 2.2).
    let skipped = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = &bytes[skipped..];
    if !may_begin_a_request(line, expected) {
        return Some(Speech::Other);
    }
    let end = line.iter().position(|byte| *byte == b'\n');
    match end {
        Some(end) if is_request_line(&line[..end], expected) => Some(Speech::Http(Version::Http1)),
        Some(_) => Some(Speech::Other),
        // Nothing but HTTP has lines as long as that with a method in front.
        None if bytes.len() >= limits::SNIFF_MAXIMUM => Some(Speech::Http(Version::Http1)),
        None => None,
    }
}

/// Whether a server that begins so may be one of HTTP/2. Such a server sends its settings as soon as somebody connects, and
/// its client has as little to wait for (RFC 9113, section 3.4): the two cross.
#[must_use]
pub fn may_be_settings(greeting: &[u8]) -> bool {
    let is_like = |index: usize, byte: u8| match index {
        // Settings of six bytes each, as many as fit into the smallest frame that everybody takes (section 6.5).
        1 => byte <= 0x40,
        2 => u16::from_be_bytes([greeting[1], byte]).is_multiple_of(6),
        // The type; no flag, no stream.
        3 => byte == 4,
        0 | 4..SETTINGS_HEAD => byte == 0,
        _ => true,
    };
    !greeting.is_empty() && greeting.iter().enumerate().all(|(index, byte)| is_like(index, *byte))
}

fn may_begin_a_request(line: &[u8], expected: Expected) -> bool {
    let begins = |method: &&[u8]| line.starts_with(method) && line.get(method.len()).is_none_or(|byte| *byte == b' ');
    match expected {
        Expected::Anything => METHODS.iter().any(|method| begins(method) || method.starts_with(line)),
        // No text begins with a control character, and everything else that does is refused without waiting for a line.
        Expected::Requests => line.first().is_none_or(|byte| *byte == b'\t' || !byte.is_ascii_control()),
    }
}

fn is_request_line(line: &[u8], expected: Expected) -> bool {
    match expected {
        Expected::Anything => {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            line.rsplit(|byte| *byte == b' ').next().is_some_and(|version| version.starts_with(b"HTTP/1."))
        }
        Expected::Requests => line.windows(5).any(|word| word.eq_ignore_ascii_case(b"HTTP/")),
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
        // The second column is for a port that expects requests.
        let rows: [(&[u8], Option<Speech>, Option<Speech>); 24] = [
            (b"", None, None),
            (b"GE", None, None),
            (b"GET / HTTP/1.1", None, None),
            (b"GET / HTTP/1.1\r\n", http1, http1),
            (b"GET / HTTP/1.0\n", http1, http1),
            (b"\r\nPOST /x HTTP/1.1\r\n", http1, http1),
            (b"\r\n\n\r\nPOST /x HTTP/1.1\r\n", http1, http1),
            (b"\r\n", None, None),
            (b"PATCH /x HTTP/1.1\r\nHost: a\r\n\r\n", http1, http1),
            (b"PRI * HT", None, None),
            (PREFACE, http2, http2),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", other, http1),
            (b"GET key\r\n", other, other),
            (b"get key\r\n", other, other),
            (b"get key", other, None),
            (b"GETX", other, None),
            (b"PURGE /x HTTP/1.1\r\n", other, http1),
            (b"get /x HTTP/1.1\r\n", other, http1),
            (b"GET /x HTTP/3.0\r\n", other, http1),
            (b"GET /x http/1.1\r\n", other, http1),
            (b"CONNECT a:1 HTTP/1.1\r\n", other, http1),
            (b"*1\r\n$4\r\nPING\r\n", other, other),
            (b"\x16\x03\x01", other, other),
            (b"\0", other, other),
        ];
        for (bytes, anything, requests) in rows {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(judge(bytes, Expected::Anything), anything, "{text:?}");
            assert_eq!(judge(bytes, Expected::Requests), requests, "{text:?} where requests are expected");
        }
    }

    #[test]
    fn settings_are_told_from_other_greetings() {
        for (greeting, expected) in [
            (&b""[..], false),
            (b"\0", true),
            (b"\0\0\0\x04\0\0\0\0\0", true),
            (b"\0\0\x1e\x04\0\0\0\0\0\0\x05", true),
            (b"\0\0\x1d\x04\0\0\0\0\0", false),
            (b"\0\0\0\x04\x01\0\0\0\0", false),
            (b"\0\0\0\x04\0\0\0\0\x01", false),
            (b"\x4a\0\0\0\x0a5.5.5", false),
            (b"SSH-2.0", false),
            (b"RFB 003.008\n", false),
            (b"HTTP/1.1 408", false),
        ] {
            assert_eq!(may_be_settings(greeting), expected, "{greeting:?}");
        }
    }

    #[test]
    fn a_long_line_is_not_waited_for_for_ever() {
        for expected in [Expected::Anything, Expected::Requests] {
            let long = [b"GET /".as_slice(), &vec![b'a'; limits::SNIFF_MAXIMUM]].concat();
            assert_eq!(judge(&long, expected), Some(Speech::Http(Version::Http1)));
        }
    }

    proptest! {
        #[test]
        fn a_verdict_never_changes_with_more_bytes(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                "(GET|PRI|POST|HEAD|get|\r\n|\t)[ -~\r\n]{0,40}".prop_map(String::into_bytes),
            ],
            cut in any::<prop::sample::Index>(),
            expected in prop::sample::select(vec![Expected::Anything, Expected::Requests]),
        ) {
            let cut = cut.index(bytes.len() + 1);
            let early = judge(&bytes[..cut], expected);
            prop_assert!(early.is_none() || early == judge(&bytes, expected));
        }
    }
}
