//! Objects as tests write them, and where the API has their kinds.

use anyhow::{Result, bail};
use jiff::Timestamp;
use kube::core::ApiResource;
use serde_json::{Value, json};

/// Kind, namespace (empty if it has none) and name.
pub fn names(object: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]), text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

pub fn resource(kind: &str) -> Result<ApiResource> {
    let (api_version, plural) = match kind {
        "Namespace" => ("v1", "namespaces"),
        "Node" => ("v1", "nodes"),
        "Pod" => ("v1", "pods"),
        "Service" => ("v1", "services"),
        "ServiceAccount" => ("v1", "serviceaccounts"),
        "Secret" => ("v1", "secrets"),
        "ConfigMap" => ("v1", "configmaps"),
        "EndpointSlice" => ("discovery.k8s.io/v1", "endpointslices"),
        "Lease" => ("coordination.k8s.io/v1", "leases"),
        "ClusterRole" => ("rbac.authorization.k8s.io/v1", "clusterroles"),
        "ClusterRoleBinding" => ("rbac.authorization.k8s.io/v1", "clusterrolebindings"),
        "Role" => ("rbac.authorization.k8s.io/v1", "roles"),
        "RoleBinding" => ("rbac.authorization.k8s.io/v1", "rolebindings"),
        "ValidatingWebhookConfiguration" => ("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations"),
        "MutatingWebhookConfiguration" => ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"),
        "APIService" => ("apiregistration.k8s.io/v1", "apiservices"),
        "CustomResourceDefinition" => ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
        "ValidatingAdmissionPolicy" => ("admissionregistration.k8s.io/v1", "validatingadmissionpolicies"),
        "ValidatingAdmissionPolicyBinding" => ("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings"),
        "HTTPRoute" => ("gateway.networking.k8s.io/v1", "httproutes"),
        "GRPCRoute" => ("gateway.networking.k8s.io/v1", "grpcroutes"),
        "TLSRoute" => ("gateway.networking.k8s.io/v1", "tlsroutes"),
        "TCPRoute" => ("gateway.networking.k8s.io/v1", "tcproutes"),
        "ReferenceGrant" => ("gateway.networking.k8s.io/v1", "referencegrants"),
        "XBackendTrafficPolicy" => ("gateway.networking.x-k8s.io/v1alpha1", "xbackendtrafficpolicies"),
        "XBackend" => ("gateway.networking.x-k8s.io/v1alpha1", "xbackends"),
        "XMesh" => ("gateway.networking.x-k8s.io/v1alpha1", "xmeshes"),
        "MeshConfig" => (weft_crd::API_VERSION, "meshconfigs"),
        "AuthenticationPolicy" => (weft_crd::API_VERSION, "authenticationpolicies"),
        "TrafficPolicy" => (weft_crd::API_VERSION, "trafficpolicies"),
        "AuthorizationPolicy" => (weft_crd::API_VERSION, "authorizationpolicies"),
        other => bail!("where is the kind {other}?"),
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Ok(ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    })
}

pub fn namespace(name: &str, capture: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"weft.dev/capture": capture}}})
}

pub fn service_account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}})
}

pub fn node(name: &str, range: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": range, "podCIDRs": [range]}})
}

/// Named, labelled and identified by one word.
pub fn pod(namespace: &str, name: &str, node: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node, "serviceAccountName": account, "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "app", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
    })
}

pub fn running(address: &str) -> Value {
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    })
}

/// One that selects by `app`.
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
    })
}

/// Endpoints of a Service, ready: pods' names and addresses.
pub fn slice(namespace: &str, service: &str, endpoints: &[(String, String)]) -> Value {
    let endpoint = |(pod, address): &(String, String)| {
        json!({
            "addresses": [address], "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "namespace": namespace, "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// Denies what comes from a namespace.
pub fn denial(namespace: &str, name: &str, from: &Value) -> Value {
    json!({
        "apiVersion": weft_crd::API_VERSION, "kind": "AuthorizationPolicy", "metadata": {"namespace": namespace, "name": name},
        "spec": {"targetRefs": [{"kind": "Pod"}], "action": "Deny", "rules": [{"from": [from]}]},
    })
}

/// All requests to a Service's port 80 get a response header.
pub fn route(namespace: &str, name: &str, service: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": service, "port": 80}],
            "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
        },
    })
}

/// Each is answered, because the Service is there or because what it asks for is not.
pub fn of_each_answered_kind(namespace: &str, service: &str) -> [Value; 9] {
    let weft = |kind: &str, spec: Value| {
        json!({
            "apiVersion": weft_crd::API_VERSION, "kind": kind, "metadata": {"namespace": namespace, "name": "answered"},
            "spec": spec,
        })
    };
    let target = json!([{"kind": "Service", "name": service}]);
    let of_kind = |kind: &str| {
        let mut route = route(namespace, "answered", service);
        route["kind"] = json!(kind);
        route
    };
    let mut http = of_kind("HTTPRoute");
    http["spec"]["rules"][0]["backendRefs"] = json!([to_x_backend("answered")]);
    let mut tls = of_kind("TLSRoute");
    tls["spec"]["hostnames"] = json!(["cart.example"]);
    [
        weft("AuthenticationPolicy", json!({"targetRefs": [{"kind": "Pod"}], "server": {"mtls": "Strict"}})),
        weft("AuthorizationPolicy", json!({"targetRefs": target, "action": "Deny", "rules": []})),
        weft("TrafficPolicy", json!({"targetRefs": target, "requestTimeout": "1s"})),
        http,
        of_kind("GRPCRoute"),
        tls,
        of_kind("TCPRoute"),
        constraint(namespace, "answered", service),
        x_backend(namespace, "answered"),
    ]
}

/// Pods with the label `app: web`, at port 8080.
pub fn x_backend(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackend",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "type": "EndpointSelector", "port": {"number": 8080}, "endpointSelector": {"matchLabels": {"app": "web"}},
        },
    })
}

pub fn to_x_backend(name: &str) -> Value {
    json!({"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": name})
}

/// Retries towards a Service are a tenth of the requests at most.
pub fn constraint(namespace: &str, name: &str, service: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackendTrafficPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": service}],
            "retryConstraint": {"budget": {"percent": 10}},
        },
    })
}

pub fn mesh(ranges: &[&str]) -> Value {
    json!({
        "apiVersion": weft_crd::API_VERSION, "kind": "MeshConfig", "metadata": {"name": "default"},
        "spec": {"networks": {"pods": ranges, "byNode": true}},
    })
}

/// A mesh whose root is to be made at that time or later.
pub fn mesh_with_a_root_of(time: Timestamp) -> Value {
    let mut mesh = mesh(&["10.1.0.0/16"]);
    mesh["spec"]["rootMadeAfter"] = json!(time.to_string());
    mesh
}
