//! What is said about a Service port to everybody, and to the clients of one namespace.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use weft_proto::names::{Namespace, NamespacedName};

/// Values by Service, port and audience; found without making a key.
#[derive(Debug, Clone)]
pub struct PerPort<T> {
    services: HashMap<NamespacedName, HashMap<u16, Said<T>>>,
}

#[derive(Debug, Clone)]
struct Said<T> {
    producer: Option<Arc<T>>,
    consumers: HashMap<Namespace, Arc<T>>,
}

impl<T> Default for PerPort<T> {
    fn default() -> Self {
        Self { services: HashMap::new() }
    }
}

impl<T> PerPort<T> {
    pub fn insert(&mut self, service: &NamespacedName, port: u16, audience: Option<&Namespace>, value: Arc<T>) {
        let ports = self.services.entry(service.clone()).or_default();
        let said = ports.entry(port).or_insert_with(|| Said { producer: None, consumers: HashMap::new() });
        match audience {
            None => said.producer = Some(value),
            Some(namespace) => {
                said.consumers.insert(namespace.clone(), value);
            }
        }
    }

    /// Whether anybody has said something about this port.
    #[must_use]
    pub fn has(&self, service: &NamespacedName, port: u16) -> bool {
        self.services.get(service).is_some_and(|ports| ports.contains_key(&port))
    }

    /// The client namespace's own, else the producer's; the two are never merged. In the Service's own namespace there is
    /// no consumer.
    #[must_use]
    pub fn of(&self, service: &NamespacedName, port: u16, client: &Namespace) -> Option<&Arc<T>> {
        let said = self.services.get(service)?.get(&port)?;
        let own = if *client == service.namespace { None } else { said.consumers.get(client) };
        own.or(said.producer.as_ref())
    }
}
