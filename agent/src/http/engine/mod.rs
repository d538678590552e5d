//! The HTTP engine behind a narrow seam: HTTP/1 by hand, HTTP/2 by hyper, each on both sides.
//!
//! Nothing outside this folder knows how: a request is `http::Request<Body>`, a connection that requests are sent on is a
//! [`Line`], an upgraded one a [`Tunnel`]. Known gaps, each with its decision: `http1` says its own; HTTP/2 opens no tunnels
//! (extended CONNECT), and answers whose connection ends early are not told from whole ones by hyper (`http2/stream` resets).

mod alarm;
mod body;
mod client;
mod http1;
mod http2;
mod replay;
mod server;
#[cfg(test)]
mod tests;

pub use body::{Body, BodyEnd, BodyError, Finished};
pub use client::{Line, Unsent, open};
pub use http1::{Tunnel, tunnel};
pub use server::{Peer, Served, serve};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    Http1,
    Http2,
}

impl From<Version> for http::Version {
    fn from(version: Version) -> Self {
        match version {
            Version::Http1 => Self::HTTP_11,
            Version::Http2 => Self::HTTP_2,
        }
    }
}

/// An error in one line, with what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
