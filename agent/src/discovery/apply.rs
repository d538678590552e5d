//! Folds changes into the set of resources and makes snapshots of it. Pure.
//!
//! A [`Change`] is collected until the controller says that it is complete; only then is it folded, so
//! that a stream that breaks in the middle leaves everything as it was. Settings and the trust bundle
//! have a last good reading that outlives a bad one; they are never removed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use weft_policy::{Policy, PolicyName};
use weft_proto::resource::{SETTINGS, TRUST, digest, shard, shards};
use weft_proto::v1;

use super::parse::{Domains, Features, Here, NodeEnrolment, Reading, Settings, policy_name, read};
use super::snapshots::Nack;
use crate::limits;
use crate::model::{Enrolment, Parts, Service, Snapshot, SnapshotVersion};

/// Messages of one change, in their order: resources, and names of those that are gone.
#[derive(Debug, Default)]
pub struct Change {
    messages: Vec<(Vec<v1::Resource>, Vec<String>)>,
    resources: usize,
    bytes: usize,
}

/// Why a change is not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("a change is larger than this agent can hold")]
    TooLarge,
    #[error("a resource of a change cannot be decoded")]
    Undecodable,
}

/// All resources that this agent holds, read.
#[derive(Debug)]
pub struct Resources {
    features: Features,
    settings: Arc<Settings>,
    trust: Arc<[Vec<u8>]>,
    /// None: the controller has not said where this agent is.
    here: Option<Here>,
    entries: BTreeMap<Arc<str>, Entry>,
}

#[derive(Debug)]
struct Entry {
    version: Vec<u8>,
    /// Its part in the snapshot's name, so that a change costs one hash and not one for each resource.
    digest: u64,
    /// As it came, for the disk: settings and trust keep the last good one's text under its own version.
    kept: Bytes,
    reading: Reading,
    /// A Service as this node's clients see it.
    seen: Option<Arc<Service>>,
    nack: Option<String>,
    /// False after a start from a file that another build wrote: this build may read more in it than that one kept.
    resumable: bool,
}

impl Change {
    /// Adds the next message; true when it completes the change.
    pub fn add(&mut self, message: v1::DiscoveryResponse) -> Result<bool, Unusable> {
        self.resources += message.upserts.len() + message.removals.len();
        self.bytes += message.encoded_len();
        if self.resources > limits::RESOURCES_MAXIMUM || self.bytes > limits::CHANGE_MAXIMUM {
            return Err(Unusable::TooLarge);
        }
        let upserts: Result<_, _> = message.upserts.into_iter().map(v1::Resource::decode).collect();
        self.messages.push((upserts.map_err(|_| Unusable::Undecodable)?, message.removals));
        Ok(message.complete)
    }

    fn is_empty(&self) -> bool {
        self.resources == 0
    }
}

impl Resources {
    #[must_use]
    pub fn new(features: Features) -> Self {
        Self { features, settings: Arc::default(), trust: Arc::from([]), here: None, entries: BTreeMap::new() }
    }

    /// Resources from a file. `features` are those that both its writer and this build have: what the writer could not
    /// read it did not keep whole.
    #[must_use]
    pub fn restored(features: Features, resources: Vec<v1::Resource>, resumable: bool) -> Self {
        let mut restored = Self::new(features);
        restored.upsert_all(resources);
        restored.look_around();
        for entry in restored.entries.values_mut() {
            entry.resumable = resumable;
        }
        restored.features = Features::own();
        restored
    }

