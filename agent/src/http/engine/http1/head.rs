//! Heads of messages, read and written (RFC 9112, sections 2 to 5).
//!
//! A request's head is read strictly: what two servers could understand differently is refused. An answer's may be sloppier,
//! because whoever wrote it is the one that was asked, and it is written anew. Names keep the case in which they came.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request, response};

use super::framing::Framing;
use crate::error::Reason;
use crate::http::engine::interim::expects;
use crate::limits;

/// Why a head is not read. Whoever sent it is told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Malformed(&'static str),
    #[error(
        "the head is longer than {} bytes or has more than {} fields",
        limits::HTTP_HEAD_MAXIMUM,
        limits::HTTP_HEADERS
    )]
    TooLong,
    #[error("the target is longer than one may be")]
    TargetTooLong,
}

impl Refused {
    pub const fn reason(self) -> Reason {
        match self {
            Self::TooLong => Reason::HeadTooLong,
            Self::Malformed(_) | Self::TargetTooLong => Reason::BadRequest,
        }
    }

    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
        }
    }
}

pub struct RequestHead {
    pub parts: request::Parts,
    pub framing: Framing,
    /// Another request may follow on the connection.
    pub persistent: bool,
    /// The client sends the body once it is told to (RFC 9110, section 10.1.1).
    pub expects: bool,
}

pub struct AnswerHead {
    pub parts: response::Parts,
    pub framing: Framing,
    pub persistent: bool,
}

/// How the lines of a head end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// In CRLF and in nothing else.
    Strict,
    Any,
}

/// Looks for the end of a head while it arrives, at every byte once.
#[derive(Debug, Default)]
pub struct Search(usize);

impl Search {
    /// The length of the head, when all of it is there.
    pub fn end(&mut self, input: &[u8], lines: Lines) -> Result<Option<usize>, Refused> {
        let unseen = input.get(self.0..).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', unseen).map(|offset| self.0 + offset) {
            let before = &input[..at];
            if lines == Lines::Strict && before.last() != Some(&b'\r') {
                return Err(Refused::Malformed("a line of the head ends in LF alone"));
            }
            if before.ends_with(b"\n\r") || before.ends_with(b"\n") {
                self.0 = 0;
                return if at < limits::HTTP_HEAD_MAXIMUM { Ok(Some(at + 1)) } else { Err(Refused::TooLong) };
            }
        }
        self.0 = input.len();
        if input.len() > limits::HTTP_HEAD_MAXIMUM { Err(Refused::TooLong) } else { Ok(None) }
    }
}

/// What a sender wrote that is read without regard to its form, for the next hop.
#[derive(Debug, Clone)]
struct AsWritten {
    head: Bytes,
    /// Where in the head the names of the fields are, in their order.
    names: Arc<[Span]>,
    /// The words behind a status, where they are not the ordinary ones.
    phrase: Option<Bytes>,
}

/// Where in a head a part of it is.
type Span = std::ops::Range<usize>;

fn span(part: &str, head: &[u8]) -> Span {
    let from = part.as_ptr().addr() - head.as_ptr().addr();
    from..from + part.len()
}

pub fn read_request(head: &Bytes) -> Result<RequestHead, Refused> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; limits::HTTP_HEADERS];
    let mut read = httparse::Request::new(&mut []);
    let status = read.parse_with_uninit_headers(head, &mut fields).map_err(explain)?;
    let (true, Some(method), Some(target), Some(minor)) = (status.is_complete(), read.method, read.path, read.version)
    else {
        return Err(Refused::Malformed("the head is no request"));
    };
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| Refused::Malformed("the method is no token"))?;
    if target.len() >= usize::from(u16::MAX) {
        return Err(Refused::TargetTooLong);
    }
    parts.uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .map_err(|_| Refused::Malformed("the target of the request is no target"))?;
    parts.version = version(minor);
    let written = keep(&mut parts.headers, head, read.headers)?;
    if let Some(names) = written {
        parts.extensions.insert(AsWritten { head: head.clone(), names, phrase: None });
    }
    let framing = request_framing(&parts.headers, parts.version)?;
    let expects = parts.version == Version::HTTP_11 && expects(&parts.headers);
    let persistent = is_persistent(&parts.headers, parts.version);
    Ok(RequestHead { parts, framing, persistent, expects: expects && framing != Framing::Length(0) })
}

