//! Who may connect: the pure evaluator of Weft's authorization policies.
//!
//! The one table (ARCHITECTURE.md, Authorization): enforced Deny, then Deny, then, if any Allow that is
//! not a dry run selects the pod and none matched, deny; else allow. Audit and dry runs never change
//! the outcome. Rules OR, fields of a rule AND, values of a field OR; an absent field matches anything,
//! an empty list nothing. A rule of requests never lets opaque bytes
//! in, and in a Deny refuses them. No IO, no clock; agents, the controller and the CLI decide by the same code.

mod evaluate;
mod explain;
mod pattern;
mod policy;
mod read;
mod request;
mod rule;

pub use evaluate::{Decision, Ground, Peer, Verdict, evaluate, needs_requests, refuses_opaque};
pub use explain::explain;
pub use pattern::{HostPattern, Method, PathPattern, PatternError, TemplateElement, header_name};
pub use policy::{Action, Policy, PolicyName, PortMatch, Rule, Source};
pub use read::{HEADER_VALUE_MAXIMUM, LIST_MAXIMUM, RULES_MAXIMUM, ReadError, read, read_network};
pub use request::{Asked, HeaderCondition, Operation, Request};
pub use rule::Mismatch;
