//! This node's and its workloads' certificates: asked for, kept, renewed, and given to the data path.
//!
//! Invariants: a workload's private key is made here and leaves only for a tmpfs (0600); a certificate serves until its
//! end whatever becomes of the controller; a workload that is no longer wanted has no credential. Absent: which
//! workloads are wanted and whom to trust, which the snapshot says.

mod credential;
mod credentials;
mod dial;
mod issue;
mod join;
mod keys;
mod retry;
mod upkeep;

pub use credential::Credential;
pub use credentials::{CertificateFacts, Credentials};
pub use join::{Join, JoinSettings, Membership};
pub use keys::{KeyFolder, folder as key_folder};
pub use upkeep::Upkeep;

#[cfg(test)]
mod tests;
