//! `AuthenticationPolicy`: which of a pod's ports demand mTLS, who is exempt, and whether its own connections do.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PolicyStatus, TargetReference, schema};

/// How the selected pods authenticate. The most specific policy wins as a whole (GEP-713, atomic defaults):
/// a port of a Service, a Service, pods by label, the namespace; the older one among equals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "AuthenticationPolicy",
    plural = "authenticationpolicies",
    singular = "authenticationpolicy",
    shortname = "weftauthn",
    category = "weft",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"mTLS","type":"string","jsonPath":".spec.server.mtls"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.ancestors[0].conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationPolicySpec {
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-validations" = [
        { "rule": "self.all(target, target.kind == self[0].kind)", "message": "one policy has targets of one kind" }
    ]))]
    pub target_refs: Vec<TargetReference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerAuthentication>,
    /// Not for Service targets: it concerns the pods' own connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientAuthentication>,
}

/// What the selected pods demand of those who connect to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct ServerAuthentication {
    /// Omitted: what `MeshConfig` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MtlsMode>,
    /// Ports of the pod (not of a Service) that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["port"]))]
    pub ports: Vec<PortMtls>,
    /// Plaintext that strict ports take none the less.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub exemptions: Vec<Exemption>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MtlsMode {
    Permissive,
    Strict,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct PortMtls {
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    pub mtls: MtlsMode,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct Exemption {
    /// Omitted: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ports")]
    pub ports: Option<Vec<i32>>,
    pub from: ExemptionSource,
    /// Why, for those who read it later.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
}

/// Exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething, extend("x-kubernetes-validations" = [
    { "rule": "has(self.cidrs) != has(self.any)", "message": "write cidrs or any, not both" }
]))]
pub struct ExemptionSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ranges")]
    pub cidrs: Option<Vec<String>>,
    /// `true`: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<bool>,
}

/// What the selected pods demand of those they connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct ClientAuthentication {
    /// Connections into the mesh never fall back to plaintext.
    #[serde(rename = "requireMeshTLS")]
    pub require_mesh_tls: bool,
}
