//! Which workload an address, or a network namespace, belongs to. One that two claim belongs to neither.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;

use weft_proto::names::{NodeName, WorkloadUid};

use super::Finding;
use crate::object::Pod;
use crate::store::Objects;

/// An address as it travels: 4 or 16 bytes.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Undisputed owners, and who disputes what.
#[derive(Debug, Default)]
pub struct Owners {
    owner: HashMap<IpAddr, WorkloadUid>,
    disputed: HashMap<IpAddr, Vec<String>>,
    /// Titles of all that name one network namespace, for each of them.
    shared: HashMap<WorkloadUid, Vec<String>>,
}

impl Owners {
    /// A finished pod owns nothing although its status keeps an address; one on the host's network shares its node's.
    pub fn of(objects: &Objects, findings: &mut BTreeSet<Finding>) -> Self {
        let mut claims: HashMap<IpAddr, Vec<&Pod>> = HashMap::new();
        for pod in objects.pods.values().filter(|pod| !pod.finished && !pod.host_network) {
            for address in &pod.addresses {
                claims.entry(*address).or_default().push(pod);
            }
        }
        let mut owners = Self { shared: shared_namespaces(objects), ..Self::default() };
        for (address, pods) in claims {
            if let [pod] = pods.as_slice() {
                owners.owner.insert(address, pod.uid.clone());
                continue;
            }
            let titles: Vec<String> = pods.iter().map(|pod| pod.title()).collect();
            for title in &titles {
                let others: Vec<&str> = titles.iter().filter(|other| *other != title).map(String::as_str).collect();
                let message =
                    format!("its address {address} is claimed by {} too, and belongs to neither", others.join(", "));
                findings.insert(Finding { object: title.clone(), message });
            }
            owners.disputed.insert(address, titles);
        }
        owners
    }

    pub fn owner(&self, address: IpAddr) -> Option<&WorkloadUid> {
        self.owner.get(&address)
    }

    pub fn is_pods(&self, address: IpAddr) -> bool {
        self.owner.contains_key(&address) || self.disputed.contains_key(&address)
    }

    /// Several claim it, so nobody knows who answers there.
    pub fn is_disputed(&self, address: IpAddr) -> bool {
        self.disputed.contains_key(&address)
    }

    /// Why the pod's network namespace is not its own, if it is not.
    pub fn shares_namespace(&self, pod: &Pod) -> Option<String> {
        let title = pod.title();
        let others = self.shared.get(&pod.uid)?.iter().filter(|other| **other != title).cloned();
        Some(format!("its network namespace is named by {} too", others.collect::<Vec<_>>().join(", ")))
    }

    /// The addresses that are the pod's alone, sorted.
    pub fn addresses(&self, pod: &Pod) -> Vec<IpAddr> {
        let mut own: Vec<IpAddr> =
            pod.addresses.iter().copied().filter(|address| self.owner.get(address) == Some(&pod.uid)).collect();
        own.sort_unstable();
        own
    }

    /// Sentences about addresses that the pod may not have.
    pub fn disputes(&self, pod: &Pod) -> Vec<String> {
        let title = pod.title();
        pod.addresses
            .iter()
            .filter_map(|address| {
                let claimants = self.disputed.get(address)?;
                let others: Vec<&str> = claimants.iter().filter(|other| **other != title).map(String::as_str).collect();
                Some(format!("address {address} is claimed by {} too", others.join(", ")))
            })
            .collect()
    }
}

/// One network namespace is one pod's: two in it would be guarded by each other's policies, and speak as each other.
fn shared_namespaces(objects: &Objects) -> HashMap<WorkloadUid, Vec<String>> {
    let mut claims: HashMap<(&NodeName, &Path), Vec<&Pod>> = HashMap::new();
    for pod in objects.pods.values().filter(|pod| !pod.finished && !pod.host_network) {
        if let (Some(node), Some(netns)) = (&pod.node, &pod.netns) {
            claims.entry((node, Path::new(netns))).or_default().push(pod);
        }
    }
    let mut shared = HashMap::new();
    for pods in claims.values().filter(|pods| pods.len() > 1) {
        let titles: Vec<String> = pods.iter().map(|pod| pod.title()).collect();
        shared.extend(pods.iter().map(|pod| (pod.uid.clone(), titles.clone())));
    }
    shared
}