/// Reads the head of an answer to a request of this method.
pub fn read_answer(head: &Bytes, asked: &Method) -> Result<AnswerHead, Refused> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; limits::HTTP_HEADERS];
    let mut read = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut read, head, &mut fields)
        .map_err(explain)?;
    let (true, Some(code), Some(minor)) = (status.is_complete(), read.code, read.version) else {
        return Err(Refused::Malformed("the head is no answer"));
    };
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(code).map_err(|_| Refused::Malformed("the status is no number from 100"))?;
    parts.version = version(minor);
    let names = keep(&mut parts.headers, head, read.headers)?;
    let phrase = read.reason.filter(|phrase| parts.status.canonical_reason() != Some(phrase));
    let phrase = phrase.map(|phrase| head.slice_ref(phrase.as_bytes()));
    if names.is_some() || phrase.is_some() {
        parts.extensions.insert(AsWritten { head: head.clone(), names: names.unwrap_or_default(), phrase });
    }
    let framing = answer_framing(&mut parts, asked)?;
    let persistent = framing != Framing::UntilEnd && is_persistent(&parts.headers, parts.version);
    Ok(AnswerHead { parts, framing, persistent })
}

fn explain(error: httparse::Error) -> Refused {
    match error {
        httparse::Error::TooManyHeaders => Refused::TooLong,
        httparse::Error::HeaderName => Refused::Malformed("the name of a field is no token"),
        httparse::Error::HeaderValue => Refused::Malformed("the value of a field has a control character"),
        httparse::Error::NewLine => Refused::Malformed("a line of the head does not end in CRLF"),
        httparse::Error::Status => Refused::Malformed("the status is no number"),
        httparse::Error::Token => Refused::Malformed("the first line has a byte that does not belong there"),
        httparse::Error::Version => Refused::Malformed("the version is neither HTTP/1.1 nor HTTP/1.0"),
    }
}

const fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Keeps the fields, and their names where case would be lost.
fn keep(
    headers: &mut HeaderMap,
    head: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<Option<Arc<[Span]>>, Refused> {
    headers.reserve(fields.len());
    let mut cased = false;
    for field in fields {
        cased |= field.name.bytes().any(|byte| byte.is_ascii_uppercase());
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Refused::Malformed("the name of a field is no token"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Refused::Malformed("the value of a field has a control character"))?;
        headers.append(name, value);
    }
    Ok(cased.then(|| fields.iter().map(|field| span(field.name, head)).collect()))
}

fn request_framing(headers: &HeaderMap, version: Version) -> Result<Framing, Refused> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(_), Some(_)) => Err(Refused::Malformed("the request has both Content-Length and Transfer-Encoding")),
        (None, Some(length)) if lengths.next().is_none() => number(length.as_bytes()).map(Framing::Length),
        (None, Some(_)) => Err(Refused::Malformed("the request has several Content-Length fields")),
        (Some(encoding), None) => {
            let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked") && encodings.next().is_none();
            if chunked && version == Version::HTTP_11 {
                Ok(Framing::Chunked)
            } else {
                Err(Refused::Malformed(
                    "the Transfer-Encoding is another than chunked, or one that HTTP/1.0 does not have",
                ))
            }
        }
    }
}

/// RFC 9112, section 6.3. Of two lengths Transfer-Encoding counts, and the other one goes no further.
fn answer_framing(parts: &mut response::Parts, asked: &Method) -> Result<Framing, Refused> {
    let status = parts.status;
    if *asked == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ok(Framing::Length(0));
    }
    let mut encodings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next_back() {
        if parts.version == Version::HTTP_10 {
            return Err(Refused::Malformed("an answer of HTTP/1.0 has a Transfer-Encoding"));
        }
        let last = encoding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        let alone = encoding.as_bytes().len() == b"chunked".len() && encodings.next().is_none();
        parts.headers.remove(CONTENT_LENGTH);
        return match (chunked, alone) {
            (true, true) => Ok(Framing::Chunked),
            (true, false) => Err(Refused::Malformed("the answer has a Transfer-Encoding that nobody asked for")),
            (false, _) => Ok(Framing::UntilEnd),
        };
    }
    // The same length may be said several times, in one field or in many.
    let values =
        parts.headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut lengths = values.map(|value| number(value.trim_ascii()));
    let Some(length) = lengths.next().transpose()? else { return Ok(Framing::UntilEnd) };
    if lengths.all(|another| another == Ok(length)) {
        Ok(Framing::Length(length))
    } else {
        Err(Refused::Malformed("the answer has several lengths"))
    }
}

