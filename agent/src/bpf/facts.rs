//! What the kernel and the agent tell each other about single sockets.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;

use weft_abi::flight::{FACT_CARRIED, FACT_CLIENT, FACT_OWN, FACT_UNPUBLISHED, SocketFact};
use weft_abi::{Address, Port};

use super::error::BpfError;
use super::maps::SocketNumber;
use super::table::Table;

/// Access to socket storage, by descriptor. One system call each.
#[derive(Debug, Clone)]
pub struct SocketFacts {
    table: Arc<Table<SocketNumber, SocketFact>>,
}

impl SocketFacts {
    pub(super) fn new(table: Arc<Table<SocketNumber, SocketFact>>) -> Self {
        Self { table }
    }

    /// What the app asked for, on a socket that an outbound listener accepted. None: the connection was
    /// not captured (or its record was lost) and has to be reset.
    pub fn original_destination(&self, accepted: &impl AsFd) -> Option<SocketAddr> {
        let fact = self.read(accepted)?;
        fact.is(FACT_CARRIED).then(|| SocketAddr::new(fact.address.to_ip(), fact.port.host()))
    }

    /// Tells which client the app is to see. To be called before `connect()` on the agent's socket
    /// towards the app, which is marked as the agent's by this, too.
    pub fn set_client(&self, socket: &impl AsFd, client: SocketAddr) -> Result<(), BpfError> {
        let fact = SocketFact::new(
            FACT_OWN | FACT_CLIENT,
            Address::from_ip(client.ip().to_canonical()),
            Port::from_host(client.port()),
        );
        self.table.put(&number(socket), &fact)
    }

    /// After `connect()`: whether the app can see the client. False when the kernel had no room for it;
    /// such a connection is to be reset.
    pub fn client_is_published(&self, socket: &impl AsFd) -> bool {
        self.read(socket).is_some_and(|fact| !fact.is(FACT_UNPUBLISHED))
    }

    /// Marks a socket as the agent's that was made outside of the agent's cgroup, before `connect()`.
    pub fn mark_own(&self, socket: &impl AsFd) -> Result<(), BpfError> {
        self.table.put(&number(socket), &SocketFact::new(FACT_OWN, Address::NONE, Port::from_host(0)))
    }

    /// Whether the programs take the socket for the agent's.
    pub fn is_own(&self, socket: &impl AsFd) -> bool {
        self.read(socket).is_some_and(|fact| fact.is(FACT_OWN))
    }

    fn read(&self, socket: &impl AsFd) -> Option<SocketFact> {
        // An error says that the descriptor is no socket: nothing is known about it.
        self.table.get(&number(socket)).ok().flatten()
    }
}

fn number(socket: &impl AsFd) -> SocketNumber {
    socket.as_fd().as_raw_fd().cast_unsigned()
}
