//! All objects at one moment: immutable, shared, looked up by name.
//!
//! No joins here: what objects mean together is translation's business.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weft_proto::names::WorkloadUid;

use crate::object::{
    AuthenticationPolicy, AuthorizationPolicy, EndpointSlice, Key, MeshConfig, Namespace, Object, Pod, Route,
    RouteKind, Service, TrafficPolicy,
};

/// `(namespace, name)`.
pub type Name = (String, String);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    pub mesh_config: Option<Arc<MeshConfig>>,
    pub namespaces: BTreeMap<String, Arc<Namespace>>,
    pub pods: BTreeMap<Name, Arc<Pod>>,
    pub services: BTreeMap<Name, Arc<Service>>,
    pub endpoint_slices: BTreeMap<Name, Arc<EndpointSlice>>,
    pub authentication: BTreeMap<Name, Arc<AuthenticationPolicy>>,
    pub authorization: BTreeMap<Name, Arc<AuthorizationPolicy>>,
    pub traffic: BTreeMap<Name, Arc<TrafficPolicy>>,
    pub http_routes: BTreeMap<Name, Arc<Route>>,
    pub grpc_routes: BTreeMap<Name, Arc<Route>>,
    by_uid: HashMap<WorkloadUid, Name>,
}

impl Objects {
    #[must_use]
    pub fn from_objects(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut all = Self::default();
        for object in objects {
            all.insert(object);
        }
        all
    }

    fn insert(&mut self, object: Object) {
        let Key { namespace, name, .. } = object.key();
        match object {
            Object::MeshConfig(object) => self.mesh_config = Some(object),
            Object::Namespace(object) => {
                self.namespaces.insert(name, object);
            }
            Object::Pod(object) => {
                self.by_uid.insert(object.uid.clone(), (namespace.clone(), name.clone()));
                self.pods.insert((namespace, name), object);
            }
            Object::Service(object) => {
                self.services.insert((namespace, name), object);
            }
            Object::EndpointSlice(object) => {
                self.endpoint_slices.insert((namespace, name), object);
            }
            Object::AuthenticationPolicy(object) => {
                self.authentication.insert((namespace, name), object);
            }
            Object::AuthorizationPolicy(object) => {
                self.authorization.insert((namespace, name), object);
            }
            Object::TrafficPolicy(object) => {
                self.traffic.insert((namespace, name), object);
            }
            Object::Route(object) => {
                let routes = match object.kind {
                    RouteKind::Http => &mut self.http_routes,
                    RouteKind::Grpc => &mut self.grpc_routes,
                };
                routes.insert((namespace, name), object);
            }
        }
    }

    #[must_use]
    pub fn pod(&self, uid: &WorkloadUid) -> Option<&Arc<Pod>> {
        self.by_uid.get(uid).and_then(|name| self.pods.get(name))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.mesh_config.is_some())
            + self.namespaces.len()
            + self.pods.len()
            + self.services.len()
            + self.endpoint_slices.len()
            + self.authentication.len()
            + self.authorization.len()
            + self.traffic.len()
            + self.http_routes.len()
            + self.grpc_routes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
