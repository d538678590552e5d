//! A mesh connection: its identity proven, its preamble answered by one status, its bytes relayed or its requests judged.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weft_proto::names::Identity;

use crate::error::{ConnectionError, Reason, Side};
use crate::limits;
use crate::node::pod::{Place, Pod};
use crate::node::socket;
use crate::relay::relay;
use crate::telemetry::{ConnectionRecord, Security};
use crate::wire::server::{self, ServerTls};
use crate::wire::{Preamble, Prefixed, Protocol, Status};
use crate::worker::Worker;

use super::accept::Arrival;
use super::authorize::authorize;
use super::protocol::{self, Brought};
use super::{application, authorize, requests};

pub async fn carry(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    arrival: Arrival,
    (downstream, application): (Prefixed<TcpStream>, Option<TcpStream>),
    (started, place): (Instant, Place),
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    let mut secured = Box::pin(greet(worker, pod, downstream, record)).await?;
    let answered = answer(worker, pod, &arrival, application, &mut secured, record).await;
    let mut upstream = match answered {
        Ok(upstream) => upstream,
        Err(error) => {
            bid_farewell(&mut secured.tls).await;
            return Err(error);
        }
    };
    record.connect = Some(started.elapsed());
    // Where other bytes are refused, what the application says first is for nobody.
    let refuses = authorize::refuses_opaque(&arrival.enrolment, arrival.destination.port());
    let greeter = if refuses { None } else { Some(&upstream) };
    let brought = protocol::from_peer(worker, pod, secured.preamble.protocol, &mut secured.tls, greeter);
    let brought = Box::pin(brought).await.and_then(|brought| {
        if matches!(brought, Brought::Other(_)) && authorize::judges_requests(&arrival) {
            authorize::authorize_opaque(&arrival, Some(&secured.identity), record)?;
        }
        Ok(brought)
    });
    let first = match brought.inspect_err(|_| socket::reset_on_close(secured.tls.get_ref().0.get_ref()))? {
        // Each is judged on its own: the source's agent uses the connection again long after a policy has changed.
        Brought::Requests(version) => {
            let streams = (secured.tls, Some(upstream));
            return Box::pin(requests::hold(worker, pod, arrival, version, streams, (record, place))).await;
        }
        Brought::Other(first) => first,
        Brought::Nothing => return Ok(()),
    };
    let downstream = &mut *secured.tls;
    let (moved, end) = relay(downstream, &mut upstream, first, worker.cut(pod)).await;
    record.bytes_sent = moved.to_upstream;
    record.bytes_received = moved.to_downstream;
    end.into_result().inspect_err(|_| {
        socket::reset_on_close(&upstream);
        socket::reset_on_close(downstream.get_ref().0.get_ref());
    })
}

/// Lets the peer read its refusal before the connection is reset: a reset would overtake the status.
async fn bid_farewell(downstream: &mut ServerTls) {
    let ended = async {
        let _ = downstream.shutdown().await;
        let mut ignored = [0; 64];
        while matches!(downstream.read(&mut ignored).await, Ok(1..)) {}
    };
    let _ = timeout(limits::CUT_TIMEOUT, ended).await;
    socket::reset_on_close(downstream.get_ref().0.get_ref());
}

/// A peer that has proven who it is and said what it wants.
struct Secured {
    tls: Box<ServerTls>,
    identity: Identity,
    preamble: Preamble,
}

async fn greet(
    worker: &Worker,
    pod: &Pod,
    downstream: Prefixed<TcpStream>,
    record: &mut ConnectionRecord,
) -> Result<Secured, ConnectionError> {
    let Some(credential) = worker.shared.credentials.of(&pod.uid) else {
        socket::reset_on_close(downstream.get_ref());
        return Err(ConnectionError::new(Side::Local, Reason::NoCertificate)
            .with_detail("the controller has not signed this pod's certificate yet"));
    };
    let greeting = async {
        let (mut tls, identity) = server::handshake(downstream, &credential).await?;
        record.security = Security::Mtls;
        record.resumed = server::resumed(&tls);
        record.source.identity = Some(identity.clone());
        record.destination.identity = Some(credential.identity.clone());
        let preamble = match server::read_preamble(&mut tls).await {
            Ok(preamble) => preamble,
            Err(error) => {
                // The peer learns the cause if it still listens; this connection is over either way.
                let _ = server::send_status(&mut tls, &Status::refusal(&error)).await;
                return Err(error);
            }
        };
        Ok(Secured { tls: Box::new(tls), identity, preamble })
    };
    timeout(limits::INBOUND_HANDSHAKE, Box::pin(greeting)).await.unwrap_or_else(|_| {
        Err(ConnectionError::new(Side::Downstream, Reason::HandshakeTimeout)
            .with_detail(format!("no handshake and preamble within {:?}", limits::INBOUND_HANDSHAKE)))
    })
}

/// Authorizes, dials the application and says the one status. On an error the peer has been told.
async fn answer(
    worker: &Worker,
    pod: &Pod,
    arrival: &Arrival,
    application: Option<TcpStream>,
    secured: &mut Secured,
    record: &mut ConnectionRecord,
) -> Result<TcpStream, ConnectionError> {
    describe(worker, secured, record);
    let judged = judge(worker, pod, arrival, application, secured, record).await;
    let status = match &judged {
        Ok(_) => Status::OK,
        Err(error) => Status::refusal(error),
    };
    let sent = server::send_status(&mut secured.tls, &status).await;
    let application = judged?;
    sent?;
    Ok(application)
}

async fn judge(
    worker: &Worker,
    pod: &Pod,
    arrival: &Arrival,
    application: Option<TcpStream>,
    secured: &Secured,
    record: &mut ConnectionRecord,
) -> Result<TcpStream, ConnectionError> {
    let identity = Some(&secured.identity);
    match secured.preamble.protocol {
        Protocol::Opaque => authorize::authorize_opaque(arrival, identity, record)?,
        Protocol::Undeclared | Protocol::Http1 | Protocol::Http2 => authorize(arrival, identity, record)?,
    }
    match application {
        Some(application) => {
            socket::end_in_order(&application);
            Ok(application)
        }
        None => application::dial(worker, pod, arrival).await,
    }
}

/// Takes over the preamble's hints. A workload is believed only where its row has the proven identity.
fn describe(worker: &Worker, secured: &Secured, record: &mut ConnectionRecord) {
    let preamble = &secured.preamble;
    if let Some(id) = preamble.connection.as_ref().and_then(|name| name.as_str().parse().ok()) {
        record.id = id;
    }
    record.service.clone_from(&preamble.service);
    let snapshot = worker.shared.snapshots.current();
    let row = preamble.source.as_ref().and_then(|uid| snapshot.workloads.get(uid).cloned());
    let believed = row.filter(|workload| workload.identity.as_ref() == Some(&secured.identity));
    if believed.is_some() {
        record.source.workload = believed;
    }
}
