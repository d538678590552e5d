//! All objects at one moment: immutable, shared, looked up by name.
//!
//! Kept by namespace, so that what did not change is the same allocation: translation looks at no more than what is
//! another one now. No joins here: what objects mean together is translation's business.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_crd::MeshState;
use weft_proto::names::WorkloadUid;

use crate::object::{
    AuthenticationPolicy, AuthorizationPolicy, BackendTrafficPolicy, Caller, EndpointSlice, Key, Kind, MeshConfig,
    Namespace, Node, Object, Pod, ReferenceGrant, Route, Service, TrafficPolicy, XBackend, XMesh,
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
    pub meshes: Arc<BTreeMap<String, Arc<XMesh>>>,
    by_uid: Arc<HashMap<WorkloadUid, Name>>,
}

/// Where the objects of a kind are kept.
enum Room {
    Mesh,
    Nodes,
    Callers,
    Meshes,
    Namespaces,
}

impl Room {
    fn of(kind: Kind) -> Self {
        if kind.is_namespaced() || kind == Kind::Namespace {
            Self::Namespaces
        } else if kind == Kind::MeshConfig {
            Self::Mesh
        } else if kind == Kind::Node {
            Self::Nodes
        } else if kind == Kind::XMesh {
            Self::Meshes
        } else {
            Self::Callers
        }
    }
}

/// A kind that is kept by namespace is one line of the list below, and nothing else in this file.
macro_rules! shelves {
    ($($field:ident: Kind::$kind:ident, Object::$variant:ident($type:ty);)+) => {
        /// Everything in one namespace.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Contents {
            pub namespace: Option<Arc<Namespace>>,
            $(pub $field: Shelf<$type>,)+
        }

        impl Contents {
            #[cfg(test)]
            const SHELVES: &[Kind] = &[$(Kind::$kind,)+];

            fn object(&self, kind: Kind, name: &Name) -> Option<Object> {
                if kind == Kind::Namespace {
                    return self.namespace.clone().map(Object::Namespace);
                }
                $(if kind == Kind::$kind {
                    return self.$field.get(name).cloned().map(Object::$variant);
                })+
                None
            }

            fn put(&mut self, name: Name, object: Object) {
                match (object.kind(), object) {
                    (_, Object::Namespace(object)) => self.namespace = Some(object),
                    $((Kind::$kind, Object::$variant(object)) => drop(put(&mut self.$field, name, object)),)+
                    _ => {}
                }
            }

            fn take(&mut self, kind: Kind, name: &Name) {
                if kind == Kind::Namespace {
                    self.namespace = None;
                }
                $(if kind == Kind::$kind {
                    take(&mut self.$field, name);
                })+
            }

            fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &Name> + '_> {
                $(if kind == Kind::$kind {
                    return Box::new(self.$field.keys());
                })+
                Box::new(std::iter::empty())
            }

            fn len(&self) -> usize {
                usize::from(self.namespace.is_some()) $(+ self.$field.len())+
            }
        }
    };
}

shelves! {
    pods: Kind::Pod, Object::Pod(Pod);
    services: Kind::Service, Object::Service(Service);
    endpoint_slices: Kind::EndpointSlice, Object::EndpointSlice(EndpointSlice);
    authentication: Kind::AuthenticationPolicy, Object::AuthenticationPolicy(AuthenticationPolicy);
    authorization: Kind::AuthorizationPolicy, Object::AuthorizationPolicy(AuthorizationPolicy);
    traffic: Kind::TrafficPolicy, Object::TrafficPolicy(TrafficPolicy);
    http_routes: Kind::HttpRoute, Object::Route(Route);
    grpc_routes: Kind::GrpcRoute, Object::Route(Route);
    tls_routes: Kind::TlsRoute, Object::Route(Route);
    tcp_routes: Kind::TcpRoute, Object::Route(Route);
    grants: Kind::ReferenceGrant, Object::ReferenceGrant(ReferenceGrant);
    backend_traffic: Kind::BackendTrafficPolicy, Object::BackendTrafficPolicy(BackendTrafficPolicy);
    backends: Kind::XBackend, Object::XBackend(XBackend);
}

impl Objects {
    /// The last step before an uninstall.
    #[must_use]
    pub fn is_removing(&self) -> bool {
        self.mesh_config.as_ref().is_some_and(|config| config.state == MeshState::Removing)
    }

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
        if let Object::XMesh(object) = object {
            return put(&mut self.meshes, key.name, object);
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

    /// One of a kind that namespaces have.
    #[must_use]
    pub fn namespaced(&self, key: &Key) -> Option<Object> {
        self.of(&key.namespace)?.object(key.kind, &(key.namespace.clone(), key.name.clone()))
    }

    /// True if it was there.
    pub fn remove(&mut self, key: &Key) -> bool {
        match Room::of(key.kind) {
            Room::Mesh => return self.mesh_config.take_if(|known| known.metadata.name == key.name).is_some(),
            Room::Nodes => return take(&mut self.nodes, &key.name).is_some(),
            Room::Meshes => return take(&mut self.meshes, &key.name).is_some(),
            Room::Callers => return take(&mut self.callers, &(key.kind, key.name.clone())).is_some(),
            Room::Namespaces => {}
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
        match Room::of(kind) {
            Room::Mesh => self.mesh_config.iter().map(|mesh| alone(&mesh.metadata.name)).collect(),
            Room::Nodes => self.nodes.keys().map(|name| alone(name)).collect(),
            Room::Meshes => self.meshes.keys().map(|name| alone(name)).collect(),
            Room::Callers => {
                let own = self.callers.keys().filter(|(of, _)| *of == kind);
                own.map(|(_, name)| alone(name)).collect()
            }
            Room::Namespaces if kind == Kind::Namespace => {
                let named = self.namespaces.iter().filter(|(_, contents)| contents.namespace.is_some());
                named.map(|(name, _)| alone(name)).collect()
            }
            Room::Namespaces => {
                let names = self.namespaces.values().flat_map(|contents| contents.names(kind));
                names.map(|(namespace, name)| Key { kind, namespace: namespace.clone(), name: name.clone() }).collect()
            }
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
        let alone = self.nodes.len() + self.callers.len() + self.meshes.len();
        usize::from(self.mesh_config.is_some()) + alone + within
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Contents {
    /// Of every kind.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let shelves = [&self.grpc_routes, &self.http_routes, &self.tls_routes, &self.tcp_routes];
        shelves.into_iter().flat_map(|shelf| shelf.values())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_with_a_namespace_has_a_shelf_of_its_own() {
        let namespaced: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_namespaced()).collect();
        assert_eq!(Contents::SHELVES, namespaced);
    }
}
