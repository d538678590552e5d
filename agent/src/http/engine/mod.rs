//! The HTTP engine behind a narrow seam: today hyper, for both versions and both sides.
//!
//! Nothing outside this folder knows hyper's types: a request is `http::Request<Body>`, a connection that requests are sent
//! on is a [`Line`], an upgraded one a [`Tunnel`]. Known gaps of hyper, each with its decision: a message with both
//! Content-Length and Transfer-Encoding and a bare LF are *normalised* (policy and backend see the same single request), a
//! 1xx other than 100 and 101 is dropped, header read timeouts cannot tell an idle connection from a slow head, and an early
//! end is not told from an orderly one (`stream` bounds and resets).

mod body;
mod client;
mod meter;
mod premature;
mod replay;
mod server;
mod stream;
mod stuck;
#[cfg(test)]
mod tests;
mod watch;

use std::future::Future;
use std::time::Duration;

use hyper_util::rt::TokioTimer;
use tokio_util::task::TaskTracker;

pub use body::{Body, BodyEnd, BodyError, Finished};
pub use client::{Line, Unsent, open};
pub use server::{Peer, Served, serve};

/// The two ends of it pass bytes: an upgraded connection.
pub type Tunnel = hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>;

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

/// Spawns a connection's own tasks where its worker counts them. None of them waits for ever for a peer that takes nothing.
#[derive(Debug, Clone)]
struct OnWorker(TaskTracker);

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnWorker {
    fn execute(&self, future: F) {
        self.0.spawn_local(stuck::bounded(future));
    }
}

fn timer() -> TokioTimer {
    TokioTimer::new()
}

/// What becomes an upgraded connection once both sides have said 101. None: the message asks for no upgrade, or has been
/// asked before.
pub fn tunnel<M>(message: &mut M) -> impl Future<Output = Option<Tunnel>> + use<M>
where
    M: Upgradable,
{
    let upgrade = message.upgrade();
    async move { tokio::time::timeout(UPGRADE_TIMEOUT, upgrade).await.ok()?.ok().map(Tunnel::new) }
}

/// A message after which a connection may change its protocol.
pub trait Upgradable {
    fn upgrade(&mut self) -> hyper::upgrade::OnUpgrade;
}

impl Upgradable for http::Request<Body> {
    fn upgrade(&mut self) -> hyper::upgrade::OnUpgrade {
        hyper::upgrade::on(self)
    }
}

impl Upgradable for http::Response<Body> {
    fn upgrade(&mut self) -> hyper::upgrade::OnUpgrade {
        hyper::upgrade::on(self)
    }
}

/// The engine hands an upgraded connection over as soon as its head is written.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
