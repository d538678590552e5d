//! HTTP/1.1 as both ends of a measurement speak it: a head, and a body whose length the head says.
//!
//! Absent: chunked bodies and pipelining. A proxy that used them would show as an error, not as a time.

use std::io;
use std::ops::Range;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Fields of one head: several times what any of the measured proxies adds.
const FIELDS: usize = 64;
/// A head that is longer is none.
const HEAD_MAXIMUM: usize = 16 << 10;
/// A body that is longer is none of a measurement.
const BODY_MAXIMUM: usize = 1 << 20;
/// Room for a whole message of the measurements, so that one read takes it.
const FIRST_READ: usize = 4 << 10;

/// Where the parts of a message lie in its buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first line, without its end.
    pub(crate) start: Range<usize>,
    pub(crate) body: Range<usize>,
}

/// Reads one message into the emptied buffer; none if the peer has ended before its first byte.
pub(crate) async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Message>> {
    buffer.clear();
    buffer.reserve(FIRST_READ);
    let message = loop {
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if let Some(message) = parse(buffer)? {
            break message;
        }
        if buffer.len() > HEAD_MAXIMUM {
            return Err(malformed("a head without an end"));
        }
    };
    while buffer.len() < message.body.end {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if buffer.len() > message.body.end { Err(malformed("more than one message")) } else { Ok(Some(message)) }
}

/// None as long as the head has not ended.
fn parse(bytes: &[u8]) -> io::Result<Option<Message>> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let parsed = httparse::parse_headers(&bytes[end + 2..], &mut fields).map_err(|_| malformed("bad fields"))?;
    let httparse::Status::Complete((length, fields)) = parsed else { return Ok(None) };
    let said = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let said = said.ok_or_else(|| malformed("no content-length"))?;
    let body: Option<usize> = std::str::from_utf8(said.value).ok().and_then(|said| said.parse().ok());
    let body = body.filter(|length| *length <= BODY_MAXIMUM).ok_or_else(|| malformed("bad content-length"))?;
    let begin = end + 2 + length;
    Ok(Some(Message { start: 0..end, body: begin..begin + body }))
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_where_its_head_says() {
        let whole = b"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: 3\r\n\r\nabc";
        let message = parse(whole).unwrap().unwrap();
        assert_eq!((&whole[message.start], &whole[message.body]), (&b"HTTP/1.1 200 OK"[..], &b"abc"[..]));
        for cut in 0..whole.len() - 3 {
            assert_eq!(parse(&whole[..cut]).unwrap(), None, "{cut}");
        }
    }

    #[test]
    fn what_a_measurement_never_sends_is_an_error() {
        for bad in ["\r\ntransfer-encoding: chunked\r\n\r\n", "\r\ncontent-length: -1\r\n\r\n", "\r\nno colon\r\n\r\n"]
        {
            assert!(parse(format!("POST / HTTP/1.1{bad}").as_bytes()).is_err(), "{bad:?}");
        }
    }
}
