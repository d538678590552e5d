//! HTTP on the data path.
//!
//! Pure steps (`canonical`, `query`, `matching`, `filter`, `cors`, `session`, `split`, `retry`), what a client's first bytes are (`detect`), the engine behind
//! its seam, the connections that rest between two requests, tunnels after an upgrade, and this agent's own answers. The journeys
//! of a request are `outbound/request.rs` and `inbound/requests.rs`. Absent: dialling, and who may ask.

pub mod answer;
pub mod budgets;
pub mod canonical;
pub mod cors;
pub mod detect;
pub mod engine;
pub mod filter;
pub mod matching;
pub mod pool;
pub mod query;
pub mod retry;
pub mod session;
pub mod split;
pub mod upgrade;

pub use engine::{Body, Version};

pub type Request = ::http::Request<Body>;
pub type Response = ::http::Response<Body>;
