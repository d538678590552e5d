//! Paths as agents compare them: in their canonical form (RFC 3986, 6.2.2), which some texts do not have.
//!
//! An agent that met such a text would refuse every request to the port, so it is found here.

/// Why no request's path, in its canonical form, is like this one. None: some is.
pub fn problem(text: &str) -> Option<&'static str> {
    if !text.starts_with('/') {
        return Some("it does not begin with \"/\"");
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let (meant, after) = match byte {
            b'%' => match escaped(after) {
                Some((b'/' | b'\\', _)) => return Some("an escaped slash is always refused"),
                Some((meant, _)) if meant.is_ascii_control() => {
                    return Some("an escaped control character is always refused");
                }
                Some(found) => found,
                None => return Some("\"%\" is not followed by two hexadecimal digits"),
            },
            byte if is_plain(*byte) => (*byte, after),
            _ => return Some("it has a character that no path may have"),
        };
        decoded.push(meant);
        rest = after;
    }
    let dotted = |segment: &[u8]| matches!(segment.split(|byte| *byte == b';').next(), Some(b"." | b".."));
    decoded
        .split(|byte| *byte == b'/')
        .any(dotted)
        .then_some("it has a \".\" or \"..\" in it, which requests never keep")
}

fn escaped(after: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = after.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(digits[0])? << 4 | digit(digits[1])?, rest))
}

/// RFC 3986's pchar, and the slash.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_request_has_is_found() {
        for (text, part) in [
            ("/", ""),
            ("/a/b.c/~d/", ""),
            ("/a%20b/%C3%A9", ""),
            ("/a;x=1/...", ""),
            ("", "begin with"),
            ("a", "begin with"),
            ("/a%2Fb", "slash"),
            ("/a%5cb", "slash"),
            ("/a%00", "control"),
            ("/a%2", "hexadecimal"),
            ("/a%zz", "hexadecimal"),
            ("/a b", "character"),
            ("/a?b", "character"),
            ("/é", "character"),
            ("/a\\b", "character"),
            ("/a/./b", "\"..\""),
            ("/a/..", "\"..\""),
            ("/a/%2E%2e/b", "\"..\""),
            ("/a/..;x/b", "\"..\""),
        ] {
            let found = problem(text);
            assert!(
                found.unwrap_or_default().contains(part) && found.is_none() == part.is_empty(),
                "{text:?}: {found:?}"
            );
        }
    }
}
