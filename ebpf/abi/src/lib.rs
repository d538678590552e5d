//! What the BPF programs and the agent share: map layouts, constants, reasons and the pure verdicts.
//!
//! Invariants: every layout is made of fixed-size integers without hidden padding, so that any bytes
//! are a value; the verdicts read maps only through the traits of their modules, so that the kernel
//! and the tests on the host run the same code. Absent: IO, allocation, dependencies.

#![cfg_attr(not(test), no_std)]
#![expect(clippy::inline_always, reason = "the verifier follows calls badly, so BPF code is inlined whole")]

pub mod address;
pub mod connect;
pub mod flight;
pub mod layout;
pub mod limits;
pub mod listening;
pub mod observe;
pub mod probe;
pub mod reason;
pub mod rows;
pub mod steer;
pub mod worker;

pub use address::{Address, Port, Tuple};
pub use layout::{ABI_HASH, Plain};
pub use limits::{CAPTURE_PORT_FIRST, CAPTURE_PORT_LAST, MAX_WORKERS};
pub use reason::Reason;
