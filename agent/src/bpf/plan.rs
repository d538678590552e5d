//! Pure: from what is wanted and what the maps hold to the changes of the maps.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_abi::rows::{
    DIRECTION_INBOUND, DIRECTION_OUTBOUND, DIRECTION_PROBE, ExcludedNetworkKey, MODE_EXCLUDED, NetworkKey,
    POD_HAS_EXCLUDED_NETWORKS, POD_HAS_PORT_RULES, POD_HAS_PROBES, POD_INBOUND, POD_OUTBOUND, POD_SPARE, PodRow,
    PortRuleKey,
};
use weft_abi::{Address, Port};

use super::pod::CapturedPod;

/// The first IPv4 address in its mapped form.
const MAPPED: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();

/// The agent's listeners of one pod, as the pod's row has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Listeners {
    pub(super) workers: u32,
    pub(super) ports: u64,
}

/// Rows of one map that are written, and rows that are removed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changes<K, V> {
    pub(super) put: Vec<(K, V)>,
    pub(super) remove: Vec<K>,
}

/// Everything that makes one pod's rows what they are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodPlan {
    pub(super) port_rules: Changes<PortRuleKey, u32>,
    pub(super) excluded_networks: Changes<ExcludedNetworkKey, u32>,
    /// Written when the rules are there, before old rules are removed.
    pub(super) row: PodRow,
}

/// Plans one pod.
pub(super) fn pod(
    wanted: &CapturedPod,
    listeners: Listeners,
    old_rules: &[PortRuleKey],
    old_networks: &[ExcludedNetworkKey],
) -> PodPlan {
    let port_rules = changes(port_rules(wanted), old_rules);
    let excluded_networks = changes(excluded_networks(wanted), old_networks);
    let row = row(wanted, listeners, &port_rules, &excluded_networks);
    PodPlan { port_rules, excluded_networks, row }
}

/// What has to be written and removed so that exactly `wanted` is there.
pub(super) fn changes<K: Copy + Eq + Hash, V>(wanted: Vec<(K, V)>, old: &[K]) -> Changes<K, V> {
    let stay: HashSet<K> = wanted.iter().map(|(key, _)| *key).collect();
    let remove = old.iter().filter(|key| !stay.contains(key)).copied().collect();
    Changes { put: wanted, remove }
}

/// The keys of a prefix. IPv4 prefixes lie below `::ffff:0:0/96`; an IPv6 prefix that contains that one,
/// such as `::/0`, is written as all the prefixes beside it, or it would mean IPv4 as well.
pub(super) fn network_keys(network: IpNet) -> Vec<NetworkKey> {
    let (address, bits) = prefix(network);
    let holds_mapped = matches!(network, IpNet::V6(six) if six.contains(&MAPPED));
    if !holds_mapped || bits >= 96 {
        return vec![NetworkKey { prefix_bits: bits, address }];
    }
    let beside = (bits + 1..=96).map(|length| {
        let flipped = MAPPED.to_bits() ^ 1 << (128 - length);
        let kept = flipped >> (128 - length) << (128 - length);
        NetworkKey { prefix_bits: length, address: Address::from_ip(Ipv6Addr::from_bits(kept).into()) }
    });
    beside.collect()
}

fn prefix(network: IpNet) -> (Address, u32) {
    let mapped = if network.addr().is_ipv4() { 96 } else { 0 };
    (Address::from_ip(network.network()), u32::from(network.prefix_len()) + mapped)
}

fn port_rules(wanted: &CapturedPod) -> Vec<(PortRuleKey, u32)> {
    let key = |direction, port| PortRuleKey::new(wanted.netns.0, direction, Port::from_host(port));
    let inbound = wanted.inbound_ports.iter().map(|(port, mode)| (key(DIRECTION_INBOUND, *port), mode.number()));
    let outbound = wanted.excluded_outbound_ports.iter().map(|port| (key(DIRECTION_OUTBOUND, *port), MODE_EXCLUDED));
    let probes = wanted.probe_ports.iter().map(|port| (key(DIRECTION_PROBE, *port), MODE_EXCLUDED));
    inbound.chain(outbound).chain(probes).collect()
}

fn excluded_networks(wanted: &CapturedPod) -> Vec<(ExcludedNetworkKey, u32)> {
    // `::/0` is no word about IPv4, although its addresses are mapped into the same space.
    let keys = wanted.excluded_outbound_networks.iter().flat_map(|network| network_keys(*network));
    keys.map(|key| (ExcludedNetworkKey::new(wanted.netns.0, key.address, key.prefix_bits), 1)).collect()
}

