//! Applies a plan, in the order that never shows a half-made pod.

use super::error::BpfError;
use super::maps::Maps;
use super::plan::PodPlan;
use super::pod::NetnsCookie;

/// Rules first, then the row that makes them count, then old rules go.
pub(super) fn apply(maps: &Maps, netns: NetnsCookie, plan: &PodPlan) -> Result<(), BpfError> {
    plan.port_rules.put.iter().try_for_each(|(key, value)| maps.port_rules.put(key, value))?;
    plan.excluded_networks.put.iter().try_for_each(|(key, value)| maps.excluded_networks.put(key, value))?;
    maps.pods.put(&netns.0, &plan.row)?;
    plan.port_rules.remove.iter().try_for_each(|key| maps.port_rules.remove(key))?;
    plan.excluded_networks.remove.iter().try_for_each(|key| maps.excluded_networks.remove(key))
}

/// Removes every row of a pod, the one that makes it captured first.
pub(super) fn forget(maps: &Maps, netns: NetnsCookie) -> Result<(), BpfError> {
    let cookie = netns.0;
    maps.pods.remove(&cookie)?;
    maps.listeners.remove_where(|key| key.netns_cookie == cookie)?;
    maps.port_rules.remove_where(|key| key.netns_cookie == cookie)?;
    let halves = excluded_halves(netns);
    maps.excluded_networks.remove_where(|key| key.netns_cookie == halves)?;
    // From here on flow_ops keeps no books of this namespace.
    maps.in_flight.remove(&cookie)?;
    maps.open_ports.remove_where(|key| key.netns_cookie == cookie)?;
    maps.flows.remove_where(|key| key.netns_cookie == cookie)?;
    maps.peers.remove_where(|key| key.netns_cookie == cookie)?;
    maps.counters.remove(&cookie)
}

/// The cookie as the keys of `EXCLUDED_NETWORKS` have it.
pub(super) fn excluded_halves(netns: NetnsCookie) -> [u32; 2] {
    weft_abi::rows::ExcludedNetworkKey::new(netns.0, weft_abi::Address::NONE, 0).netns_cookie
}
