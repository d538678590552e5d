//! The kinds of objects, and all that is known of each before one is seen: one table.

/// Every kind that means something to Weft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    MeshConfig,
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    AuthenticationPolicy,
    AuthorizationPolicy,
    TrafficPolicy,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    ReferenceGrant,
    BackendTrafficPolicy,
    XBackend,
    XMesh,
    ValidatingWebhooks,
    MutatingWebhooks,
    ApiService,
    Definition,
}

/// Where a kind comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Always served.
    Core,
    /// Must be installed before anything works.
    Weft,
    /// May appear and vanish while we run.
    GatewayApi,
}

struct Facts {
    name: &'static str,
    /// As the API's paths and roles have it.
    plural: &'static str,
    /// Empty for the core group.
    group: &'static str,
    /// Versions that say the same, best first.
    versions: &'static [&'static str],
    namespaced: bool,
    origin: Origin,
    /// Empty: nothing in its status is ours to say.
    status: &'static str,
}

/// Kinds of the API itself, of ours, and of Gateway API.
const CORE: Facts =
    Facts { name: "", plural: "", group: "", versions: &["v1"], namespaced: true, origin: Origin::Core, status: "" };
const OURS: Facts = Facts { group: weft_crd::GROUP, versions: &[weft_crd::VERSION], origin: Origin::Weft, ..CORE };
const GATEWAY: Facts = Facts { group: "gateway.networking.k8s.io", origin: Origin::GatewayApi, ..CORE };

/// Of Gateway API's experimental channel alone.
const EXPERIMENT: Facts = Facts { group: "gateway.networking.x-k8s.io", ..GATEWAY };

const MESH_CONFIG: Facts =
    Facts { name: "MeshConfig", plural: "meshconfigs", status: "meshconfigs/status", namespaced: false, ..OURS };
const NAMESPACE: Facts = Facts { name: "Namespace", plural: "namespaces", namespaced: false, ..CORE };
const NODE: Facts = Facts { name: "Node", plural: "nodes", namespaced: false, ..CORE };
const POD: Facts = Facts { name: "Pod", plural: "pods", ..CORE };
const SERVICE: Facts = Facts { name: "Service", plural: "services", ..CORE };
const ENDPOINT_SLICE: Facts =
    Facts { name: "EndpointSlice", plural: "endpointslices", group: "discovery.k8s.io", ..CORE };
const AUTHENTICATION: Facts = Facts {
    name: "AuthenticationPolicy",
    plural: "authenticationpolicies",
    status: "authenticationpolicies/status",
    ..OURS
};
const AUTHORIZATION: Facts = Facts {
    name: "AuthorizationPolicy",
    plural: "authorizationpolicies",
    status: "authorizationpolicies/status",
    ..OURS
};
const TRAFFIC: Facts =
    Facts { name: "TrafficPolicy", plural: "trafficpolicies", status: "trafficpolicies/status", ..OURS };
const HTTP_ROUTE: Facts = Facts {
    name: "HTTPRoute",
    plural: "httproutes",
    versions: &["v1", "v1beta1"],
    status: "httproutes/status",
    ..GATEWAY
};
const GRPC_ROUTE: Facts = Facts { name: "GRPCRoute", plural: "grpcroutes", status: "grpcroutes/status", ..GATEWAY };
const TLS_ROUTE: Facts = Facts { name: "TLSRoute", plural: "tlsroutes", status: "tlsroutes/status", ..GATEWAY };
const TCP_ROUTE: Facts = Facts { name: "TCPRoute", plural: "tcproutes", status: "tcproutes/status", ..GATEWAY };
const REFERENCE_GRANT: Facts =
    Facts { name: "ReferenceGrant", plural: "referencegrants", versions: &["v1", "v1beta1"], ..GATEWAY };
const BACKEND_TRAFFIC: Facts = Facts {
    name: "XBackendTrafficPolicy",
    plural: "xbackendtrafficpolicies",
    versions: &["v1alpha1"],
    status: "xbackendtrafficpolicies/status",
    ..EXPERIMENT
};
const X_BACKEND: Facts =
    Facts { name: "XBackend", plural: "xbackends", versions: &["v1alpha1"], status: "xbackends/status", ..EXPERIMENT };
const X_MESH: Facts = Facts {
    name: "XMesh",
    plural: "xmeshes",
    versions: &["v1alpha1"],
    namespaced: false,
    status: "xmeshes/status",
    ..EXPERIMENT
};
/// Who has the API server call a Service.
const CALLER: Facts = Facts { group: "admissionregistration.k8s.io", namespaced: false, ..CORE };
const VALIDATING_WEBHOOKS: Facts =
    Facts { name: "ValidatingWebhookConfiguration", plural: "validatingwebhookconfigurations", ..CALLER };
const MUTATING_WEBHOOKS: Facts =
    Facts { name: "MutatingWebhookConfiguration", plural: "mutatingwebhookconfigurations", ..CALLER };
