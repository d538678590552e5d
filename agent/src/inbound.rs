//! The journey of a connection that reached a pod of this node.
//!
//! accept (from whom, to which port?) → sniff (is it mesh TLS?) → secure (whose?) or plaintext → authorize → application (dialled,
//! and it sees the real client) → protocol (is it HTTP?) → relay, or `requests`. What decides is the
//! snapshot of the moment at which the client has spoken, for requests that of each. Identity comes from the certificate
//! alone; an address speaks where a policy names networks. What is refused is told where the peer can read it (a TLS alert,
//! a status, an answer) and reset elsewhere.

mod accept;
mod application;
mod authorize;
mod plaintext;
mod protocol;
mod requests;
mod secure;
mod sniff;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::error::{ConnectionError, Reason, Side};
use crate::model::Snapshot;
use crate::node::pod::{Place, Pod};
use crate::node::socket;
use crate::telemetry::{ConnectionRecord, Direction};
use crate::worker::Worker;

use sniff::Opening;

/// Carries one accepted connection to its end and records it.
pub async fn serve(worker: Rc<Worker>, pod: Arc<Pod>, place: Option<Place>, downstream: TcpStream) {
    let started = Instant::now();
    let _open = worker.shared.telemetry.opened(Direction::Inbound);
    let snapshot = worker.shared.snapshots.current();
    let mut record = Box::new(ConnectionRecord::begin(Direction::Inbound, snapshot.version.clone()));
    record.destination.workload = snapshot.workloads.get(&pod.uid).cloned();
    let result = if let Some(place) = place {
        carry(&worker, &pod, snapshot, downstream, (started, place), &mut record).await
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

async fn carry(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    snapshot: Arc<Snapshot>,
    downstream: TcpStream,
    began: (Instant, Place),
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    let mut arrival = match accept::arrival(&snapshot, pod, &downstream) {
        Ok(arrival) => arrival,
        Err(error) => {
            socket::reset_on_close(&downstream);
            return Err(error);
        }
    };
    drop(snapshot);
    arrival.describe(record);
    let opening = Box::pin(sniff::opening(worker, pod, &arrival, downstream)).await?;
    // A client may stay silent for as long as it likes: what decides is what is in force when it has spoken.
    let snapshot = worker.shared.snapshots.current();
    arrival.enrolment = pod.enrolment(&snapshot);
    record.snapshot.clone_from(&snapshot.version);
    drop(snapshot);
    match opening {
        Opening::Mesh { stream, application } => {
            secure::carry(worker, pod, arrival, (stream, application), began, record).await
        }
        Opening::Plaintext { stream, application } => {
            plaintext::carry(worker, pod, arrival, (stream, application), began, record).await
        }
    }
}
