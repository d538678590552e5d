//! Weft's own Kubernetes kinds: what users write beside Gateway API.
//!
//! Every list, string and number here is bounded, and every object of a rule must say something, so that a
//! mistyped field never becomes "allow all"; `tests/schema.rs` walks the generated schemas and asserts it.
//! An omitted list means "any", an empty list matches nothing. Nothing here decides anything.

mod authentication;
mod authorization;
mod definitions;
mod labels;
mod mesh_config;
mod schema;
mod status;
mod target;
mod traffic;

pub use authentication::{
    AuthenticationPolicy, AuthenticationPolicySpec, ClientAuthentication, Exemption, ExemptionSource, MtlsMode,
    PortMtls, ServerAuthentication,
};
pub use authorization::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, Destination, GrpcCall, HeaderCondition, PathPattern,
    PathPatternKind, Rule, Source,
};
pub use definitions::{BUNDLE_VERSION, definitions};
pub use labels::{
    CAPTURE, EXCLUDE_INBOUND_PORTS, EXCLUDE_OUTBOUND_CIDRS, EXCLUDE_OUTBOUND_PORTS, NETNS, ON_AGENT_FAILURE,
};
pub use mesh_config::{
    CrossNamespaceBackends, Defaults, Enforced, EnforcedAction, EnforcedRule, Exclusion, FailureMode, MeshConfig,
    MeshConfigSpec, MeshConfigStatus, MeshState, Networks, RootRotation, RotationPhase, TrustedRoot,
};
pub use status::{Ancestor, AncestorReference, Condition, ConditionStatus, PolicyStatus};
pub use target::{MatchLabels, TargetKind, TargetReference};
pub use traffic::{
    GrpcStatus, LoadBalancer, OutlierDetection, RetryBudget, TrafficPolicy, TrafficPolicySpec, TrafficRetry,
};

/// The API group of Weft's own kinds.
pub const GROUP: &str = "weft.dev";
/// The version of Weft's own kinds.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` as objects write it.
pub const API_VERSION: &str = "weft.dev/v1alpha1";
/// The one name that a `MeshConfig` may have.
pub const MESH_CONFIG_NAME: &str = "default";
/// How the controller signs the conditions that it writes.
pub const CONTROLLER_NAME: &str = "weft.dev/controller";
