//! What a part of the translation is made of, and what of it was looked at.
//!
//! Invariant: whatever is not the namespace's own is looked at through a method here, which notes it; `stale` knows
//! by these notes when a part is out of date.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_proto::names::{NodeName, WorkloadUid};

use super::address::Owners;
use super::calls::Calls;
use super::part::bounded;
use super::service::{Addresses, Own};
use super::{Encoded, Facts, Finding, Last, Observed, authorization, target};
use crate::object::{MeshConfig, Pod, Service};
use crate::store::{Contents, Name, Objects};

/// What all parts have in common.
#[derive(Debug)]
pub struct Mesh {
    pub config: Arc<MeshConfig>,
    pub owners: Arc<Owners>,
    pub addresses: Arc<Addresses>,
    /// Nodes with an agent of which nothing is known.
    pub unknown: BTreeSet<NodeName>,
    /// Workloads that such an agent may have been serving before.
    pub inherited: Option<Arc<BTreeSet<WorkloadUid>>>,
    /// Where the agents' own pods are, and the controller's.
    pub own_namespace: Option<String>,
    /// The operator's rules, for every captured pod.
    pub enforced: Option<Arc<Encoded>>,
    /// About the operator's own.
    pub findings: BTreeSet<Finding>,
}

impl Mesh {
    pub fn of(objects: &Objects, observed: &Observed, facts: &Facts, last: Option<&Last>) -> Self {
        let config = objects.mesh_config.clone().unwrap_or_default();
        let known = last.filter(|last| last.mesh.config == config && Arc::ptr_eq(&last.objects.nodes, &objects.nodes));
        let known = known.filter(|last| last.has_same_addresses(objects)).map(|last| &last.mesh);
        let (owners, addresses) = if let Some(mesh) = known {
            (Arc::clone(&mesh.owners), Arc::clone(&mesh.addresses))
        } else {
            let owners = Owners::of(objects, &config);
            let addresses = Addresses::of(objects, &owners);
            (Arc::new(owners), Arc::new(addresses))
        };
        let mut findings = BTreeSet::new();
        let enforced = authorization::enforced(&config).map(|whole| Arc::new(bounded(whole, &mut findings).into()));
        let (unknown, inherited) = (unknown(objects, observed, facts), facts.inherited.clone());
        let own_namespace = facts.agents.as_ref().map(|agents| agents.namespace.clone());
        Self { config, owners, addresses, unknown, inherited, own_namespace, enforced, findings }
    }
}

impl Last {
    /// The same pods and Services, so the same addresses.
    fn has_same_addresses(&self, objects: &Objects) -> bool {
        let same = |(namespace, now): (&Arc<str>, &Arc<Contents>)| {
            let then = self.objects.of(namespace);
            let same =
                |then: &Contents| Arc::ptr_eq(&then.pods, &now.pods) && Arc::ptr_eq(&then.services, &now.services);
            then.map_or_else(|| now.pods.is_empty() && now.services.is_empty(), |then| same(then))
        };
        let gone = |(namespace, then): (&Arc<str>, &Arc<Contents>)| {
            objects.of(namespace).is_none() && !(then.pods.is_empty() && then.services.is_empty())
        };
        objects.namespaces.iter().all(same) && !self.objects.namespaces.iter().any(gone)
    }
}

/// Nodes whose agent's pod is ready and has not spoken to us: what it serves it serves on, and unknown is never false.
fn unknown(objects: &Objects, observed: &Observed, facts: &Facts) -> BTreeSet<NodeName> {
    let Some(agents) = &facts.agents else { return BTreeSet::new() };
    let own = objects.of(&agents.namespace).into_iter().flat_map(|contents| target::pods(contents));
    let ready = own.filter(|(_, pod)| pod.service_account == agents.service_account && pod.ready);
    ready.filter_map(|(_, pod)| pod.node.clone()).filter(|node| !observed.spoken.contains(node)).collect()
}

pub struct World<'a> {
    pub namespace: &'a str,
    pub own: &'a Contents,
    pub observed: &'a Observed,
    pub mesh: &'a MeshConfig,
    pub enforced: Option<&'a Arc<Encoded>>,
    /// Ports of the namespace's pods that the API server calls.
    pub calls: Calls,
    owners: &'a Owners,
    addresses: &'a Addresses,
    own_namespace: Option<&'a str>,
    unknown: &'a BTreeSet<NodeName>,
    inherited: Option<&'a BTreeSet<WorkloadUid>>,
    objects: &'a Objects,
    read: RefCell<Read>,
}

