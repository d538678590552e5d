//! The canonical form of a path (RFC 3986, section 6.2.2).
//!
//! Unreserved characters are written plainly, all others that a path may not have as %XX in capitals; then dot segments are
//! removed. Empty segments (`//`) stay: RFC 3986 gives them a meaning and applications rely on it, and what is judged is
//! what is forwarded. Where rules judge requests they are refused (`Canonical::check_for_rules`): servers that fold them exist.

use std::borrow::Cow;

use super::Refused;

/// The canonical form of `path`, borrowed where it already has it.
pub fn canonical(path: &str) -> Result<Cow<'_, str>, Refused> {
    if !path.starts_with('/') {
        return Err(Refused::TargetForm);
    }
    let spelt = spell(path)?;
    if !spelt.split('/').any(dotted) {
        return Ok(spelt);
    }
    // Servers that know path parameters (RFC 3986, section 3.3) drop them before they look for dots.
    if spelt.split('/').any(|segment| segment.contains(';') && dotted(segment)) {
        return Err(Refused::DotParameters);
    }
    Ok(Cow::Owned(without_dots(&spelt)))
}

/// One spelling for each character.
fn spell(path: &str) -> Result<Cow<'_, str>, Refused> {
    let bytes = path.as_bytes();
    let Some(first) = bytes.iter().position(|byte| !plain(*byte)) else { return Ok(Cow::Borrowed(path)) };
    let mut spelt = String::with_capacity(bytes.len() + 16);
    spelt.push_str(&path[..first]);
    let mut rest = &bytes[first..];
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match *byte {
            b'%' => {
                let (meant, after) = encoded(after)?;
                rest = after;
                push_encoded(&mut spelt, meant)?;
            }
            b'\\' => return Err(Refused::Separator),
            byte if byte.is_ascii_control() || byte == b' ' => return Err(Refused::Control),
            byte if plain(byte) => spelt.push(char::from(byte)),
            byte => push_hexadecimal(&mut spelt, byte),
        }
    }
    Ok(Cow::Owned(spelt))
}

/// The byte that two hexadecimal digits stand for, and what follows them.
fn encoded(after: &[u8]) -> Result<(u8, &[u8]), Refused> {
    let ([high, low], rest) = after.split_first_chunk::<2>().ok_or(Refused::Percent)?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (high, low) = digit(high).zip(digit(low)).ok_or(Refused::Percent)?;
    Ok((high << 4 | low, rest))
}

fn push_encoded(spelt: &mut String, byte: u8) -> Result<(), Refused> {
    match byte {
        b'/' | b'\\' => Err(Refused::Separator),
        byte if byte.is_ascii_control() => Err(Refused::Control),
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
            spelt.push(char::from(byte));
            Ok(())
        }
        byte => {
            push_hexadecimal(spelt, byte);
            Ok(())
        }
    }
}

fn push_hexadecimal(spelt: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    spelt.push('%');
    spelt.push(char::from(DIGITS[usize::from(byte >> 4)]));
    spelt.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// What a path has as it is: pchar without percent signs, and '/'.
const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'/'
        )
}

/// "." or "..", perhaps with parameters.
fn dotted(segment: &str) -> bool {
    matches!(segment.split(';').next(), Some("." | ".."))
}

/// RFC 3986, section 5.2.4; `path` begins with '/'.
fn without_dots(path: &str) -> String {
    let mut kept = String::with_capacity(path.len());
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.truncate(kept.rfind('/').unwrap_or(0));
                }
                if last {
                    kept.push('/');
                }
            }
            segment => {
                kept.push('/');
                kept.push_str(segment);
            }
        }
    }
    kept
}
