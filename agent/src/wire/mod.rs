//! Mesh connections between two agents: is it one, the handshake, the preamble and its one answer.
//!
//! Invariant: nobody is a peer before its certificate was checked after this very handshake, resumed or not; what an
//! unauthenticated peer can make this agent keep is bounded by `limits::SNIFF_MAXIMUM`. Absent: timeouts, which belong
//! to the journeys, and the application's bytes.

pub mod client;
mod held;
mod hello;
mod message;
mod prefixed;
pub mod server;
mod sniff;

pub use held::Held;
pub use hello::{Greeting, greeting, is_tls};
pub use message::{ConnectionName, Outcome, Preamble, Protocol, Status};
pub use prefixed::Prefixed;
pub use sniff::{FirstBytes, Sniffed, Sniffer};

#[cfg(test)]
mod tests;