/// What was looked at and is not the namespace's own.
#[derive(Debug, Default)]
pub struct Read {
    pub namespaces: BTreeSet<String>,
    pub addresses: HashSet<IpAddr>,
    /// Nodes, for their zones.
    pub nodes: BTreeSet<String>,
}

impl<'a> World<'a> {
    pub fn new(
        (namespace, own): (&'a str, &'a Contents),
        objects: &'a Objects,
        observed: &'a Observed,
        mesh: &'a Mesh,
    ) -> Self {
        Self {
            namespace,
            own,
            observed,
            mesh: &mesh.config,
            enforced: mesh.enforced.as_ref(),
            calls: Calls::of(namespace, own, objects),
            owners: &mesh.owners,
            addresses: &mesh.addresses,
            own_namespace: mesh.own_namespace.as_deref(),
            unknown: &mesh.unknown,
            inherited: mesh.inherited.as_deref(),
            objects,
            read: RefCell::default(),
        }
    }

    pub fn into_read(self) -> Read {
        self.read.into_inner()
    }

    /// Whether Weft itself runs in it.
    pub fn is_own_namespace(&self) -> bool {
        self.own_namespace == Some(self.namespace)
    }

    /// Another namespace's, or the own.
    pub fn contents(&self, namespace: &str) -> Option<&'a Contents> {
        if namespace == self.namespace {
            return Some(self.own);
        }
        if !self.read.borrow().namespaces.contains(namespace) {
            self.read.borrow_mut().namespaces.insert(namespace.to_owned());
        }
        self.objects.of(namespace).map(AsRef::as_ref)
    }

    pub fn service(&self, namespace: &str, name: &str) -> Option<&'a Service> {
        let services = &self.contents(namespace)?.services;
        services.get(&(namespace.to_owned(), name.to_owned())).map(AsRef::as_ref)
    }

    /// The agent of its node has not spoken to us, and may have been serving it for another controller.
    pub fn is_unknown(&self, pod: &Pod) -> bool {
        pod.node.as_ref().is_some_and(|node| self.unknown.contains(node))
            && self.inherited.is_some_and(|inherited| inherited.contains(&pod.uid))
    }

    fn note(&self, address: IpAddr) {
        self.read.borrow_mut().addresses.insert(address);
    }

    /// The workload that an address is of.
    pub fn owner(&self, address: IpAddr) -> Option<&'a WorkloadUid> {
        self.note(address);
        self.owners.owner(address)
    }

    /// The pod that an address is of. Of another namespace's pod nothing may be read but its names and uids, which never
    /// change.
    pub fn owning_pod(&self, address: IpAddr) -> Option<&'a Pod> {
        self.owner(address).and_then(|uid| self.objects.pod(uid)).map(AsRef::as_ref)
    }

    pub fn zone(&self, node: &str) -> Option<&'a str> {
        self.read.borrow_mut().nodes.insert(node.to_owned());
        self.objects.nodes.get(node)?.zone()
    }

    /// Several claim it, so nobody knows who answers there.
    pub fn is_disputed(&self, address: IpAddr) -> bool {
        self.note(address);
        self.owners.is_disputed(address)
    }

    /// A pod of this namespace claims an address that it cannot have.
    pub fn is_lie(&self, pod: &Pod, address: IpAddr) -> bool {
        self.owners.is_lie(pod, address)
    }

    /// Why the network namespace of a pod of this namespace is not its own, if it is not.
    pub fn shares_namespace(&self, pod: &Pod) -> Option<String> {
        self.owners.shares_namespace(pod)
    }

    /// The addresses that are a pod's alone, sorted.
    pub fn addresses(&self, pod: &Pod) -> Vec<IpAddr> {
        pod.addresses.iter().for_each(|address| self.note(*address));
        self.owners.addresses(pod)
    }

    /// Sentences about addresses that a pod may not have.
    pub fn disputes(&self, pod: &Pod) -> Vec<String> {
        pod.addresses.iter().for_each(|address| self.note(*address));
        self.owners.disputes(pod)
    }

    /// Those that lead to a Service of this namespace.
    pub fn service_addresses(&self, service: &Name) -> &'a Own {
        self.addresses.of_service(service)
    }
}
