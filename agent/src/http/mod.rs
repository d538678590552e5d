//! Requests: their one canonical form, which route takes them, and how they are carried.
//!
//! What decides is pure (`canonical`, `matching`, `filter`, `split`, `retry`): values in, a value out.

pub mod canonical;
pub mod filter;
pub mod matching;
pub mod split;
