//! What the agent knows, as immutable snapshots of validated types.
//!
//! A connection is decided on one [`Snapshot`] from beginning to end; a new one is published whole and
//! replaces it for later connections. Nothing here does IO, waits, or looks at a clock.

mod endpoint;
mod snapshot;
mod workload;

pub use endpoint::{Endpoint, Service, ServicePort};
pub(crate) use snapshot::default_trust_domain;
pub use snapshot::{Destination, Parts, Snapshot, SnapshotVersion};
pub use workload::{Authentication, Enrolment, Exemption, FailureMode, MtlsMode, Workload};
