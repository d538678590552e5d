//! Where a message's body ends (RFC 9112, sections 6 and 7).
//!
//! Strict: a line of a chunked body ends in CRLF, a size is hexadecimal digits alone, and what nobody can cut in one way is an
//! error. Invariant: no byte behind the body is ever taken out of the input. Absent: what a head says, which is `head`'s.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limits;

/// What a head says of the body that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    /// It ends with the connection.
    UntilEnd,
}

/// The bytes are no such body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// One step through a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// More bytes are needed.
    More,
}

/// Cuts a body out of what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    /// Bytes of chunk extensions, which nobody reads.
    extensions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    Size,
    Chunk(u64),
    /// The end of the line after a chunk's bytes.
    ChunkEnd,
    Trailers,
    UntilEnd,
    Done,
}

impl Decoder {
    pub const DONE: Self = Self { state: State::Done, extensions: 0 };

    pub const fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::UntilEnd => State::UntilEnd,
        };
        Self { state, extensions: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that are still to come, where they were announced.
    pub const fn announced(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            State::Size | State::Chunk(_) | State::ChunkEnd | State::Trailers | State::UntilEnd => None,
        }
    }

    /// The next piece of what has arrived.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self.state {
                State::Done => return Ok(Piece::End),
                _ if input.is_empty() => return Ok(Piece::More),
                State::UntilEnd => return Ok(Piece::Data(input.split().freeze())),
                State::Length(left) => {
                    let (piece, left) = take(input, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Piece::Data(piece));
                }
                State::Chunk(left) => {
                    let (piece, left) = take(input, left);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(Piece::Data(piece));
                }
                State::ChunkEnd => {
                    match input.as_ref() {
                        [b'\r'] => return Ok(Piece::More),
                        [b'\r', b'\n', ..] => input.advance(2),
                        _ => return Err(Malformed("a chunk is longer than it says")),
                    }
                    self.state = State::Size;
                }
                State::Size => {
                    let Some(size) = self.size(input)? else { return Ok(Piece::More) };
                    self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                }
                State::Trailers => return self.trailers(input),
            }
        }
    }

    /// The peer sends no more: true where that is the body's end.
    pub fn end(&mut self) -> bool {
        if self.state == State::UntilEnd {
            self.state = State::Done;
        }
        self.is_done()
    }

    /// The size line of a chunk.
    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        const LONG: Malformed = Malformed("the extensions of the chunks are too long");
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > limits::HTTP1_CHUNK_EXTENSIONS { Err(LONG) } else { Ok(None) };
        };
        let Some(line) = input[..end].strip_suffix(b"\r") else {
            return Err(Malformed("the line of a chunk's size ends in LF alone"));
        };
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (size, rest) = line.split_at(digits);
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let rest = &rest[blanks..];
        let is_extension = rest.is_empty() || rest[0] == b';';
        if !is_extension || rest.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Malformed("the size of a chunk is no hexadecimal number"));
        }
        self.extensions += rest.len();
        if self.extensions > limits::HTTP1_CHUNK_EXTENSIONS {
            return Err(LONG);
        }
        let text = std::str::from_utf8(size).unwrap_or_default();
        let size = u64::from_str_radix(text, 16)
            .map_err(|_| Malformed("the size of a chunk is no hexadecimal number of 64 bits"))?;
        input.advance(end + 1);
        Ok(Some(size))
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Piece, Malformed> {
        if let [b'\r', b'\n', ..] = input.as_ref() {
            input.advance(2);
            self.state = State::Done;
            return Ok(Piece::End);
        }
        let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
            let long = input.len() > limits::HTTP_HEAD_MAXIMUM;
            return if long { Err(Malformed("the trailers are too long")) } else { Ok(Piece::More) };
        };
        let trailers = read_trailers(&input.split_to(end + 4))?;
        self.state = State::Done;
        Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) })
    }
}

fn take(input: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (input.split_to(taken).freeze(), left - taken as u64)
}

fn read_trailers(block: &[u8]) -> Result<HeaderMap, Malformed> {
    const BROKEN: Malformed = Malformed("a trailer is no field");
    if memchr::memchr_iter(b'\n', block).any(|at| at == 0 || block[at - 1] != b'\r') {
        return Err(Malformed("the line of a trailer ends in LF alone"));
    }
    let mut fields = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(block, &mut fields) else {
        return Err(BROKEN);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BROKEN)?;
        if is_welcome(&name) {
            trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| BROKEN)?);
        }
    }
    Ok(trailers)
}

