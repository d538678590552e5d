//! `TrafficPolicy`: how requests and connections to a Service are balanced and retried.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{GrpcCall, PolicyStatus, TargetReference, schema};

/// Of the producer, for all clients of the Service. The most specific policy wins as a whole (GEP-713, atomic defaults):
/// a port of a Service, then a Service; the older one among equals. A route's rule that speaks of retries or timeouts
/// is stronger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    singular = "trafficpolicy",
    shortname = "wefttraffic",
    category = "weft",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Balancing","type":"string","jsonPath":".spec.loadBalancer"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.ancestors[0].conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// Of kind Service.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-validations" = [
        { "rule": "self.all(target, target.kind == 'Service')", "message": "a TrafficPolicy has targets of kind Service" }
    ]))]
    pub target_refs: Vec<TargetReference>,
    /// Omitted: `PeakEwma`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// How many of all requests to the Service may be retries. Omitted: what agents do by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
    /// For rules that say nothing of retries, and for requests without a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<TrafficRetry>,
    /// For rules that say nothing of timeouts, and for requests without a route. A duration of Gateway API (GEP-2257),
    /// such as `1h30m`, `2s` or `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 28))]
    pub request_timeout: Option<String>,
    /// Omitted: nothing is ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancer {
    /// The better of two by measured latency and requests under way.
    #[default]
    PeakEwma,
    /// The better of two by requests under way.
    LeastRequest,
    RoundRobin,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct RetryBudget {
    /// Of all requests, retries included. Omitted: what agents do by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
    /// In any case this many retries a second. Omitted: what agents do by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub min_per_second: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct TrafficRetry {
    /// Further attempts after the first. Omitted: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<i32>,
    /// Statuses that are tried again, beside failed connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::error_statuses")]
    pub http_statuses: Vec<i32>,
    /// As gRPC's own clients read them (gRFC A6): `UNAVAILABLE` is also a call whose connection was lost, `DEADLINE_EXCEEDED`
    /// one whose attempt took too long. Without them a call that may have been worked on is never sent again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub grpc_statuses: Vec<GrpcStatus>,
    /// The calls that may be sent again. Omitted: every call of gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub grpc: Option<Vec<GrpcCall>>,
    /// Least pause before another attempt, as `requestTimeout` is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 28))]
    pub backoff: Option<String>,
}

/// Codes of gRPC that say an error (grpc/doc/statuscodes.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GrpcStatus {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// An endpoint that fails so often in a row gets nothing for a while, and for longer each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = schema::SaysSomething)]
pub struct OutlierDetection {
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive_failures: i32,
    /// Omitted: 10s. As `requestTimeout` is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 28))]
    pub base_ejection_time: Option<String>,
    /// Omitted: 5m, or the base if that is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 28))]
    pub max_ejection_time: Option<String>,
    /// At most this share of a port's endpoints at the same time. Omitted: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_ejection_percent: Option<i32>,
}
