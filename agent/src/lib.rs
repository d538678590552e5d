//! The per-node data path of Weft: captures pods' connections, proves identities, balances and authorizes.
//!
//! `outbound` and `inbound` are the two journeys of a connection, one file each; every step they name
//! is a file below them. `app` puts the parts together.

pub mod admin;
pub mod app;
pub mod balance;
pub mod bpf;
pub mod config;
pub mod discovery;
pub mod error;
pub mod http;
pub mod identity;
mod inbound;
pub mod limits;
mod memory;
pub mod model;
pub mod node;
mod outbound;
mod quiet;
mod relay;
pub mod supervise;
pub mod telemetry;
pub mod tls;
pub mod upgrade;
pub mod wire;
mod worker;
