//! One endpoint after another for a connection that is carried as a whole, until one serves.
//!
//! No byte of the application has been sent, so every failed attempt may be followed by another one.

use crate::balance::{Affinity, Outstanding, Terms};
use crate::error::{ConnectionError, Reason, Side};
use crate::http::Version;
use crate::http::pool::LineKey;
use crate::limits;
use crate::model::{Endpoint, Snapshot};
use crate::node::pod::Pod;
use crate::telemetry::ConnectionRecord;
use crate::worker::Worker;

use super::destination::Candidates;
use super::dial::{self, Next, Upstream};

pub struct Connected {
    pub upstream: Upstream,
    /// Counts the connection at the balancer until it ends.
    pub outstanding: Outstanding,
    pub endpoint: Endpoint,
}

impl Connected {
    /// How the connection is found again by requests, once it carries some.
    pub fn line_key(&self, pod: &Pod, record: &ConnectionRecord, version: Version) -> LineKey {
        // It serves this connection alone and never rests.
        let generation = 0;
        LineKey {
            pod: pod.uid.clone(),
            endpoint: self.endpoint.clone(),
            version,
            security: record.security,
            generation,
        }
    }
}

/// Tries at most `limits::ENDPOINT_ATTEMPTS` endpoints. The error is the last attempt's.
pub async fn connect(
    worker: &Worker,
    pod: &Pod,
    snapshot: &Snapshot,
    candidates: &Candidates<'_>,
    record: &mut ConnectionRecord,
) -> Result<Connected, ConnectionError> {
    let mut tried: Vec<Endpoint> = Vec::new();
    let mut last = ConnectionError::new(Side::Local, Reason::NoEndpoint);
    let terms = Terms { affinity: affinity(pod, candidates), ..Terms::connection(&candidates.endpoints) };
    for _ in 0..limits::ENDPOINT_ATTEMPTS {
        let picked = worker.balancer.borrow_mut().pick(terms, &tried, &mut rand::rng());
        let Some((endpoint, outstanding)) = picked else { break };
        record.attempts += 1;
        record.destination.address = Some(endpoint.address);
        record.destination.workload = snapshot.workload_of(&endpoint).cloned();
        let begun = std::time::Instant::now();
        match dial::reach(worker, pod, &candidates.target, &endpoint, record).await {
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

fn affinity<'a>(pod: &'a Pod, candidates: &'a Candidates<'_>) -> Option<Affinity<'a>> {
    let (service, timeout) = candidates.target.service.as_ref().zip(candidates.affinity)?;
    Some(Affinity { client: &pod.uid, service, port: candidates.target.port, timeout })
}
