//! Which authorization policies select which pods, and the resources that agents receive for them.
//!
//! A policy on Services speaks of other ports on each pod where target ports have names; pods with the same ports
//! share one resource.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_crd::Action;
use weft_proto::resource;
use weft_proto::v1::{self, Resource, resource::Body};

use super::Encoded;
use super::part::{Draft, bounded};
use super::target::{self, Resolved};
use super::world::World;
use crate::object::{AuthorizationPolicy, Key, Kind, MeshConfig};
use crate::status::Reason;
use crate::store::Name;

/// Agents without one of a policy's features read the policy safely.
const CONNECTIONS: &str = "authorization.l4";
const REQUESTS: &str = "authorization.l7";
/// Upper case: no namespace can have this name.
const OPERATOR: &str = "MeshConfig";
/// Pods named in one condition; the rest is a number.
const NAMED_PODS: usize = 5;

#[derive(Debug, Default)]
pub struct Selected<'a> {
    per_pod: HashMap<&'a Name, Vec<Arc<Encoded>>>,
    /// The operator's rules, for every captured pod.
    enforced: Vec<Arc<Encoded>>,
    policies: BTreeMap<Key, Vec<&'a Name>>,
}

pub fn select<'a>(world: &World<'a>, out: &mut Draft) -> Selected<'a> {
    let mut selected = Selected { enforced: world.enforced.into_iter().cloned().collect(), ..Selected::default() };
    for policy in world.own.authorization.values() {
        let variants = variants(world, policy, out);
        let several = variants.len() > 1;
        let key = target::key(Kind::AuthorizationPolicy, &policy.metadata);
        for (ports, pods) in variants {
            let resource = Arc::new(Encoded::from(bounded(variant(policy, &ports, several), &mut out.findings)));
            for pod in pods {
                let own = selected.per_pod.entry(pod).or_insert_with(|| selected.enforced.clone());
                own.push(Arc::clone(&resource));
                selected.policies.entry(key.clone()).or_default().push(pod);
            }
        }
    }
    selected
}

fn variants<'a>(
    world: &World<'a>,
    policy: &AuthorizationPolicy,
    out: &mut Draft,
) -> BTreeMap<BTreeSet<u16>, Vec<&'a Name>> {
    let namespace = &policy.metadata.namespace;
    let mut conditions = Vec::new();
    let mut resolved: Vec<Resolved<'_>> = Vec::new();
    for target in &policy.targets {
        match target::resolve(world.own, namespace, target) {
            Ok(found) => {
                resolved.push(found);
                conditions.push(target::condition(
                    &policy.metadata,
                    target,
                    Reason::Accepted,
                    "the policy is in force",
                ));
            }
            Err((reason, message)) => conditions.push(target::condition(&policy.metadata, target, reason, message)),
        }
    }
    out.conditions.insert(target::key(Kind::AuthorizationPolicy, &policy.metadata), conditions);
    let mut variants: BTreeMap<BTreeSet<u16>, Vec<&Name>> = BTreeMap::new();
    for (name, pod) in target::pods(world.own) {
        let selections: Vec<BTreeSet<u16>> = resolved.iter().filter_map(|target| target.ports(pod)).collect();
        if selections.is_empty() {
            continue;
        }
        // Every port, if one selection says so; targets of one policy are of one kind, so that is a Pod target.
        let every = selections.iter().any(BTreeSet::is_empty);
        let ports = if every { BTreeSet::new() } else { selections.into_iter().flatten().collect() };
        variants.entry(ports).or_default().push(name);
    }
    variants
}

fn variant(policy: &AuthorizationPolicy, ports: &BTreeSet<u16>, several: bool) -> Resource {
    let metadata = &policy.metadata;
    let mut name = resource::authorization(&metadata.namespace, &metadata.name);
    if several {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        name = format!("{name}/{}", ports.join("-"));
    }
    let body = v1::AuthorizationPolicy {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        action: match policy.action {
            Action::Allow => v1::Action::Allow,
            Action::Deny => v1::Action::Deny,
            Action::Audit => v1::Action::Audit,
        }
        .into(),
        dry_run: policy.dry_run,
        enforced: false,
        rules: policy.rules.clone(),
        target_ports: ports.iter().copied().map(u32::from).collect(),
    };
    resource::versioned(name, features(&body.rules), Body::Authorization(body))
}

