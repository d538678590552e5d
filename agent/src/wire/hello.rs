//! What a `ClientHello` at a connection's beginning says: whether it is the mesh's, and the name of the server that it asks for.
//!
//! Pure. Invariants: the answer for a prefix never contradicts the answer for what follows, and only a whole, well-formed
//! `ClientHello` that offers `weft/1` is mesh (RFC 8446, sections 4.1.2 and 5.1; RFC 7301; RFC 6066, section 3).

use std::net::IpAddr;

use crate::limits;
use crate::tls::ALPN;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    Mesh,
    Plaintext,
    /// Still possible: more bytes decide.
    Undecided,
}

const RECORD_HANDSHAKE: u8 = 0x16;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
/// The only type of a name that there is.
const NAME_OF_HOST: u8 = 0;
/// RFC 8446, section 5.1.
const RECORD_LENGTH_MAXIMUM: usize = 1 << 14;

/// Judges the first bytes of a connection.
pub(super) fn judge(bytes: &[u8]) -> Beginning {
    match handshake_bytes(bytes) {
        Ok(handshake) => judge_handshake(&handshake, bytes.len()),
        Err(NotTls) => Beginning::Plaintext,
    }
}

/// Whether a connection begins with a `ClientHello`, whoever it is for.
#[must_use]
pub fn is_tls(bytes: &[u8]) -> bool {
    handshake_bytes(bytes).is_ok_and(|handshake| handshake.first() == Some(&MESSAGE_CLIENT_HELLO))
}

/// What the beginning of an application's own TLS asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// The server of this name, in lower case.
    To(String),
    /// A `ClientHello` without a name that could be one of a host.
    Nameless,
    NotTls,
    /// Still possible: more bytes decide.
    Undecided,
}

/// Judges the first bytes of a client that should speak TLS, of which the caller reads at most
/// `limits::CLIENT_HELLO_MAXIMUM`.
#[must_use]
pub fn greeting(bytes: &[u8]) -> Greeting {
    let Ok(handshake) = handshake_bytes(bytes) else { return Greeting::NotTls };
    if handshake.first().is_some_and(|message| *message != MESSAGE_CLIENT_HELLO) {
        return Greeting::NotTls;
    }
    let length = message_length(&handshake);
    if length.is_some_and(|length| length > limits::CLIENT_HELLO_MAXIMUM) {
        return Greeting::NotTls;
    }
    match length.and_then(|length| handshake.get(4..length)) {
        Some(hello) => server_name(hello).unwrap_or(Greeting::NotTls),
        None if bytes.len() >= limits::CLIENT_HELLO_MAXIMUM => Greeting::NotTls,
        None => Greeting::Undecided,
    }
}

struct NotTls;

/// The content of the handshake records at the beginning of `bytes`, whole or in part.
fn handshake_bytes(bytes: &[u8]) -> Result<Vec<u8>, NotTls> {
    let mut handshake = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() && !is_whole(&handshake) {
        let expected = |index: usize, test: fn(u8) -> bool| rest.get(index).is_none_or(|byte| test(*byte));
        if !(expected(0, |byte| byte == RECORD_HANDSHAKE)
            && expected(1, |byte| byte == 3)
            && expected(2, |byte| byte <= 4))
        {
            return Err(NotTls);
        }
        let [_, _, _, high, low, payload @ ..] = rest else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > RECORD_LENGTH_MAXIMUM {
            return Err(NotTls);
        }
        let taken = length.min(payload.len());
        handshake.extend_from_slice(&payload[..taken]);
        rest = &payload[taken..];
    }
    Ok(handshake)
}

/// The length of the first handshake message with its header, once its header is there.
fn message_length(handshake: &[u8]) -> Option<usize> {
    let [_, first, second, third, ..] = handshake else { return None };
    usize::try_from(u32::from_be_bytes([0, *first, *second, *third])).ok()?.checked_add(4)
}

fn is_whole(handshake: &[u8]) -> bool {
    message_length(handshake).is_some_and(|length| handshake.len() >= length)
}

fn judge_handshake(handshake: &[u8], seen: usize) -> Beginning {
    if handshake.first().is_some_and(|message| *message != MESSAGE_CLIENT_HELLO) {
        return Beginning::Plaintext;
    }
    let Some(length) = message_length(handshake) else {
        return if seen >= limits::SNIFF_MAXIMUM { Beginning::Plaintext } else { Beginning::Undecided };
    };
    // A mesh agent's greeting is never that long: waiting for the rest would hold an application's own TLS up.
    if length > limits::SNIFF_MAXIMUM {
        return Beginning::Plaintext;
    }
    match handshake.get(4..length) {
        Some(hello) if offers_mesh(hello) == Some(true) => Beginning::Mesh,
        Some(_) => Beginning::Plaintext,
        None if seen >= limits::SNIFF_MAXIMUM => Beginning::Plaintext,
        None => Beginning::Undecided,
    }
}

