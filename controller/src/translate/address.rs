//! Which workload an address, or a network namespace, belongs to. One that two claim belongs to neither.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use weft_proto::names::{NodeName, WorkloadUid};

use super::Finding;
use crate::object::{ClusterAddress, MeshConfig, Pod};
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
    /// Claims that cannot be true, with the reason of each. They take nothing from anybody else.
    lies: HashMap<WorkloadUid, Vec<(IpAddr, String)>>,
    /// Titles of all that name one network namespace, for each of them.
    shared: HashMap<WorkloadUid, Vec<String>>,
    pub findings: BTreeSet<Finding>,
}

impl Owners {
    /// A finished pod owns nothing although its status keeps an address; one on the host's network shares its node's.
    pub fn of(objects: &Objects, mesh: &MeshConfig) -> Self {
        let mut owners = Self { shared: shared_namespaces(objects), ..Self::default() };
        let mut claims: HashMap<IpAddr, Vec<&Pod>> = HashMap::new();
        let truth = Truth::of(objects, mesh);
        for pod in objects.pods().filter(|pod| !pod.finished && !pod.host_network) {
            for address in &pod.addresses {
                if let Some(why) = truth.objection(pod, *address) {
                    owners.findings.insert(Finding { object: pod.title(), message: why.clone() });
                    owners.lies.entry(pod.uid.clone()).or_default().push((*address, why));
                } else {
                    claims.entry(*address).or_default().push(pod);
                }
            }
        }
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
                owners.findings.insert(Finding { object: title.clone(), message });
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

    /// Addresses of which something else is true there.
    pub fn other_addresses(&self, there: &Self) -> HashSet<IpAddr> {
        let differs = |address: &&IpAddr| {
            self.owner.get(*address) != there.owner.get(*address)
                || self.disputed.get(*address) != there.disputed.get(*address)
        };
        let all = self.owner.keys().chain(there.owner.keys()).chain(self.disputed.keys()).chain(there.disputed.keys());
        all.filter(differs).copied().collect()
    }

    /// Workloads of whose claims something else is true there.
    pub fn other_workloads<'a>(&'a self, there: &'a Self) -> HashSet<&'a WorkloadUid> {
        let differs = |uid: &&WorkloadUid| {
            self.lies.get(*uid) != there.lies.get(*uid) || self.shared.get(*uid) != there.shared.get(*uid)
        };
        let all = self.lies.keys().chain(there.lies.keys()).chain(self.shared.keys()).chain(there.shared.keys());
        all.filter(differs).collect()
    }

    /// The pod claims an address that it cannot have.
    pub fn is_lie(&self, pod: &Pod, address: IpAddr) -> bool {
        self.lies.get(&pod.uid).is_some_and(|lies| lies.iter().any(|(lie, _)| *lie == address))
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
        let lies = self.lies.get(&pod.uid).into_iter().flatten().map(|(_, why)| why.clone());
        pod.addresses
            .iter()
            .filter_map(|address| {
                let claimants = self.disputed.get(address)?;
                let others: Vec<&str> = claimants.iter().filter(|other| **other != title).map(String::as_str).collect();
                Some(format!("address {address} is claimed by {} too", others.join(", ")))
            })
            .chain(lies)
            .collect()
    }
}

/// Where pods' addresses cannot be from. A stolen node credential can write any into a status.
struct Truth<'a> {
    objects: &'a Objects,
    mesh: &'a MeshConfig,
    /// The API server gives them out itself, and none to a pod.
    services: HashSet<IpAddr>,
}

impl<'a> Truth<'a> {
    fn of(objects: &'a Objects, mesh: &'a MeshConfig) -> Self {
        let addresses = objects.services().flat_map(|(_, service)| &service.addresses);
        let services = addresses.filter_map(|address| match address {
            ClusterAddress::Cluster(address) => Some(*address),
            ClusterAddress::Balancer(_) | ClusterAddress::External(_) => None,
        });
        Self { objects, mesh, services: services.collect() }
    }

    fn objection(&self, pod: &Pod, address: IpAddr) -> Option<String> {
        let within = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&address));
        // Of an address that is within both ranges, because they overlap, they say nothing.
        if !within(&self.mesh.pod_ranges) {
            if within(&self.mesh.service_ranges) {
                return Some(format!("its address {address} is of the ranges of Services, and no pod's"));
            }
            if self.services.contains(&address) {
                return Some(format!("its address {address} is a Service's cluster address, and no pod's"));
            }
        }
        let node = self.objects.nodes.get(pod.node.as_ref()?.as_str()).filter(|_| self.mesh.ranges_by_node)?;
        let same_family = node.pod_ranges.iter().filter(|range| range.addr().is_ipv4() == address.is_ipv4());
        let ranges: Vec<IpNet> = same_family.copied().collect();
        let outside = !ranges.is_empty() && !within(&ranges);
        outside.then(|| format!("its address {address} is outside of the ranges of its node {}", node.metadata.name))
    }
}

/// One network namespace is one pod's: two in it would be guarded by each other's policies, and speak as each other.
fn shared_namespaces(objects: &Objects) -> HashMap<WorkloadUid, Vec<String>> {
    let mut claims: HashMap<(&NodeName, &Path), Vec<&Pod>> = HashMap::new();
    for pod in objects.pods().filter(|pod| !pod.finished && !pod.host_network) {
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