pub fn enforced(mesh: &MeshConfig) -> Option<Resource> {
    if mesh.denied.is_empty() {
        return None;
    }
    let body = v1::AuthorizationPolicy {
        namespace: OPERATOR.to_owned(),
        name: weft_crd::MESH_CONFIG_NAME.to_owned(),
        action: v1::Action::Deny.into(),
        dry_run: false,
        enforced: true,
        rules: mesh.denied.clone(),
        target_ports: Vec::new(),
    };
    let name = resource::authorization(OPERATOR, weft_crd::MESH_CONFIG_NAME);
    Some(resource::versioned(name, features(&body.rules), Body::Authorization(body)))
}

fn features(rules: &[v1::AuthorizationRule]) -> Vec<String> {
    let judges_requests = rules.iter().any(|rule| rule.operations.is_some() || !rule.headers.is_empty());
    [CONNECTIONS].into_iter().chain(judges_requests.then_some(REQUESTS)).map(str::to_owned).collect()
}

impl Selected<'_> {
    /// The policies of one pod; the operator's first.
    pub fn of(&self, pod: &Name) -> &[Arc<Encoded>] {
        self.per_pod.get(pod).unwrap_or(&self.enforced)
    }

    /// What the pod's enforced policies, the operator's among them, speak of.
    pub fn locked(&self, pod: &Name) -> Locked {
        let mut locked = Locked::default();
        self.of(pod).iter().for_each(|policy| locked.add(policy));
        locked
    }

    /// Says so where a policy selects pods that nobody guards.
    pub fn report_unenforced(&self, world: &World<'_>, out: &mut Draft) {
        for (key, pods) in &self.policies {
            let unguarded: Vec<String> = pods
                .iter()
                .filter_map(|name| world.own.pods.get(*name))
                .filter(|pod| !out.is_enrolled(pod))
                .map(|pod| pod.title())
                .collect();
            if unguarded.is_empty() {
                continue;
            }
            let shown = unguarded.iter().take(NAMED_PODS).cloned().collect::<Vec<_>>().join(", ");
            let more = unguarded.len().saturating_sub(NAMED_PODS);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            out.find(key, format!("it is not enforced for pods that are not captured: {shown}{rest}"));
        }
    }
}

/// Which of a pod's ports enforced policies speak of: an exclusion of one of them would go around authorization.
#[derive(Debug, Default)]
pub struct Locked {
    /// At least one policy selects the pod.
    pub selected: bool,
    every_port: bool,
    ports: BTreeSet<u16>,
}

impl Locked {
    pub fn contains(&self, port: u16) -> bool {
        self.every_port || self.ports.contains(&port)
    }

    fn add(&mut self, policy: &Resource) {
        let spoken = match &policy.body {
            Some(Body::Authorization(policy)) if policy.dry_run => return,
            Some(Body::Authorization(policy)) => spoken_of(policy),
            // Agents read it safely, which is about every port.
            _ => None,
        };
        self.selected = true;
        match spoken {
            Some(ports) => self.ports.extend(ports),
            None => self.every_port = true,
        }
    }
}

/// None: every port. An Allow refuses what it does not name, so it speaks of all ports of its target.
fn spoken_of(policy: &v1::AuthorizationPolicy) -> Option<BTreeSet<u16>> {
    let numbers = |ports: &[u32]| ports.iter().filter_map(|port| u16::try_from(*port).ok()).collect::<BTreeSet<u16>>();
    let targets = (!policy.target_ports.is_empty()).then(|| numbers(&policy.target_ports));
    let named = |rule: &v1::AuthorizationRule| rule.to.as_ref().filter(|to| !to.not).map(|to| numbers(&to.ports));
    let named: Option<Vec<BTreeSet<u16>>> = policy.rules.iter().map(named).collect();
    let narrow = policy.action() != v1::Action::Allow && !policy.rules.is_empty();
    match (targets, named.filter(|_| narrow)) {
        (targets, None) => targets,
        (None, Some(named)) => Some(named.into_iter().flatten().collect()),
        (Some(targets), Some(named)) => {
            Some(named.into_iter().flatten().filter(|port| targets.contains(port)).collect())
        }
    }
}
