//! A connection to one endpoint for one request: one that rests in the pool, or a new one that `dial` makes.

use std::rc::Rc;
use std::time::Instant;

use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use crate::error::ConnectionError;
use crate::http::Version;
use crate::http::engine::{self, Line};
use crate::http::pool::{LineKey, OpenLine};
use crate::model::{Endpoint, Snapshot};
use crate::relay::FirstByte;
use crate::telemetry::{ConnectionRecord, Direction, Security};
use crate::wire::Protocol;
use crate::worker::Worker;

use super::conversation::Conversation;
use super::destination::Target;
use super::dial::Upstream;
use super::dial::{self, Failure};

/// A failure has sent no byte of the request.
pub async fn to(
    conversation: &Conversation,
    snapshot: &Snapshot,
    target: &Target,
    endpoint: &Endpoint,
    version: Version,
) -> Result<(LineKey, OpenLine), Failure> {
    let (worker, pod) = (&conversation.worker, &conversation.pod);
    let workload = snapshot.workload_of(endpoint);
    let security = dial::intended(worker, pod, target, endpoint, workload)?;
    let credential = || worker.shared.credentials.of(&pod.uid).filter(|_| security == Security::Mtls);
    let generation = credential().map_or(0, |credential| credential.generation);
    let key = LineKey { pod: pod.uid.clone(), endpoint: endpoint.clone(), version, security, generation };
    let resting = worker.pool.borrow_mut().take(&key, Instant::now());
    if let Some(line) = resting {
        return Ok((key, line));
    }
    let mut made = Box::new(ConnectionRecord::begin(Direction::Outbound, snapshot.version.clone()));
    made.source.address = conversation.client;
    made.source.workload.clone_from(&conversation.source);
    made.destination.address = Some(endpoint.address);
    made.destination.workload = workload.cloned();
    made.service.clone_from(&target.service);
    let upstream = Box::pin(dial::reach(worker, pod, target, endpoint, &mut made)).await?;
    let line = open(worker, version, upstream).await?;
    let made = Rc::from(made);
    if let Some(shared) = line.share() {
        keep(worker, key.clone(), OpenLine { line: shared, made: Rc::clone(&made), reused: false, declared: true });
    }
    Ok((key, OpenLine { line, made, reused: false, declared: true }))
}

/// Speaks HTTP on what was dialled. Where the peer still has to be told what comes, it is told first.
pub async fn open(worker: &Worker, version: Version, upstream: Upstream) -> Result<Line, ConnectionError> {
    // A pool looks for itself whether a line has ended.
    let ended = CancellationToken::new();
    let opened = match upstream {
        Upstream::Plaintext(stream) => engine::open(version, stream, &worker.lines, ended).await,
        Upstream::Mesh(mut stream, first) => {
            if first == FirstByte::AddTag {
                tell(&mut stream, version).await.map_err(|error| ConnectionError::upstream_reset(&error))?;
            }
            engine::open(version, stream, &worker.lines, ended).await
        }
    };
    opened.map_err(|error| ConnectionError::upstream_reset(&error))
}

async fn tell(stream: &mut (impl tokio::io::AsyncWrite + Unpin), version: Version) -> std::io::Result<()> {
    let tag = Protocol::from(version).tag();
    stream.write_all(tag.as_slice()).await
}

/// Gives a line back after a request. One that is not what it was meant to be (plaintext after a lease) serves once, and so
/// does one that began undeclared: where the server greeted first, its agent may take it for other bytes.
pub fn keep(worker: &Worker, key: LineKey, open: OpenLine) {
    let as_meant = open.made.security == key.security || key.security == Security::Plaintext;
    if as_meant && open.declared {
        worker.pool.borrow_mut().put(key, open.line, open.made, Instant::now());
    }
}
