//! The journey of a connection that a pod of this node opened.
//!
//! accept (where was it going?) → destination (what does that mean?), and then one of two ways. Where requests are declared or
//! routed: protocol (is it HTTP?) → `request` for each of them, which dials by itself. Else: follow (where connections are
//! routed: which backend?) → endpoint (dial one, under mTLS where the other side can) → protocol (who speaks first, and what?)
//! → relay, or `request` where requests are spoken after all.
//! Until the relay begins no byte of the application has left, so `endpoint` may try again somewhere else; a failure becomes
//! a reset of the application's socket, never an orderly end.

mod accept;
mod conversation;
mod destination;
mod dial;
mod endpoint;
mod follow;
mod line;
mod mirror;
mod protocol;
mod request;
mod route;
mod send;
mod unread;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::Version;
use crate::http::detect::Speech;
use crate::model::{Endpoint, Snapshot, Workload};
use crate::node::pod::{Place, Pod};
use crate::node::socket;
use crate::relay::{FirstByte, relay};
use crate::telemetry::{ConnectionRecord, Direction};
use crate::wire::{Prefixed, Protocol};
use crate::worker::Worker;

use conversation::{Conversation, Seed};
use destination::Carriage;
use dial::Upstream;
use endpoint::Connected;
use protocol::Said;

/// Carries one accepted connection to its end and records it.
pub async fn serve(worker: Rc<Worker>, pod: Arc<Pod>, place: Option<Place>, mut downstream: TcpStream) {
    let started = Instant::now();
    let _open = worker.shared.telemetry.opened(Direction::Outbound);
    let snapshot = worker.shared.snapshots.current();
    let asked = accept::original_destination(&worker.shared.facts, &downstream);
    if let Ok(asked) = asked
        && accept::answer_self_test(&snapshot, asked, &mut downstream).await
    {
        return;
    }
    let mut record = Box::new(ConnectionRecord::begin(Direction::Outbound, snapshot.version.clone()));
    record.source.address = downstream.peer_addr().ok().map(socket::canonical);
    record.source.workload = snapshot.workloads.get(&pod.uid).cloned();
    let result = if let Some(place) = place {
        carry(&worker, &pod, snapshot, (downstream, asked), (started, place), &mut record).await
    } else {
        socket::reset_on_close(&downstream);
        Err(ConnectionError::new(Side::Local, Reason::Overloaded))
    };
    if let Err(error) = result {
        record.fail(&error);
    }
    record.duration = started.elapsed();
    worker.shared.telemetry.record(*record);
}

/// On an error the downstream has been reset.
async fn carry(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    snapshot: Arc<Snapshot>,
    (downstream, asked): (TcpStream, Result<SocketAddr, ConnectionError>),
    (started, place): (Instant, Place),
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    let reset = |_: &ConnectionError| socket::reset_on_close(&downstream);
    let asked = asked.inspect_err(reset)?;
    record.original_destination = Some(asked);
    let client = record.source.workload.as_deref().and_then(Workload::namespace);
    let mut candidates =
        destination::choose(&snapshot, &pod.enrolment(&snapshot), client.as_ref(), asked).inspect_err(reset)?;
    record.service.clone_from(&candidates.target.service);
    if candidates.carriage == Carriage::ByRequest {
        drop(candidates);
        drop(snapshot);
        let spoken = protocol::declared_http(worker, pod, &downstream).await.inspect_err(reset)?;
        let Some((version, seen)) = spoken else { return Ok(()) };
        let conversation = Conversation::new(worker, (pod, place), record, asked, version, None);
        return Box::pin(conversation.hold(Prefixed::new(seen, downstream))).await;
    }
    let followed = follow::follow(worker, pod, &snapshot, &mut candidates, &downstream, record).await;
    let Some(read) = followed.inspect_err(reset)? else { return Ok(()) };
    let connected =
        Box::pin(endpoint::connect(worker, pod, &snapshot, &candidates, record)).await.inspect_err(reset)?;
    let declared = candidates.target.protocol;
    drop(candidates);
    drop(snapshot);
    record.connect = Some(started.elapsed());
    let Connected { mut upstream, outstanding, endpoint } = connected;
    let said = match declared {
        Protocol::Undeclared => protocol::first(worker, pod, &downstream, &mut upstream).await.inspect_err(|_| {
            socket::reset_on_close(&downstream);
        })?,
        Protocol::Opaque | Protocol::Http1 | Protocol::Http2 => Said::opaque(read),
    };
    let mut downstream = Prefixed::new(said.client, downstream);
    let upstream = upstream.preceded_by(said.greeting);
    match said.speech {
        Speech::Other => {
            let _outstanding = outstanding;
            relay_to_end(worker, pod, &mut downstream, (upstream, &endpoint), record).await
        }
        Speech::Http(version) => {
            let dialled = Connected { upstream, outstanding, endpoint };
            let seed = Box::pin(seed(worker, pod, record, version, dialled)).await;
            let seed = seed.inspect_err(|_| socket::reset_on_close(downstream.get_ref()))?;
            let conversation = Conversation::new(worker, (pod, place), record, asked, version, Some(seed));
            Box::pin(conversation.hold(downstream)).await
        }
    }
}

/// What was dialled for the connection as a whole carries its first request.
async fn seed(
    worker: &Worker,
    pod: &Pod,
    record: &ConnectionRecord,
    version: Version,
    dialled: Connected,
) -> Result<Seed, ConnectionError> {
    let key = dialled.line_key(pod, record, version);
    let line = line::open(worker, version, dialled.upstream).await?;
    Ok(Seed::new(dialled.endpoint, dialled.outstanding, key, line, record.clone()))
}

async fn relay_to_end(
    worker: &Worker,
    pod: &Pod,
    downstream: &mut Prefixed<TcpStream>,
    (upstream, endpoint): (Upstream, &Endpoint),
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    // Nobody sees requests here: what the kernel measures is all that is known of the endpoint's speed.
    let learn = |stream: &TcpStream| {
        if let Some(round_trip) = socket::round_trip(stream) {
            worker.balancer.borrow_mut().answered(endpoint, round_trip);
        }
    };
    match upstream {
        Upstream::Plaintext(mut upstream) => {
            let ended = relay_between(worker, pod, downstream, &mut upstream, FirstByte::AsIs, record).await;
            learn(upstream.get_ref());
            ended.inspect_err(|_| socket::reset_on_close(upstream.get_ref()))
        }
        Upstream::Mesh(mut upstream, first) => {
            let ended = relay_between(worker, pod, downstream, &mut upstream, first, record).await;
            learn(upstream.get_ref().get_ref().0);
            ended.inspect_err(|_| socket::reset_on_close(upstream.get_ref().get_ref().0))
        }
    }
    .inspect_err(|_| socket::reset_on_close(downstream.get_ref()))
}

async fn relay_between<U>(
    worker: &Worker,
    pod: &Pod,
    downstream: &mut Prefixed<TcpStream>,
    upstream: &mut U,
    first: FirstByte,
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError>
where
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (moved, end) = relay(downstream, upstream, first, worker.cut(pod)).await;
    record.bytes_sent = moved.to_upstream;
    record.bytes_received = moved.to_downstream;
    end.into_result()
}