/// Whether a `ClientHello` offers `weft/1`; nothing when it is not well-formed.
fn offers_mesh(hello: &[u8]) -> Option<bool> {
    let mut offered = false;
    each_extension(hello, |kind, mut content| {
        if kind == EXTENSION_ALPN {
            let mut names = content.vector16()?;
            while !names.0.is_empty() {
                offered |= names.vector8()?.0 == ALPN;
            }
        }
        Some(())
    })?;
    Some(offered)
}

/// Whom a whole `ClientHello` asks for; nothing when it is not well-formed. Two names, of which one reader takes the first
/// and another the last, are not.
fn server_name(hello: &[u8]) -> Option<Greeting> {
    let mut found: Option<String> = None;
    each_extension(hello, |kind, mut content| {
        if kind == EXTENSION_SERVER_NAME {
            let mut names = content.vector16()?;
            while !names.0.is_empty() {
                let of_host = names.take(1)?.first() == Some(&NAME_OF_HOST);
                let name = names.vector16()?;
                if of_host && found.replace(String::from_utf8_lossy(name.0).to_ascii_lowercase()).is_some() {
                    return None;
                }
            }
        }
        Some(())
    })?;
    Some(found.filter(|name| is_host(name)).map_or(Greeting::Nameless, Greeting::To))
}

/// Letters, digits, hyphens and underscores between dots, and no address (RFC 6066, section 3).
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(byte)
    };
    name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}

/// Shows every extension of a `ClientHello`; nothing when it is not well-formed, or `read` says so.
fn each_extension<'a>(hello: &'a [u8], mut read: impl FnMut(u16, Bytes<'a>) -> Option<()>) -> Option<()> {
    let mut hello = Bytes(hello);
    hello.take(2 + 32)?;
    hello.vector8()?;
    hello.vector16()?;
    hello.vector8()?;
    // Before TLS 1.3 a `ClientHello` might have none at all (RFC 5246, section 7.4.1.2).
    if hello.0.is_empty() {
        return Some(());
    }
    let mut extensions = hello.vector16()?;
    if !hello.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        read(kind, extensions.vector16()?)?;
    }
    Some(())
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<Bytes<'a>> {
        let length = usize::from(*self.take(1)?.first()?);
        self.take(length).map(Bytes)
    }

    fn vector16(&mut self) -> Option<Bytes<'a>> {
        let length = usize::from(self.number16()?);
        self.take(length).map(Bytes)
    }
}

#[cfg(test)]
pub(super) mod fixtures {
    //! `ClientHello`s as rustls writes them.

    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    /// A `ClientHello` that offers `alpn`, longer by some `padding` bytes.
    pub(in crate::wire) fn client_hello(alpn: &[Vec<u8>], padding: usize) -> Vec<u8> {
        client_hello_to("b.weft", alpn, padding)
    }

