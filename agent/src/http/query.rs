//! The parameters of a request's query, as forms write them: '+' is a space, and %XX a byte.

use std::borrow::Cow;

/// The value of the first parameter of this name, as it was received.
#[must_use]
pub fn value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let parameters = query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty());
    let mut parameters = parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    parameters.find(|(written, _)| decoded(written).eq(name.bytes())).map(|(_, value)| value)
}

/// The bytes that a text stands for. A percent sign without two digits is itself.
pub fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (byte, after) = rest.split_first()?;
        rest = after;
        Some(match byte {
            b'+' => b' ',
            b'%' => {
                match after.split_first_chunk::<2>().and_then(|(digits, after)| Some((hexadecimal(*digits)?, after))) {
                    Some((byte, after)) => {
                        rest = after;
                        byte
                    }
                    None => b'%',
                }
            }
            byte => *byte,
        })
    })
}

/// The same as text, allocated only where characters are encoded. None: it is not UTF-8.
#[must_use]
pub fn readable(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(Cow::Borrowed(text));
    }
    String::from_utf8(decoded(text).collect()).ok().map(Cow::Owned)
}

fn hexadecimal(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? << 4 | low?).ok()
}
