//! The session that a request belongs to, and the token by which its client shows it (GEP-1619).
//!
//! A token says when its session began and, for each backend, the alias of the endpoint that the session has there: weights
//! go on choosing the backend, and one name serves every backend of a rule, and rules that share it. What cannot be read, is
//! over or calls an endpoint that is not there is no error: the balancer chooses, and the answer brings a token. The
//! application sees the token like any other cookie or header. Absent: secrets, for a token gives no right.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::Serialize;
use weft_proto::names::NamespacedName;

use crate::limits;
use crate::model::{Alias, Carrier, Cookie, SessionPersistence, backend_alias};

/// What kind of token it is: others are somebody else's, or of another time.
const VERSION: u8 = 1;
/// The version, and the beginning in milliseconds since 1970.
const HEAD: usize = 1 + BEGINNING;
const BEGINNING: usize = 6;
const PIN: usize = 4 + 8;
/// Room for the longest token, and for what a decoder asks for beyond it.
const ROOM: usize = HEAD + PIN * limits::SESSION_BACKENDS + 3;

/// Base64's own alphabet, all of which a cookie may have (RFC 6265, section 4.1.1). gRPC decodes the values of headers that
/// end in "-bin", and pads what it encodes again.
const TEXT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// One request's.
#[derive(Debug)]
pub struct Session<'a> {
    persistence: &'a SessionPersistence,
    /// What tokens call the backend.
    backend: [u8; 4],
    /// What the client has shown and holds: browsers show cookies of several paths, those of the longest first.
    shown: Vec<Token>,
    /// Milliseconds since 1970.
    now: u64,
    /// The client is a browser that speaks HTTPS to whoever sent this request on.
    over_https: bool,
}

/// How a request and its session's endpoint came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// Nobody had the session at this backend.
    Begun,
    /// The session's endpoint was asked first, and answered if anybody did.
    Kept,
    /// Another one answered: the session's was not there any more, ejected, or failed.
    Moved,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Token {
    /// Milliseconds since 1970.
    began: u64,
    /// One for each backend, the oldest first.
    pins: Vec<Pin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pin {
    backend: [u8; 4],
    endpoint: Alias,
}

impl<'a> Session<'a> {
    /// Looks through all that the client shows, once: the engine bounds a request's head.
    #[must_use]
    pub fn of(
        persistence: &'a SessionPersistence,
        (service, port): (&NamespacedName, u16),
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Self {
        let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let held =
            |text: &[u8]| Token::read(text).filter(|token| !token.left(now, persistence.absolute_timeout).is_zero());
        let shown = match &persistence.carrier {
            Carrier::Header(name) => {
                let all = headers.get_all(name).iter().filter_map(|value| held(value.as_bytes()));
                all.take(limits::SESSION_TOKENS).collect()
            }
            // HTTP/2 permits a field for each of them.
            Carrier::Cookie(cookie) => {
                let all = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
                all.filter_map(|pair| value_of(&cookie.name, pair))
                    .filter_map(held)
                    .take(limits::SESSION_TOKENS)
                    .collect()
            }
        };
        let over_https = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok());
        Self {
            persistence,
            backend: backend_alias(service, port),
            shown,
            now,
            // Of several proxies the first one says what the client spoke.
            over_https: over_https
                .and_then(|list| list.split(',').next())
                .is_some_and(|first| first.trim().eq_ignore_ascii_case("https")),
        }
    }

    /// The endpoints that have the session at this backend: one for each token that names one.
    pub fn endpoints(&self) -> impl Iterator<Item = Alias> + '_ {
        let pin = |token: &Token| token.pins.iter().find(|pin| pin.backend == self.backend).map(|pin| pin.endpoint);
        self.shown.iter().filter_map(pin)
    }

    /// What it means that this endpoint has answered.
    #[must_use]
    pub fn stay(&self, by: Alias) -> Stay {
        if self.endpoints().any(|own| own == by) {
            Stay::Kept
        } else if self.endpoints().next().is_some() {
            Stay::Moved
        } else {
            Stay::Begun
        }
    }

    /// Writes into the head of this endpoint's answer what the client has to show from now on, if it does not show that already.
    /// Where the application itself sets the cookie, that is the client's: of two with one name it would keep the last.
    pub fn tell(&self, by: Alias, headers: &mut HeaderMap) {
        if !self.has_to_be_told(by, headers) {
            return;
        }
        let fresh = || Token { began: self.now, pins: Vec::new() };
        let mut token = self.shown.first().cloned().unwrap_or_else(fresh);
        token.pin(Pin { backend: self.backend, endpoint: by });
        match &self.persistence.carrier {
            Carrier::Header(name) => {
                if let Ok(value) = HeaderValue::try_from(token.write()) {
                    headers.insert(name, value);
                }
            }
            Carrier::Cookie(cookie) => {
                // The application's own cookies stay as they are.
                if let Ok(value) = HeaderValue::try_from(self.set(cookie, &token)) {
                    headers.append(SET_COOKIE, value);
                }
            }
        }
    }

    fn has_to_be_told(&self, by: Alias, headers: &HeaderMap) -> bool {
        let kept = self.stay(by) == Stay::Kept;
        match &self.persistence.carrier {
            // What the application says in its place would take the session from the client.
            Carrier::Header(name) => !kept || headers.contains_key(name),
            Carrier::Cookie(cookie) => {
                let all = headers.get_all(SET_COOKIE).iter();
                let own = all.filter_map(|line| line.as_bytes().split(|byte| *byte == b';').next());
                !kept && !own.filter_map(|pair| value_of(&cookie.name, pair)).any(|_| true)
            }
        }
    }

    /// `Secure` only for browsers behind a proxy that ended their TLS: in plaintext inside the mesh, clients throw such a
    /// cookie away.
    fn set(&self, cookie: &Cookie, token: &Token) -> String {
        let Cookie { name, path, permanent } = cookie;
        let mut text = format!("{name}={}; Path={path}; HttpOnly; SameSite=Strict", token.write());
        if *permanent {
            let left = token.left(self.now, self.persistence.absolute_timeout);
            let _ = write!(text, "; Max-Age={}", left.as_millis().div_ceil(1000));
        }
        if self.over_https {
            text.push_str("; Secure");
        }
        text
    }
}

