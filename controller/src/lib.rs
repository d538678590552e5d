//! Weft's controller: turns objects into the agents' configuration and signs identities.
//!
//! objects (`source`, `object`, `store`) → mesh resources (`translate`, pure) → deltas (`mesh`, `publish`, `serve`).
//! Invariant: nothing is signed without the proof of a node (`authenticate`, `ca`).
//! Absent: several at once. Of several controllers of one mesh one tells agents what to do (`leader`).

pub mod agents;
pub mod api;
pub mod app;
pub mod authenticate;
mod beside;
pub mod ca;
pub mod config;
mod hexadecimal;
pub mod leader;
pub mod limits;
pub mod mesh;
pub mod object;
mod pause;
pub mod publish;
pub mod review;
pub mod serve;
pub mod source;
mod sparing;
pub mod state;
pub mod status;
pub mod store;
mod text;
pub mod token;
pub mod translate;
pub mod trouble;