fn row(
    wanted: &CapturedPod,
    listeners: Listeners,
    port_rules: &Changes<PortRuleKey, u32>,
    excluded_networks: &Changes<ExcludedNetworkKey, u32>,
) -> PodRow {
    let flags = BTreeMap::from([
        (POD_OUTBOUND, wanted.outbound),
        (POD_INBOUND, wanted.inbound),
        (POD_HAS_PORT_RULES, port_rules.put.iter().any(|(key, _)| key.direction != DIRECTION_PROBE)),
        (POD_HAS_PROBES, !wanted.probe_ports.is_empty()),
        (POD_HAS_EXCLUDED_NETWORKS, !excluded_networks.put.is_empty()),
    ]);
    let four = |address: Option<Ipv4Addr>| address.map_or(Address::NONE, |address| Address::from_ip(address.into()));
    let six = |address: Option<Ipv6Addr>| address.map_or(Address::NONE, |address| Address::from_ip(address.into()));
    PodRow {
        address4: four(wanted.address4),
        address6: six(wanted.address6),
        node4: four(wanted.node4),
        node6: six(wanted.node6),
        listener_ports: listeners.ports,
        workers: listeners.workers,
        flags: flags.iter().filter(|(_, set)| **set).map(|(flag, _)| *flag).sum(),
        failure: wanted.failure.number(),
        inbound_mode: wanted.inbound_mode.number(),
        flight_limit: wanted.flight_limit,
        padding: 0,
        spare: [0; POD_SPARE],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weft_abi::rows::{MODE_PERMISSIVE, MODE_STRICT};

    use super::*;
    use crate::bpf::pod::{Failure, Mode, NetnsCookie};

    fn wanted() -> CapturedPod {
        CapturedPod {
            netns: NetnsCookie(7),
            address4: Some("10.0.0.7".parse().unwrap()),
            address6: None,
            outbound: true,
            inbound: true,
            failure: Failure::Open,
            inbound_mode: Mode::Strict,
            inbound_ports: BTreeMap::new(),
            excluded_outbound_ports: BTreeSet::new(),
            excluded_outbound_networks: BTreeSet::new(),
            probe_ports: BTreeSet::new(),
            node4: None,
            node6: None,
            flight_limit: 10,
        }
    }

    #[test]
    fn a_pod_without_rules_costs_no_rule_lookups() {
        let plan = pod(&wanted(), Listeners { workers: 3, ports: 0b1111 }, &[], &[]);
        assert_eq!(plan.row.flags, POD_OUTBOUND | POD_INBOUND);
        assert_eq!(plan.row.workers, 3);
        assert_eq!(plan.row.inbound_mode, MODE_STRICT);
        assert!(plan.port_rules.put.is_empty());
    }

    #[test]
    fn a_rule_that_is_gone_is_removed_and_the_others_stay() {
        let mut pod_with_rules = wanted();
        pod_with_rules.inbound_ports.insert(8080, Mode::Permissive);
        pod_with_rules.excluded_outbound_ports.insert(5432);
        let first = pod(&pod_with_rules, Listeners::default(), &[], &[]);
        let keys: Vec<PortRuleKey> = first.port_rules.put.iter().map(|(key, _)| *key).collect();
        assert_eq!(first.port_rules.put[0].1, MODE_PERMISSIVE);
        pod_with_rules.inbound_ports.clear();
        let second = pod(&pod_with_rules, Listeners::default(), &keys, &[]);
        assert_eq!(second.port_rules.remove, vec![keys[0]]);
        assert_eq!(second.row.flags & POD_HAS_PORT_RULES, POD_HAS_PORT_RULES);
    }

    #[test]
    fn a_declared_probe_is_a_row_of_its_own_and_goes_with_the_declaration() {
        let mut probed = wanted();
        probed.probe_ports.insert(8080);
        probed.node4 = Some("10.0.0.1".parse().unwrap());
        let first = pod(&probed, Listeners::default(), &[], &[]);
        let keys: Vec<PortRuleKey> = first.port_rules.put.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [PortRuleKey::new(7, DIRECTION_PROBE, Port::from_host(8080))]);
        // Other connections cost no lookup more.
        assert_eq!(first.row.flags, POD_OUTBOUND | POD_INBOUND | POD_HAS_PROBES);
        assert!(first.row.is_reached_from(Address::from_ip("10.0.0.1".parse().unwrap())));
        assert!(!first.row.is_reached_from(Address::NONE));
        probed.probe_ports.clear();
        let second = pod(&probed, Listeners::default(), &keys, &[]);
        assert_eq!(second.port_rules.remove, keys);
        assert_eq!(second.row.flags & POD_HAS_PROBES, 0);
    }

    #[test]
    fn an_ip4_prefix_lies_in_the_mapped_range() {
        let [key] = network_keys("10.96.0.0/12".parse().unwrap())[..] else { panic!("one prefix, one key") };
        assert_eq!(key.prefix_bits, 108);
        assert_eq!(key.address.to_ip(), "10.96.0.0".parse::<std::net::IpAddr>().unwrap());
        assert_eq!(network_keys("fd00::/8".parse().unwrap())[0].prefix_bits, 8);
    }

    #[test]
    fn all_of_ip6_does_not_mean_ip4() {
        let keys = network_keys("::/0".parse().unwrap());
        let matches = |address: &str| {
            let address = Address::from_ip(address.parse().unwrap());
            keys.iter().any(|key| {
                let kept = |address: Address| u128::from_be_bytes(address.octets()) >> (128 - key.prefix_bits);
                kept(key.address) == kept(address)
            })
        };
        assert!(matches("2001:db8::1") && matches("fd00::1") && matches("::1") && matches("::fffe:0:1"));
        assert!(!matches("10.0.0.1") && !matches("0.0.0.0") && !matches("255.255.255.255"));
    }
}
