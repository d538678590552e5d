//! TLS 1.3 between agents: which algorithms, whose certificates, which sessions.
//!
//! Invariant: who a peer is comes from its verified certificate alone, never from an address or a server name, and is
//! read again after every handshake, because rustls verifies nothing when it resumes (`peer::identity_of`). Sessions
//! belong to one workload's credential and die with it. Absent: sockets and timeouts (`wire`), issuing (`identity`).

mod failure;
mod parameters;
mod peer;
mod provider;
mod sessions;
mod verify;

#[cfg(test)]
pub(crate) mod fixtures;

pub use failure::{client_failure, rejected, server_failure};
pub(crate) use parameters::short_digest;
pub use parameters::{Material, ParametersError, Resumption, Trust, client_parameters, server_name, server_parameters};
pub use peer::{Leaf, Rejection, TrustedDomains, ended_identity_of, identity_of};
pub use provider::provider;
pub use sessions::{Sessions, Turn};

/// The protocol between agents (RFC 7301): what tells mesh TLS from an application's own.
pub const ALPN: &[u8] = b"weft/1";
