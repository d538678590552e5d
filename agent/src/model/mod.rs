//! What the agent knows, as immutable snapshots of validated types.
//!
//! A connection is decided on one [`Snapshot`] from beginning to end; a new one is published whole and
//! replaces it for later connections. Nothing here does IO, waits, or looks at a clock.

mod audience;
mod connections;
mod cors;
mod endpoint;
mod matches;
mod routes;
mod session;
mod snapshot;
mod traffic;
mod workload;

pub use connections::{ConnectionRoutes, ConnectionRules, ServerNames};
pub use cors::{Cors, Names, Origin, OriginHost, Origins};
pub use endpoint::{Endpoint, Service, ServicePort};
pub use matches::{Matches, host_and_port};
pub use routes::{
    Backend, BackendTarget, Filter, HeaderEdit, HeaderMatch, Mirror, PathMatch, PathPrefix, PathRewrite, Pattern,
    PortRoutes, QueryMatch, Redirect, RetryPolicy, Rewrite, RouteKind, RouteMatch, RouteRule, Routes, Scheme,
    ValueMatch,
};
pub use session::{Alias, Aliases, Carrier, Cookie, SessionPersistence, backend_alias};
pub(crate) use snapshot::default_trust_domain;
pub use snapshot::{Destination, Parts, Snapshot, SnapshotVersion};
pub use traffic::{Balancing, Ejection, RetryBudget, RetryWindows, Traffic, TrafficScope};
pub use workload::{Authentication, Beginning, Enrolment, Exemption, FailureMode, MtlsMode, Workload};
