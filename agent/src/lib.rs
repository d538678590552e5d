//! The per-node data path of Weft: captures pods' connections, proves identities, balances and authorizes.
//!
//! `outbound` and `inbound` are the two journeys of a connection, one file each; every step they name
//! is a file below them. `app` puts the parts together.

pub mod error;
pub mod limits;
pub mod model;
