//! `MeshConfig`: the operator's word. One object, named `default`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Ancestor, Condition, MtlsMode, Rule, schema};

/// `defaults` hold where nobody says otherwise; `enforced` is a floor that namespaces may tighten and never loosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "MeshConfig",
    plural = "meshconfigs",
    singular = "meshconfig",
    shortname = "weftmc",
    category = "weft",
    status = "MeshConfigStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Trust-domain","type":"string","jsonPath":".spec.trustDomain"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".spec.state"}"#,
    printcolumn = r#"{"name":"Minimum-mTLS","type":"string","jsonPath":".spec.enforced.minimumMtls"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshConfigSpec {
    /// `Removing`: every pod leaves the mesh, as if no namespace were captured; the last step before an uninstall.
    #[serde(default, skip_serializing_if = "MeshState::is_active")]
    pub state: MeshState,
    /// How long a workload's certificate lives: from `10s` to `720h`, written as Gateway API writes durations (GEP-2257).
    /// Omitted: what the controller was started with. Without a controller mTLS lasts for what is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 28))]
    pub workload_certificate_life: Option<String>,
    /// A time (RFC 3339). While the root of all identities was made before it, another takes its place, without an
    /// interruption; from the time on, if that is to come. What is satisfied stays so: the same time never does it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 20, max = 35), extend("format" = "date-time"))]
    pub root_made_after: Option<String>,
    /// Must be the trust domain that the controller was started with: stated here to be checked, not to change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub trust_domain: Option<String>,
    /// Other trust domains whose identities count as ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::trust_domains")]
    pub trust_domain_aliases: Vec<String>,
    #[serde(default)]
    pub networks: Networks,
    /// Addresses (`address` or `address:port`) that are never captured, such as the API server's endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::addresses")]
    pub never_capture: Vec<String>,
    #[serde(default)]
    pub defaults: Defaults,
    #[serde(default)]
    pub enforced: Enforced,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MeshState {
    #[default]
    Active,
    Removing,
}

impl MeshState {
    #[must_use]
    pub fn is_active(&self) -> bool {
        *self == Self::Active
    }
}

/// What the controller answers, and what it must find again after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshConfigStatus {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ancestors: Vec<Ancestor>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// SHA-256 of the root certificate (DER), in hexadecimal. A controller with another root refuses to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64))]
    pub root_fingerprint: Option<String>,
    /// Whom agents believe. The first one signs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub roots: Vec<TrustedRoot>,
    /// While one root takes another's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_rotation: Option<RootRotation>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedRoot {
    /// SHA-256 of its certificate (DER), in hexadecimal.
    #[schemars(length(min = 64, max = 64))]
    pub fingerprint: String,
    /// RFC 3339.
    #[schemars(length(max = 64))]
    pub not_after: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootRotation {
    pub phase: RotationPhase,
    /// When the phase began (RFC 3339).
    #[schemars(length(max = 64))]
    pub since: String,
    /// The phase lasts until then at least (RFC 3339).
    #[schemars(length(max = 64))]
    pub not_over_before: String,
    /// Some of the nodes whose agents it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::nodes")]
    pub waiting_on: Vec<String>,
}

/// How far a new root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RotationPhase {
    /// Agents learn to believe it beside the old one, which signs.
    TrustNew,
    /// It signs, and agents believe both.
    Reissue,
    /// Agents learn to believe it alone.
    RetireOld,
}

impl RotationPhase {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TrustNew => "TrustNew",
            Self::Reissue => "Reissue",
            Self::RetireOld => "RetireOld",
        }
    }
}

/// What a captured pod sends to these ranges is captured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Networks {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ranges")]
    pub pods: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ranges")]
    pub services: Vec<String>,
    /// Every pod's address is of its node's `podCIDR`s, and one that is not is a lie. Only where the network plugin takes
    /// addresses from there: many have ranges of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_node: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// Omitted: Permissive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MtlsMode>,
    /// Omitted: Open for permissive pods, Closed for strict ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_agent_failure: Option<FailureMode>,
}

/// What a pod does while no agent of its node is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FailureMode {
    Open,
    Closed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Enforced {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_mtls: Option<MtlsMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_failure_mode: Option<FailureMode>,
    /// May a pod leave the mesh by its label? Omitted: only where it is not strict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_may_opt_out: Option<bool>,
    /// Exclusions that strict pods may have. Omitted or empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub allowed_exclusions: Vec<Exclusion>,
    /// May a route name a backend of another namespace? Omitted: Allowed, as GEP-1294 has it for meshes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_namespace_backends: Option<CrossNamespaceBackends>,
    /// Comes before all other authorization, for every captured pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub authorization: Vec<EnforcedRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Exclusion {
    InboundPorts,
    OutboundPorts,
    OutboundCidrs,
    /// Exemptions of an `AuthenticationPolicy`, while `minimumMtls` is Strict.
    MtlsExemptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CrossNamespaceBackends {
    Allowed,
    /// Only where a `ReferenceGrant` of the backend's namespace permits it.
    GrantRequired,
}

/// A rule that an operator sets above all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct EnforcedRule {
    /// Only Deny can come first: an Allow would weaken the namespaces' own policies.
    pub action: EnforcedAction,
    #[schemars(length(min = 1, max = 32))]
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EnforcedAction {
    Deny,
}
