//! A connection without identity: let in where the port accepts it, refused with a reason where not.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::error::ConnectionError;
use crate::http::detect::Expected;
use crate::model::Beginning;
use crate::node::pod::{Place, Pod};
use crate::node::socket;
use crate::relay::{FirstByte, relay};
use crate::telemetry::{ConnectionRecord, Security};
use crate::wire::{FirstBytes, Prefixed, is_tls};
use crate::worker::Worker;

use super::accept::Arrival;
use super::authorize::authorize;
use super::protocol::{self, Brought};
use super::{application, authorize, requests, sniff};

pub async fn carry(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    arrival: Arrival,
    (mut downstream, application): (Prefixed<TcpStream>, Option<TcpStream>),
    (started, place): (Instant, Place),
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    record.security = Security::Plaintext;
    let admitted = admit(&arrival, downstream.prefix(), record);
    if admitted.is_ok() {
        worker.shared.telemetry.plaintext(arrival.as_plaintext());
    }
    let connected = match admitted {
        Ok(()) if authorize::judges_requests(&arrival) => {
            let (seen, stream) = downstream.into_parts();
            let mut first = FirstBytes::beginning_with(seen);
            let brought = brought(worker, pod, &arrival, (&mut first, &stream), application.as_ref(), record);
            let brought = Box::pin(brought).await;
            let brought = brought.inspect_err(|_| socket::reset_on_close(&stream))?;
            downstream = Prefixed::new(first.take(), stream);
            match brought {
                Brought::Requests(version) => {
                    let streams = (downstream, application);
                    return Box::pin(requests::hold(worker, pod, arrival, version, streams, (record, place))).await;
                }
                Brought::Other(_) => dialled(worker, pod, &arrival, application).await,
                Brought::Nothing => return Ok(()),
            }
        }
        Ok(()) => dialled(worker, pod, &arrival, application).await,
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

/// Requests without identity, which rules may still let in, or other bytes that nothing forbids.
async fn brought(
    worker: &Worker,
    pod: &Pod,
    arrival: &Arrival,
    (first, downstream): (&mut FirstBytes, &TcpStream),
    application: Option<&TcpStream>,
    record: &mut ConnectionRecord,
) -> Result<Brought, ConnectionError> {
    let requests_alone = authorize::refuses_opaque(&arrival.enrolment, arrival.destination.port());
    let expected = if requests_alone { Expected::Requests } else { Expected::Anything };
    // Where other bytes are refused, what the application says first is for nobody.
    let greeter = application.filter(|_| !requests_alone);
    let brought = protocol::from_client(worker, pod, (first, downstream), expected, greeter).await?;
    if matches!(brought, Brought::Other(_)) {
        authorize::authorize_opaque(arrival, None, record)?;
    }
    Ok(brought)
}

fn admit(arrival: &Arrival, first: &[u8], record: &mut ConnectionRecord) -> Result<(), ConnectionError> {
    let beginning = if is_tls(first) { Beginning::OwnTls } else { Beginning::Anything };
    if !sniff::accepts(arrival, &arrival.enrolment, beginning) {
        return Err(sniff::plaintext_refused(arrival, &arrival.enrolment));
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
        None => application::dial(worker, pod, arrival).await,
    }
}