fn number(digits: &[u8]) -> Result<u64, Refused> {
    let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    text.and_then(|text| text.parse().ok()).ok_or(Refused::Malformed("the Content-Length is no number"))
}

fn is_persistent(headers: &HeaderMap, version: Version) -> bool {
    let mut keeps = version == Version::HTTP_11;
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keeps |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keeps
}

/// What a written head says of the body behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// What its fields say already, although nothing follows it.
    AsIs,
    /// No length, because nothing follows it.
    NoBody,
    /// No length: what follows is nothing, or ends with the connection.
    Nothing,
    Length(u64),
    Chunked,
}

pub fn write_request(output: &mut BytesMut, parts: &request::Parts, announced: Announced) {
    output.extend_from_slice(parts.method.as_str().as_bytes());
    output.extend_from_slice(b" ");
    match parts.uri.path_and_query() {
        Some(target) if parts.uri.scheme().is_none() => output.extend_from_slice(target.as_str().as_bytes()),
        Some(_) | None => output.extend_from_slice(parts.uri.to_string().as_bytes()),
    }
    let version = if parts.version == Version::HTTP_10 { " HTTP/1.0\r\n" } else { " HTTP/1.1\r\n" };
    output.extend_from_slice(version.as_bytes());
    write_fields(output, &parts.headers, parts.extensions.get(), announced);
    output.extend_from_slice(b"\r\n");
}

/// `connection`: what the peer is told of the connection, if anything.
pub fn write_answer(
    output: &mut BytesMut,
    parts: &response::Parts,
    version: Version,
    announced: Announced,
    connection: Option<&str>,
) {
    let written: Option<&AsWritten> = parts.extensions.get();
    let phrase = written.and_then(|written| written.phrase.as_deref());
    let phrase = phrase.or_else(|| parts.status.canonical_reason().map(str::as_bytes));
    let version: &[u8] = if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " };
    output.extend_from_slice(version);
    output.extend_from_slice(parts.status.as_str().as_bytes());
    output.extend_from_slice(b" ");
    output.extend_from_slice(phrase.unwrap_or_default());
    output.extend_from_slice(b"\r\n");
    write_fields(output, &parts.headers, written, announced);
    if let Some(connection) = connection {
        output.extend_from_slice(b"connection: ");
        output.extend_from_slice(connection.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
    output.extend_from_slice(b"\r\n");
}

fn write_fields(output: &mut BytesMut, headers: &HeaderMap, written: Option<&AsWritten>, announced: Announced) {
    let mut names = Names { written, next: 0 };
    // First, as RFC 9110, section 7.2, advises.
    for host in headers.get_all(HOST) {
        write_field(output, names.original(&HOST), host.as_bytes());
    }
    let mut told = false;
    for (name, value) in headers {
        if *name == HOST || *name == TRANSFER_ENCODING {
            continue;
        }
        if *name != CONTENT_LENGTH || announced == Announced::AsIs {
            write_field(output, names.original(name), value.as_bytes());
        } else if let (Announced::Length(length), false) = (announced, told) {
            told = true;
            write_field(output, names.original(name), itoa::Buffer::new().format(length).as_bytes());
        }
    }
    match announced {
        Announced::Length(length) if !told => {
            write_field(output, CONTENT_LENGTH.as_str().as_bytes(), itoa::Buffer::new().format(length).as_bytes());
        }
        Announced::Chunked => write_field(output, TRANSFER_ENCODING.as_str().as_bytes(), b"chunked"),
        Announced::Length(_) | Announced::AsIs | Announced::NoBody | Announced::Nothing => {}
    }
}

fn write_field(output: &mut BytesMut, name: &[u8], value: &[u8]) {
    output.reserve(name.len() + value.len() + 4);
    output.extend_from_slice(name);
    output.extend_from_slice(b": ");
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}

/// Finds names as they were written: the next one is most often the one that is looked for.
struct Names<'a> {
    written: Option<&'a AsWritten>,
    next: usize,
}

impl<'a> Names<'a> {
    fn original(&mut self, name: &'a HeaderName) -> &'a [u8] {
        let name = name.as_str().as_bytes();
        let Some(AsWritten { head, names, .. }) = self.written else { return name };
        let order = (self.next..names.len()).chain(0..self.next);
        for at in order {
            let original = head.get(names[at].clone()).unwrap_or_default();
            if original.eq_ignore_ascii_case(name) {
                self.next = at + 1;
                return original;
            }
        }
        name
    }
}
