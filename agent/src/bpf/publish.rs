//! What is captured on the whole node: networks, and single destinations with a rule of their own.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;

use ipnet::IpNet;
use weft_abi::rows::{
    DESTINATION_CAPTURED, DESTINATION_EMPTY, DESTINATION_NEVER, DestinationKey, NETWORK_CAPTURED, NETWORK_NEVER,
    NetworkKey,
};
use weft_abi::{Address, Plain, Port};

use super::datapath::Datapath;
use super::error::BpfError;
use super::plan;
use super::table::Table;

/// What happens to connections to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkRule {
    /// Led to the agent.
    Captured,
    /// Never led to the agent: Weft's own namespace, the API server.
    Never,
}

impl Datapath {
    /// Makes exactly these the node's networks; the longest prefix decides, and a later rule for the
    /// same prefix wins.
    pub fn publish_networks(&self, networks: &[(IpNet, NetworkRule)]) -> Result<(), BpfError> {
        let mut wanted = HashMap::new();
        for (network, rule) in networks {
            let value = match rule {
                NetworkRule::Captured => NETWORK_CAPTURED,
                NetworkRule::Never => NETWORK_NEVER,
            };
            wanted.extend(plan::network_keys(*network).into_iter().map(|key: NetworkKey| (key, value)));
        }
        replace(&self.maps.networks, wanted.into_iter().collect())
    }

    /// Makes exactly these the single destinations: service ports outside of the captured networks, those without a usable
    /// endpoint and without a route, which are refused at once, and ports that are never captured.
    pub fn publish_destinations(
        &self,
        captured: &[SocketAddr],
        empty: &[SocketAddr],
        never: &[SocketAddr],
    ) -> Result<(), BpfError> {
        let captured = captured.iter().map(|socket| (destination(*socket), DESTINATION_CAPTURED));
        let empty = empty.iter().map(|socket| (destination(*socket), DESTINATION_EMPTY));
        let never = never.iter().map(|socket| (destination(*socket), DESTINATION_NEVER));
        let wanted: HashMap<DestinationKey, u32> = captured.chain(empty).chain(never).collect();
        // Where the table has too few places the shortcuts go first, and the same ones each time.
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        let shortcut = |value: u32| u8::from(value == DESTINATION_EMPTY) + u8::from(value != DESTINATION_NEVER);
        wanted.sort_by_key(|(key, value)| (shortcut(*value), *key));
        replace(&self.maps.destinations, wanted)
    }
}

fn destination(socket: SocketAddr) -> DestinationKey {
    DestinationKey::new(Address::from_ip(socket.ip()), Port::from_host(socket.port()))
}

/// New rows come before old ones go, so that no destination is unknown in between, unless there is no room for both.
fn replace<K: Plain + Eq + Hash>(table: &Table<K, u32>, wanted: Vec<(K, u32)>) -> Result<(), BpfError> {
    let changes = plan::changes(wanted, &table.keys()?);
    let put = || changes.put.iter().try_for_each(|(key, value)| table.put(key, value));
    let put_first = put();
    changes.remove.iter().try_for_each(|key| table.remove(key))?;
    if put_first.is_ok() { Ok(()) } else { put() }
}