/// What says how to read a message, or whose it is, comes before it or not at all (RFC 9110, section 6.5.1).
fn is_welcome(name: &HeaderName) -> bool {
    ![CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
}

/// Appends a chunk that is not empty.
pub fn write_chunk(output: &mut BytesMut, piece: &[u8]) {
    write_size(output, piece.len());
    output.extend_from_slice(piece);
    output.extend_from_slice(b"\r\n");
}

fn write_size(output: &mut BytesMut, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let first = size.checked_ilog2().unwrap_or(0) / 4;
    for digit in (0..=first).rev() {
        output.extend_from_slice(&[DIGITS[(size >> (4 * digit)) & 15]]);
    }
    output.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body.
pub fn write_last_chunk(output: &mut BytesMut, trailers: Option<&HeaderMap>) {
    output.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| is_welcome(name)) {
        output.extend_from_slice(name.as_str().as_bytes());
        output.extend_from_slice(b": ");
        output.extend_from_slice(value.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
    output.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in two parts; what came of it, whether it ended, and what is left.
    fn decode(framing: Framing, bytes: &[u8], cut: usize) -> Result<(Vec<u8>, HeaderMap, bool, Vec<u8>), Malformed> {
        let mut decoder = Decoder::new(framing);
        let (mut body, mut trailers, mut input) = (Vec::new(), HeaderMap::new(), BytesMut::new());
        for part in [&bytes[..cut], &bytes[cut..]] {
            input.extend_from_slice(part);
            loop {
                match decoder.next(&mut input)? {
                    Piece::Data(piece) => body.extend_from_slice(&piece),
                    Piece::Trailers(fields) => trailers = fields,
                    Piece::End | Piece::More => break,
                }
            }
        }
        Ok((body, trailers, decoder.is_done(), input.to_vec()))
    }

    #[test]
    fn a_body_ends_where_its_framing_says_wherever_the_reads_end() {
        let rows: [(Framing, &str, &str, &str); 6] = [
            (Framing::Length(3), "abcd", "abc", "d"),
            (Framing::Chunked, "3\r\nabc\r\n0\r\n\r\nnext", "abc", "next"),
            (Framing::Chunked, "0A;x=y\r\n0123456789\r\n1 \r\nz\r\n000\r\n\r\n", "0123456789z", ""),
            (Framing::Chunked, "0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\nnext", "", "next"),
            (Framing::Chunked, "0\r\nHost: a\r\n\r\n", "", ""),
            (Framing::Length(0), "next", "", "next"),
        ];
        for (framing, bytes, body, rest) in rows {
            for cut in 0..=bytes.len() {
                let (read, trailers, done, left) = decode(framing, bytes.as_bytes(), cut).unwrap();
                assert_eq!(
                    (read.as_slice(), done, left.as_slice()),
                    (body.as_bytes(), true, rest.as_bytes()),
                    "{bytes:?}"
                );
                assert_eq!(trailers.len(), usize::from(bytes.contains("X-Sum")), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_could_be_cut_in_two_ways_is_refused() {
        let long = format!("1;{}\r\n", "x".repeat(limits::HTTP1_CHUNK_EXTENSIONS));
        let rows = [
            "3\nabc\r\n",
            "3\r\nabcd",
            "3\r\nabc\n0\r\n\r\n",
            "x\r\n",
            "\r\n",
            " 3\r\n",
            "0x3\r\n",
            "+3\r\n",
            "-1\r\n",
            "3 3\r\n",
            "11111111111111111\r\n",
            "2;\nhi\r\n",
            "2;\0\r\n",
            "2;a\rb\r\n",
            "5\r\r\n",
            "5\x0c\r\n",
            "5\r;x\r\n",
            "0\r\nX : 1\r\n\r\n",
            "0\r\nX: 1\nY: 2\r\n\r\n",
            "0\r\n X: 1\r\n\r\n",
            &long,
        ];
        for bytes in rows {
            assert!(decode(Framing::Chunked, bytes.as_bytes(), 0).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn only_a_body_without_another_end_ends_with_the_connection() {
        let mut until_end = Decoder::new(Framing::UntilEnd);
        assert_eq!(until_end.next(&mut BytesMut::from("ab")), Ok(Piece::Data(Bytes::from("ab"))));
        assert!(until_end.end() && until_end.is_done());
        assert!(!Decoder::new(Framing::Length(1)).end());
        assert!(!Decoder::new(Framing::Chunked).end());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 0..5), cut in any::<prop::sample::Index>()) {
            let mut output = BytesMut::new();
            for piece in &pieces {
                write_chunk(&mut output, piece);
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            write_last_chunk(&mut output, Some(&trailers));
            let cut = cut.index(output.len() + 1);
            let read = decode(Framing::Chunked, &output, cut).unwrap();
            prop_assert_eq!(read, (pieces.concat(), trailers, true, Vec::new()));
        }

        #[test]
        fn no_bytes_make_it_panic_or_loop(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Framing::Chunked, &bytes, 0);
        }
    }
}
