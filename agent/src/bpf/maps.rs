//! The maps by name, opened from their pins.

use std::path::Path;
use std::sync::Arc;

use weft_abi::flight::{FlightKey, FlightRow, SocketFact};
use weft_abi::observe::{SeenKey, SeenRow};
use weft_abi::probe::Prober;
use weft_abi::rows::{
    Counters, DestinationKey, ExcludedNetworkKey, Heartbeats, ListenerKey, NetworkKey, OpenPortKey, PodRow, PortRuleKey,
};

use super::error::BpfError;
use super::load::Folders;
use super::table::Table;

/// A file descriptor as a key or a value of a map of sockets.
pub(super) type SocketNumber = u32;

/// Every map that the agent reads or writes by row.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) flows: Table<FlightKey, FlightRow>,
    pub(super) peers: Table<FlightKey, FlightRow>,
    pub(super) probes: Table<FlightKey, FlightRow>,
    pub(super) prober: Arc<Table<u32, Prober>>,
    pub(super) in_flight: Table<u64, u64>,
    pub(super) facts: Arc<Table<SocketNumber, SocketFact>>,
    pub(super) pods: Table<u64, PodRow>,
    pub(super) observed: Arc<Table<u64, u64>>,
    pub(super) seen: Arc<Table<SeenKey, SeenRow>>,
    pub(super) listeners: Table<ListenerKey, SocketNumber>,
    pub(super) open_ports: Table<OpenPortKey, u64>,
    pub(super) port_rules: Table<PortRuleKey, u32>,
    pub(super) networks: Table<NetworkKey, u32>,
    pub(super) excluded_networks: Table<ExcludedNetworkKey, u32>,
    pub(super) destinations: Table<DestinationKey, u32>,
    pub(super) counters: Table<u64, Counters>,
    pub(super) heartbeats: Table<u32, Heartbeats>,
}

impl Maps {
    /// Opens all of them.
    pub(super) fn open(folders: &Folders) -> Result<Self, BpfError> {
        let Folders { flight, derived, .. } = folders;
        Ok(Self {
            flows: Table::open(flight, "FLOWS")?,
            peers: Table::open(flight, "PEERS")?,
            probes: Table::open(flight, "PROBES")?,
            prober: Arc::new(Table::open(derived, "PROBER")?),
            in_flight: Table::open(flight, "IN_FLIGHT")?,
            facts: Arc::new(Table::open(flight, "SOCKET_FACTS")?),
            pods: Table::open(derived, "PODS")?,
            observed: Arc::new(Table::open(derived, "OBSERVED")?),
            seen: Arc::new(Table::open(derived, "SEEN")?),
            listeners: Table::open(derived, "LISTENERS")?,
            open_ports: Table::open(derived, "OPEN_PORTS")?,
            port_rules: Table::open(derived, "PORT_RULES")?,
            networks: Table::open(derived, "NETWORKS")?,
            excluded_networks: Table::open(derived, "EXCLUDED_NETWORKS")?,
            destinations: Table::open(derived, "DESTINATIONS")?,
            counters: Table::open(derived, "COUNTERS")?,
            heartbeats: open_heartbeats(derived)?,
        })
    }
}

/// The heartbeats of the agent with this layout.
pub(super) fn open_heartbeats(derived: &Path) -> Result<Table<u32, Heartbeats>, BpfError> {
    Table::open(derived, "HEARTBEATS")
}
