//! `AuthorizationPolicy`: who may connect to the selected pods.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PolicyStatus, TargetReference, schema};

/// Policies add up and never override each other: Deny comes first; once an Allow that is no dry run selects a pod,
/// what no Allow matches is denied; Audit and dry runs change nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    plural = "authorizationpolicies",
    singular = "authorizationpolicy",
    shortname = "weftauthz",
    category = "weft",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#,
    printcolumn = r#"{"name":"Dry-run","type":"boolean","jsonPath":".spec.dryRun"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.ancestors[0].conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationPolicySpec {
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-validations" = [
        { "rule": "self.all(target, target.kind == self[0].kind)", "message": "one policy has targets of one kind" }
    ]))]
    pub target_refs: Vec<TargetReference>,
    pub action: Action,
    /// Counted and shown, never enforced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// One must match. None: the policy matches nothing.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    Allow,
    Deny,
    Audit,
}

/// Every field must match; an omitted one matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct Rule {
    /// One must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub from: Option<Vec<Source>>,
    /// One must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub to: Option<Vec<Destination>>,
    /// All must match. A rule with conditions speaks of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub when: Option<Vec<HeaderCondition>>,
}

/// Every field that is there must match; one value of a list must; a `not` list matches when none of its values does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct Source {
    /// SPIFFE identities, such as `spiffe://cluster.local/ns/shop/sa/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identities")]
    pub identities: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::names")]
    pub namespaces: Option<Vec<String>>,
    /// `namespace/name`, or `name` in the policy's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::names")]
    pub service_accounts: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ranges")]
    pub cidrs: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identities")]
    pub not_identities: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::names")]
    pub not_namespaces: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::names")]
    pub not_service_accounts: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ranges")]
    pub not_cidrs: Option<Vec<String>>,
}

/// Every field that is there must match, as for sources. One that has more than ports speaks of requests: opaque bytes
/// never match it in an Allow or an Audit, and always in a Deny.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct Destination {
    /// Of the pod, not of a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ports")]
    pub ports: Option<Vec<i32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ports")]
    pub not_ports: Option<Vec<i32>>,
    /// Of HTTP, such as `GET`; case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::methods")]
    pub methods: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::methods")]
    pub not_methods: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub paths: Option<Vec<PathPattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub not_paths: Option<Vec<PathPattern>>,
    /// Without port, in lower case; `*.example.com` is every name below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hosts")]
    pub hosts: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hosts")]
    pub not_hosts: Option<Vec<String>>,
    /// Calls of gRPC, in place of `paths`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub grpc: Option<Vec<GrpcCall>>,
}

/// Of the canonical path, without the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct PathPattern {
    #[serde(rename = "type")]
    pub kind: PathPatternKind,
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// Exact: the whole path. Prefix: element by element, `/a` is `/a` and `/a/b`, not `/ab`. Template: `{name}` stands for
/// one element, `{**}` at the end for any number, as in `/users/{id}/orders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathPatternKind {
    Exact,
    Prefix,
    Template,
}

/// An omitted field is any service, or any method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct GrpcCall {
    /// With its package, such as `shop.v1.Cart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub method: Option<String>,
}

/// Both lists must match where both are there. A header that occurs several times has several values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct HeaderCondition {
    /// In any case.
    #[schemars(length(min = 1, max = 256))]
    pub header: String,
    /// Some value of the header is one of these, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::header_values")]
    pub values: Option<Vec<String>>,
    /// No value of the header is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::header_values")]
    pub not_values: Option<Vec<String>>,
}
