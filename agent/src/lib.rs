//! The per-node data path of Weft: captures pods' connections, proves identities, balances and authorizes.
//!
//! `outbound` and `inbound` are the two journeys of a connection, one file each; every step they name
//! is a file below them. `app` puts the parts together.

pub mod admin;
pub mod balance;
pub mod discovery;
pub mod error;
pub mod identity;
pub mod limits;
pub mod model;
pub mod telemetry;
pub mod tls;
pub mod wire;