const API_SERVICE: Facts =
    Facts { name: "APIService", plural: "apiservices", group: "apiregistration.k8s.io", ..CALLER };
const DEFINITION: Facts = Facts {
    name: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    group: "apiextensions.k8s.io",
    ..CALLER
};

impl Kind {
    pub const ALL: [Self; 21] = [
        Self::MeshConfig,
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::AuthenticationPolicy,
        Self::AuthorizationPolicy,
        Self::TrafficPolicy,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::ReferenceGrant,
        Self::BackendTrafficPolicy,
        Self::XBackend,
        Self::XMesh,
        Self::ValidatingWebhooks,
        Self::MutatingWebhooks,
        Self::ApiService,
        Self::Definition,
    ];

    fn facts(self) -> &'static Facts {
        match self {
            Self::MeshConfig => &MESH_CONFIG,
            Self::Namespace => &NAMESPACE,
            Self::Node => &NODE,
            Self::Pod => &POD,
            Self::Service => &SERVICE,
            Self::EndpointSlice => &ENDPOINT_SLICE,
            Self::AuthenticationPolicy => &AUTHENTICATION,
            Self::AuthorizationPolicy => &AUTHORIZATION,
            Self::TrafficPolicy => &TRAFFIC,
            Self::HttpRoute => &HTTP_ROUTE,
            Self::GrpcRoute => &GRPC_ROUTE,
            Self::TlsRoute => &TLS_ROUTE,
            Self::TcpRoute => &TCP_ROUTE,
            Self::ReferenceGrant => &REFERENCE_GRANT,
            Self::BackendTrafficPolicy => &BACKEND_TRAFFIC,
            Self::XBackend => &X_BACKEND,
            Self::XMesh => &X_MESH,
            Self::ValidatingWebhooks => &VALIDATING_WEBHOOKS,
            Self::MutatingWebhooks => &MUTATING_WEBHOOKS,
            Self::ApiService => &API_SERVICE,
            Self::Definition => &DEFINITION,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// The best version, with the group.
    #[must_use]
    pub fn api_version(self) -> String {
        let version = self.versions().first().copied().unwrap_or_default();
        if self.group().is_empty() { version.to_owned() } else { format!("{}/{version}", self.group()) }
    }

    /// As the API's paths and roles have it.
    #[must_use]
    pub fn plural(self) -> &'static str {
        self.facts().plural
    }

    /// Empty for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        self.facts().group
    }

    /// Versions that say the same, best first.
    #[must_use]
    pub fn versions(self) -> &'static [&'static str] {
        self.facts().versions
    }

    /// One of the versions above, with the group.
    #[must_use]
    pub fn is_written_as(self, written: &str) -> bool {
        let (group, version) = written.split_once('/').unwrap_or(("", written));
        group == self.group() && self.versions().contains(&version)
    }

    #[must_use]
    pub fn origin(self) -> Origin {
        self.facts().origin
    }

    /// It may be missing, and come and go.
    #[must_use]
    pub fn is_of_gateway_api(self) -> bool {
        self.origin() == Origin::GatewayApi
    }

    /// Of a definition that is gone, what there was stays in force. Of an `XMesh` nothing is.
    #[must_use]
    pub fn outlives_its_definition(self) -> bool {
        self != Self::XMesh
    }

    /// Kinds whose status tells whether they are in force.
    #[must_use]
    pub fn has_status(self) -> bool {
        !self.facts().status.is_empty()
    }

    /// As roles have it. Empty: nothing in its status is ours to say.
    #[must_use]
    pub fn status(self) -> &'static str {
        self.facts().status
    }

    #[must_use]
    pub fn is_namespaced(self) -> bool {
        self.facts().namespaced
    }

    /// Its answers are for parents, as Gateway API has them.
    #[must_use]
    pub fn is_route(self) -> bool {
        matches!(self, Self::HttpRoute | Self::GrpcRoute | Self::TlsRoute | Self::TcpRoute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_in_its_best_version() {
        for (kind, written) in [
            (Kind::Pod, "v1"),
            (Kind::EndpointSlice, "discovery.k8s.io/v1"),
            (Kind::MeshConfig, weft_crd::API_VERSION),
            (Kind::HttpRoute, "gateway.networking.k8s.io/v1"),
            (Kind::GrpcRoute, "gateway.networking.k8s.io/v1"),
            (Kind::TcpRoute, "gateway.networking.k8s.io/v1"),
            (Kind::ReferenceGrant, "gateway.networking.k8s.io/v1"),
            (Kind::XBackend, "gateway.networking.x-k8s.io/v1alpha1"),
            (Kind::XMesh, "gateway.networking.x-k8s.io/v1alpha1"),
        ] {
            assert!(kind.api_version() == written && kind.is_written_as(written), "{written}");
        }
    }
}
