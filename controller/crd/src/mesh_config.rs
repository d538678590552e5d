//! `MeshConfig`: the operator's word. One object, named `default`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{MtlsMode, PolicyStatus, Rule, schema};

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
    status = "PolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Trust-domain","type":"string","jsonPath":".spec.trustDomain"}"#,
    printcolumn = r#"{"name":"Minimum-mTLS","type":"string","jsonPath":".spec.enforced.minimumMtls"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshConfigSpec {
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
