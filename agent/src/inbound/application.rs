//! The application's end: a connection from the pod's own namespace that shows the real client.

use std::io;

use tokio::net::{TcpSocket, TcpStream};

use crate::bpf::SocketFacts;
use crate::error::{ConnectionError, Reason, Side};
use crate::limits;
use crate::node::netns::Netns;
use crate::node::pod::Pod;
use crate::node::socket;
use crate::worker::Worker;

use super::accept::Arrival;

/// Dials the application. It is not bound first: binding finds no port where ports rest in `TIME_WAIT`.
pub async fn dial(worker: &Worker, pod: &Pod, arrival: &Arrival) -> Result<TcpStream, ConnectionError> {
    let facts = &worker.shared.facts;
    let first = connected_from(facts, &pod.netns, arrival, |_| Ok(())).await;
    let connected = match first {
        // The pod's own address has no port left towards this one: a private slice of 127/8 has more.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            connected_from(facts, &pod.netns, arrival, |created| {
                socket::bind_spare_source(created, arrival.destination.ip())
            })
            .await
        }
        result => result,
    };
    let stream = connected.map_err(|error| socket::dial_error(arrival.destination, &error))?;
    if facts.client_is_published(&stream) {
        return Ok(stream);
    }
    // The application would take the pod itself for its client.
    socket::reset_on_close(&stream);
    Err(ConnectionError::new(Side::Local, Reason::NoClientRecord)
        .with_detail("the kernel had no room to tell the application who its client is"))
}

async fn connected_from(
    facts: &SocketFacts,
    netns: &Netns,
    arrival: &Arrival,
    prepare: impl FnOnce(&TcpSocket) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let created = socket::stream_socket(netns, arrival.destination.ip())?;
    facts.set_client(&created, arrival.client).map_err(io::Error::other)?;
    prepare(&created)?;
    socket::connect(created, arrival.destination, limits::CONNECT_TIMEOUT).await
}
