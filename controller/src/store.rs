//! All objects at one moment: immutable, shared, looked up by name.
//!
//! Kept by namespace, so that what did not change is the same allocation: translation looks at no more than what is
//! another one now. No joins here: what objects mean together is translation's business.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_proto::names::WorkloadUid;

use crate::object::{
    AuthenticationPolicy, AuthorizationPolicy, Caller, EndpointSlice, Key, Kind, MeshConfig, Namespace, Node, Object,
    Pod, Route, RouteKind, Service, TrafficPolicy,
};

/// `(namespace, name)`.
pub type Name = (String, String);

/// One kind's objects. A copy costs nothing; the first change after it copies this kind's names alone.
pub type Shelf<T> = Arc<BTreeMap<Name, Arc<T>>>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    pub mesh_config: Option<Arc<MeshConfig>>,
    pub nodes: Arc<BTreeMap<String, Arc<Node>>>,
    /// By name; also namespaces that have no object of their own.
    pub namespaces: Arc<BTreeMap<Arc<str>, Arc<Contents>>>,
    pub callers: Arc<BTreeMap<(Kind, String), Arc<Caller>>>,
    by_uid: Arc<HashMap<WorkloadUid, Name>>,
}

/// Everything in one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub namespace: Option<Arc<Namespace>>,
    pub pods: Shelf<Pod>,
    pub services: Shelf<Service>,
    pub endpoint_slices: Shelf<EndpointSlice>,
    pub authentication: Shelf<AuthenticationPolicy>,
    pub authorization: Shelf<AuthorizationPolicy>,
    pub traffic: Shelf<TrafficPolicy>,
    pub http_routes: Shelf<Route>,
    pub grpc_routes: Shelf<Route>,
}

impl Objects {
    /// Holds exactly these from now on. What was there already stays the same allocation.
    pub fn become_these(&mut self, objects: impl IntoIterator<Item = Object>) {
        let mut gone: BTreeSet<Key> = Kind::ALL.iter().flat_map(|kind| self.keys(*kind)).collect();
        for object in objects {
            gone.remove(&object.key());
            self.insert(object);
        }
        for key in gone {
            self.remove(&key);
        }
    }

    /// True if that changes anything.
    pub fn insert(&mut self, object: Object) -> bool {
        let key = object.key();
        if let Object::MeshConfig(object) = object {
            return self.mesh_config.replace(Arc::clone(&object)).as_ref() != Some(&object);
        }
        if let Object::Node(object) = object {
            return put(&mut self.nodes, key.name, object);
        }
        if let Object::Caller(object) = object {
            return put(&mut self.callers, (key.kind, key.name), object);
        }
        let place = place_of(&key).to_owned();
        let name = (key.namespace, key.name);
        // What is there already must not make its namespace another one.
        if self.of(&place).and_then(|contents| contents.object(key.kind, &name)).as_ref() == Some(&object) {
            return false;
        }
        if let Object::Pod(pod) = &object {
            self.know(name.clone(), &pod.uid);
        }
        self.contents(&place).put(name, object);
        true
    }

    fn know(&mut self, name: Name, uid: &WorkloadUid) {
        let before = self.of(&name.0).and_then(|contents| contents.pods.get(&name)).map(|known| known.uid.clone());
        if before.as_ref() != Some(uid) {
            if let Some(before) = before {
                self.forget(&before, &name);
            }
            Arc::make_mut(&mut self.by_uid).insert(uid.clone(), name);
        }
    }

    /// Unless another pod has the uid by now.
    fn forget(&mut self, uid: &WorkloadUid, name: &Name) {
        if self.by_uid.get(uid) == Some(name) {
            Arc::make_mut(&mut self.by_uid).remove(uid);
        }
    }

    fn contents(&mut self, namespace: &str) -> &mut Contents {
        let all = Arc::make_mut(&mut self.namespaces);
        Arc::make_mut(all.entry(Arc::from(namespace)).or_default())
    }

