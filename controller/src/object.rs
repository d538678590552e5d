//! Objects as Weft needs them: slim, checked once, whatever source they came from.
//!
//! A value of these types has been validated: addresses parse, ports are in range, names are names.
//! Absent: how they are read (`source`) and what follows from them (`translate`).

mod caller;
mod endpoint_slice;
mod field;
mod grant;
mod kind;
mod metadata;
mod namespace;
mod node;
mod pod;
mod policy;
mod route;
mod service;
mod x_backend;
mod x_mesh;

use std::fmt;
use std::sync::Arc;

use weft_proto::names::NamespacedName;

pub use caller::{Called, Caller};
pub use endpoint_slice::{EndpointSlice, Hints, SliceEndpoint, SlicePod, SlicePort};
pub use field::FieldError;
pub use grant::ReferenceGrant;
pub use kind::{Kind, Origin};
pub use metadata::{Metadata, RawMetadata};
pub use namespace::{Capture, Namespace};
pub use node::Node;
pub use pod::{Exclusions, MIRROR_ANNOTATION, Pod, PodPort, RawPod};
pub use policy::{
    Authentication, AuthenticationPolicy, AuthorizationPolicy, BackendTrafficPolicy, Exemption, MeshConfig, Target,
    TrafficPolicy, TrafficSettings, names_a_service,
};
pub use route::{
    Backend, BackendReference, Filter, Match, Mirror, Parent, Refusal, RefusalReason, Route, RouteKind, Rule,
    Specificity, is_of_core_group,
};
pub use service::{ClusterAddress, Nearness, Service, ServicePort, TargetPort};
pub use x_backend::{BackendProtocol, Unsupported, XBackend};
pub use x_mesh::XMesh;

pub use caller::RawCaller;
pub use endpoint_slice::RawEndpointSlice;
pub use grant::RawReferenceGrant;
pub use namespace::RawNamespace;
pub use node::RawNode;
pub use policy::RawBackendTrafficPolicy;
pub use route::{RawConnectionRoute, RawGrpcRoute, RawHttpRoute};
pub use service::RawService;
pub use x_backend::RawXBackend;
pub use x_mesh::RawXMesh;

/// One object of all. Written `Kind namespace/name`, or `Kind name` where there is no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// The key of what a file says, however broken it is otherwise. None: its names are none, and must name nothing.
    #[must_use]
    pub fn checked(kind: Kind, namespace: &str, name: &str) -> Option<Self> {
        let key = Self { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        key.is_valid().then_some(key)
    }

    /// Its names are names, and may be parts of a path.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let namespace = if self.kind.is_namespaced() { self.namespace.as_str() } else { "none" };
        (self.kind.is_namespaced() || self.namespace.is_empty()) && NamespacedName::new(namespace, &self.name).is_ok()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        if self.namespace.is_empty() {
            write!(formatter, "{kind} {}", self.name)
        } else {
            write!(formatter, "{kind} {}/{}", self.namespace, self.name)
        }
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    MeshConfig(Arc<MeshConfig>),
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    AuthenticationPolicy(Arc<AuthenticationPolicy>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    TrafficPolicy(Arc<TrafficPolicy>),
    Route(Arc<Route>),
    ReferenceGrant(Arc<ReferenceGrant>),
    BackendTrafficPolicy(Arc<BackendTrafficPolicy>),
    XBackend(Arc<XBackend>),
    XMesh(Arc<XMesh>),
    Caller(Arc<Caller>),
}

impl Object {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::MeshConfig(_) => Kind::MeshConfig,
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::AuthenticationPolicy(_) => Kind::AuthenticationPolicy,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::TrafficPolicy(_) => Kind::TrafficPolicy,
            Self::Route(object) => object.kind.object(),
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::BackendTrafficPolicy(_) => Kind::BackendTrafficPolicy,
            Self::XBackend(_) => Kind::XBackend,
            Self::XMesh(_) => Kind::XMesh,
            Self::Caller(object) => object.kind,
        }
    }

    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::MeshConfig(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::AuthenticationPolicy(object) => &object.metadata,
            Self::AuthorizationPolicy(object) => &object.metadata,
            Self::TrafficPolicy(object) => &object.metadata,
            Self::Route(object) => &object.metadata,
            Self::ReferenceGrant(object) => &object.metadata,
            Self::BackendTrafficPolicy(object) => &object.metadata,
            Self::XBackend(object) => &object.metadata,
            Self::XMesh(object) => &object.metadata,
            Self::Caller(object) => &object.metadata,
        }
    }

    #[must_use]
    pub fn key(&self) -> Key {
        let metadata = self.metadata();
        Key { kind: self.kind(), namespace: metadata.namespace.clone(), name: metadata.name.clone() }
    }
}
