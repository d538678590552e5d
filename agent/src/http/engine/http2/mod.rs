//! HTTP/2, by h2: its streams, with the bounds that it does not keep.
//!
//! `server` answers what comes on a connection, `client` asks on one. A body on its way is `incoming` on one side and
//! `outgoing` on the other; `stream` and `meter` bound what a connection may cost, `premature` what its requests may.
//! An extended CONNECT (RFC 8441) is a GET with a [`Protocol`] to everybody else, for that is what it stands for in HTTP/1.

mod client;
mod incoming;
mod meter;
mod outgoing;
mod premature;
mod pulse;
mod server;
mod stream;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use super::Body;
use crate::http::canonical::strip_hop_by_hop;

pub use client::{Line, open};
pub use incoming::Incoming;
pub use server::serve;

/// What an extended CONNECT asks its stream to become (RFC 8441, section 4): the `:protocol`.
#[derive(Debug, Clone)]
pub struct Protocol(pub Box<str>);

/// Makes fields ready for a message of HTTP/2, which has none about its connection (RFC 9113, section 8.2.2).
/// `expected`: also the length of an empty body is said.
fn prepare(headers: &mut HeaderMap, body: &Body, expected: bool) {
    strip_hop_by_hop(headers);
    if let Some(length) = body.length()
        && (length > 0 || expected)
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}
