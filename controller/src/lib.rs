//! Weft's controller: turns objects into the agents' configuration and signs identities.
//!
//! objects (`source`, `object`, `store`) → mesh resources (`translate`, pure) → deltas (`mesh`, `publish`, `serve`).
//! Invariant: nothing is signed without the proof of a node (`authenticate`, `ca`).
//! Absent: the Kubernetes API, other replicas, a leader. One controller serves one mesh.

pub mod agents;
pub mod app;
pub mod authenticate;
pub mod ca;
pub mod config;
mod hexadecimal;
pub mod limits;
pub mod mesh;
pub mod object;
pub mod publish;
pub mod serve;
pub mod source;
pub mod state;
pub mod status;
pub mod store;
pub mod token;
pub mod translate;
