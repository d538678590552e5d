//! Where a captured connection was going.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::bpf::SocketFacts;
use crate::error::{ConnectionError, Reason, Side};
use crate::model::Snapshot;
use crate::node::self_test;
use crate::node::socket;

/// The address that the application asked for, from the socket's own storage: the kernel put it there before `accept()`.
pub fn original_destination(facts: &SocketFacts, downstream: &TcpStream) -> Result<SocketAddr, ConnectionError> {
    facts
        .original_destination(downstream)
        .map(socket::canonical)
        .ok_or_else(|| ConnectionError::new(Side::Downstream, Reason::NoOriginalDestination))
}

/// Answers the agent's own proof that a freshly enrolled pod's hook captures. False: it is an application's connection.
pub async fn answer_self_test(snapshot: &Snapshot, asked: SocketAddr, downstream: &mut TcpStream) -> bool {
    if !self_test::is_destination(&snapshot.captured_networks, asked) {
        return false;
    }
    // A probe that has given up says so itself.
    let _ = downstream.write_all(self_test::ANSWER).await;
    true
}