    /// Applies a complete change; false when nothing came of it. Within one message removals come after upserts; a later
    /// message has the last word. What was restored and not claimed as held is gone unless it came again: the controller
    /// does not know that it should be removed.
    pub fn fold(&mut self, change: Change) -> bool {
        let mut changed = !change.is_empty();
        for (upserts, removals) in change.messages {
            self.upsert_all(upserts);
            for name in &removals {
                if name == SETTINGS || name == TRUST {
                    // Every mesh has them: without them nothing would be captured and nobody trusted.
                    tracing::warn!(resource = %name, "the controller removed what every mesh has; kept");
                } else {
                    self.entries.remove(name.as_str());
                }
            }
        }
        self.look_around();
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.resumable);
        changed |= self.entries.len() != before;
        changed
    }

    /// What the controller need not send again, as digests of its shards.
    #[must_use]
    pub fn shards(&self) -> Vec<Vec<u8>> {
        shards(self.resumable())
    }

    /// The same by name, of these shards alone.
    #[must_use]
    pub fn held(&self, of: &[u8]) -> Vec<v1::ResourceVersion> {
        let held = self.resumable().filter(|(name, _)| of.contains(&shard(name)));
        held.map(|(name, version)| v1::ResourceVersion { name: name.to_owned(), version: version.to_vec() }).collect()
    }

    fn resumable(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let resumable = self.entries.iter().filter(|(_, entry)| entry.resumable);
        resumable.map(|(name, entry)| (name.as_ref(), entry.version.as_slice()))
    }

    /// The resources as they came, for the disk.
    #[must_use]
    pub fn kept(&self) -> Vec<Bytes> {
        self.entries.values().map(|entry| entry.kept.clone()).collect()
    }

    /// The snapshot of all resources, with the nacks that stand.
    #[must_use]
    pub fn snapshot(&self) -> (Snapshot, Vec<Nack>) {
        let version = self.entries.values().fold(0, |folded, entry| folded ^ entry.digest);
        let mut nacks: Vec<_> = self.entries.iter().filter_map(|(name, entry)| entry.nack_of(name)).collect();
        let mut parts = Parts {
            version: SnapshotVersion(Arc::from(format!("{version:016x}"))),
            trust_domain: self.settings.domains.name.clone(),
            trust_domain_aliases: self.settings.domains.aliases.clone(),
            roots: Arc::clone(&self.trust),
            captured_networks: self.settings.captured_networks.clone(),
            never_captured: self.settings.never_captured.clone(),
            lease_milliseconds: self.settings.lease_milliseconds,
            workloads: Vec::new(),
            services: Vec::new(),
            enrolments: Vec::new(),
            observations: Vec::new(),
            namespaces: Vec::new(),
            routes: Vec::new(),
            traffic: Vec::new(),
        };
        for (name, entry) in &self.entries {
            match &entry.reading {
                Reading::Workload(workload) => parts.workloads.push(Arc::clone(workload)),
                Reading::Service(service) => {
                    parts.services.push(entry.seen.clone().unwrap_or_else(|| service.seen_from(self.here.as_ref())));
                }
                Reading::Observation(enrolment) => parts.observations.push(Arc::clone(enrolment)),
                Reading::Namespace(name, way) => parts.namespaces.push((name.clone(), *way)),
                Reading::Routes(routes) => parts.routes.push(Arc::clone(routes)),
                Reading::Traffic(traffic) => parts.traffic.push(Arc::clone(traffic)),
                Reading::Enrolment(enrolment) => {
                    let (enrolment, absent) = self.with_policies(enrolment);
                    parts.enrolments.push(Arc::new(enrolment));
                    nacks.extend(absent.map(|reason| entry.nack(name, reason)));
                }
                Reading::Policy(_) | Reading::Settings(_) | Reading::Trust(_) | Reading::Node(_) | Reading::Nothing => {
                }
            }
        }
        nacks.sort_by(|one, other| one.resource.cmp(&other.resource));
        nacks.truncate(limits::NACKS_MAXIMUM);
        (Snapshot::new(parts), nacks)
    }

    /// The enrolment with its policies, enforced ones first. A policy that is named and not there stands as a Deny of
    /// everything: a change is complete, so its absence is a fault, and a fault must not open a door.
    fn with_policies(&self, node_enrolment: &NodeEnrolment) -> (Enrolment, Option<String>) {
        let mut enrolment = node_enrolment.enrolment.clone();
        let mut absent = None;
        for name in &node_enrolment.policies {
            if let Some(Entry { reading: Reading::Policy(policy), .. }) = self.entries.get(name.as_str()) {
                enrolment.policies.push(Arc::clone(policy));
            } else {
                enrolment.policies.push(Arc::new(absent_policy(name)));
                absent = Some(format!("authorization: {name:?} has not been received; nobody may connect until it is"));
            }
        }
        enrolment.policies.sort_by_key(|policy| !policy.enforced);
        (enrolment, absent)
    }

    /// Where this agent is decides what of a Service its clients see: worked out once for each change.
    fn look_around(&mut self) {
        let nodes = self
            .entries
            .range::<str, _>((Bound::Included("node/"), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with("node/"));
        let here =
            nodes.filter_map(|(_, entry)| if let Reading::Node(here) = &entry.reading { Some(here) } else { None });
        let here = here.last().cloned();
        let moved = self.here != here;
        self.here = here;
        for entry in self.entries.values_mut().filter(|entry| moved || entry.seen.is_none()) {
            if let Reading::Service(service) = &entry.reading {
                entry.seen = Some(service.seen_from(self.here.as_ref()));
            }
        }
    }

    fn upsert_all(&mut self, mut upserts: Vec<v1::Resource>) {
        // Identities are written in the mesh's names, so the settings come first.
        upserts.sort_by_key(|resource| resource.name != SETTINGS);
        for resource in upserts {
            self.upsert(resource);
        }
    }

    fn upsert(&mut self, resource: v1::Resource) {
        if resource.name.len() > limits::RESOURCE_NAME_MAXIMUM
            || resource.version.len() > limits::RESOURCE_VERSION_MAXIMUM
        {
            tracing::warn!(name_length = resource.name.len(), "a resource with an overlong name or version is ignored");
            return;
        }
        let mut read = read(&resource, &self.features, &self.settings.domains);
        if let Some(reason) = &mut read.nack {
            truncate(reason, limits::NACK_REASON_MAXIMUM);
            tracing::warn!(resource = %resource.name, %reason, "a resource cannot be applied as written");
        }
        let name: Arc<str> = Arc::from(resource.name.as_str());
        let before = self.entries.get(&name);
        // Not `read.nack` alone: only settings and trust have a last good reading.
        let last_good = before.filter(|_| read.nack.is_some() && (&*name == SETTINGS || &*name == TRUST));
        let (reading, kept) = match last_good {
            Some(before) => (before.reading.clone(), before.kept.clone()),
            None => (read.reading, Bytes::from(resource.encode_to_vec())),
        };
        let digest = digest(&name, &resource.version);
        let entry =
            Entry { version: resource.version, digest, kept, reading, seen: None, nack: read.nack, resumable: true };
        let settings =
            if let Reading::Settings(settings) = &entry.reading { Some(Arc::new((**settings).clone())) } else { None };
        if let Reading::Trust(roots) = &entry.reading {
            self.trust = Arc::clone(roots);
        }
        self.entries.insert(name, entry);
        if let Some(settings) = settings {
            let renamed = self.settings.domains != settings.domains;
            self.settings = settings;
            if renamed {
                self.read_identities_again();
            }
        }
    }

    /// After the mesh's names changed: rare, so everything that holds an identity is read anew from its text.
    fn read_identities_again(&mut self) {
        let domains: &Domains = &self.settings.domains;
        for entry in self.entries.values_mut() {
            if !matches!(entry.reading, Reading::Workload(_) | Reading::Policy(_)) {
                continue;
            }
            if let Ok(resource) = v1::Resource::decode(entry.kept.clone()) {
                let again = read(&resource, &self.features, domains);
                (entry.reading, entry.nack) = (again.reading, again.nack);
            }
        }
    }
}

impl Entry {
    fn nack_of(&self, name: &Arc<str>) -> Option<Nack> {
        self.nack.as_ref().map(|reason| self.nack(name, reason.clone()))
    }

    fn nack(&self, name: &Arc<str>, reason: String) -> Nack {
        Nack { resource: name.to_string(), version: self.version.clone(), reason }
    }
}

/// Named for people as far as it can be.
fn absent_policy(resource: &str) -> Policy {
    let rest = resource.split_once('/').map_or(resource, |(_, rest)| rest);
    Policy::absent(policy_name(rest).unwrap_or_else(|_| PolicyName::Operator(Arc::from("unnamed"))))
}

/// Cuts at a character's border.
fn truncate(text: &mut String, maximum: usize) {
    if let Some(end) = (0..=maximum.min(text.len())).rev().find(|end| text.is_char_boundary(*end)) {
        text.truncate(end);
    }
}