impl Token {
    fn read(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; ROOM];
        let length = TEXT.decode_slice(text, &mut bytes).ok()?;
        let (head, pins) = bytes.get(..length)?.split_first_chunk::<HEAD>()?;
        let (pins, rest) = pins.as_chunks::<PIN>();
        if head[0] != VERSION || pins.is_empty() || !rest.is_empty() {
            return None;
        }
        let began = head[1..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let pin =
            |&[a, b, c, d, ref endpoint @ ..]: &[u8; PIN]| Pin { backend: [a, b, c, d], endpoint: Alias(*endpoint) };
        Some(Self { began, pins: pins.iter().map(pin).collect() })
    }

    fn write(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(&self.began.to_be_bytes()[8 - BEGINNING..]);
        for pin in &self.pins {
            bytes.extend(pin.backend);
            bytes.extend(pin.endpoint.0);
        }
        TEXT.encode(bytes)
    }

    /// In the place of what it says of the same backend. Where it is full, the backend that came first has to begin again.
    fn pin(&mut self, pin: Pin) {
        if let Some(own) = self.pins.iter_mut().find(|own| own.backend == pin.backend) {
            *own = pin;
            return;
        }
        if self.pins.len() == limits::SESSION_BACKENDS {
            self.pins.remove(0);
        }
        self.pins.push(pin);
    }

    /// How long the session still lasts; zero: it is over. One that begins later than clocks differ was never given out.
    fn left(&self, now: u64, timeout: Option<Duration>) -> Duration {
        let ahead = Duration::from_millis(self.began.saturating_sub(now));
        let age = Duration::from_millis(now.saturating_sub(self.began));
        if ahead > limits::SESSION_CLOCK_AHEAD {
            return Duration::ZERO;
        }
        timeout.unwrap_or(Duration::MAX).saturating_sub(age)
    }
}

/// Of one `name=value`, if that is its name. Some clients quote values.
fn value_of<'a>(name: &str, pair: &'a [u8]) -> Option<&'a [u8]> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}
