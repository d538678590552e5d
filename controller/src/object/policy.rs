//! Policies, checked: of Weft's own kinds what a schema cannot say (ranges, identities, which fields go together).
//!
//! A policy that is wrong anywhere is not accepted at all: half a policy is another policy.

mod authentication;
mod authorization;
mod backend_traffic;
mod mesh_config;
mod operation;
mod target;
mod traffic;

pub use authentication::{Authentication, AuthenticationPolicy, Exemption};
pub use authorization::AuthorizationPolicy;
pub use backend_traffic::{BackendTrafficPolicy, RawBackendTrafficPolicy, names_a_service};
pub use mesh_config::MeshConfig;
pub use target::Target;
pub use traffic::{TrafficPolicy, TrafficSettings};
