//! The journey of a connection that a pod of this node opened.
//!
//! accept (where was it going?) → route (which endpoints may serve it?) → connect (one of them, under
//! mTLS where the other side can) → relay. It is decided on one snapshot. Until the relay begins no
//! byte of the application has left, so every step before it may try again somewhere else; a failure
//! becomes a reset of the application's socket, never an orderly end.

mod accept;
mod attempt;
mod connect;
mod route;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::error::{ConnectionError, Reason, Side};
use crate::model::Snapshot;
use crate::node::pod::{Place, Pod};
use crate::node::socket;
use crate::relay::{FirstByte, relay};
use crate::telemetry::{ConnectionRecord, Direction};
use crate::worker::Worker;

use connect::Upstream;

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
    let result = match &place {
        Some(_) => carry(&worker, &pod, snapshot, (&mut downstream, asked), started, &mut record).await,
        None => Err(ConnectionError::new(Side::Local, Reason::Overloaded)),
    };
    if let Err(error) = result {
        record.fail(&error);
        socket::reset_on_close(&downstream);
    }
    drop(downstream);
    record.duration = started.elapsed();
    worker.shared.telemetry.record(*record);
}

async fn carry(
    worker: &Worker,
    pod: &Pod,
    snapshot: Arc<Snapshot>,
    (downstream, asked): (&mut TcpStream, Result<SocketAddr, ConnectionError>),
    started: Instant,
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    let asked = asked?;
    record.original_destination = Some(asked);
    let route = route::choose(&snapshot, &pod.enrolment(&snapshot), asked)?;
    record.service.clone_from(&route.service);
    let connected = Box::pin(connect::connect(worker, pod, &snapshot, &route, record)).await?;
    drop(snapshot);
    record.connect = Some(started.elapsed());
    let _outstanding = connected.outstanding;
    match connected.upstream {
        Upstream::Plaintext(mut upstream) => {
            relay_to_end(worker, pod, downstream, &mut upstream, FirstByte::AsIs, record).await.inspect_err(|_| {
                socket::reset_on_close(&upstream);
            })
        }
        Upstream::Mesh(mut upstream, first) => {
            relay_to_end(worker, pod, downstream, &mut *upstream, first, record).await.inspect_err(|_| {
                socket::reset_on_close(upstream.get_ref().0);
            })
        }
    }
}

async fn relay_to_end<U>(
    worker: &Worker,
    pod: &Pod,
    downstream: &mut TcpStream,
    upstream: &mut U,
    first: FirstByte,
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError>
where
    U: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (moved, end) = relay(downstream, upstream, first, worker.cut(pod)).await;
    record.bytes_sent = moved.to_upstream;
    record.bytes_received = moved.to_downstream;
    end.into_result()
}
