//! From whom a connection came, and to which of the pod's ports.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::error::{ConnectionError, Reason, Side};
use crate::model::{Enrolment, Snapshot, Workload};
use crate::node::pod::Pod;
use crate::node::socket;
use crate::telemetry::{ConnectionRecord, PlaintextCall};

/// One accepted connection, with the rows that decide about it.
pub struct Arrival {
    pub client: SocketAddr,
    /// The pod's address and the port that the client dialled.
    pub destination: SocketAddr,
    pub enrolment: Arc<Enrolment>,
    /// Who the address belongs to now: for waiting times and people, never for permission.
    pub neighbour: Option<Arc<Workload>>,
}

pub fn arrival(snapshot: &Snapshot, pod: &Pod, downstream: &TcpStream) -> Result<Arrival, ConnectionError> {
    let gone = |error: std::io::Error| {
        ConnectionError::new(Side::Downstream, Reason::DownstreamReset).with_detail(error.to_string())
    };
    let client = socket::canonical(downstream.peer_addr().map_err(gone)?);
    let destination = socket::canonical(downstream.local_addr().map_err(gone)?);
    Ok(Arrival {
        client,
        destination,
        enrolment: pod.enrolment(snapshot),
        neighbour: snapshot.workload_at(client.ip()).cloned(),
    })
}

impl Arrival {
    /// As what it counts where strict mode is weighed.
    pub fn as_plaintext(&self) -> PlaintextCall {
        let workload = self.enrolment.uid.clone();
        PlaintextCall { workload, port: self.destination.port(), client: self.client.ip() }
    }

    pub fn describe(&self, record: &mut ConnectionRecord) {
        record.source.address = Some(self.client);
        record.source.workload.clone_from(&self.neighbour);
        record.destination.address = Some(self.destination);
        record.original_destination = Some(self.destination);
    }
}
