//! Ports of pods that the API server calls: webhooks and aggregated APIs, by the Services that their objects name.
//!
//! It is in no mesh, brings TLS of its own, and comes from wherever the cluster's operator runs it, so that its address
//! says nothing. Only an administrator of the cluster can write such an object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::target::{pods, selects, target_port};
use crate::limits;
use crate::object::{Called, Caller, Kind};
use crate::store::{Contents, Objects};

/// Of the pods of one namespace, by name.
#[derive(Debug, Default)]
pub struct Calls {
    ports: HashMap<String, BTreeMap<u16, BTreeSet<String>>>,
    /// Whether a Service of the namespace is named at all, with pods or without.
    pub any: bool,
}

impl Calls {
    pub fn of(namespace: &str, contents: &Contents, objects: &Objects) -> Self {
        let mut calls = Self::default();
        for caller in objects.callers.values() {
            for called in caller.services.iter().filter(|called| *called.namespace == *namespace) {
                calls.any = true;
                calls.add(contents, caller, called);
            }
        }
        calls
    }

    fn add(&mut self, contents: &Contents, caller: &Caller, one: &Called) {
        let name = (one.namespace.clone(), one.name.clone());
        let Some(service) = contents.services.get(&name) else { return };
        // Nobody knows which pods a Service without a selector means.
        let Some(port) = service.ports.iter().find(|port| port.port == one.port) else { return };
        if service.selector.is_empty() {
            return;
        }
        for (name, pod) in pods(contents).filter(|(_, pod)| selects(&service.selector, pod)) {
            if let Some(number) = target_port(port, pod) {
                self.ports.entry(name.1.clone()).or_default().entry(number).or_default().insert(caller.title());
            }
        }
    }

    /// The called ports of a pod, and who says so, in a sentence.
    pub fn on(&self, pod: &str) -> Vec<(u16, String)> {
        let ports = self.ports.get(pod);
        ports.into_iter().flatten().map(|(port, callers)| (*port, sentence(callers))).collect()
    }
}

/// Namespaces of which other ports are called now.
pub fn others<'a>(then: &'a Objects, now: &'a Objects) -> BTreeSet<&'a str> {
    if Arc::ptr_eq(&then.callers, &now.callers) {
        return BTreeSet::new();
    }
    let differs =
        |(key, caller): &(&(Kind, String), &Arc<Caller>), there: &Objects| there.callers.get(*key) != Some(*caller);
    let gone = then.callers.iter().filter(|one| differs(one, now));
    let new = now.callers.iter().filter(|one| differs(one, then));
    gone.chain(new).flat_map(|(_, caller)| caller.services.iter().map(|called| called.namespace.as_str())).collect()
}

fn sentence(callers: &BTreeSet<String>) -> String {
    let named: Vec<&str> = callers.iter().take(limits::CALLERS_TOLD).map(String::as_str).collect();
    let more = match callers.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("the API server calls it ({}{more})", named.join(", "))
}