    pub(in crate::wire) fn client_hello_to(name: &'static str, alpn: &[Vec<u8>], padding: usize) -> Vec<u8> {
        let mut parameters = ClientConfig::builder_with_provider(crate::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        parameters.alpn_protocols = alpn.to_vec();
        parameters.alpn_protocols.extend((0..padding / 201).map(|_| vec![b'x'; 200]));
        let mut connection = ClientConnection::new(Arc::new(parameters), name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake message in records of at most `length` bytes.
    pub(in crate::wire) fn records(hello: &[u8], length: usize) -> Vec<u8> {
        hello[5..]
            .chunks(length)
            .flat_map(|piece| {
                let size = u16::try_from(piece.len()).unwrap().to_be_bytes();
                [&[RECORD_HANDSHAKE, 3, 1][..], &size, piece].concat()
            })
            .collect()
    }

    use super::RECORD_HANDSHAKE;
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use rustls::server::Acceptor;

    use super::fixtures::{client_hello, client_hello_to, records};
    use super::*;

    /// What rustls makes of the same bytes: whether it reads a `ClientHello`, and whether that offers `weft/1`.
    fn read_by_rustls(bytes: &[u8]) -> Option<bool> {
        let mut acceptor = Acceptor::default();
        let mut cursor = Cursor::new(bytes);
        while acceptor.read_tls(&mut cursor).ok()? > 0 {
            if let Some(accepted) = acceptor.accept().ok()? {
                return Some(accepted.client_hello().alpn().is_some_and(|mut names| names.any(|name| name == ALPN)));
            }
        }
        None
    }

    fn mesh_hello() -> Vec<u8> {
        client_hello(&[ALPN.to_vec()], 0)
    }

    #[test]
    fn a_mesh_hello_is_mesh_and_every_beginning_of_it_is_undecided() {
        for hello in [mesh_hello(), records(&mesh_hello(), 700)] {
            assert!(hello.len() < limits::SNIFF_MAXIMUM);
            assert_eq!(judge(&hello), Beginning::Mesh);
            assert!(is_tls(&hello));
            for length in 0..hello.len() {
                assert_eq!(judge(&hello[..length]), Beginning::Undecided, "after {length} bytes");
            }
        }
    }

    #[test]
    fn what_follows_the_hello_changes_nothing() {
        assert_eq!(judge(&[&mesh_hello()[..], b"\x14\x03\x03\x00\x01\x01 and more"].concat()), Beginning::Mesh);
    }

    /// An application's `ClientHello` for `name`.
    fn hello_to(name: &'static str) -> Vec<u8> {
        client_hello_to(name, &[b"h2".to_vec()], 0)
    }

    /// What rustls makes of the same bytes: whether it reads a `ClientHello`, and whom that is for.
    fn named_by_rustls(bytes: &[u8]) -> Option<Greeting> {
        let mut acceptor = Acceptor::default();
        let mut cursor = Cursor::new(bytes);
        while acceptor.read_tls(&mut cursor).ok()? > 0 {
            if let Some(accepted) = acceptor.accept().ok()? {
                let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                return Some(name.map_or(Greeting::Nameless, Greeting::To));
            }
        }
        None
    }

    #[test]
    fn the_name_of_the_server_is_known_when_the_hello_is_whole() {
        let hello = hello_to("Cart.Shop.example");
        for hello in [hello.clone(), records(&hello, 1), client_hello_to("cart.shop.example", &[], 8000)] {
            assert_eq!(greeting(&hello), Greeting::To("cart.shop.example".to_owned()));
            for length in 0..hello.len() {
                assert_eq!(greeting(&hello[..length]), Greeting::Undecided, "after {length} bytes");
            }
        }
    }

    #[test]
    fn what_asks_for_nobody_by_name_is_told_from_what_is_no_tls() {
        assert_eq!(greeting(&hello_to("10.0.0.1")), Greeting::Nameless);
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\0\0\0\x08\x04\xd2\x16\x2f", b"\x15\x03\x01\0\x02\x01\0"] {
            assert_eq!(greeting(bytes), Greeting::NotTls, "{bytes:?}");
        }
        let long = client_hello_to("cart.shop.example", &[], limits::CLIENT_HELLO_MAXIMUM);
        assert_eq!(greeting(&long[..limits::CLIENT_HELLO_MAXIMUM]), Greeting::NotTls);
    }

    proptest! {
        /// Whatever is damaged: a name that is found is the one that rustls reads, if it reads any.
        #[test]
        fn a_damaged_name_is_read_as_rustls_reads_it(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut hello = hello_to("cart.shop.example");
            for (place, byte) in damage {
                let place = place.index(hello.len());
                hello[place] = byte;
            }
            match (greeting(&hello), named_by_rustls(&hello)) {
                (_, None) | (Greeting::NotTls, Some(Greeting::Nameless)) => {}
                // A record version that no TLS writes is refused here and ignored by rustls.
                (Greeting::NotTls, Some(_)) => prop_assert!(hello[2] > 4, "a name was not found"),
                (found, Some(other)) => prop_assert_eq!(found, other),
            }
        }

        #[test]
        fn arbitrary_bytes_are_not_the_mesh(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_ne!(judge(&bytes), Beginning::Mesh);
        }

        /// Damage at any place: what is called mesh, rustls must not read as a greeting without the mesh's protocol, and
        /// what rustls reads as the mesh's must have been called so.
        #[test]
        fn a_damaged_hello_is_read_as_rustls_reads_it(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            offered in any::<bool>(),
        ) {
            let mut hello = client_hello(&[if offered { ALPN.to_vec() } else { b"h2".to_vec() }], 0);
            for (place, byte) in damage {
                let place = place.index(hello.len());
                hello[place] = byte;
            }
            match (judge(&hello), read_by_rustls(&hello)) {
                (Beginning::Mesh, Some(false)) => prop_assert!(false, "called mesh, but it does not offer it"),
                // A record version that no TLS writes is refused here and ignored by rustls.
                (Beginning::Plaintext, Some(true)) => prop_assert!(hello[2] > 4, "a mesh peer was taken for plaintext"),
                (Beginning::Undecided, Some(_)) => prop_assert!(false, "whole, but still undecided"),
                (Beginning::Mesh | Beginning::Plaintext | Beginning::Undecided, _) => {}
            }
        }

        #[test]
        fn a_verdict_never_changes_with_more_bytes(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..600),
                prop::collection::vec(any::<u8>(), 0..600).prop_map(|rest| [&[0x16, 3, 1, 0, 200, 1, 0, 0][..], &rest].concat()),
            ],
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(bytes.len() + 1);
            let early = judge(&bytes[..cut]);
            prop_assert!(early == Beginning::Undecided || early == judge(&bytes));
        }
    }
}
