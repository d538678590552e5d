//! One endpoint after another, until one serves.
//!
//! No byte of the application has been sent, so every failed attempt may be followed by another one.

use crate::balance::Outstanding;
use crate::error::{ConnectionError, Reason, Side};
use crate::limits;
use crate::model::{Endpoint, Snapshot};
use crate::node::pod::Pod;
use crate::relay::FirstByte;
use crate::telemetry::ConnectionRecord;
use crate::wire::client::ClientTls;
use crate::worker::Worker;

use super::attempt::{self, Next};
use super::route::Route;

/// A connection to the endpoint's application.
pub enum Upstream {
    /// To an application, or to a host that is in no mesh.
    Plaintext(tokio::net::TcpStream),
    /// To the destination's agent, which has dialled its application. Boxed: the state of TLS is large.
    Mesh(Box<ClientTls>, FirstByte),
}

pub struct Connected {
    pub upstream: Upstream,
    /// Counts the connection at the balancer until it ends.
    pub outstanding: Outstanding,
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
        let picked = worker.balancer.borrow_mut().pick(&route.endpoints, &tried, &mut rand::rng());
        let Some((endpoint, outstanding)) = picked else { break };
        record.attempts += 1;
        record.destination.address = Some(endpoint.address);
        record.destination.workload = snapshot.workload_of(&endpoint).cloned();
        let begun = std::time::Instant::now();
        match attempt::reach(worker, pod, route, &endpoint, record).await {
            Ok(upstream) => {
                worker.balancer.borrow_mut().connected(&endpoint, begun.elapsed());
                return Ok(Connected { upstream, outstanding });
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
