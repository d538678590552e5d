//! Finds out what an inbound connection speaks.
//!
//! Where plaintext is refused, or judged request by request, the first bytes are awaited and no application is touched.
//! Where a plaintext client would be let in the application is dialled at once and whoever speaks first decides; from a
//! peer that is known to speak mesh TLS the application's greeting is held back for a moment.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::error::{ConnectionError, Reason, Side};
use crate::limits;
use crate::model::{Beginning, Enrolment, MtlsMode};
use crate::node::pod::Pod;
use crate::node::socket;
use crate::wire::{Prefixed, Sniffed, Sniffer};
use crate::worker::Worker;

use super::accept::Arrival;
use super::{application, authorize};

/// A connection whose first bytes are known; `application` is there when it was dialled already.
pub enum Opening {
    Mesh { stream: Prefixed<TcpStream>, application: Option<TcpStream> },
    Plaintext { stream: Prefixed<TcpStream>, application: Option<TcpStream> },
}

/// A failure resets the client.
pub async fn opening(
    worker: &Worker,
    pod: &Pod,
    arrival: &Arrival,
    downstream: TcpStream,
) -> Result<Opening, ConnectionError> {
    let plaintext = accepts(arrival, &arrival.enrolment, Beginning::Anything);
    let found = if plaintext && authorize::admits_plaintext(arrival) {
        first_speaker(worker, pod, arrival, &downstream).await
    } else {
        // A client may connect long before its first request.
        let rests = plaintext && authorize::judges_requests(arrival);
        let patience = if rests { limits::IDLE_TIMEOUT } else { limits::INBOUND_HANDSHAKE };
        first_bytes(worker, pod, &downstream, patience).await.map(|beginning| (beginning, None))
    };
    let (beginning, application) = found.inspect_err(|_| socket::reset_on_close(&downstream))?;
    Ok(match beginning {
        Sniffed::MeshTls(bytes) => Opening::Mesh { stream: Prefixed::new(bytes, downstream), application },
        Sniffed::Plaintext(bytes) => Opening::Plaintext { stream: Prefixed::new(bytes, downstream), application },
        Sniffed::Closed => Opening::Plaintext { stream: Prefixed::new(Vec::new(), downstream), application },
    })
}

/// Whether what is not mesh TLS is let in.
pub(super) fn accepts(arrival: &Arrival, enrolment: &Enrolment, beginning: Beginning) -> bool {
    let port = arrival.destination.port();
    let authentication = &enrolment.authentication;
    authentication.mode(port) == MtlsMode::Permissive
        || authentication.exempts(port, arrival.client.ip(), beginning).is_some()
}

pub(super) fn plaintext_refused(arrival: &Arrival, enrolment: &Enrolment) -> ConnectionError {
    ConnectionError::new(Side::Downstream, Reason::PlaintextRefused)
        .with_rule(enrolment.authentication.decided_by.to_string())
        .with_detail(format!("port {} is strict: it accepts mesh TLS alone", arrival.destination.port()))
}

async fn first_bytes(
    worker: &Worker,
    pod: &Pod,
    downstream: &TcpStream,
    patience: Duration,
) -> Result<Sniffed, ConnectionError> {
    let mut sniffer = Sniffer::default();
    tokio::select! {
        said = timeout(patience, sniffer.sniff(downstream)) => said.unwrap_or_else(|_| {
            Err(ConnectionError::new(Side::Downstream, Reason::HandshakeTimeout)
                .with_detail("the client has said nothing that could begin a handshake"))
        }),
        reason = worker.cut(pod) => Err(ConnectionError::new(Side::Local, reason)),
    }
}

/// What the client said first, nothing when the application did; with the application's connection.
async fn first_speaker(
    worker: &Worker,
    pod: &Pod,
    arrival: &Arrival,
    downstream: &TcpStream,
) -> Result<(Sniffed, Option<TcpStream>), ConnectionError> {
    let application = application::dial(worker, pod, arrival).await?;
    // Until bytes flow every end is a failure: an application must not take it for an orderly one.
    socket::reset_on_close(&application);
    let hold = greeting_hold(arrival);
    let greeting = async {
        // Also ready when the application has ended already; the relay finds out.
        let _ = application.readable().await;
        sleep(hold).await;
    };
    let mut sniffer = Sniffer::default();
    let said = tokio::select! {
        biased;
        said = sniffer.sniff(downstream) => Some(said?),
        () = greeting => None,
        () = sleep(limits::IDLE_TIMEOUT) => {
            return Err(ConnectionError::new(Side::Local, Reason::IdleTimeout));
        }
        reason = worker.cut(pod) => return Err(ConnectionError::new(Side::Local, reason)),
    };
    let beginning = match said {
        Some(said) => said,
        // The application greets while a ClientHello is half there: its rest is awaited, for a moment.
        None if sniffer.has_seen() => match timeout(limits::GREETING_HOLD, sniffer.sniff(downstream)).await {
            Ok(said) => said?,
            Err(_) => Sniffed::Plaintext(sniffer.into_seen()),
        },
        None => Sniffed::Plaintext(Vec::new()),
    };
    Ok((beginning, Some(application)))
}

/// How long the application's greeting is kept from the client in case a `ClientHello` is still on its way.
fn greeting_hold(arrival: &Arrival) -> Duration {
    let speaks_mesh = arrival.neighbour.as_ref().is_some_and(|workload| workload.mesh_capable);
    if speaks_mesh { limits::GREETING_HOLD } else { Duration::ZERO }
}
