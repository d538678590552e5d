//! A connection without identity: let in where the port accepts it, refused with a reason where not.

use std::time::Instant;

use tokio::net::TcpStream;

use crate::error::{ConnectionError, Reason, Side};
use crate::node::pod::Pod;
use crate::node::socket;
use crate::relay::{FirstByte, relay};
use crate::telemetry::{ConnectionRecord, Security};
use crate::wire::Prefixed;
use crate::worker::Worker;

use super::accept::Arrival;
use super::authorize::authorize;
use super::{connect, open};

pub async fn carry(
    worker: &Worker,
    pod: &Pod,
    arrival: &Arrival,
    (mut downstream, application): (Prefixed<TcpStream>, Option<TcpStream>),
    started: Instant,
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    record.security = Security::Plaintext;
    let connected = match admit(arrival, record) {
        Ok(()) => dialled(worker, pod, arrival, application).await,
        Err(error) => Err(error),
    };
    let mut upstream = connected.inspect_err(|_| socket::reset_on_close(downstream.get_ref()))?;
    record.connect = Some(started.elapsed());
    let (moved, end) = relay(&mut downstream, &mut upstream, FirstByte::AsIs, worker.cut(pod)).await;
    record.bytes_sent = moved.to_upstream;
    record.bytes_received = moved.to_downstream;
    end.into_result().inspect_err(|_| {
        socket::reset_on_close(&upstream);
        socket::reset_on_close(downstream.get_ref());
    })
}

fn admit(arrival: &Arrival, record: &mut ConnectionRecord) -> Result<(), ConnectionError> {
    if !open::accepts_plaintext(arrival) {
        return Err(ConnectionError::new(Side::Downstream, Reason::PlaintextRefused)
            .with_rule(arrival.enrolment.authentication.decided_by.to_string())
            .with_detail(format!("port {} is strict: it accepts mesh TLS alone", arrival.destination.port())));
    }
    authorize(arrival, None, record)
}

async fn dialled(
    worker: &Worker,
    pod: &Pod,
    arrival: &Arrival,
    application: Option<TcpStream>,
) -> Result<TcpStream, ConnectionError> {
    match application {
        Some(application) => {
            socket::end_in_order(&application);
            Ok(application)
        }
        None => connect::application(worker, pod, arrival).await,
    }
}
