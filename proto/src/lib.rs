//! What agents and controllers say to each other, and agents among themselves.
//!
//! `generated` is written by `cargo xtask proto` from `weft/v1/*.proto`; `names` holds the words that
//! cross every border, parsed once. Nothing here decides anything.

pub mod names;
pub mod resource;

/// Messages and services of `weft/v1/*.proto`.
pub mod v1 {
    #![allow(clippy::pedantic, clippy::all, clippy::restriction, missing_docs)]
    include!("generated/weft.v1.rs");
}

/// The version of both protocols (`Discovery`, `Report`) and of the wire between agents. A peer that is one behind is served.
pub const PROTOCOL_VERSION: u32 = 1;

/// Features that this build has. A resource or a preamble that requires another one is refused and read safely.
pub const FEATURES: &[&str] = &[
    "opaque",
    "authorization.l4",
    "authorization.l7",
    "authentication.ports",
    "routes.http",
    "routes.l4",
    "routes.sessions",
    "routes.sessions.backend",
    "traffic",
    "traffic.constraint",
];
