//! The HTTP engine behind a narrow seam: HTTP/1 by hand, HTTP/2 by h2, each on both sides.
//!
//! Nothing outside this folder knows how: a request is `http::Request<Body>`, a connection that requests are sent on is a
//! [`Line`], an upgraded one a [`Tunnel`], an upgraded stream a [`Duplex`]. Answers of status 1xx are in `interim`.

mod alarm;
mod body;
mod client;
mod duplex;
mod http1;
mod http2;
mod interim;
mod replay;
mod server;
#[cfg(test)]
mod tests;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::node::socket::OverTcp;

pub use body::{Body, BodyEnd, BodyError, Finished};
pub use client::{Line, Unsent, open};
pub use duplex::{Duplex, Speaker, spoken};
pub use http1::{Tunnel, tunnel};
pub use http2::Protocol;
pub use interim::Interim;
pub use server::{Leave, Peer, Served, serve};

/// What a connection goes through.
pub trait Transport: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static> Transport for S {}

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
