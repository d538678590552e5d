//! One endpoint after another, until one serves.
//!
//! No byte of the application has been sent, so every failed attempt may be followed by another one.

use tokio::net::TcpStream;

use crate::balance::{Outstanding, Terms};
use crate::error::{ConnectionError, Reason, Side};
use crate::http::Version;
use crate::http::pool::LineKey;
use crate::limits;
use crate::model::{Endpoint, Snapshot};
use crate::node::pod::Pod;
use crate::relay::FirstByte;
use crate::telemetry::ConnectionRecord;
use crate::wire::Prefixed;
use crate::wire::client::ClientTls;
use crate::worker::Worker;

use super::attempt::{self, Next};
use super::route::Route;

/// A connection to the endpoint's application, with what was already read of it.
pub enum Upstream {
    /// To an application, or to a host that is in no mesh.
    Plaintext(Prefixed<TcpStream>),
    /// To the destination's agent, which has dialled its application. Boxed: the state of TLS is large.
    Mesh(Prefixed<Box<ClientTls>>, FirstByte),
}

impl Upstream {
    pub fn plaintext(stream: TcpStream) -> Self {
        Self::Plaintext(Prefixed::new(Vec::new(), stream))
    }

    pub fn mesh(stream: Box<ClientTls>, first: FirstByte) -> Self {
        Self::Mesh(Prefixed::new(Vec::new(), stream), first)
    }

    /// Bytes that were read from it, and are read again.
    #[must_use]
    pub fn preceded_by(self, bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return self;
        }
        match self {
            Self::Plaintext(stream) => Self::Plaintext(Prefixed::new(bytes, stream.into_parts().1)),
            Self::Mesh(stream, first) => Self::Mesh(Prefixed::new(bytes, stream.into_parts().1), first),
        }
    }
}

pub struct Connected {
    pub upstream: Upstream,
    /// Counts the connection at the balancer until it ends.
    pub outstanding: Outstanding,
    pub endpoint: Endpoint,
}

impl Connected {
    /// How the connection is found again by requests, once it carries some.
    pub fn line_key(&self, pod: &Pod, record: &ConnectionRecord, version: Version) -> LineKey {
        LineKey { pod: pod.uid.clone(), endpoint: self.endpoint.clone(), version, security: record.security }
    }
}

/// Tries at most `limits::ENDPOINT_ATTEMPTS` endpoints. The error is the last attempt's.
pub async fn connect(
    worker: &Worker,
    pod: &Pod,
    snapshot: &Snapshot,
    route: &Route,
    record: &mut ConnectionRecord,
) -> Result<Connected, ConnectionError> {
    let mut tried: Vec<Endpoint> = Vec::new();
    let mut last = ConnectionError::new(Side::Local, Reason::NoEndpoint);
    for _ in 0..limits::ENDPOINT_ATTEMPTS {
        let picked = worker.balancer.borrow_mut().pick(Terms::connection(&route.endpoints), &tried, &mut rand::rng());
        let Some((endpoint, outstanding)) = picked else { break };
        record.attempts += 1;
        record.destination.address = Some(endpoint.address);
        record.destination.workload = snapshot.workload_of(&endpoint).cloned();
        let begun = std::time::Instant::now();
        match attempt::reach(worker, pod, &route.target, &endpoint, record).await {
            Ok(upstream) => {
                worker.balancer.borrow_mut().answered(&endpoint, begun.elapsed());
                return Ok(Connected { upstream, outstanding, endpoint });
            }
            Err(failure) => {
                last = failure.error;
                match failure.next {
                    Next::AnotherEndpoint => {
                        if last.side == Side::Upstream {
                            worker.balancer.borrow_mut().failed(&endpoint);
                        }
                        tried.push(endpoint);
                    }
                    Next::Stop => break,
                }
            }
        }
    }
    Err(last)
}
