//! Frames of HTTP/2 (RFC 9113, section 4.1), made and read by hand: for peers that no library would be.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Takes the first whole frame out of `bytes`.
pub fn take(bytes: &mut Vec<u8>) -> Option<Frame> {
    let [high, middle, low, kind, flags, one, two, three, four] = *bytes.first_chunk::<9>()?;
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    let rest = bytes.get(9..9 + length)?.to_vec();
    bytes.drain(..9 + length);
    Some(Frame { kind, flags, stream: u32::from_be_bytes([one, two, three, four]) & 0x7fff_ffff, payload: rest })
}

/// The header block of a GET, without compression (RFC 7541, section 6.2.2).
pub fn get(authority: &str, path: &str) -> Vec<u8> {
    let text = |index: u8, text: &str| [&[index, u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    [vec![0x82, 0x86], text(4, path), text(1, authority)].concat()
}