    /// True if it was there.
    pub fn remove(&mut self, key: &Key) -> bool {
        match key.kind {
            Kind::MeshConfig => return self.mesh_config.take_if(|known| known.metadata.name == key.name).is_some(),
            Kind::Node => return take(&mut self.nodes, &key.name).is_some(),
            Kind::ValidatingWebhooks | Kind::MutatingWebhooks | Kind::ApiService | Kind::Definition => {
                return take(&mut self.callers, &(key.kind, key.name.clone())).is_some();
            }
            Kind::Namespace
            | Kind::Pod
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::AuthenticationPolicy
            | Kind::AuthorizationPolicy
            | Kind::TrafficPolicy
            | Kind::HttpRoute
            | Kind::GrpcRoute => {}
        }
        let place = place_of(key);
        let name = (key.namespace.clone(), key.name.clone());
        let Some(known) = self.of(place).and_then(|contents| contents.object(key.kind, &name)) else { return false };
        if let Object::Pod(pod) = known {
            self.forget(&pod.uid, &name);
        }
        let contents = self.contents(place);
        contents.take(key.kind, &name);
        if *contents == Contents::default() {
            Arc::make_mut(&mut self.namespaces).remove(place);
        }
        true
    }

    /// Of one kind.
    #[must_use]
    pub fn keys(&self, kind: Kind) -> BTreeSet<Key> {
        let alone = |name: &str| Key { kind, namespace: String::new(), name: name.to_owned() };
        match kind {
            Kind::MeshConfig => self.mesh_config.iter().map(|mesh| alone(&mesh.metadata.name)).collect(),
            Kind::Node => self.nodes.keys().map(|name| alone(name)).collect(),
            Kind::ValidatingWebhooks | Kind::MutatingWebhooks | Kind::ApiService | Kind::Definition => {
                let own = self.callers.keys().filter(|(of, _)| *of == kind);
                own.map(|(_, name)| alone(name)).collect()
            }
            Kind::Namespace => {
                let named = self.namespaces.iter().filter(|(_, contents)| contents.namespace.is_some());
                named.map(|(name, _)| alone(name)).collect()
            }
            Kind::Pod
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::AuthenticationPolicy
            | Kind::AuthorizationPolicy
            | Kind::TrafficPolicy
            | Kind::HttpRoute
            | Kind::GrpcRoute => self.namespaces.values().flat_map(|contents| contents.keys(kind)).collect(),
        }
    }

    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<&Arc<Contents>> {
        self.namespaces.get(namespace)
    }

    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.of(name).and_then(|contents| contents.namespace.as_ref())
    }

    #[must_use]
    pub fn pod(&self, uid: &WorkloadUid) -> Option<&Arc<Pod>> {
        let name = self.by_uid.get(uid)?;
        self.of(&name.0)?.pods.get(name)
    }

    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.namespaces.values().flat_map(|contents| contents.pods.values())
    }

    pub fn services(&self) -> impl Iterator<Item = (&Name, &Arc<Service>)> {
        self.namespaces.values().flat_map(|contents| contents.services.iter())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        let within: usize = self.namespaces.values().map(|contents| contents.len()).sum();
        usize::from(self.mesh_config.is_some()) + self.nodes.len() + self.callers.len() + within
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Contents {
    fn object(&self, kind: Kind, name: &Name) -> Option<Object> {
        match kind {
            Kind::MeshConfig
            | Kind::Node
            | Kind::ValidatingWebhooks
            | Kind::MutatingWebhooks
            | Kind::ApiService
            | Kind::Definition => None,
            Kind::Namespace => self.namespace.clone().map(Object::Namespace),
            Kind::Pod => self.pods.get(name).cloned().map(Object::Pod),
            Kind::Service => self.services.get(name).cloned().map(Object::Service),
            Kind::EndpointSlice => self.endpoint_slices.get(name).cloned().map(Object::EndpointSlice),
            Kind::AuthenticationPolicy => self.authentication.get(name).cloned().map(Object::AuthenticationPolicy),
            Kind::AuthorizationPolicy => self.authorization.get(name).cloned().map(Object::AuthorizationPolicy),
            Kind::TrafficPolicy => self.traffic.get(name).cloned().map(Object::TrafficPolicy),
            Kind::HttpRoute => self.http_routes.get(name).cloned().map(Object::Route),
            Kind::GrpcRoute => self.grpc_routes.get(name).cloned().map(Object::Route),
        }
    }

    fn put(&mut self, name: Name, object: Object) {
        match object {
            Object::MeshConfig(_) | Object::Node(_) | Object::Caller(_) => false,
            Object::Namespace(object) => self.namespace.replace(object).is_some(),
            Object::Pod(object) => put(&mut self.pods, name, object),
            Object::Service(object) => put(&mut self.services, name, object),
            Object::EndpointSlice(object) => put(&mut self.endpoint_slices, name, object),
            Object::AuthenticationPolicy(object) => put(&mut self.authentication, name, object),
            Object::AuthorizationPolicy(object) => put(&mut self.authorization, name, object),
            Object::TrafficPolicy(object) => put(&mut self.traffic, name, object),
            Object::Route(object) => match object.kind {
                RouteKind::Http => put(&mut self.http_routes, name, object),
                RouteKind::Grpc => put(&mut self.grpc_routes, name, object),
            },
        };
    }

    fn take(&mut self, kind: Kind, name: &Name) {
        match kind {
            Kind::MeshConfig
            | Kind::Node
            | Kind::ValidatingWebhooks
            | Kind::MutatingWebhooks
            | Kind::ApiService
            | Kind::Definition => {}
            Kind::Namespace => self.namespace = None,
            Kind::Pod => drop(take(&mut self.pods, name)),
            Kind::Service => drop(take(&mut self.services, name)),
            Kind::EndpointSlice => drop(take(&mut self.endpoint_slices, name)),
            Kind::AuthenticationPolicy => drop(take(&mut self.authentication, name)),
            Kind::AuthorizationPolicy => drop(take(&mut self.authorization, name)),
            Kind::TrafficPolicy => drop(take(&mut self.traffic, name)),
            Kind::HttpRoute => drop(take(&mut self.http_routes, name)),
            Kind::GrpcRoute => drop(take(&mut self.grpc_routes, name)),
        }
    }

    fn keys(&self, kind: Kind) -> impl Iterator<Item = Key> {
        self.names(kind).map(move |(namespace, name)| Key { kind, namespace: namespace.clone(), name: name.clone() })
    }

    fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &Name> + '_> {
        match kind {
            Kind::MeshConfig
            | Kind::Node
            | Kind::Namespace
            | Kind::ValidatingWebhooks
            | Kind::MutatingWebhooks
            | Kind::ApiService
            | Kind::Definition => Box::new(std::iter::empty()),
            Kind::Pod => Box::new(self.pods.keys()),
            Kind::Service => Box::new(self.services.keys()),
            Kind::EndpointSlice => Box::new(self.endpoint_slices.keys()),
            Kind::AuthenticationPolicy => Box::new(self.authentication.keys()),
            Kind::AuthorizationPolicy => Box::new(self.authorization.keys()),
            Kind::TrafficPolicy => Box::new(self.traffic.keys()),
            Kind::HttpRoute => Box::new(self.http_routes.keys()),
            Kind::GrpcRoute => Box::new(self.grpc_routes.keys()),
        }
    }

    fn len(&self) -> usize {
        usize::from(self.namespace.is_some())
            + self.pods.len()
            + self.services.len()
            + self.endpoint_slices.len()
            + self.authentication.len()
            + self.authorization.len()
            + self.traffic.len()
            + self.http_routes.len()
            + self.grpc_routes.len()
    }
}

/// The namespace that an object is kept with: its own, or the one that it is.
fn place_of(key: &Key) -> &str {
    if key.kind == Kind::Namespace { &key.name } else { &key.namespace }
}

/// True if it was not there like that.
fn put<N: Ord + Clone, T: PartialEq>(shelf: &mut Arc<BTreeMap<N, Arc<T>>>, name: N, object: Arc<T>) -> bool {
    if shelf.get(&name) == Some(&object) {
        return false;
    }
    Arc::make_mut(shelf).insert(name, object);
    true
}

fn take<N: Ord + Clone, T>(shelf: &mut Arc<BTreeMap<N, Arc<T>>>, name: &N) -> Option<Arc<T>> {
    // Looked up first: what is not there must cost no copy.
    shelf.contains_key(name).then(|| Arc::make_mut(shelf).remove(name)).flatten()
}
